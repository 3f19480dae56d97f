"""Single objects in a prediction of inside and border, and how many of them are right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from unet_dist.data.object_size import median_diameter
from unet_dist.evaluate.overlays import CORRECT, FALSE, MISSED, NOTHING
from unet_dist.evaluate.partition import Regions, overlaps

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Of the intersection over union from which on an object counts as found."""
INSIDE = 1
"""Class of the pixels inside an object, off its border."""

# On 40 validation images of DSB2018 with a half-trained network, AP at 0.5 was 0.63 with the
# 4-connected parts of the inside as seeds, since borders have gaps, and 0.69 with peaks. Of the
# true masks of 80 images the pooled AP is 0.986, since a few objects are not convex. Two trained
# networks, with borders of one pixel and of 0.4, had 0.803 and 0.797 by the distance alone, and
# 0.808 and 0.804 with the probability as a factor, which falls where two objects touch. By a share
# of the objects' own diameter instead of 1 and 0.75 pixels two more networks, of those validation
# images, had 0.821 and 0.804 for 0.809 and 0.794 (1/16: 0.820 and 0.799, 1/24: 0.820 and 0.798).
SHARE = 1 / 20
"""Of the median diameter of an image's objects: the standard deviation of the Gaussian, and the
least height of a peak above the saddle to a higher one, in pixels of certain inside."""
FIRST_DIAMETER = 20.0
"""In pixels, to find the objects whose diameter is the median."""
LEAST_MEASURED = 16
"""Pixels of the objects that are asked for their diameter: specks would outnumber the others."""
LARGEST_DIAMETER = 256.0
"""Larger objects are divided as if they had this one: the time to smooth grows with it."""


@dataclass(frozen=True, kw_only=True)
class ObjectScore:
    """Counts of an image's objects; they add up to those of a pool."""

    found: tuple[int, ...]
    """Pairs of a true and a predicted object whose IoU exceeds each of ``THRESHOLDS``."""
    true: int
    predicted: int
    intersection: int
    union: int
    """Pixels in the sums of the aggregated Jaccard index."""

    def average_precision(self, number: int = 0) -> float:
        """TP / (TP + FP + FN) at one of ``THRESHOLDS``, which the Data Science Bowl 2018 calls
        average precision; NaN without any object. An IoU above 1/2 makes the pairs unique."""
        found = self.found[number]
        total = self.true + self.predicted - found
        return found / total if total else math.nan

    @property
    def mean_average_precision(self) -> float:
        return math.fsum(map(self.average_precision, range(len(THRESHOLDS)))) / len(THRESHOLDS)

    @property
    def aji(self) -> float:
        """Aggregated Jaccard index (Kumar et al., IEEE TMI 2017); NaN without any object."""
        return self.intersection / self.union if self.union else math.nan


def find_objects(prob_hwk: NDArray[np.float32], threshold: float, *, min_size: int) -> Regions:
    """The objects of a prediction, numbered; 0 is the background.

    Foreground is where 1 - P(background) reaches the threshold. Its inside is where inside is
    the most probable of three classes (inside and border), or all of it with two. Seeds are the
    peaks of the distance to the edge of the inside times the probability of the inside, smoothed,
    that rise above the saddle to a higher one, and the 4-connected parts of the inside without a
    peak; a watershed fills the foreground from them. A 4-connected part of the foreground without
    a seed is an object of its own. Objects below ``min_size`` pixels are dropped. How far is
    smoothed, and how high a peak must rise, goes by the median diameter of the image's objects:
    where few of them are much smaller than the others, those that touch may stay one.
    """
    certainty_hw = foreground_probability(prob_hwk)
    foreground_hw = certainty_hw >= np.float32(threshold)
    inside_hw = foreground_hw
    if prob_hwk.shape[2] > 2:
        inside_hw = foreground_hw & (prob_hwk.argmax(axis=2) == INSIDE)
        certainty_hw = prob_hwk[:, :, INSIDE]
    depth_hw = certainty_hw * ndimage.distance_transform_edt(inside_hw)
    parts_hw, num_parts = ndimage.label(inside_hw)

    def divided(diameter: float, min_size: int) -> Regions:
        return _divided(foreground_hw, parts_hw, num_parts, depth_hw, diameter, min_size)

    diameter = median_diameter(divided(FIRST_DIAMETER, max(min_size, LEAST_MEASURED)))
    return divided(min(diameter or FIRST_DIAMETER, LARGEST_DIAMETER), min_size)


def _divided(
    foreground_hw: NDArray[np.bool_],
    parts_hw: Regions,
    num_parts: int,
    depth_hw: NDArray[np.floating],
    diameter: float,
    min_size: int,
) -> Regions:
    """Objects of about that diameter.

    Args:
        parts_hw: numbered 4-connected parts of the inside.
    """
    depth_hw = ndimage.gaussian_filter(depth_hw, diameter * SHARE)
    peaks_hw = (h_maxima(depth_hw, diameter * SHARE) > 0) & (parts_hw > 0)
    peakless = np.bincount(parts_hw[peaks_hw], minlength=num_parts + 1) == 0
    peakless[0] = False
    seeds_hw, _ = ndimage.label(peaks_hw | peakless[parts_hw], np.ones((3, 3)), np.int64)
    # The pixels of a peak may touch by their corners; two parts that do are still two.
    seeds_hw = renumbered(np.where(seeds_hw > 0, seeds_hw * (num_parts + 1) + parts_hw, 0))
    count = int(seeds_hw.max())
    objects_hw = watershed(-depth_hw, seeds_hw, mask=foreground_hw)
    unseeded_hw, _ = ndimage.label(foreground_hw & (objects_hw == 0))
    objects_hw = np.where(unseeded_hw > 0, unseeded_hw + count, objects_hw)
    large = np.bincount(objects_hw.ravel()) >= min_size
    return np.where(large[objects_hw], objects_hw, 0).astype(np.int32)


def foreground_probability(prob_hwk: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 - P(background), of one sigmoid output or of all classes."""
    return prob_hwk[:, :, 0] if prob_hwk.shape[2] == 1 else 1 - prob_hwk[:, :, 0]


def object_score(
    true_objects: NDArray[np.integer], predicted_objects: NDArray[np.integer]
) -> ObjectScore:
    """Compares numbered objects; the numbers need not be consecutive."""
    true, predicted = renumbered(true_objects), renumbered(predicted_objects)
    true_sizes, predicted_sizes = np.bincount(true.ravel()), np.bincount(predicted.ravel())
    row, column, shared, union = _pairs(true, predicted)
    iou = shared / union
    # The best partner of each true object; one that overlaps none has its own size as union.
    order = np.lexsort((column, -iou, row))
    partnered, first = np.unique(row[order], return_index=True)
    best = order[first]
    alone = int(true_sizes[1:].sum() - true_sizes[partnered].sum())
    used = np.unique(column[best])
    unused = int(predicted_sizes[1:].sum() - predicted_sizes[used].sum())
    return ObjectScore(
        found=tuple(int(np.count_nonzero(iou > threshold)) for threshold in THRESHOLDS),
        true=len(true_sizes) - 1,
        predicted=len(predicted_sizes) - 1,
        intersection=int(shared[best].sum()),
        union=int(union[best].sum()) + alone + unused,
    )


def object_errors(true: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Of each pixel (``overlays``): CORRECT in a predicted object that has a partner of IoU above a
    half, FALSE in another one, MISSED in a true object without a partner, off all predicted ones.

    Args:
        true: small numbers, as ``counted_objects`` gives them; likewise ``predicted``.
    """
    row, column, shared, union = _pairs(true, predicted)
    found = shared / union > THRESHOLDS[0]
    of_predicted = np.full(int(predicted.max()) + 1, FALSE, np.uint8)
    of_true = np.full(int(true.max()) + 1, MISSED, np.uint8)
    of_predicted[column[found]], of_true[row[found]] = CORRECT, NOTHING
    of_predicted[0] = of_true[0] = NOTHING
    return np.asarray(np.where(predicted > 0, of_predicted[predicted], of_true[true]))


def _pairs(
    true: NDArray[np.integer], predicted: NDArray[np.integer]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Number of the true and of the predicted object, and pixels of intersection and union, of
    each pair that overlaps: of noise there may be a hundred thousand objects."""
    pairs = overlaps(true, predicted).tocoo()
    both = (pairs.row > 0) & (pairs.col > 0)
    row, column, shared = pairs.row[both], pairs.col[both], pairs.data[both]
    union = np.bincount(true.ravel())[row] + np.bincount(predicted.ravel())[column] - shared
    return row, column, shared, union


def counted_objects(
    true_objects: NDArray[np.integer],
    predicted_objects: NDArray[np.integer],
    counted_hw: NDArray[np.bool_],
    min_size: int,
) -> tuple[Regions, Regions]:
    """What counts of both, numbered from 1 on, whatever numbers the files have. An object of which
    the field of view, or pixels that don't count, leave less than ``min_size`` cannot be found, so
    it is neither missed nor, where it is, false.
    """
    true = renumbered(true_objects).astype(np.int32)
    predicted = renumbered(predicted_objects).astype(np.int32)
    counted_hw = counted_hw & ~_cut_below(true, counted_hw, min_size)
    kept_hw = counted_hw & ~_cut_below(predicted, counted_hw, min_size)
    return np.where(counted_hw, true, 0), np.where(kept_hw, predicted, 0)


def _cut_below(
    objects_hw: Regions, counted_hw: NDArray[np.bool_], min_size: int
) -> NDArray[np.bool_]:
    """Pixels of the objects that are smaller than that, but would not be if all pixels counted."""
    most = int(objects_hw.max(initial=0)) + 1
    whole, left = (
        np.bincount(numbers.ravel(), minlength=most)
        for numbers in (objects_hw, objects_hw[counted_hw])
    )
    cut = (left < min_size) & (whole >= min_size)
    cut[0] = False
    return np.asarray(cut[objects_hw])


def pool_objects(scores: Sequence[ObjectScore]) -> ObjectScore:
    """All objects as if they were one image's."""
    return ObjectScore(
        found=tuple(map(sum, zip(*(score.found for score in scores), strict=True))),
        true=sum(score.true for score in scores),
        predicted=sum(score.predicted for score in scores),
        intersection=sum(score.intersection for score in scores),
        union=sum(score.union for score in scores),
    )


def renumbered(objects_hw: NDArray[np.integer]) -> NDArray[np.intp]:
    """0 stays, objects become 1, 2 .. in the order of their numbers."""
    numbers, where = np.unique(objects_hw, return_inverse=True)
    return np.asarray(where.reshape(objects_hw.shape) + (0 if numbers[0] == 0 else 1))
