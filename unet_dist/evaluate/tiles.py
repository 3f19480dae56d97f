"""Whole images by overlapping tiles of one fixed size, blended together."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images in NCHW to outputs in NKHW, always of the same shape, as a compiled graph wants."""


def predict_tiled(
    forward: Forward,
    image_hwc: NDArray[np.float32],
    *,
    tile: int,
    overlap: float,
    batch: int,
) -> NDArray[np.float32]:
    """Returns the outputs [H, W, K] of an image of any size.

    ``forward`` is always called with exactly (batch, C, tile, tile): the last batch is filled up
    with zeros whose outputs are dropped, and an image smaller than a tile is mirrored outwards.
    Neighbouring tiles share at least ``overlap`` of their side.
    """
    height, width, channels = image_hwc.shape
    padded_hwc, top, left = _mirror_to(image_hwc, tile)
    rows = _tile_starts(padded_hwc.shape[0], tile, overlap)
    columns = _tile_starts(padded_hwc.shape[1], tile, overlap)
    row_weights = _blending_weights(rows, tile)
    column_weights = _blending_weights(columns, tile)
    corners = [(i, j) for i in range(len(rows)) for j in range(len(columns))]

    blended_hwk: NDArray[np.float32] | None = None
    for chunk in _chunks(corners, batch):
        # A new array each time: the compute side may still hold the last one.
        x_nchw = np.zeros((batch, channels, tile, tile), np.float32)
        for n, (i, j) in enumerate(chunk):
            part_hwc = padded_hwc[rows[i] : rows[i] + tile, columns[j] : columns[j] + tile]
            x_nchw[n] = part_hwc.transpose(2, 0, 1)
        y_nkhw = forward(x_nchw)
        assert y_nkhw.shape[0] == batch, y_nkhw.shape
        assert y_nkhw.shape[2:] == (tile, tile), y_nkhw.shape
        if blended_hwk is None:
            blended_hwk = np.zeros((*padded_hwc.shape[:2], y_nkhw.shape[1]), np.float32)
        for y_khw, (i, j) in zip(y_nkhw, chunk, strict=False):
            weight_hw = np.outer(row_weights[i], column_weights[j]).astype(np.float32)
            part_hwk = blended_hwk[rows[i] : rows[i] + tile, columns[j] : columns[j] + tile]
            part_hwk += y_khw.transpose(1, 2, 0) * weight_hw[:, :, None]
    assert blended_hwk is not None
    return np.ascontiguousarray(blended_hwk[top : top + height, left : left + width])


def _mirror_to(image_hwc: NDArray[np.float32], tile: int) -> tuple[NDArray[np.float32], int, int]:
    """The image mirrored up to one tile where it is smaller, and its top left corner in it."""
    missing = [max(tile - side, 0) for side in image_hwc.shape[:2]]
    before = [count // 2 for count in missing]
    pads = [(first, count - first) for first, count in zip(before, missing, strict=True)]
    # NumPy mirrors as often as it takes, and repeats a side of a single pixel.
    return np.pad(image_hwc, [*pads, (0, 0)], mode="reflect"), before[0], before[1]


def _tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Evenly spread first pixels of the tiles along one side, from 0 to ``length - tile``."""
    stride = max(1, math.floor(tile * (1 - overlap)))
    last = length - tile
    num_gaps = math.ceil(last / stride)
    return [round(last * index / num_gaps) for index in range(num_gaps + 1)] if last else [0]


def _blending_weights(starts: Sequence[int], tile: int) -> list[NDArray[np.float64]]:
    """Smooth weights of each tile along one side; at every pixel they add up to 1.

    The tiles form a grid and the window is a product, so the weights of the two sides can be
    normalised apart, and no sum of weights needs to be kept for each pixel of the image.
    """
    window = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    total = np.zeros(starts[-1] + tile)
    for start in starts:
        total[start : start + tile] += window
    return [window / total[start : start + tile] for start in starts]


def _chunks(corners: Sequence[tuple[int, int]], batch: int) -> Iterator[Sequence[tuple[int, int]]]:
    for first in range(0, len(corners), batch):
        yield corners[first : first + batch]
