"""How large objects are, and by which factor an image is resized so that they have one size.

Nuclei of one data set differ fivefold in diameter, mostly from image to image; a small network
that sees all of them in one size need not learn each of them (as in Cellpose, Stringer et al.,
Nature Methods 2021).
"""

import numpy as np
from numpy.typing import NDArray

LEAST, MOST = 0.4, 2.5
"""Factors of a resize."""


def diameters_of(numbers_hw: NDArray[np.integer]) -> NDArray[np.float64]:
    """Of circles as large as each of the objects, in pixels.

    Args:
        numbers_hw: of the objects, 0 being the background.
    """
    _, areas = np.unique(numbers_hw[numbers_hw > 0], return_counts=True)
    return np.asarray(2 * np.sqrt(areas / np.pi))


def median_or_0(diameters: NDArray[np.float64]) -> float:
    """0 of an image without objects."""
    return float(np.median(diameters)) if len(diameters) else 0.0


def median_diameter(numbers_hw: NDArray[np.integer]) -> float:
    """Of ``diameters_of``; 0 of an image without objects."""
    return median_or_0(diameters_of(numbers_hw))


def resize_numbers(numbers_hw: NDArray[np.integer], size: tuple[int, ...]) -> NDArray[np.integer]:
    """By the nearest pixel, of any kind of whole numbers."""
    rows, columns = (
        ((np.arange(to) + 0.5) * len(side) / to).astype(np.intp)
        for to, side in zip(size, (numbers_hw, numbers_hw.T), strict=True)
    )
    return numbers_hw[rows[:, None], columns]


def factor_to(size: float, diameter: float) -> float:
    """That brings a diameter to the size, within limits; 1 for no object."""
    return min(MOST, max(LEAST, size / diameter)) if diameter else 1.0
