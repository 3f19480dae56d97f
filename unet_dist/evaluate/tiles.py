"""Images of any size by overlapping tiles of one fixed size, blended together."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.bands import Bands, SlidingRows

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images in NCHW to outputs in NKHW, always of the same shape, as a compiled graph wants."""


def predict_bands(
    forward: Forward,
    image: Bands,
    size: tuple[int, int],
    *,
    tile: int,
    overlap: float,
    batch: int,
) -> Iterator[NDArray[np.float32]]:
    """The outputs of an image of any height and width, as bands of rows [n, W, K].

    ``forward`` is always called with exactly (batch, C, tile, tile): the last batch is filled up
    with zeros whose outputs are dropped, and an image smaller than a tile is mirrored outwards.
    Neighbouring tiles share at least ``overlap`` of their side. In memory are the rows of the
    tiles of one batch, of the image and of the outputs; rows that no later tile touches go out.
    """
    top, left = (max(tile - side, 0) // 2 for side in size)
    rows = _tile_starts(max(size[0], tile), tile, overlap)
    columns = _tile_starts(max(size[1], tile), tile, overlap)
    row_weights = _blending_weights(rows, tile)
    column_weights = _blending_weights(columns, tile)
    corners = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
    source = SlidingRows(_mirrored(image, size, tile))

    blended_hwk: NDArray[np.float32] | None = None
    first_row = 0  # of the blended rows, which are not complete yet
    for start in range(0, len(corners), batch):
        chunk = corners[start : start + batch]
        y_nkhw = forward(_tiles(source, chunk, rows, columns, tile=tile, batch=batch))
        assert y_nkhw.shape[0] == batch, y_nkhw.shape
        assert y_nkhw.shape[2:] == (tile, tile), y_nkhw.shape
        if blended_hwk is None:
            blended_hwk = np.zeros((0, columns[-1] + tile, y_nkhw.shape[1]), np.float32)
        missing = rows[chunk[-1][0]] + tile - first_row - len(blended_hwk)
        if missing:
            more_hwk = np.zeros((missing, *blended_hwk.shape[1:]), np.float32)
            blended_hwk = np.concatenate([blended_hwk, more_hwk])
        for y_khw, (i, j) in zip(y_nkhw, chunk, strict=False):
            weight_hw = np.outer(row_weights[i], column_weights[j]).astype(np.float32)
            in_buffer = slice(rows[i] - first_row, rows[i] - first_row + tile)
            part_hwk = blended_hwk[in_buffer, columns[j] : columns[j] + tile]
            part_hwk += y_khw.transpose(1, 2, 0) * weight_hw[:, :, None]
        following = corners[start + batch : start + batch + 1]
        complete = (rows[following[0][0]] if following else rows[-1] + tile) - first_row
        if complete:
            # Rows are mirrored on only where the image has fewer than a tile, which is one band.
            out_hwk = blended_hwk[:complete][top : top + size[0]]
            yield np.ascontiguousarray(out_hwk[:, left : left + size[1]])
            blended_hwk = blended_hwk[complete:]
            first_row += complete


def _tiles(
    source: SlidingRows,
    corners: Sequence[tuple[int, int]],
    rows: Sequence[int],
    columns: Sequence[int],
    *,
    tile: int,
    batch: int,
) -> NDArray[np.float32]:
    """[batch, C, tile, tile]: a new array each time, since the compute side may still hold the
    last one."""
    tiles_nhwc = [
        source.rows(rows[i], rows[i] + tile)[:, columns[j] : columns[j] + tile] for i, j in corners
    ]
    x_nchw = np.zeros((batch, tiles_nhwc[0].shape[2], tile, tile), np.float32)
    for n, tile_hwc in enumerate(tiles_nhwc):
        x_nchw[n] = tile_hwc.transpose(2, 0, 1)
    return x_nchw


def _mirrored(image: Bands, size: tuple[int, int], tile: int) -> Bands:
    """The image mirrored up to one tile where it is smaller."""
    pads = [
        (missing // 2, missing - missing // 2) for missing in (max(tile - side, 0) for side in size)
    ]
    if size[0] < tile:
        image = [np.concatenate(list(image))]
    # NumPy mirrors as often as it takes, and repeats a side of a single pixel.
    return (np.pad(band, [*pads, (0, 0)], mode="reflect") for band in image)


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
