"""Field of view and truth of an image that is read from top to bottom."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.bands import Rebanding, SlidingRows
from unet_dist.data.fov import estimate_fov, read_fov
from unet_dist.data.image_rows import ImageRows, open_rows
from unet_dist.data.masks import MaskCoding, decode
from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError

ESTIMATED_PIXELS = 1 << 24
"""The field of view of a larger image is estimated on its reduction."""

RowsOf = Callable[[int, int], NDArray[np.bool_]]
"""The field of view of the rows from the first to before the second number."""


def blank_outside(
    prob_hwk: NDArray[np.float32], inside_hw: NDArray[np.bool_], *, classes: int
) -> None:
    """In place: outside the field of view all is background, without any doubt. Channels beyond
    the classes, such as a variance, become 0."""
    outside_hw = ~inside_hw
    prob_hwk[outside_hw] = 0
    if classes > 2:
        prob_hwk[outside_hw, 0] = 1


def view_of(image: ImageRows, fov: Literal["file", "estimate", "none"]) -> RowsOf:
    """Everything with ``file``: of an image on its own it is not known."""
    if fov != "estimate":
        return lambda first, stop: np.ones((stop - first, image.width), np.bool_)
    factor = math.ceil(math.sqrt(image.height * image.width / ESTIMATED_PIXELS))
    rebanding = Rebanding(factor)
    reduced = [
        _block_means(block, factor)
        for band in image.pixels()
        for block in (rebanding.full(band) if factor > 1 else [band])
    ]
    reduced += [_block_means(block, factor) for block in rebanding.rest()]
    small_hw = estimate_fov(np.concatenate(reduced))
    columns = np.arange(image.width) // factor
    return lambda first, stop: small_hw[np.arange(first, stop) // factor][:, columns]


def open_view(mask: ImageRef, image: ImageRows) -> RowsOf:
    """Raises UserError if the mask is none, or of another size than the image."""
    inside_hw = read_fov(mask)
    _same_size(image, mask, *inside_hw.shape)
    return lambda first, stop: inside_hw[first:stop]


def _same_size(image: ImageRows, mask: ImageRef, height: int, width: int) -> None:
    if (height, width) != (image.height, image.width):
        raise UserError(
            str(image.ref.path),
            f"has {image.height} x {image.width} pixels but its mask {mask.path} "
            f"{height} x {width} (height x width): are they of the same picture?",
        )


def _block_means(band: NDArray[np.generic], factor: int) -> NDArray[np.uint8]:
    """One row of means of blocks; the band itself if the factor is 1."""
    if factor == 1:
        return np.asarray(band)
    width = -(-band.shape[1] // factor)
    padded = np.pad(
        band, [(0, 0), (0, width * factor - band.shape[1]), *[(0, 0)] * (band.ndim - 2)], "edge"
    )
    means = cv2.resize(padded, (width, 1), interpolation=cv2.INTER_AREA)
    return np.asarray(means, band.dtype).reshape(1, width, *band.shape[2:])


@dataclass(kw_only=True)
class TruthRows:
    """Class numbers of the mask that belongs to an image, in order from top to bottom; of numbered
    objects 1 for all of their pixels."""

    where: str
    coding: MaskCoding
    rows: SlidingRows

    def of_rows(self, first: int, stop: int) -> NDArray[np.uint8]:
        return decode(self.rows.rows(first, stop), self.coding, where=self.where)


def open_truth(mask: ImageRef, image: ImageRows, coding: MaskCoding) -> TruthRows:
    """Raises UserError if the mask is none, or of another size than the image."""
    truth = open_rows(mask)
    _same_size(image, mask, truth.height, truth.width)
    if coding.kind == "instances_border":
        coding = replace(coding, kind="instances")
    return TruthRows(
        where=str(mask.path),
        coding=coding,
        rows=SlidingRows(truth.indices()),
    )
