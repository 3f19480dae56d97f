"""Metrics over all thresholds, from histograms of the probability of true and of false pixels."""

import math

import numpy as np
from numpy.typing import NDArray

from unet_dist.evaluate.bins import BIN_MIDDLES, FIRST_BIN, STEPS

CALIBRATION_BINS = 20
_CALIBRATION_STARTS = FIRST_BIN[:: STEPS // CALIBRATION_BINS]


def auc(positive: NDArray[np.int64], negative: NDArray[np.int64]) -> float:
    """Area under the ROC curve of the binned probabilities; half a win for a tie."""
    # float64, since pixels x pixels of a large pool exceed 64-bit integers.
    above = positive.sum() - np.cumsum(positive)
    wins = float(np.dot(negative.astype(np.float64), above + positive / 2))
    pairs = float(positive.sum()) * float(negative.sum())
    return wins / pairs if pairs else math.nan


def average_precision(positive: NDArray[np.int64], negative: NDArray[np.int64]) -> float:
    """Sum over the thresholds of the precision times what the recall gains there, without
    interpolation, as scikit-learn defines it."""
    total = int(positive.sum())
    if not total:
        return math.nan
    tp = np.cumsum(positive[::-1])
    predicted = tp + np.cumsum(negative[::-1])
    return float(np.sum(positive[::-1] * (tp / np.maximum(predicted, 1))) / total)


def calibration_curve(
    positive: NDArray[np.int64], negative: NDArray[np.int64]
) -> list[tuple[float, float]]:
    """Mean probability and share of true pixels of each bin of ``calibration_error`` that has
    any pixel."""
    counts, expected, true = _calibration_sums(positive, negative)
    return [
        (float(expected[i] / counts[i]), float(true[i] / counts[i])) for i in np.flatnonzero(counts)
    ]


def calibration_error(positive: NDArray[np.int64], negative: NDArray[np.int64]) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015) of the foreground probability.

    The mean over pixels of the difference between the mean probability and the share of true
    pixels in each of 20 bins of equal width. A probability counts as the middle of its bin of
    the histogram, which moves the result by at most half of such a bin: 0.0005.
    """
    total = int(positive.sum() + negative.sum())
    if not total:
        return math.nan
    _, expected, true = _calibration_sums(positive, negative)
    return float(np.abs(expected - true).sum() / total)


def _calibration_sums(
    positive: NDArray[np.int64], negative: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Of each of the 20 bins: its pixels, the sum of their probabilities, the true ones."""
    pixels = positive + negative
    counts, expected, true = (
        np.add.reduceat(values, _CALIBRATION_STARTS)
        for values in (pixels, BIN_MIDDLES * pixels, positive)
    )
    return counts, expected, true
