"""Pixels as a file stores them, and which are refused."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError


class SizeLimit(NamedTuple):
    """Larger images are refused before they are decoded."""

    pixels: int
    side: int
    advice: str = "cut it into tiles"


# Pillow refuses larger images too; as float32 RGB one would need 2 GiB. The longest side is what
# cv2.remap addresses in its source with 16 bits.
TRAINING_LIMIT = SizeLimit(178_956_970, 32_766)


class Raster(NamedTuple):
    """Pixels as a file stores them."""

    values: NDArray[np.generic]
    """Height x width, or height x width x channels (alpha last), in the file's own type."""
    palette: NDArray[np.uint8] | None
    """Colours of the values, n x 3, for palette images."""


def where_of(ref: ImageRef) -> str:
    return f"{ref.path} page {ref.page}" if ref.page else str(ref.path)


def size_advice(size: str, limit: SizeLimit) -> str:
    return f"{size} than the limit of {limit.pixels} pixels and {limit.side} a side: {limit.advice}"


def check_size(ref: ImageRef, width: int, height: int, limit: SizeLimit, *, what: str = "") -> None:
    size = f"{what}{height} x {width} pixels"
    if width * height > limit.pixels or max(width, height) > limit.side:
        raise UserError(where_of(ref), size_advice(f"{size}, more", limit))
    if width * height == 0:
        raise UserError(where_of(ref), f"{size}: nothing to see")


def drop_alpha(values: NDArray[np.generic]) -> NDArray[np.generic]:
    if values.ndim != 3:
        return values
    colours = 1 if values.shape[2] <= 2 else 3
    return np.ascontiguousarray(values[..., 0] if colours == 1 else values[..., :3])


def range_fault(dtype: np.dtype[Any] | None) -> str:
    return (
        f"its pixels are {dtype or 'of no known kind'}, not whole numbers, so their range is "
        "unknown: scale an image to 0..65535, number a mask's classes, and save it as 16 bit"
    )
