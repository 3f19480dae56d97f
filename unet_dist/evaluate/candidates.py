"""Thresholds of structures, chosen on validation images like that of the foreground."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import IGNORE, Example
from unet_dist.evaluate.measures import cells_at
from unet_dist.evaluate.metrics import confusions, score_image
from unet_dist.evaluate.objects import foreground_probability

CANDIDATES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, *(step / 20 for step in range(2, 20)))
"""One gap in a membrane merges two cells, so the best threshold for cells may be far below that
for pixels."""


def partition_scores(prob_hwk: NDArray[np.float32], native: Example) -> list[float]:
    """V_rand at each candidate, NaN where there is no true cell."""
    counted_hw = native.fov_hw & (native.target_hw != IGNORE)
    membrane_hw = native.target_hw == 1
    return [
        cells_at(prob_hwk[:, :, -1], membrane_hw, counted_hw, threshold).v_rand
        for threshold in CANDIDATES
    ]


def foreground_scores(prob_hwk: NDArray[np.float32], native: Example) -> list[float]:
    """Dice of any object pixel against the background at each candidate."""
    known = native.target_hw != IGNORE
    any_object_hw = np.where(known, native.target_hw > 0, IGNORE).astype(np.uint8)
    foreground_hw1 = foreground_probability(prob_hwk)[:, :, None]
    counts = score_image("", foreground_hw1, any_object_hw, native.fov_hw).counts
    return [confusions(counts, threshold)[0].dice for threshold in CANDIDATES]


def best_candidate(scores: Sequence[Sequence[float]]) -> float:
    """With the highest mean over the images (rows) where it is defined; a half if none is."""
    values_ic = np.array(scores, np.float64)
    values_ic = values_ic[~np.isnan(values_ic).any(axis=1)]
    return CANDIDATES[int(values_ic.mean(axis=0).argmax())] if len(values_ic) else 0.5
