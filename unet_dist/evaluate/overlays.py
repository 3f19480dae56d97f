"""Predictions drawn on their image, reduced where the image is larger than a screen shows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unet_dist.data.bands import Rebanding
from unet_dist.data.colours import mask_colours, object_colours
from unet_dist.data.sample import IGNORE

MAX_SIDE = 4096
"""Pixels of an overlay; larger images are reduced by a whole factor."""

_ROWS_AT_ONCE = 256
TINT = 0.25
ERROR_TINT = 0.6
NOTHING, CORRECT, FALSE, MISSED = range(4)
ERROR_NAMES = {CORRECT: "correct (TP)", FALSE: "false (FP)", MISSED: "missed (FN)"}
ERROR_NAMES_OF_CLASSES = {
    CORRECT: "of the right class",
    FALSE: "of another class, or background in truth",
    MISSED: "missed: background in the prediction",
}
"""With several foreground classes."""
ERROR_COLOURS = np.array([(0, 0, 0), (0, 158, 115), (230, 159, 0), (0, 114, 178)], np.uint8)
"""Bluish green, orange and blue of Okabe and Ito: apart for every kind of colour vision."""


WHITE_QUANTILE, DIM = 0.998, 0.5
"""Pictures whose brightest pixels stay below DIM are brightened: 12 bits in a file of 16 would be
shown as black."""


def white_point(image_hwc: NDArray[Any], *, full: float = 1.0) -> float:
    """The value to show as white, of an image whose largest possible value is ``full``."""
    bright = float(np.quantile(image_hwc, WHITE_QUANTILE))
    return bright if 0 < bright < DIM * full else full


def reduction(height: int, width: int) -> int:
    """By which factor an overlay is smaller than its image."""
    return math.ceil(max(height, width) / MAX_SIDE)


def error_codes(
    decided_hw: NDArray[np.uint8], truth_hw: NDArray[np.uint8], inside_hw: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """CORRECT, FALSE (also of another class) or MISSED foreground, and NOTHING where both are
    background, the truth is unknown or the field of view ends."""
    codes_hw = np.full(decided_hw.shape, NOTHING, np.uint8)
    codes_hw[decided_hw > 0] = FALSE
    codes_hw[(decided_hw == 0) & (truth_hw > 0)] = MISSED
    codes_hw[(decided_hw > 0) & (decided_hw == truth_hw)] = CORRECT
    codes_hw[(truth_hw == IGNORE) | ~inside_hw] = NOTHING
    return codes_hw


class ReducedImage:
    """The mean of each block of pixels, of rows as they come."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._rebanding = Rebanding(factor)
        self._rows: list[NDArray[np.uint16]] = []

    def add(self, image_hwc: NDArray[np.float32]) -> None:
        self._rows += map(self._reduced, self._rebanding.full(image_hwc))

    def finished(self) -> NDArray[np.uint8]:
        """RGB bytes [h, w, 3]."""
        self._rows += map(self._reduced, self._rebanding.rest())
        image_hwc = np.concatenate(self._rows)
        factor = np.float32(255 / white_point(image_hwc, full=65535))
        rgb_hwc = np.empty((*image_hwc.shape[:2], 3), np.uint8)
        for first in range(0, len(image_hwc), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            rgb_hwc[rows] = np.minimum(image_hwc[rows] * factor + np.float32(0.5), 255)
        return rgb_hwc

    def _reduced(self, band_hwc: NDArray[np.float32]) -> NDArray[np.uint16]:
        if self._factor > 1:
            columns = np.arange(0, band_hwc.shape[1], self._factor)
            sums_wc = np.add.reduceat(band_hwc.sum(axis=0), columns, axis=0)
            counts = np.diff(np.append(columns, band_hwc.shape[1])) * len(band_hwc)
            band_hwc = (sums_wc / counts[:, None])[None].astype(np.float32)
        return (np.clip(band_hwc, 0, 1) * 65535 + 0.5).astype(np.uint16)


class ReducedLabels:
    """The most frequent of the labels above 0 in each block, so that thin structures stay."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._rebanding = Rebanding(factor)
        self._rows: list[NDArray[np.uint8]] = []

    def add(self, labels_hw: NDArray[np.uint8]) -> None:
        self._rows += map(self._reduced, self._rebanding.full(labels_hw))

    def finished(self) -> NDArray[np.uint8]:
        self._rows += map(self._reduced, self._rebanding.rest())
        return np.concatenate(self._rows)

    def _reduced(self, band_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._factor == 1:
            return band_hw.copy()  # the band is a view of something large
        columns = np.arange(0, band_hw.shape[1], self._factor)
        best, most = np.zeros(len(columns), np.uint8), np.zeros(len(columns), np.int64)
        present = np.bincount(band_hw.ravel())
        for label in np.flatnonzero(present[1:]) + 1:
            counts = np.add.reduceat((band_hw == label).sum(axis=0), columns)
            best, most = np.where(counts > most, np.uint8(label), best), np.maximum(counts, most)
        return best[None]


class Pictures:
    """The overlay of an image and, with a truth, its errors, from rows as they come."""

    def __init__(
        self, height: int, width: int, *, classes: int, has_truth: bool, of_objects: bool
    ) -> None:
        """
        Args:
            of_objects: the classes are inside and border, and errors are of either as one: where a
                border ends needs a whole object, of which a band of rows has a part.
        """
        self._factor = factor = reduction(height, width)
        self._image = ReducedImage(factor)
        self._labels = ReducedLabels(factor)
        self._errors = ReducedLabels(factor) if has_truth else None
        self._error_pixels = dict.fromkeys(ERROR_NAMES, 0)
        self._of_objects = of_objects
        self._names = ERROR_NAMES if classes == 2 or of_objects else ERROR_NAMES_OF_CLASSES
        self.colours = mask_colours(classes)
        """Of each class, RGB."""
        self.brightest = 0.0
        """Value of a pixel, 0..1."""

    def add_image(self, image_hwc: NDArray[np.float32]) -> None:
        self.brightest = max(self.brightest, float(image_hwc.max()))
        self._image.add(image_hwc)

    def add(
        self,
        mask_hw: NDArray[np.uint8],
        truth_hw: NDArray[np.uint8] | None,
        inside_hw: NDArray[np.bool_],
    ) -> None:
        self._labels.add(mask_hw)
        if truth_hw is not None:
            assert self._errors is not None
            found_hw = np.asarray(mask_hw > 0, np.uint8) if self._of_objects else mask_hw
            codes_hw = error_codes(found_hw, truth_hw, inside_hw)
            self._errors.add(codes_hw)
            for code in self._error_pixels:
                self._error_pixels[code] += int(np.count_nonzero(codes_hw == code))

    @property
    def error_pixels(self) -> dict[str, int]:
        """Of correct, false and missed foreground; empty without a truth."""
        numbers = self._error_pixels.items() if self._errors is not None else ()
        return {self._names[code]: number for code, number in numbers}

    def finished(self, objects_hw: NDArray[np.int32] | None = None) -> dict[str, NDArray[np.uint8]]:
        """
        Args:
            objects_hw: numbers to be drawn in place of the classes.
        """
        image_hwc = self._image.finished()
        labels_hw: NDArray[np.integer]
        if objects_hw is None:
            labels_hw, colours = self._labels.finished(), self.colours
        else:
            labels_hw, colours = objects_hw, object_colours(int(objects_hw.max(initial=0)))
            for axis in (0, 1):  # one of the numbers in a block: small objects stay
                blocks = np.arange(0, objects_hw.shape[axis], self._factor)
                labels_hw = np.maximum.reduceat(labels_hw, blocks, axis=axis)
        pictures = {"overlay": overlay(image_hwc, labels_hw, colours)}
        if self._errors is not None:
            pictures["errors"] = error_overlay(
                image_hwc, self._errors.finished(), self._error_pixels, self._names
            )
        return pictures


def overlay(
    image_hwc: NDArray[np.uint8],
    mask_hw: NDArray[np.integer],
    colours: NDArray[np.uint8],
    *,
    tint: float = TINT,
) -> NDArray[np.uint8]:
    """The image with each class, or object, tinted and its outline drawn."""
    outline_hw = _outline(mask_hw)
    blended_hwc = image_hwc.copy()
    for first in range(0, len(mask_hw), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        coloured_hw = mask_hw[rows] > 0
        strength_n1 = np.where(outline_hw[rows][coloured_hw], np.float32(1), np.float32(tint))[
            :, None
        ]
        mixed_nc = image_hwc[rows][coloured_hw] * (1 - strength_n1)
        mixed_nc += colours[mask_hw[rows][coloured_hw]] * strength_n1
        blended_hwc[rows][coloured_hw] = (mixed_nc + 0.5).astype(np.uint8)
    return blended_hwc


def error_overlay(
    image_hwc: NDArray[np.uint8],
    codes_hw: NDArray[np.uint8],
    pixels: Mapping[int, int],
    names: Mapping[int, str],
) -> NDArray[np.uint8]:
    """The image with right and wrong foreground in their colours, and a legend below it with the
    name of each code and its number of pixels."""
    picture_hwc = overlay(image_hwc, codes_hw, ERROR_COLOURS, tint=ERROR_TINT)
    entries = [
        (tuple(ERROR_COLOURS[code].tolist()), f"{name}: {pixels[code]:,} pixels")
        for code, name in names.items()
    ]
    return np.concatenate(_same_width(picture_hwc, _legend(entries, picture_hwc.shape[1])))


def image_bytes(image_hwc: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image 0..1 as it is shown, RGB: a dim one brightened."""
    return to_rgb_bytes(image_hwc / np.float32(white_point(image_hwc)))


def to_rgb_bytes(image_hwc: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0..1 in one or three channels to three channels of 0..255."""
    rgb_hwc = np.broadcast_to(image_hwc, (*image_hwc.shape[:2], 3))
    return (np.clip(rgb_hwc, 0, 1) * 255 + 0.5).astype(np.uint8)


def _legend(
    entries: Sequence[tuple[tuple[int, ...], str]], picture_width: int
) -> NDArray[np.uint8]:
    """A white block with a square of each colour and its meaning, one a line."""
    size = min(max(12, picture_width // 60), 48)
    font = ImageFont.load_default(size)
    line = round(1.6 * size)
    width = math.ceil(max(font.getlength(text) for _, text in entries)) + 3 * size
    block = Image.new("RGB", (width, line * len(entries)), "white")
    draw = ImageDraw.Draw(block)
    for number, (colour, text) in enumerate(entries):
        top = number * line + round(0.3 * size)
        draw.rectangle((size // 2, top, size // 2 + size, top + size), fill=colour)
        draw.text((2 * size, top), text, fill="black", font=font)
    return np.asarray(block)


def _same_width(*pictures_hwc: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """White on the right of those that are narrower."""
    width = max(picture.shape[1] for picture in pictures_hwc)
    return [
        np.pad(p, [(0, 0), (0, width - p.shape[1]), (0, 0)], constant_values=255)
        for p in pictures_hwc
    ]


def _outline(mask_hw: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Foreground pixels with one of four neighbours in another class or object."""
    wide = np.pad(mask_hw, 1, mode="edge")
    neighbours = (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:])
    differs = np.zeros(mask_hw.shape, np.bool_)
    for neighbour_hw in neighbours:
        differs |= neighbour_hw != mask_hw
    return differs & (mask_hw > 0)
