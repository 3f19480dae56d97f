"""Reading one image file safely, as it is stored: nothing is guessed about its meaning."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from unet_dist.data.raster import (
    TRAINING_LIMIT,
    Raster,
    SizeLimit,
    check_size,
    drop_alpha,
    range_fault,
    size_advice,
    where_of,
)
from unet_dist.data.sample import ImageRef
from unet_dist.data.tiff import TIFF_MAGIC, check_tile, decodes_by_segments, tiff_page, tiff_raster
from unet_dist.errors import UserError

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm"}
)

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM")
"""Pillow's names of the same kinds. By itself it tries dozens more, by content: a PostScript file,
whatever it is called, would be run by Ghostscript."""


Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's L


def read_image(ref: ImageRef) -> Pixels:
    """The image as height x width, or height x width x 3 in RGB order.

    Nothing is rescaled: 8 bits stay uint8, 16 bits uint16; black and white of 1-bit images
    become 0 and 255. Alpha is dropped, palette colours are looked up.
    """
    with faults_of(ref):
        return as_pixels(ref, decode_image(ref, TRAINING_LIMIT))


def as_pixels(ref: ImageRef, raster: Raster) -> Pixels:
    """What ``read_image`` says of the whole image, of any of its rows."""
    values = raster.values
    if raster.palette is not None:
        grey = (raster.palette == raster.palette[:, :1]).all()
        palette = raster.palette[:, 0] if grey else raster.palette
        return palette[values.astype(np.int64)]
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype == np.uint16:
        return values.astype(np.uint16, copy=False)
    if values.dtype.kind == "f":
        raise UserError(where_of(ref), range_fault(values.dtype))
    raise UserError(
        where_of(ref), f"its pixels are {values.dtype}: save the image as uint8 or uint16"
    )


def read_indices(ref: ImageRef) -> NDArray[np.integer]:
    """The mask's values as height x width integers.

    A palette image gives its indices, a 1-bit image 0 and 1, a colour image its values if it
    is grey everywhere. Alpha is dropped.
    """
    with faults_of(ref):
        return as_indices(ref, decode_image(ref, TRAINING_LIMIT))


def as_indices(ref: ImageRef, raster: Raster) -> NDArray[np.integer]:
    """What ``read_indices`` says of the whole mask, of any of its rows."""
    values, palette = raster
    if palette is not None:
        _refuse_negative(ref, values, palette)
    if values.ndim == 3:
        if not (values == values[..., :1]).all():
            raise UserError(where_of(ref), _colour_fault(values))
        values = values[..., 0]
    if values.dtype == np.bool_:
        return np.ascontiguousarray(values.astype(np.uint8))
    if values.dtype.kind not in "iu":
        raise UserError(
            where_of(ref), f"mask values are {values.dtype}: save the mask as 8 or 16 bit"
        )
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)


def page_count(path: Path) -> int:
    """Number of pages of a TIFF stack; 1 for every other image."""
    with faults_of(ImageRef(path=path)), path.open("rb") as file:
        if not _head(path, file).startswith(TIFF_MAGIC):
            return 1
        with tifffile.TiffFile(file) as tiff:
            return len(tiff.pages)


def image_size(ref: ImageRef) -> tuple[int, int]:
    """Height and width in pixels, from the file's header."""
    with faults_of(ref), ref.path.open("rb") as file:
        if _head(ref.path, file).startswith(TIFF_MAGIC):
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages[ref.page]
                return int(page.imagelength), int(page.imagewidth)
        with open_picture(file) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return image.size if turned else (image.height, image.width)


def to_unit_range(image: Pixels, channels: Literal["rgb", "grey", "green"]) -> NDArray[np.float32]:
    """Height x width x 3 (rgb) or x 1, divided by the largest value the type can hold.

    The type decides, not the image's own maximum, so that the same tissue has the same number
    in every image: 12-bit data in a 16-bit file stays below 1/16.
    """
    unit = image.astype(np.float32)
    unit *= np.float32(1 / np.iinfo(image.dtype).max)
    if unit.ndim == 2:
        unit = unit[..., None]
        return np.repeat(unit, 3, axis=2) if channels == "rgb" else unit
    if channels == "green":
        return np.ascontiguousarray(unit[..., 1:2])
    if channels == "grey":
        # cv2.transform: a plain matrix product over 3 channels is four times slower.
        return np.asarray(cv2.transform(unit, _LUMINANCE[None]), np.float32).reshape(
            *unit.shape[:2], 1
        )
    return unit


@contextmanager
def faults_of(ref: ImageRef) -> Iterator[None]:
    """Turns whatever a decoder raises on a broken file into a fault of that file."""
    try:
        yield
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(where_of(ref), size_advice("more pixels", TRAINING_LIMIT)) from error
    except FileNotFoundError as error:
        raise UserError(where_of(ref), "no such file") from error
    except UnidentifiedImageError as error:
        kinds = " ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise UserError(
            where_of(ref), f"not an image of a known kind ({kinds}), or damaged: save it again"
        ) from error
    except Exception as error:
        # Decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error and others.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            where_of(ref), f"cannot be decoded, truncated or damaged ({reason:.120}): copy it again"
        ) from error


def _head(path: Path, file: BinaryIO) -> bytes:
    """The first bytes, after which the file is at its start again."""
    head = file.read(256)
    file.seek(0)
    if not head:
        raise UserError(str(path), "the file is empty: copy it again")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(
            str(path),
            "a Git LFS pointer, not the image itself: run `git lfs pull` where it was cloned",
        )
    if head.startswith(b"\x1f\x8b"):
        raise UserError(str(path), "compressed with gzip: run gunzip on it first")
    return head


def decode_image(ref: ImageRef, limit: SizeLimit) -> Raster:
    """The whole image as it is stored."""
    with ref.path.open("rb") as file:
        head = _head(ref.path, file)
        if head.startswith(TIFF_MAGIC):
            return _decode_tiff(ref, file, limit)
        if ref.page:
            raise UserError(where_of(ref), "only TIFF files have pages")
        if maxval := re.match(rb"P[2356]\s+(?:#.*\s+)*\d+\s+(?:#.*\s+)*\d+\s+(\d+)", head):
            # Pillow stretches other ranges to 0..255, which would change class numbers.
            kept = (b"255", b"65535") if head[1:2] in b"25" else (b"255",)
            if maxval[1] not in kept:
                raise UserError(
                    where_of(ref), f"a PNM file of maximum {int(maxval[1])}: save it as PNG"
                )
        with pillow_limit(limit), open_picture(file) as image:
            check_size(ref, *image.size, limit)
            if image.format == "GIF" and getattr(image, "n_frames", 1) > 1:
                raise UserError(where_of(ref), "an animated GIF: save its frames as PNG files")
            if image.format == "PNG" and head[24] == 16 and head[25] in (2, 4, 6):
                return _decode_deep_png(image, file, grey=head[25] == 4)
            # A photograph's orientation tag; masks drawn in a viewer already follow it.
            ImageOps.exif_transpose(image, in_place=True)
            return _from_pillow(ref, image)


def open_picture(file: Path | BinaryIO) -> Image.Image:
    """Pillow's image, of which only the header is read yet; of the kinds in ``EXTENSIONS``."""
    return Image.open(file, formats=_FORMATS)


@contextmanager
def pillow_limit(limit: SizeLimit) -> Iterator[None]:
    """Lifts Pillow's own limit, which is one of the process, where another one is looked at."""
    before = Image.MAX_IMAGE_PIXELS
    if limit != TRAINING_LIMIT:
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _from_pillow(ref: ImageRef, image: Image.Image) -> Raster:
    mode = image.mode
    if mode in ("CMYK", "YCbCr"):
        image = image.convert("RGB")
    elif mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "F") and mode[0] != "I":
        raise UserError(where_of(ref), f"pixels of kind {mode}: save the image as RGB or grey")
    values = np.asarray(image)
    if mode == "I" and values.min() >= 0 and values.max() <= 65535:
        values = values.astype(np.uint16)
    if mode in ("P", "PA"):
        values = values[..., 0] if values.ndim == 3 else values
        palette = np.zeros((256, 3), np.uint8)
        colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
        palette[: len(colours)] = colours
        return Raster(values, palette)
    return Raster(drop_alpha(values), None)


def _decode_deep_png(image: Image.Image, file: BinaryIO, *, grey: bool) -> Raster:
    # Pillow reduces 16-bit colour to 8 bits; OpenCV keeps it, but accepts truncated files.
    image.load()
    file.seek(0)
    bgr = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if bgr is None:
        raise OSError("16-bit PNG that OpenCV cannot read")
    pixels = np.asarray(bgr)
    rgb = pixels[..., 2::-1] if pixels.ndim == 3 else pixels
    return Raster(np.ascontiguousarray(rgb[..., 0] if grey and rgb.ndim == 3 else rgb), None)


def _decode_tiff(ref: ImageRef, file: BinaryIO, limit: SizeLimit) -> Raster:
    with tifffile.TiffFile(file) as tiff:
        page = tiff_page(ref, tiff)
        check_size(ref, page.imagewidth, page.imagelength, limit)
        check_tile(ref, page, limit)
        if not decodes_by_segments(page):
            if page.bitspersample > 8 and page.samplesperpixel > 1:
                raise UserError(
                    where_of(ref),
                    f"16-bit colour compressed with {page.compression.name}: save it with "
                    "deflate or no compression",
                )
            with pillow_limit(limit):
                return _decode_tiff_codec(ref, file, limit)
        values = np.asarray(page.asarray())
        if page.samplesperpixel > 1 and page.planarconfig == 2:
            values = np.moveaxis(values, 0, -1)
        return tiff_raster(page, values)


def _decode_tiff_codec(ref: ImageRef, file: BinaryIO, limit: SizeLimit) -> Raster:
    """LZW, JPEG, PackBits and fax pages, whose strips libtiff decodes into room of their size."""
    file.seek(0)
    with open_picture(file) as image:
        image.seek(ref.page)
        check_size(ref, *image.size, limit)  # where a tag stands twice, libraries differ
        return _from_pillow(ref, image)


def _refuse_negative(
    ref: ImageRef, indices: NDArray[np.generic], palette: NDArray[np.uint8]
) -> None:
    """A black and white palette mask whose 0 is the white: number and picture contradict."""
    used = np.unique(indices)
    if len(used) == 2 and used[0] == 0 and palette[0].min() >= 224 and palette[used[1]].max() < 32:
        raise UserError(
            where_of(ref),
            f"palette index 0 is shown white and {int(used[1])} black, so the foreground is not "
            "plain: save it as a grey PNG, 0 for the background",
        )


def _colour_fault(values: NDArray[np.generic]) -> str:
    colours = np.unique(values.reshape(-1, values.shape[-1]), axis=0)
    names = ["(" + ", ".join(str(int(part)) for part in colour) + ")" for colour in colours[:8]]
    if len(colours) > 64:
        return (
            f"a colour mask of {len(colours)} colours such as {', '.join(names)}: not a mask, or "
            "saved as JPEG; save class numbers as a grey PNG"
        )
    more = f" and {len(colours) - 8} more" if len(colours) > 8 else ""
    return (
        f"a colour mask with the colours {', '.join(names)}{more}, whose classes are unknown: "
        "save class numbers 0, 1, ... as a grey or palette PNG"
    )
