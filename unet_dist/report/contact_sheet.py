"""Thumbnails of a data set with the outlines of its masks, to see at a glance whether they fit."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unet_dist.config_data import DataConfig
from unet_dist.data.colours import mask_colours
from unet_dist.data.dataset import Dataset, ImageCache
from unet_dist.data.sample import IGNORE, Example, Sample
from unet_dist.evaluate.outputs import write_files
from unet_dist.evaluate.overlays import overlay, to_rgb_bytes

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SIDE = 240
"""Pixels of a thumbnail's longer side."""
COLUMNS = 6
MOST_OF_A_PART = 18
GAP, LINE, HEAD = 8, 20, 34
COVERED = 0.3
"""Share of a thumbnail's pixel from which it belongs to a class: thin structures stay seen."""


def write_contact_sheet(dataset: Dataset, path: Path, *, title: str) -> None:
    """Writes a PNG with some images of each part, in the order of their ids, evenly chosen.

    Images are read one at a time and kept as thumbnails alone, whatever their number and size.
    """
    once = replace(dataset, cache=ImageCache(0))
    parts = {part: _some(samples) for part, samples in dataset.splits.parts().items() if samples}
    lines = {part: -(-len(samples) // COLUMNS) for part, samples in parts.items()}
    height = 2 * HEAD + sum(HEAD + count * (SIDE + LINE + GAP) for count in lines.values())
    width = COLUMNS * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    small, large = ImageFont.load_default(13), ImageFont.load_default(18)
    draw.text((GAP, GAP), title[-120:], fill="#111111", font=large)
    colours = mask_colours(dataset.config.classes)
    end = _draw_legend(draw, dataset.config.names, colours, HEAD, small)
    if dataset.config.even_light:
        draw.text((end, HEAD + 3), false_colours(dataset.config), fill="#111111", font=small)
    top = 2 * HEAD
    for part, samples in parts.items():
        number = len(dataset.splits.parts()[part])
        draw.text((GAP, top + 6), f"{part}: {len(samples)} of {number}", fill="#111111", font=large)
        top += HEAD
        for index, sample in enumerate(samples):
            left = GAP + index % COLUMNS * (SIDE + GAP)
            row = top + index // COLUMNS * (SIDE + LINE + GAP)
            picture = thumbnail(once.read_native(sample), colours)
            sheet.paste(Image.fromarray(picture), (left, row))
            draw.text((left, row + SIDE + 2), caption(sample.id, small), fill="#333333", font=small)
        top += lines[part] * (SIDE + LINE + GAP)
    stream = BytesIO()
    sheet.save(stream, format="PNG")
    write_files({path: stream.getvalue()})


def caption(id_: str, font: Font) -> str:
    """What fits under a thumbnail: of long ids the beginning, which tells digests apart, and the
    end, where slices have their number."""
    return id_ if font.getlength(id_) <= SIDE else f"{id_[:12]}...{id_[-12:]}"


def false_colours(config: DataConfig) -> str:
    """What is to be said of images whose light was evened (``data.light``)."""
    each = " in each channel by itself: false colours" if config.in_channels > 1 else ""
    return f"the light is evened (data.even_light={config.even_light:g}){each}"


def thumbnail(example: Example, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, brightened so that its brightest pixels are white, with the classes outlined;
    what is outside of the field of view is dimmed. [h, w, 3], the longer side ``SIDE``."""
    rows, columns = example.target_hw.shape
    factor = SIDE / max(rows, columns)
    size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image_hwc = cv2.resize(example.image_hwc, size, interpolation=how).reshape(*size[::-1], -1)
    image_hwc = image_hwc / max(float(np.quantile(image_hwc, 0.998)), 1e-3)
    view_hw = _shrink(example.fov_hw, size) > 0.5
    image_hwc[~view_hw] *= 0.4
    mask_hw = np.zeros(size[::-1], np.uint8)
    for number in range(1, len(colours)):
        mask_hw[_shrink(example.target_hw == number, size) > COVERED] = number
    mask_hw[_shrink(example.target_hw == IGNORE, size) > 0.5] = 0
    return overlay(to_rgb_bytes(image_hwc), mask_hw, colours)


def _shrink(inside_hw: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each pixel of the thumbnail that is inside; linear where it is enlarged."""
    how = cv2.INTER_AREA if inside_hw.shape[1] > size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(inside_hw.astype(np.float32), size, interpolation=how))


def _some(samples: Sequence[Sample]) -> list[Sample]:
    count = min(len(samples), MOST_OF_A_PART)
    return [samples[index * len(samples) // count] for index in range(count)]


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    names: Sequence[str],
    colours: NDArray[np.uint8],
    top: int,
    font: Font,
) -> float:
    """Returns where the line ends."""
    left = float(GAP)
    for name, colour in zip(names[1:], colours[1:].tolist(), strict=True):
        draw.rectangle((left, top + 4, left + 14, top + 18), fill=tuple(colour), outline="#333333")
        draw.text((left + 20, top + 3), name, fill="#111111", font=font)
        left += 44 + draw.textlength(name, font=font)
    return left
