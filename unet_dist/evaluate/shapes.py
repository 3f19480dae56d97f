"""Metrics of the shape of a hard prediction: centre lines and outlines, in pixels."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

Mask = NDArray[np.bool_]


def cldice(truth_hw: Mask, predicted_hw: Mask) -> float:
    """Centre line Dice (Shit et al., CVPR 2021, arXiv:2003.07311): harmonic mean of the shares of
    each skeleton that lie in the other mask. NaN if both masks are empty, 0 if one is."""
    if not truth_hw.any() or not predicted_hw.any():
        return 0.0 if truth_hw.any() or predicted_hw.any() else math.nan
    precision = float(truth_hw[skeletonize(predicted_hw)].mean())
    sensitivity = float(predicted_hw[skeletonize(truth_hw)].mean())
    total = precision + sensitivity
    return 2 * precision * sensitivity / total if total else 0.0


def surface_metrics(truth_hw: Mask, predicted_hw: Mask) -> tuple[float, float]:
    """Hausdorff distance's 95th percentile and the average symmetric surface distance, in pixels,
    by MedPy's formulas.

    An outline is the pixels of a mask with one of 4 neighbours outside it, the frame included.
    hausdorff_95 is the percentile of the distances of both outlines to each other, assd the mean
    of the two directions' means. NaN if both masks are empty; if one is, both are the diagonal
    of the image, so that what is missed altogether is not left out.
    """
    if not truth_hw.any() or not predicted_hw.any():
        missed = truth_hw.any() or predicted_hw.any()
        worst = math.hypot(*truth_hw.shape) if missed else math.nan
        return worst, worst
    truth_outline, predicted_outline = _outline(truth_hw), _outline(predicted_hw)
    to_truth = ndimage.distance_transform_edt(~truth_outline)[predicted_outline]
    to_predicted = ndimage.distance_transform_edt(~predicted_outline)[truth_outline]
    both = np.concatenate([to_truth, to_predicted])
    return float(np.percentile(both, 95)), float((to_truth.mean() + to_predicted.mean()) / 2)


def _outline(mask_hw: Mask) -> Mask:
    return np.asarray(mask_hw & ~ndimage.binary_erosion(mask_hw))
