"""What one sample of a data set shows, in numbers that a whole data set has room for."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_dist.config_data import DataConfig
from unet_dist.data.dataset import read_view, size_faults
from unet_dist.data.facts import LEVELS
from unet_dist.data.images import read_image, read_indices, to_unit_range
from unet_dist.data.masks import MaskCoding, count_values, expected_kind, object_borders
from unet_dist.data.object_size import diameters_of, median_or_0
from unet_dist.data.sample import IGNORE, Sample
from unet_dist.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one sample showed."""

    sample: Sample
    faults: tuple[str, ...] = ()
    size: str = ""
    kind: str = ""
    brightest: int = 0
    digest: bytes = b""
    mask_digest: bytes = b""
    values: dict[int, int] = field(default_factory=dict)
    border_pixels: int = 0
    objects: int = 0
    """Numbered ones in the field of view."""
    diameter: float = 0.0
    """Their median."""
    view_pixels: int = 0
    pixels: int = 0
    sums: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    black: tuple[int, ...] = ()
    saturated: tuple[int, ...] = ()


class Examined(NamedTuple):
    finding: Finding
    levels: NDArray[np.int64] | None
    """Pixels of each channel at each of ``LEVELS`` intensities, [channels, LEVELS]."""


def examine(sample: Sample, config: DataConfig) -> Examined:
    """Reads its files; nothing is raised for faulty ones."""
    assert sample.mask is not None  # listed samples have one
    faults: list[str] = []
    image = mask = view = None
    try:
        image = read_image(sample.image)
    except UserError as error:
        faults += told(error)
    try:
        mask = read_indices(sample.mask)
    except UserError as error:
        faults += told(error)
    try:
        view = None if image is None else read_view(sample, image, config)
    except UserError as error:
        faults += told(error)
    if image is None or mask is None or view is None:
        return Examined(Finding(sample=sample, faults=tuple(faults)), None)
    if faults := size_faults(sample, image.shape, mask.shape, view.shape):
        return Examined(Finding(sample=sample, faults=tuple(faults)), None)
    unit = to_unit_range(image, config.channels)[view]
    levels = np.rint(unit * (LEVELS - 1)).astype(np.int64)
    inside = unit.astype(np.float64)
    diameters = diameters_of(np.where(view, mask, 0)) if config.has_objects else np.empty(0)
    layout = f"{image.dtype} {image.shape}".encode()
    finding = Finding(
        sample=sample,
        size=f"{image.shape[0]} x {image.shape[1]}",
        kind=f"{image.dtype} {'rgb' if image.ndim == 3 else 'grey'}",
        brightest=int(image.max()),
        digest=hashlib.blake2b(layout + image.tobytes(), digest_size=16).digest(),
        mask_digest=hashlib.blake2b(mask.tobytes(), digest_size=16).digest(),
        values=count_values(mask),
        objects=len(diameters),
        diameter=median_or_0(diameters),
        border_pixels=int(object_borders(mask, config.border).sum())
        if expected_kind(config) == "instances_border"
        else 0,
        view_pixels=int(view.sum()),
        pixels=view.size,
        sums=tuple(inside.sum(axis=0).tolist()),
        squares=tuple((inside**2).sum(axis=0).tolist()),
        black=tuple((unit == 0).sum(axis=0).tolist()),
        saturated=tuple((unit == 1).sum(axis=0).tolist()),
    )
    counts = [np.bincount(channel, minlength=LEVELS) for channel in levels.T]
    return Examined(finding, np.array(counts))


def told(error: UserError) -> list[str]:
    return [f"{error.where}: {fault}" for fault in error.faults]


def class_pixels(finding: Finding, coding: MaskCoding) -> Mapping[int, int]:
    """Pixels of each class, from the counts of the mask's values alone."""
    classes: Counter[int] = Counter()
    for value, number in finding.values.items():
        if coding.kind == "labels":
            classes[IGNORE if value == coding.ignore else value] += number
        elif coding.kind == "inverted":
            classes[int(value == 0)] += number
        else:
            classes[int(value != 0)] += number
    if coding.kind == "instances_border":
        classes[2] = finding.border_pixels
        classes[1] -= finding.border_pixels
    return +classes  # without the classes that have no pixel
