"""Thresholds of structures, chosen on validation images like that of the foreground."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import IGNORE, Example
from unet_dist.evaluate.metrics import ImageScore, score_image
from unet_dist.evaluate.objects import foreground_probability
from unet_dist.evaluate.partition import basins, partition_score, relief, true_cells
from unet_dist.evaluate.structure import Structure
from unet_dist.evaluate.thresholds import choose_threshold

DEPTHS = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
"""Candidates for cells (``partition.predicted_cells``)."""
DEFAULT_DEPTH = 0.1
"""Without a validation image that has cells."""


def judge(
    structure: Structure,
    sample_id: str,
    prob_hwk: NDArray[np.float32],
    native: Example,
    *,
    cell_smoothing: float,
) -> Any:
    """What one validation image says on the threshold, as JSON: V_rand at each candidate, or the
    pixels of any object by their probability."""
    counted_hw = native.fov_hw & (native.target_hw != IGNORE)
    if structure == "partition":
        cells = true_cells(native.target_hw == 1, counted_hw)
        relief_hw = relief(prob_hwk[:, :, -1], cell_smoothing)
        return [partition_score(cells, basins(relief_hw, depth)).v_rand for depth in DEPTHS]
    any_object_hw = (native.target_hw > 0).astype(np.uint8)
    foreground_hw1 = foreground_probability(prob_hwk)[:, :, None]
    return score_image(sample_id, foreground_hw1, any_object_hw, counted_hw).to_json()


def choose(structure: Structure, verdicts: Sequence[Any]) -> float:
    """The threshold with the best mean over the images, of V_rand or of the Dice of any object."""
    if structure == "partition":
        return best_depth(verdicts)
    chosen = choose_threshold([ImageScore.from_json(tree) for tree in verdicts])
    assert chosen is not None
    return chosen


def best_depth(scores: Sequence[Sequence[float]]) -> float:
    """With the highest mean over the images (rows) where it is defined, else the default."""
    values_ic = np.array(scores, np.float64)
    values_ic = values_ic[~np.isnan(values_ic).any(axis=1)]
    return DEPTHS[int(values_ic.mean(axis=0).argmax())] if len(values_ic) else DEFAULT_DEPTH
