"""Thresholds of structures, chosen on validation images like that of the foreground."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import IGNORE, Example
from unet_dist.evaluate.objects import counted_objects, find_objects, object_score
from unet_dist.evaluate.partition import basins, partition_score, relief, true_cells
from unet_dist.evaluate.structure import Structure

DEPTHS = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
"""Candidates for cells (``partition.predicted_cells``)."""
DEFAULT_DEPTH = 0.1
"""Without a validation image that has cells."""
PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
"""Candidates for objects (``objects.find_objects``)."""
DEFAULT_PROBABILITY = 0.5
"""Without a validation image that has objects."""


def judge_cells(prob_hwk: NDArray[np.float32], native: Example, *, smoothing: float) -> list[float]:
    """V_rand of one validation image at each of ``DEPTHS``."""
    cells = true_cells(native.target_hw == 1, _counted(native))
    relief_hw = relief(prob_hwk[:, :, -1], native.fov_hw, smoothing)
    return [partition_score(cells, basins(relief_hw, depth)).v_rand for depth in DEPTHS]


def judge_objects(
    prob_hwk: NDArray[np.float32],
    native: Example,
    objects_hw: NDArray[np.integer],
    *,
    min_size: int,
    on_candidate: Callable[[int], None] = lambda number: None,
) -> list[float]:
    """AP at IoU 0.5 of one validation image at each of ``PROBABILITIES``. The threshold of the
    best Dice is higher, and loses objects that touch the limit of an IoU of 0.5.

    Args:
        objects_hw: the numbers of the true objects.
        on_candidate: told the number of each: of a large image one takes half a minute.
    """
    counted_hw = _counted(native)
    scores = []
    for number, probability in enumerate(PROBABILITIES, start=1):
        on_candidate(number)
        found = find_objects(prob_hwk, probability, min_size=min_size)
        counted = counted_objects(objects_hw, found, counted_hw, min_size)
        scores.append(object_score(*counted).average_precision())
    return scores


def choose(structure: Structure, scores: Sequence[Sequence[float]]) -> float:
    """The candidate with the highest mean over the images (rows) where it is defined, as the
    evaluation counts them; the default if all images are without objects, or none is found. On an
    image without objects it is 0 where one is found, and defined nowhere else."""
    candidates, default = (
        (DEPTHS, DEFAULT_DEPTH)
        if structure == "partition"
        else (PROBABILITIES, DEFAULT_PROBABILITY)
    )
    values_ic = np.array(scores, np.float64)
    defined_ic = ~np.isnan(values_ic)
    if not defined_ic.all(axis=-1).any():
        return default
    means_c = np.nansum(values_ic, axis=0) / defined_ic.sum(axis=0)
    return candidates[int(means_c.argmax())] if means_c.any() else default


def _counted(native: Example) -> NDArray[np.bool_]:
    return np.asarray(native.fov_hw & (native.target_hw != IGNORE))
