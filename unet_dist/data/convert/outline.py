"""Pixels to polygons that run along the edges of pixels, so that nothing is lost."""

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.convert.rasterise import Size

MOST_AREA_CHANGE = 0.1
"""An outline is simplified only if its area changes by less than this share: a vessel one pixel
wide would else collapse into a line."""
_LEAST_TOLERANCE = 0.5
"""Outlines turn at corners of pixels, 0.7 from each other's chords at the least: below this
nothing is left to simplify."""


class Outline(NamedTuple):
    points: NDArray[np.int32]
    """n x 2, each x, y of a corner between pixels of the image."""
    component: int
    """Which connected piece it belongs to, from 0."""
    is_hole: bool
    area: float
    """In pixels, of what the exact outline encloses."""


def trace_outlines(
    mask_hw: NDArray[np.bool_],
    tolerance: float,
    *,
    origin: tuple[int, int] = (0, 0),
    size: Size | None = None,
) -> list[Outline]:
    """The outline of each piece (8-connected) and of each hole in it, the largest first.

    So what encloses comes before what it encloses; a hole comes before an equal piece in it.
    Points on the frame of the image stay, for else a seam would open along it.

    Args:
        tolerance: pixels that an outline may be off (Douglas and Peucker, 1973); 0 gives back
            the same mask exactly.
        origin: top and left of the mask in its image.
        size: of the image; None: the mask's own.
    """
    top, left = origin
    height, width = size or mask_hw.shape
    # Every pixel becomes 2 x 2. OpenCV walks through pixels, and half of the coordinate of those,
    # rounded up, is then the corner between the pixels inside and outside.
    doubled = np.repeat(np.repeat(mask_hw.astype(np.uint8), 2, axis=0), 2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    parents = hierarchy[0][:, 3]
    outlines = []
    for index, contour in enumerate(contours):
        corners = _without_idle_points((contour[:, 0] + 1) // 2)
        exact = corners + np.array([left, top], np.int32)
        on_frame = ((exact == 0) | (exact == [width, height])).any(axis=1)
        area = abs(float(cv2.contourArea(exact)))
        is_hole = bool(parents[index] >= 0)
        outlines.append(
            Outline(
                points=_simplified(exact, tolerance, area, on_frame),
                component=int(parents[index]) if is_hole else index,
                is_hole=is_hole,
                area=area,
            )
        )
    return sorted(outlines, key=lambda outline: (-outline.area, not outline.is_hole))


def _without_idle_points(points: NDArray[np.int32]) -> NDArray[np.int32]:
    """Without repeated points, and without points on a straight way."""
    moved = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    into, out = moved - np.roll(moved, 1, axis=0), np.roll(moved, -1, axis=0) - moved
    turns = into[:, 0] * out[:, 1] != into[:, 1] * out[:, 0]
    return np.ascontiguousarray(moved[turns])


def _simplified(
    points: NDArray[np.int32], tolerance: float, area: float, pinned: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """As coarse as the area allows, by halves of the tolerance; pinned points stay."""
    while tolerance >= _LEAST_TOLERANCE:
        simple = _approximate(points, tolerance, pinned)
        if abs(abs(float(cv2.contourArea(simple))) - area) <= MOST_AREA_CHANGE * area:
            return simple
        tolerance /= 2
    return points


def _approximate(
    points: NDArray[np.int32], tolerance: float, pinned: NDArray[np.bool_]
) -> NDArray[np.int32]:
    if not pinned.any():
        return np.asarray(cv2.approxPolyDP(points, tolerance, True), np.int32).reshape(-1, 2)
    first = int(np.argmax(pinned))
    closed = np.concatenate([points[first:], points[: first + 1]])
    stops = [*np.flatnonzero(np.roll(pinned, -first)).tolist(), len(points)]
    chains = [
        np.asarray(cv2.approxPolyDP(closed[start : end + 1], tolerance, False)).reshape(-1, 2)[:-1]
        for start, end in pairwise(stops)
    ]
    return np.concatenate(chains).astype(np.int32)
