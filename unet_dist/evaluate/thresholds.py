"""The probability from which a pixel is foreground, chosen on validation images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_dist.evaluate.bins import FIRST_BIN, STEPS
from unet_dist.evaluate.metrics import ImageScore
from unet_dist.evaluate.score import null_if_nan

CURVE_STEP = 20
"""Of STEPS, between the thresholds of a curve that is kept."""


def snap_threshold(threshold: float) -> float:
    """The nearest multiple of 1 / STEPS that leaves something on both sides."""
    return min(max(round(threshold * STEPS), 1), STEPS - 1) / STEPS


def dice_by_threshold(scores: Sequence[ImageScore]) -> NDArray[np.float64]:
    """Mean Dice per image at the thresholds 0, 1 / STEPS ..; NaN where no image counts."""
    total, num_images = np.zeros(STEPS), np.zeros(STEPS)
    for score in sorted(scores, key=lambda score: score.id):
        positive, negative = score.counts.positive_fb[0], score.counts.negative_fb[0]
        tp = positive[::-1].cumsum()[::-1][FIRST_BIN]
        predicted = tp + negative[::-1].cumsum()[::-1][FIRST_BIN]
        size = predicted + positive.sum()
        total += 2 * tp / np.maximum(size, 1)
        num_images += size > 0
    mean = np.full(STEPS, np.nan)
    np.divide(total, num_images, out=mean, where=num_images > 0)
    return mean


def threshold_curve(scores: Sequence[ImageScore]) -> list[list[float | None]]:
    """Pairs of a threshold and the mean Dice there, JSON values: null where no image counts.
    Empty with several foreground classes, where none is used."""
    if not scores or scores[0].counts.num_foreground > 1:
        return []
    dice = dice_by_threshold(scores)
    return [
        [number / STEPS, null_if_nan(round(float(dice[number]), 5))]
        for number in range(CURVE_STEP, STEPS, CURVE_STEP)
    ]


def choose_threshold(scores: Sequence[ImageScore]) -> float | None:
    """The threshold with the highest mean Dice per image, or None with several foreground classes.

    Of equal ones, the middle of the longest run; 0.5 if no image has any foreground to learn from.
    """
    assert scores
    if scores[0].counts.num_foreground > 1:
        return None
    if not any(score.counts.positive_fb.any() for score in scores):
        return 0.5
    dice = dice_by_threshold(scores)[1:]
    best = np.flatnonzero(dice == dice.max()) + 1
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    longest = max(runs, key=len)
    return int(longest[0] + longest[-1]) // 2 / STEPS
