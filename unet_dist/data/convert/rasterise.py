"""Shapes to pixels: a pixel belongs to a shape if its centre lies inside."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""n x 2, each x, y in pixels; the first pixel's centre is (0.5, 0.5)."""
Size = tuple[int, int]
"""Height and width in pixels."""

_CROSSINGS_AT_ONCE = 1 << 20


class Region(NamedTuple):
    """Pixels of an image: a small mask and where its first pixel is."""

    top: int
    left: int
    mask_hw: NDArray[np.bool_]

    def paint(self, canvas_hw: NDArray[np.generic], value: int) -> None:
        height, width = self.mask_hw.shape
        window = canvas_hw[self.top : self.top + height, self.left : self.left + width]
        window[self.mask_hw] = value


def fill_polygon(points: Points, size: Size) -> Region:
    """The inside of a closed polygon by the even-odd rule.

    Polygons that share an edge share no pixel and leave none out: each edge is computed from its
    upper end, whichever way it is walked, and a centre exactly on an edge belongs to the right
    and to the lower side.
    """
    top, left, toggles = _canvas(points, size, spare_columns=1)
    height, width = toggles.shape[0], toggles.shape[1] - 1
    ends = np.roll(points, -1, axis=0)
    downwards = (points[:, 1] <= ends[:, 1])[:, None]
    upper, lower = np.where(downwards, points, ends), np.where(downwards, ends, points)
    # Rows whose centre is in [upper y, lower y).
    first, last = (
        np.clip(np.ceil(end[:, 1] - 0.5), top, top + height).astype(np.int64)
        for end in (upper, lower)
    )
    counts = last - first
    crossed = np.flatnonzero(counts > 0)
    batches = np.cumsum(counts[crossed]) // _CROSSINGS_AT_ONCE
    for batch in np.split(crossed, np.flatnonzero(np.diff(batches)) + 1):
        edge = np.repeat(batch, counts[batch])
        starts = np.cumsum(counts[batch]) - counts[batch]
        rows = first[edge] + np.arange(len(edge)) - np.repeat(starts, counts[batch])
        (x, y), (dx, dy) = upper[edge].T, (lower - upper)[edge].T
        x = x + (rows + 0.5 - y) / dy * dx
        columns = np.clip(np.ceil(x - 0.5), left, left + width).astype(np.int64)
        # Only the parity of a sum of ones counts, and it outlives the overflow of 8 bits.
        np.add.at(toggles, (rows - top, columns - left), 1)
    inside = np.add.accumulate(toggles, axis=1, dtype=np.uint8)[:, :-1]
    return Region(top, left, np.asarray(inside & 1, np.bool_))


def fill_disc(centre: Points, radius: float, size: Size) -> Region:
    """Pixels whose centre is at most ``radius`` from ``centre`` (x, y)."""
    box = np.stack([centre - radius, centre + radius])
    top, left, canvas = _canvas(box, size)
    height, width = canvas.shape
    rows = np.arange(top, top + height) + 0.5 - centre[1]
    half = np.sqrt(np.maximum(radius**2 - rows**2, 0))
    half[np.abs(rows) > radius] = -1
    columns = np.arange(left, left + width) + 0.5 - centre[0]
    return Region(top, left, np.abs(columns)[None, :] <= half[:, None])


def fill_line(points: Points, width: float, size: Size) -> Region:
    """Pixels whose centre is at most half of ``width`` from the line through all points."""

    def parts() -> Iterator[Region]:
        for point in points:
            yield fill_disc(point, width / 2, size)
        for start, end in pairwise(points):
            length = float(np.hypot(*(end - start)))
            if length > 0:
                along = (end - start) / length
                # A centre exactly on either side belongs to the line, as it does to the discs.
                aside = np.array([-along[1], along[0]]) * (width / 2 + 1e-9)
                corners = np.stack([start + aside, end + aside, end - aside, start - aside])
                yield fill_polygon(corners, size)

    return unite(parts())


def clip_region(region: Region, size: Size) -> Region:
    """What of a region lies in the image; its corner may be outside."""
    height, width = region.mask_hw.shape
    top, left = max(region.top, 0), max(region.left, 0)
    bottom = max(min(region.top + height, size[0]), top)
    right = max(min(region.left + width, size[1]), left)
    rows = slice(top - region.top, bottom - region.top)
    columns = slice(left - region.left, right - region.left)
    return Region(top, left, region.mask_hw[rows, columns])


def unite(regions: Iterable[Region]) -> Region:
    """All pixels of any region."""
    return compose((region, True) for region in regions)


def compose(steps: Iterable[tuple[Region, bool]]) -> Region:
    """One after the other, regions that are added (True) or cut away (False).

    Regions are held one at a time: thousands that each span a large image fit into no memory.
    """
    whole = Region(0, 0, np.zeros((0, 0), np.bool_))
    for region, adds in steps:
        if adds:
            whole = _grown(whole, region)
        moved = region._replace(top=region.top - whole.top, left=region.left - whole.left)
        height, width = whole.mask_hw.shape
        clip_region(moved, (height, width)).paint(whole.mask_hw, adds)
    return whole


def _grown(whole: Region, region: Region) -> Region:
    """The same pixels, with room for those of the other region."""
    boxes = [
        (part.top, part.left, part.top + part.mask_hw.shape[0], part.left + part.mask_hw.shape[1])
        for part in (whole, region)
        if part.mask_hw.size
    ]
    if not boxes or (whole.mask_hw.size and region.mask_hw.size == 0):
        return whole
    top, left = min(box[0] for box in boxes), min(box[1] for box in boxes)
    bottom, right = max(box[2] for box in boxes), max(box[3] for box in boxes)
    if (bottom - top, right - left) == whole.mask_hw.shape:
        return whole
    canvas = np.zeros((bottom - top, right - left), np.bool_)
    whole._replace(top=whole.top - top, left=whole.left - left).paint(canvas, True)
    return Region(top, left, canvas)


def _canvas(
    points: Points, size: Size, spare_columns: int = 0
) -> tuple[int, int, NDArray[np.uint8]]:
    """Top, left and an empty canvas of the part of the image that the points enclose."""
    limits = np.array([size[1], size[0]])
    left, top = np.clip(np.floor(points.min(axis=0)), 0, limits).astype(int).tolist()
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, limits).astype(int).tolist()
    return top, left, np.zeros((bottom - top, right - left + spare_columns), np.uint8)
