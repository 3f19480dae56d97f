"""What is measured of each numbered object or cell of a predicted image, for a spreadsheet."""

import csv
from io import StringIO

import numpy as np
from numpy.typing import NDArray

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


def object_table(numbers_hw: NDArray[np.int32], prob_hw: NDArray[np.float32]) -> str:
    """CSV, a line for each object: its number, centre (row and column from 0), area and diameter of
    a circle as large in pixels, eccentricity (0 of a circle), mean probability.

    Args:
        prob_hw: of the foreground.
    """
    from skimage.measure import regionprops_table  # here, since importing it takes time

    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS.values())
    if numbers_hw.any():
        names = ("label", "centroid", *list(COLUMNS)[3:])
        found = regionprops_table(numbers_hw, prob_hw, properties=names)
        for row in zip(*(found[name].tolist() for name in COLUMNS), strict=True):
            lines.writerow(value if isinstance(value, int) else f"{value:.6g}" for value in row)
    return text.getvalue()
