"""Objects or cells of a predicted image: found in all of it at once, so once its rows are there."""

import csv
from collections.abc import Callable
from io import BytesIO, StringIO
from typing import Self

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from unet_dist.evaluate.numbering import Numbering

MAX_PIXELS = 1 << 24
"""Of an image whose objects are numbered."""
BYTES_A_PIXEL = 160
"""That numbering needs, measured with 100,000 objects."""
COLUMNS = {
    "label": "number",
    "centroid-0": "row",
    "centroid-1": "column",
    "area": "area",
    "equivalent_diameter_area": "diameter",
    "eccentricity": "eccentricity",
    "intensity_mean": "probability",
}
"""By the names of scikit-image, whose ``regionprops`` says how each is defined."""


class Numbers:
    """Of one image, from its rows as they come."""

    def __init__(self, numbering: Numbering, size: tuple[int, int], channels: int) -> None:
        self._numbering = numbering
        self._prob_hwk = np.empty((*size, channels), np.float32)
        self._fov_hw = np.empty(size, np.bool_)
        self._row = 0

    @classmethod
    def of_image(
        cls, numbering: Numbering | None, size: tuple[int, int], channels: int
    ) -> Self | None:
        """None where there is nothing to be numbered, or the image is too large for it."""
        fits = size[0] * size[1] <= MAX_PIXELS
        return cls(numbering, size, channels) if numbering is not None and fits else None

    def add(self, prob_hwk: NDArray[np.float32], fov_hw: NDArray[np.bool_]) -> None:
        """The next rows."""
        rows = slice(self._row, self._row + len(prob_hwk))
        self._prob_hwk[rows], self._fov_hw[rows] = prob_hwk, fov_hw
        self._row = rows.stop

    def found(self, on_phase: Callable[[str], None]) -> tuple[NDArray[np.int32], str]:
        """The numbers, and ``table``.

        Args:
            on_phase: told what is done next, of what may take a minute.
        """
        on_phase(f"numbering {self._numbering.name}")
        numbers_hw = self._numbering(self._prob_hwk, self._fov_hw)
        on_phase(f"measuring {self._numbering.name}")
        return numbers_hw, table(numbers_hw, self._numbering.probability(self._prob_hwk))


def encoded(numbers_hw: NDArray[np.int32]) -> tuple[str, bytes]:
    """The ending of a file and its content: PNG of 16 bits, or TIFF of 32 if these are too few."""
    stream = BytesIO()
    if numbers_hw.max(initial=0) <= np.iinfo(np.uint16).max:
        Image.fromarray(numbers_hw.astype(np.uint16)).save(stream, format="PNG")
        return "png", stream.getvalue()
    tifffile.imwrite(stream, numbers_hw.astype(np.uint32), compression="zlib")
    return "tif", stream.getvalue()


def table(numbers_hw: NDArray[np.int32], prob_hw: NDArray[np.float32]) -> str:
    """CSV, a line for each object: its number, centre (row and column from 0), area and diameter of
    a circle as large in pixels, eccentricity (0 of a circle), mean probability.

    Args:
        prob_hw: of an object's, or a cell's, pixels.
    """
    from skimage.measure import regionprops_table  # here, since importing it takes time

    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS.values())
    if numbers_hw.any():
        names = ("label", "centroid", *list(COLUMNS)[3:])
        found = regionprops_table(numbers_hw, prob_hw, properties=names)
        numbers, rows, columns, areas, *others = (found[name].tolist() for name in COLUMNS)
        for number, row, column, area, *rest in zip(
            numbers, rows, columns, areas, *others, strict=True
        ):
            shown = [f"{value:.5g}" for value in rest]
            lines.writerow([number, f"{row:.2f}", f"{column:.2f}", round(area), *shown])
    return text.getvalue()
