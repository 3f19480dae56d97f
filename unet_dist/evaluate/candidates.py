"""Thresholds of structures, chosen on validation images like that of the foreground."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import IGNORE, Example
from unet_dist.evaluate.measures import cells_at
from unet_dist.evaluate.metrics import ImageScore, score_image
from unet_dist.evaluate.objects import foreground_probability
from unet_dist.evaluate.structure import Structure
from unet_dist.evaluate.thresholds import choose_threshold

# One gap in a membrane merges two cells, so that the best threshold for cells lies far below that
# for pixels: on ISBI 2012 V_rand was 0.69 at 0.4, where Dice was best, and 0.93 at 0.01.
CANDIDATES = (
    *(0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15),
    *(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
)
"""For membranes that divide cells."""


def judge(
    structure: Structure, sample_id: str, prob_hwk: NDArray[np.float32], native: Example
) -> Any:
    """What one validation image says on the threshold, as JSON: V_rand at each candidate, or the
    pixels of any object by their probability."""
    counted_hw = native.fov_hw & (native.target_hw != IGNORE)
    if structure == "partition":
        membrane_p_hw, membrane_hw = prob_hwk[:, :, -1], native.target_hw == 1
        return [
            cells_at(membrane_p_hw, membrane_hw, counted_hw, threshold).v_rand
            for threshold in CANDIDATES
        ]
    any_object_hw = (native.target_hw > 0).astype(np.uint8)
    foreground_hw1 = foreground_probability(prob_hwk)[:, :, None]
    return score_image(sample_id, foreground_hw1, any_object_hw, counted_hw).to_json()


def choose(structure: Structure, verdicts: Sequence[Any]) -> float:
    """The threshold with the best mean over the images, of V_rand or of the Dice of any object."""
    if structure == "partition":
        return best_candidate(verdicts)
    chosen = choose_threshold([ImageScore.from_json(tree) for tree in verdicts])
    assert chosen is not None
    return chosen


def best_candidate(scores: Sequence[Sequence[float]]) -> float:
    """With the highest mean over the images (rows) where it is defined; a half if none is."""
    values_ic = np.array(scores, np.float64)
    values_ic = values_ic[~np.isnan(values_ic).any(axis=1)]
    return CANDIDATES[int(values_ic.mean(axis=0).argmax())] if len(values_ic) else 0.5
