"""Evens out the illumination of an image, which differs more between eyes than vessels do."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

NEUTRAL = 0.5
REACH = 3.0
"""Standard deviations from the local mean that are still told apart; the rest is cut off."""
FAR_REACH = 30.0
"""The same of the compressed curve."""
LEAST_DEVIATION = 0.02
"""Of the intensity, 0..1: where nothing is to be seen, noise is not blown up any further."""
_STEPS = 8
"""Grid points per window width, on which the slowly varying moments are computed."""


Curve = Literal["cut", "asinh"]


def even_light(
    image_hwc: NDArray[np.float32], fov_hw: NDArray[np.bool_], window: float, curve: Curve = "cut"
) -> NDArray[np.float32]:
    """(image - local mean) / local standard deviation of each channel, brought into 0..1.

    The moments are those of a Gaussian window of standard deviation ``window`` pixels, over
    pixels of the field of view only; outside it the result is ``NEUTRAL``.
    """
    inside_hw = fov_hw.astype(np.float32)
    blur = _Blur(fov_hw.shape, window)
    share_hw = np.maximum(blur(inside_hw), np.float32(1e-6))
    channels = []
    for channel_hw in np.moveaxis(image_hwc, 2, 0):
        mean_hw = blur(channel_hw * inside_hw) / share_hw
        centred_hw = (channel_hw - mean_hw) * inside_hw
        deviation_hw = np.sqrt(blur(centred_hw**2) / share_hw)
        channels.append(
            within_unit_range(centred_hw / np.maximum(deviation_hw, LEAST_DEVIATION), curve)
        )
    return np.stack(channels, axis=-1).astype(np.float32)


def within_unit_range(deviations: NDArray[np.floating], curve: Curve) -> NDArray[np.float32]:
    """0..1 of standard deviations from the mean, which is ``NEUTRAL``.

    Two bright nuclei that touch are both beyond ``REACH``, as is the darker line between them;
    the inverse hyperbolic sine, a logarithm far from 0, keeps it.
    """
    if curve == "asinh":
        scaled = np.arcsinh(deviations) / np.float32(2 * np.arcsinh(FAR_REACH))
    else:
        scaled = deviations / np.float32(2 * REACH)
    return np.asarray(np.clip(scaled + np.float32(NEUTRAL), 0, 1), np.float32)


def blur_grid(shape: tuple[int, int], window: float) -> tuple[tuple[int, int], float]:
    """Height and width of the grid on which a Gaussian of the window is blurred, and its standard
    deviation there: the result has no finer detail."""
    factor = max(1.0, window / _STEPS)
    rows, columns = (max(1, round(side / factor)) for side in shape)
    return (rows, columns), window / factor


class _Blur:
    """A Gaussian of a large window, on a coarse grid."""

    def __init__(self, shape: tuple[int, int], window: float) -> None:
        self._fine = (shape[1], shape[0])
        (rows, columns), self._sigma = blur_grid(shape, window)
        self._coarse = (columns, rows)

    def __call__(self, field_hw: NDArray[np.float32]) -> NDArray[np.float32]:
        coarse_hw = cv2.resize(field_hw, self._coarse, interpolation=cv2.INTER_AREA)
        # Zeros beyond the frame, as outside the field of view: both are divided out alike.
        blurred_hw = cv2.GaussianBlur(
            coarse_hw, (0, 0), self._sigma, borderType=cv2.BORDER_CONSTANT
        )
        fine_hw = cv2.resize(blurred_hw, self._fine, interpolation=cv2.INTER_LINEAR)
        return np.asarray(fine_hw, np.float32)
