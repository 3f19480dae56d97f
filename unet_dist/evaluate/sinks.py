"""One-channel pictures that are written row by row: PNG in memory, tiled TIFF on disk."""

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from unet_dist.data.bands import Rebanding
from unet_dist.data.image_rows import Resolution

TIFF_TILE = 256
# Offsets of a classic TIFF have 32 bits; its header and lists need some room too.
CLASSIC_BYTES = 2**32 - 2**25


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is known of a picture before its first row."""

    height: int
    width: int
    dtype: type[np.uint8] | type[np.uint16]
    palette: NDArray[np.uint8] | None = None
    """Colours of the values, n x 3; None for grey."""
    resolution: Resolution | None = None


class Sink(Protocol):
    def add(self, rows_hw: NDArray[Any]) -> None:
        """Takes the next rows."""

    def finish(self, path: Path) -> None:
        """Writes the file, once all rows are there."""

    def close(self) -> None:
        """Gives up what is held."""


class PngSink:
    """Holds the whole picture until it is written."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._values_hw = np.zeros((picture.height, picture.width), picture.dtype)
        self._row = 0

    def add(self, rows_hw: NDArray[Any]) -> None:
        self._values_hw[self._row : self._row + len(rows_hw)] = rows_hw
        self._row += len(rows_hw)

    def finish(self, path: Path) -> None:
        assert self._row == self._picture.height, self._row
        image = Image.fromarray(self._values_hw)
        if self._picture.palette is not None:
            image.putpalette(self._picture.palette.tobytes())
        resolution = self._picture.resolution
        dots = resolution.dots_per_inch() if resolution else None
        image.save(path, format="PNG", **({"dpi": dots} if dots else {}))

    def close(self) -> None:
        pass


class TiffSink:
    """Holds one row of tiles. Complete tiles wait compressed in a file without a name, since a
    TIFF says ahead of its pixels how long each tile is."""

    def __init__(self, picture: Picture, folder: Path) -> None:
        self._picture = picture
        self._rebanding = Rebanding(TIFF_TILE)
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in close
        self._lengths: list[int] = []

    def add(self, rows_hw: NDArray[Any]) -> None:
        for band_hw in self._rebanding.full(rows_hw.astype(self._picture.dtype, copy=False)):
            self._write_tiles(band_hw)

    def _write_tiles(self, band_hw: NDArray[Any]) -> None:
        missing = (TIFF_TILE - len(band_hw), -band_hw.shape[1] % TIFF_TILE)
        padded_hw = np.pad(band_hw, [(0, missing[0]), (0, missing[1])])
        for left in range(0, padded_hw.shape[1], TIFF_TILE):
            tile = zlib.compress(padded_hw[:, left : left + TIFF_TILE].tobytes())
            self._spool.write(tile)
            self._lengths.append(len(tile))

    def finish(self, path: Path) -> None:
        for band_hw in self._rebanding.rest():
            self._write_tiles(band_hw)
        palette, resolution = self._picture.palette, self._picture.resolution
        options: dict[str, Any] = {"photometric": "minisblack"}
        if palette is not None:
            colormap = np.zeros((3, 256), np.uint16)
            colormap[:, : len(palette)] = palette.T.astype(np.uint16) * 257
            options = {"photometric": "palette", "colormap": colormap}
        if resolution is not None:
            unit = {"none": 1, "inch": 2, "cm": 3}[resolution.unit]
            options |= {"resolution": (resolution.x, resolution.y), "resolutionunit": unit}
        tifffile.imwrite(
            path,
            self._tiles(),
            shape=(self._picture.height, self._picture.width),
            dtype=self._picture.dtype,
            tile=(TIFF_TILE, TIFF_TILE),
            compression="zlib",
            bigtiff=sum(self._lengths) > CLASSIC_BYTES,
            metadata=None,
            **options,
        )

    def _tiles(self) -> Iterator[bytes]:
        self._spool.seek(0)
        for length in self._lengths:
            yield self._spool.read(length)

    def close(self) -> None:
        self._spool.close()
