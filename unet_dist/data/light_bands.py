"""``even_light`` of images that are read from top to bottom."""

from collections.abc import Iterator
from itertools import tee

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.bands import Bands, SlidingRows, resize_bands
from unet_dist.data.light import LEAST_DEVIATION, Curve, blur_grid, within_unit_range

_ROWS_AT_ONCE = 64


def even_light_bands(
    image: Bands, size: tuple[int, int], window: float, curve: Curve = "cut"
) -> Iterator[NDArray[np.float32]]:
    """As ``even_light`` makes of the whole image, up to rounding. In memory are some 8 windows of
    rows, for the two blurs one after the other.

    Args:
        image: the channels of the image, and last one that is 1 inside the field of view, else 0.
        size: height and width of the image.
    """
    inside, for_moments = tee(_inside_only(image))
    deviations, for_squares = tee(_centred(inside, _blurred(for_moments, size, window)))
    squares = (band[..., :-2] ** 2 for band in for_squares)
    for variance_hwc, rows in _side_by_side(_blurred(squares, size, window), deviations):
        centred_hwc, share_hw1, inside_hw1 = rows[..., :-2], rows[..., -2:-1], rows[..., -1:]
        deviation_hwc = np.sqrt(np.maximum(variance_hwc, 0) / share_hw1)
        scaled_hwc = centred_hwc / np.maximum(deviation_hwc, LEAST_DEVIATION)
        yield within_unit_range(scaled_hwc * inside_hw1, curve)


def _inside_only(image: Bands) -> Iterator[NDArray[np.float32]]:
    """The same channels, the image's 0 outside the field of view."""
    for band in image:
        yield np.concatenate([band[..., :-1] * band[..., -1:], band[..., -1:]], axis=2)


def _centred(inside: Bands, blurred: Bands) -> Iterator[NDArray[np.float32]]:
    """Channels without their local mean, and the share of the window that is inside the view, and
    whether the pixel is."""
    for moments_hwc, rows in _side_by_side(blurred, inside):
        share_hw1 = np.maximum(moments_hwc[..., -1:], np.float32(1e-6))
        inside_hw1 = rows[..., -1:]
        centred_hwc = (rows[..., :-1] - moments_hwc[..., :-1] / share_hw1) * inside_hw1
        yield np.concatenate([centred_hwc, share_hw1, inside_hw1], axis=2)


def _side_by_side(
    bands: Bands, others: Bands
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Each band with the same rows of the others, which are cut otherwise."""
    source, first = SlidingRows(others), 0
    for band in bands:
        yield band, source.rows(first, first + len(band))
        first += len(band)


def _blurred(bands: Bands, size: tuple[int, int], window: float) -> Iterator[NDArray[np.float32]]:
    coarse, sigma = blur_grid(size, window)
    reduced = resize_bands(bands, size, coarse, area=True)
    return resize_bands(_gaussian(reduced, coarse[0], sigma), coarse, size, area=False)


def _gaussian(bands: Bands, height: int, sigma: float) -> Iterator[NDArray[np.float32]]:
    # The half width that OpenCV takes for float32 (createGaussianKernels).
    reach = (round(sigma * 8 + 1) | 1) // 2
    source = SlidingRows(bands)
    for first in range(0, height, _ROWS_AT_ONCE):
        stop = min(first + _ROWS_AT_ONCE, height)
        above, below = max(first - reach, 0), min(stop + reach, height)
        rows = source.rows(above, below)
        channels = [
            cv2.GaussianBlur(
                np.ascontiguousarray(rows[..., k]), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT
            )[first - above : stop - above]
            for k in range(rows.shape[2])
        ]
        yield np.stack(channels, axis=-1).astype(np.float32)
