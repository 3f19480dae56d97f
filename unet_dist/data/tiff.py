"""Pages of TIFF files: what is refused from the header, and strips and tiles that cannot exhaust
memory."""

import math
import zlib
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unet_dist.data.raster import Raster, SizeLimit, check_size, drop_alpha, range_fault, where_of
from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEFLATE = (
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
)
_MOST_PIXEL_BYTES = 8
"""Of 16-bit RGB with alpha, or one 64-bit label."""


def tiff_page(ref: ImageRef, tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    """The page, of which no strip or tile inflates to more than its header promises.

    Raises:
        UserError: there is no such page, or none that is an upright picture.
    """
    if ref.page >= len(tiff.pages):
        raise UserError(where_of(ref), f"page {ref.page} of {len(tiff.pages)}, counted from 0")
    page = tiff.pages[ref.page]
    _check_tiff(ref, tiff, page)
    if page.compression in _DEFLATE:
        _bound_segments(page)
    return page


def decodes_by_segments(page: tifffile.TiffPage) -> bool:
    """Whether tifffile decodes the page, strip by strip or tile by tile; else libtiff does it.

    With its package imagecodecs tifffile knows more codecs, but then what can be read would depend
    on whether that is there, and some of them believe the size that the segment itself claims.
    """
    if page.compression in _DEFLATE and page.fillorder == 2:
        return False  # its bits would have to be turned before ``_bound_segments`` can inflate it
    if page.compression not in (tifffile.COMPRESSION.NONE, *_DEFLATE):
        return False
    try:
        page.decode(None, 0)  # a segment without bytes: only tells whether a codec is missing
    except ValueError as error:
        return "imagecodecs" not in str(error)
    return True


def _bound_segments(page: tifffile.TiffPage) -> None:
    """Refuses, when it is decoded, a segment that inflates to more than its pixels need.

    tifffile inflates all of it and cuts off the rest: 0.6 MB can become 1.2 GB. Some programs fill
    up the last strip, hence twice as much is allowed, up to 16 MB.
    """
    decode = page.decode
    needed = math.prod(page.chunks) * page.dtype.itemsize
    most = needed + min(needed, 1 << 24)

    def decode_bounded(segment: bytes | None, *args: Any, **options: Any) -> Any:
        if segment is not None:
            stream = zlib.decompressobj()
            inflated = stream.decompress(segment, most + 1)
            if len(inflated) > most:
                raise ValueError(f"a strip or tile inflates to more than {most} bytes")
            if not stream.eof:
                raise ValueError("a strip or tile ends too early")
            # Inflated twice, an image would take twice the time; what is stored takes none.
            segment = zlib.compress(inflated, 0)
            del inflated
        return decode(segment, *args, **options)

    page.decode = decode_bounded


def check_tile(ref: ImageRef, page: tifffile.TiffPage, limit: SizeLimit) -> None:
    """A tile is decoded whole, however little of it the image needs."""
    if page.is_tiled:
        check_size(ref, page.tilewidth, page.tilelength, limit, what="tiles of ")


def tiff_raster(page: tifffile.TiffPage, values: NDArray[Any]) -> Raster:
    """Any rows of a page, channels last."""
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        values = ~values  # stored with 0 for white; bool and unsigned alike
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return Raster(values, (np.asarray(page.colormap) >> 8).astype(np.uint8).T)
    return Raster(drop_alpha(values), None)


def _check_tiff(ref: ImageRef, tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    faults = []
    slices = int((tiff.imagej_metadata or {}).get("images", 1)) if tiff.is_imagej else 1
    if slices > 1 and len(tiff.pages) == 1:
        faults.append(f"an ImageJ stack of {slices} slices in one page: save them as pages")
    if page.samplesperpixel > 4 or max(page.imagedepth, page.tiledepth) > 1:
        shape = " x ".join(map(str, page.shape))
        faults.append(f"a page of {shape}, neither grey nor RGB: save one page a slice")
    if page.dtype is None or page.dtype.kind not in "biu":
        faults.append(range_fault(page.dtype))
    elif page.samplesperpixel * page.dtype.itemsize > _MOST_PIXEL_BYTES:
        faults.append(f"{page.samplesperpixel} x {page.dtype} a pixel: save it as uint8 or uint16")
    orientation = page.tags.get("Orientation")
    if orientation is not None and orientation.value != 1:
        faults.append(f"its orientation tag is {int(orientation.value)}: save it upright (1)")
    if faults:
        raise UserError(where_of(ref), faults)
