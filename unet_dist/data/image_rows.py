"""Reading an image from top to bottom without holding all of it, where its format allows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from unet_dist.data.bands import in_bands_of
from unet_dist.data.images import (
    Pixels,
    as_indices,
    as_pixels,
    decode_image,
    faults_of,
    open_picture,
    pillow_limit,
)
from unet_dist.data.raster import Raster, SizeLimit, check_size
from unet_dist.data.sample import ImageRef
from unet_dist.data.tiff import TIFF_MAGIC, decodes_by_segments, tiff_page, tiff_raster

WHOLE_LIMIT = SizeLimit(
    420_000_000, 1 << 18, "save it as a TIFF in tiles or strips, with deflate or no compression"
)
"""For files that can only be decoded whole: PNG, JPEG and the like, TIFF pages compressed with LZW
or JPEG, in one compressed strip, or in separate planes.
20,000 x 20,000 grey pixels take 0.4 GB and as much again in the decoder, 8-bit RGB up to 3 GB."""
BANDS_LIMIT = SizeLimit(1 << 36, 1 << 18)
"""For TIFF pages that are read band by band."""
MAX_STORED_BAND = 1 << 30
"""Bytes of one row of tiles, or of one strip, that are decoded at once."""
BAND_BYTES = 1 << 22
_READ_AT_ONCE = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Pixels per unit, as TIFF and PNG store them."""

    x: float
    y: float
    unit: Literal["none", "inch", "cm"]

    def dots_per_inch(self) -> tuple[float, float] | None:
        factor = {"none": 0.0, "inch": 1.0, "cm": 2.54}[self.unit]
        return (self.x * factor, self.y * factor) if factor else None


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    """An image file, of which only a band at a time is decoded if its format allows."""

    ref: ImageRef
    height: int
    width: int
    resolution: Resolution | None
    whole: Raster | None
    """All of its pixels, where the file cannot be decoded in parts."""

    def pixels(self) -> Iterator[Pixels]:
        """What ``read_image`` returns, in bands of rows; each call begins anew."""
        return self._bands(as_pixels)

    def indices(self) -> Iterator[NDArray[np.integer]]:
        """What ``read_indices`` returns, in bands of rows."""
        return self._bands(as_indices)

    def _bands(self, meaning: Callable[[ImageRef, Raster], NDArray[Any]]) -> Iterator[NDArray[Any]]:
        for raster in [self.whole] if self.whole else _stored_bands(self.ref):
            row_bytes = raster.values[:1].nbytes
            for values in in_bands_of([raster.values], max(1, BAND_BYTES // row_bytes)):
                with faults_of(self.ref):
                    band = meaning(self.ref, Raster(values, raster.palette))
                yield band


def open_rows(ref: ImageRef) -> ImageRows:
    """Raises UserError if the file is no image, or too large for the way it is stored."""
    with faults_of(ref), ref.path.open("rb") as file:
        is_tiff = file.read(4) in TIFF_MAGIC
        file.seek(0)
        if not is_tiff:
            whole = decode_image(ref, WHOLE_LIMIT)
            resolution = _resolution_of_picture(ref)
        else:
            with tifffile.TiffFile(file) as tiff:
                page = tiff_page(ref, tiff)
                resolution = _resolution_of_page(page)
                if _can_be_read_in_parts(page):
                    height, width = page.imagelength, page.imagewidth
                    check_size(ref, width, height, BANDS_LIMIT)
                    return ImageRows(
                        ref=ref, height=height, width=width, resolution=resolution, whole=None
                    )
            whole = decode_image(ref, WHOLE_LIMIT)
    height, width = whole.values.shape[:2]
    return ImageRows(ref=ref, height=height, width=width, resolution=resolution, whole=whole)


def _can_be_read_in_parts(page: tifffile.TiffPage) -> bool:
    if page.samplesperpixel > 1 and page.planarconfig == 2:
        return False
    if page.is_final:
        return True
    if not decodes_by_segments(page):
        return False
    rows, columns = page.chunks[:2]
    row_of_segments = rows * -(-page.imagewidth // columns) * columns
    stored = row_of_segments * page.samplesperpixel * page.dtype.itemsize
    return bool(stored <= MAX_STORED_BAND)


def _stored_bands(ref: ImageRef) -> Iterator[Raster]:
    with faults_of(ref), tifffile.TiffFile(ref.path) as tiff:
        page = tiff_page(ref, tiff)
        samples = page.samplesperpixel
        rows = 0
        for band in _plain_bands(ref, page) if page.is_final else _segment_bands(page):
            yield tiff_raster(page, band if samples > 1 else band[:, :, 0])
            rows += len(band)
        if rows != page.imagelength:
            raise ValueError(f"{rows} of {page.imagelength} rows")


def _plain_bands(ref: ImageRef, page: tifffile.TiffPage) -> Iterator[NDArray[Any]]:
    """Of a page whose rows follow each other in the file as they are."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    stored = np.dtype(page.parent.byteorder + page.dtype.char)
    row_bytes = width * samples * stored.itemsize
    at_once = max(1, BAND_BYTES // row_bytes)
    with ref.path.open("rb") as file:
        file.seek(page.dataoffsets[0])
        for first in range(0, height, at_once):
            count = min(at_once, height - first)
            values = np.frombuffer(file.read(count * row_bytes), stored)
            yield values.reshape(count, width, samples).astype(page.dtype, copy=False)


def _segment_bands(page: tifffile.TiffPage) -> Iterator[NDArray[Any]]:
    """Of a page in tiles or strips: each row of tiles, each strip. What a sparse file leaves out
    is its fill value."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    band, top = None, 0
    for values, (_, _, row, column, _), shape in page.segments(
        maxworkers=1, buffersize=_READ_AT_ONCE
    ):
        if band is None or row != top:
            if band is not None:
                yield band
            top = row
            band = np.full((min(shape[1], height - top), width, samples), page.nodata, page.dtype)
        if values is not None:
            kept = values[0, : len(band), : width - column]
            band[: len(kept), column : column + kept.shape[1]] = kept
    if band is not None:
        yield band


def _resolution_of_page(page: tifffile.TiffPage) -> Resolution | None:
    tags = [page.tags.get(name) for name in ("XResolution", "YResolution")]
    if any(tag is None for tag in tags):
        return None
    try:
        x, y = (float(tag.value[0] / tag.value[1]) for tag in tags)
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return None  # a damaged tag is no reason not to predict
    unit = page.tags.get("ResolutionUnit")
    name = {2: "inch", 3: "cm"}.get(int(unit.value) if unit is not None else 2, "none")
    return Resolution(x=x, y=y, unit=name) if min(x, y) > 0 else None  # type: ignore[arg-type]


def _resolution_of_picture(ref: ImageRef) -> Resolution | None:
    with pillow_limit(WHOLE_LIMIT), open_picture(ref.path) as image:
        dots = image.info.get("dpi")
    if not dots or min(dots) <= 0:
        return None
    return Resolution(x=float(dots[0]), y=float(dots[1]), unit="inch")
