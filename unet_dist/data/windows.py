"""The part of an image where most of its structures are."""

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import IGNORE


def busiest_window(target_hw: NDArray[np.uint8], side: int) -> tuple[slice, slice]:
    """Rows and columns of the square, cut to the image, with the largest shares of all foreground
    classes: a small class counts as much as a large one. The first of equal ones."""
    height, width = min(side, target_hw.shape[0]), min(side, target_hw.shape[1])
    pixels = np.bincount(target_hw.ravel(), minlength=IGNORE + 1)
    weight = np.zeros(IGNORE + 1)
    weight[1:IGNORE] = 1 / np.maximum(pixels[1:IGNORE], 1)
    sums = cv2.integral(weight[target_hw])
    inside = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
        + sums[:-height, :-width]
    )  # fmt: skip
    # Sums of many small numbers differ in their last digits where they should be equal.
    top, left = np.unravel_index(np.argmax(inside.round(9)), inside.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)
