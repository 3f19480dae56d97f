"""Whether masks belong to their images: the outline of a structure lies where the image changes."""

import math
from collections.abc import Sequence
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import IGNORE, Example

ENOUGH = 6
"""Images of one size below which nothing is concluded."""
BY_CHANCE = 0.7
"""Share of images that their own mask fits better than the masks of others do, up to which masks
look mixed up: chance gives 0.5, and CHASE_DB1, ISBI 2012 and DSB2018 have 1.00."""
_BLUR = 1.0  # pixels: noise has steep edges everywhere
_NEIGHBOURS = np.ones((3, 3), np.uint8)


def share_that_fits(examples: Sequence[Example]) -> float | None:
    """Share of the images that change more along the outlines of their own mask than, on average,
    along those of the other images' masks. Images without outlines, and those that the masks fit
    equally, as where all masks are the same, don't count; None for fewer than ``ENOUGH``.

    Args:
        examples: all of one size.
    """
    outlines = [outline(one.target_hw) for one in examples]
    changes = [_change(one.image_hwc) * one.fov_hw for one in examples]
    places = [np.flatnonzero(one) for one in outlines]
    drawn = [number for number, place in enumerate(places) if place.size]
    if len(drawn) < ENOUGH:
        return None
    fits: list[bool] = []
    for own in drawn:
        means = {other: float(changes[own].ravel()[places[other]].mean()) for other in drawn}
        others = fmean(mean for other, mean in means.items() if other != own)
        if not math.isclose(means[own], others, rel_tol=1e-6):
            fits.append(means[own] > others)
    return fmean(fits) if len(fits) >= ENOUGH else None


def outline(target_hw: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels beside one of another class, on both sides; none beside ignored ones."""
    ignored_hw = (target_hw == IGNORE).view(np.uint8)
    differs_hw = cv2.dilate(target_hw, _NEIGHBOURS) != cv2.erode(target_hw, _NEIGHBOURS)
    return np.asarray(differs_hw & (cv2.dilate(ignored_hw, _NEIGHBOURS) == 0))


def _change(image_hwc: NDArray[np.float32]) -> NDArray[np.float32]:
    """Length of the gradient."""
    grey_hw = cv2.GaussianBlur(np.ascontiguousarray(image_hwc.mean(axis=2)), (0, 0), _BLUR)
    down, right = cv2.Sobel(grey_hw, cv2.CV_32F, 0, 1), cv2.Sobel(grey_hw, cv2.CV_32F, 1, 0)
    return np.asarray(np.hypot(down, right), np.float32)
