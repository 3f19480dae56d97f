"""Colours of class numbers, in masks and pictures."""

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]

CLASS_COLOURS: tuple[Rgb, ...] = (
    (0, 0, 0),
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Background and the colours of Okabe and Ito, which the colour-blind can tell apart."""


OVERLAY_COLOUR: Rgb = (0, 229, 255)
"""Cyan, since neither tissue nor fundus nor electron micrographs have it."""


def class_colours(classes: int) -> list[Rgb]:
    """Colours of the class numbers, background first."""
    colours = list(CLASS_COLOURS[:classes])
    for number in range(len(colours), classes):
        # Steps of the golden angle around the colour circle never come back to a colour.
        angles = np.deg2rad(number * 137.508) + np.deg2rad([0.0, 120.0, 240.0])
        red, green, blue = np.rint(140 + 100 * np.cos(angles)).astype(int).tolist()
        colours.append((red, green, blue))
    return colours


def mask_colours(classes: int) -> NDArray[np.uint8]:
    """The same over a picture, where a single foreground class is to stand out."""
    two = (CLASS_COLOURS[0], OVERLAY_COLOUR)
    return np.array(two if classes == 2 else class_colours(classes), np.uint8)


def object_colours(objects: int) -> NDArray[np.uint8]:
    """Of object numbers, which have more than there are colours: neighbours in number differ."""
    background, *colours = np.array(CLASS_COLOURS, np.uint8)
    return np.vstack([background, np.resize(colours, (objects, 3))])
