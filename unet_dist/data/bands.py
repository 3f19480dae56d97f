"""Images as bands of rows from top to bottom, so that only some rows are in memory at a time."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Bands = Iterable[NDArray[np.float32]]
"""Consecutive rows of one image: arrays of any height, the same width and the same channels."""

_ROWS_AT_ONCE = 16
"""Rows that one matrix product makes; with more, most of the matrix is zeros."""


class SlidingRows:
    """Bands of which the rows from the last ones asked for on are kept."""

    def __init__(self, bands: Iterable[NDArray[Any]]) -> None:
        self._bands = iter(bands)
        self._held: list[NDArray[Any]] = []
        self._first = 0

    def rows(self, first: int, stop: int) -> NDArray[Any]:
        """The rows ``first`` to ``stop - 1``; what is above ``first`` is gone for good."""
        end = self._first + sum(map(len, self._held))
        if end < stop:
            while end < stop:
                self._held.append(next(self._bands))
                end += len(self._held[-1])
                while self._held and self._first + len(self._held[0]) <= first:
                    self._first += len(self._held.pop(0))
            drop = max(0, first - self._first)
            if len(self._held) > 1:
                self._held = [np.concatenate([self._held[0][drop:], *self._held[1:]])]
                self._first += drop
        [held] = self._held
        return held[first - self._first : stop - self._first]


class Rebanding:
    """Rows that come in bands of any height, and go out in bands of one height."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._waiting: list[NDArray[Any]] = []

    def full(self, band: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """The bands that are complete with this one."""
        number = sum(map(len, self._waiting))
        while number + len(band) >= self._rows:
            taken = band[: self._rows - number]
            yield np.concatenate([*self._waiting, taken]) if self._waiting else taken
            band = band[self._rows - number :]
            self._waiting, number = [], 0
        if len(band):
            self._waiting.append(band)

    def rest(self) -> Iterator[NDArray[Any]]:
        """The last band, if one is left."""
        if self._waiting:
            yield np.concatenate(self._waiting)
            self._waiting = []


def in_bands_of(bands: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """The same rows in bands of one height, but for the last."""
    rebanding = Rebanding(rows)
    for band in bands:
        yield from rebanding.full(band)
    yield from rebanding.rest()


def watched(
    bands: Iterable[NDArray[Any]], watch: Callable[[NDArray[Any]], None]
) -> Iterator[NDArray[Any]]:
    """The same bands, each shown to ``watch`` on its way."""
    for band in bands:
        watch(band)
        yield band


def resize_bands(
    bands: Bands, size: tuple[int, int], to: tuple[int, int], *, area: bool
) -> Iterator[NDArray[np.float32]]:
    """As ``cv2.resize`` of the whole image does, up to rounding.

    Args:
        size: height and width of the bands' image.
        to: height and width wanted.
        area: mean of the pixels that a new one covers (INTER_AREA, for shrinking), instead of
            linear interpolation (INTER_LINEAR).
    """
    if size == to:
        yield from bands
        return
    how = cv2.INTER_AREA if area else cv2.INTER_LINEAR
    starts, weights = (_area_weights if area else _linear_weights)(size[0], to[0])
    taps = weights.shape[1]
    source = SlidingRows(bands)
    for first in range(0, to[0], _ROWS_AT_ONCE):
        group = slice(first, first + _ROWS_AT_ONCE)
        top = int(starts[group][0])
        rows = source.rows(top, min(int(starts[group][-1]) + taps, size[0]))
        matrix = np.zeros((len(starts[group]), len(rows) + taps), np.float32)
        for row, (start, row_weights) in enumerate(zip(starts[group], weights[group], strict=True)):
            matrix[row, start - top : start - top + taps] = row_weights
        flat = matrix[:, : len(rows)] @ rows.reshape(len(rows), -1)
        yield _resize_columns(flat.reshape(len(flat), *rows.shape[1:]), to[1], how)


def _resize_columns(band: NDArray[np.float32], width: int, how: int) -> NDArray[np.float32]:
    if band.shape[1] == width:
        return band
    # OpenCV takes four channels at a time, and drops the axis of a single one.
    fours = [np.ascontiguousarray(band[..., k : k + 4]) for k in range(0, band.shape[2], 4)]
    parts = [cv2.resize(four, (width, len(band)), interpolation=how) for four in fours]
    shaped = [np.asarray(part, np.float32).reshape(len(band), width, -1) for part in parts]
    return np.concatenate(shaped, axis=2) if len(shaped) > 1 else shaped[0]


def _linear_weights(length: int, to: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First source row and weights of each new row; pixel centres lie at halves."""
    centre = (np.arange(to) + 0.5) * (length / to) - 0.5
    below = np.clip(np.floor(centre), 0, max(length - 2, 0)).astype(np.int64)
    share = np.clip(centre - below, 0, min(1, length - 1))
    return below, np.stack([1 - share, share], axis=1).astype(np.float32)


def _area_weights(length: int, to: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First source row and weights of each new row, which covers ``length / to`` rows."""
    scale = length / to
    edges = np.minimum(np.arange(to + 1) * scale, length)
    starts = np.floor(edges[:-1] + 1e-9).astype(np.int64)
    rows = starts[:, None] + np.arange(math.ceil(scale) + 1)
    covered = np.minimum(edges[1:, None], rows + 1) - np.maximum(edges[:-1, None], rows)
    # OpenCV leaves out what covers less than this of a row (computeResizeAreaTab).
    covered = np.where(covered > 1e-3, covered, 0)
    return starts, (covered / (edges[1:] - edges[:-1])[:, None]).astype(np.float32)
