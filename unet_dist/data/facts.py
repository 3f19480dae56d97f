"""What the examination of a data set found, for a person and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.object_size import LEAST, MOST, factor_to
from unet_dist.errors import counted

LEVELS = 4096
"""Steps between black and the largest value that intensities are counted in."""
PERCENTILES = (1, 25, 50, 75, 99)
CHANNELS = {"rgb": ("red", "green", "blue"), "grey": ("grey",), "green": ("green",)}


@dataclass(frozen=True, kw_only=True)
class ClassBalance:
    """One class in one part of the split."""

    share: float
    """Of the part's pixels."""
    images: int
    """Images with at least one pixel of the class."""


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """One input channel inside the field of view; intensities are 0..1 of the file's range."""

    channel: str
    percentiles: dict[str, float]
    """To 1 / (LEVELS - 1)."""
    black: float
    """Share of pixels that are exactly 0."""
    saturated: float
    """Share of pixels at the largest value that the file can hold."""


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Numbered in the masks, in all images together."""

    number: int
    diameters: tuple[float, float, float]
    """Pixels of circles as large: the median of each image's objects, of that the least, the
    median and the largest; zeros without any object."""
    size: float
    """``data.object_size``; 0 if images keep their size."""

    def line(self) -> str:
        if not self.number:
            return "objects: none"
        least, median, most = self.diameters
        text = (
            f"objects: {self.number}; their median diameter is {least:.3g} to {most:.3g} pixels "
            f"by image, {median:.3g} in the middle"
        )
        if self.size:
            factors = [factor_to(self.size, diameter) for diameter in (most, least)]
            text += (
                f"; data.object_size={self.size:g} resizes images by "
                f"{factors[0]:.3g} to {factors[1]:.3g} (at least {LEAST:g}, at most {MOST:g})"
            )
        return text


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What was measured; shares are of all pixels, intensities 0..1 inside the view."""

    samples: int
    """Readable pairs of image and mask."""
    counts: dict[str, int] = field(default_factory=dict)
    """Samples in each part of the split."""
    patients: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Number of images of each height x width."""
    kinds: dict[str, int] = field(default_factory=dict)
    """Number of images of each pixel type, such as ``uint8 rgb``."""
    coding: str = ""
    class_shares: dict[str, float] = field(default_factory=dict)
    """Share of each class, ``ignored`` besides."""
    class_balance: dict[str, dict[str, ClassBalance]] = field(default_factory=dict)
    """By the part of the split and the class's name; pixels that are left out don't count."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    intensity: tuple[Intensity, ...] = ()
    fov_share: float = 1.0
    objects: "Objects | None" = None
    """Where masks number objects."""


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """Faults forbid training, warnings deserve a look, facts describe."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: DatasetFacts

    def to_json(self) -> str:
        return json.dumps({"schema": 1, **asdict(self)}, indent=2)

    def to_text(self) -> str:
        """Lines for a person: what was found, then what is wrong."""
        facts = self.facts
        lines = [f"{facts.samples} readable samples"]
        if facts.counts:
            parts = [
                f"{n} {part}" + of_patients(facts.patients[part], n)
                for part, n in facts.counts.items()
            ]
            lines.append("split: " + ", ".join(parts))
        if facts.sizes:
            sizes = sorted(facts.sizes.items(), key=lambda item: -item[1])
            listed = [f"{n} of {size}" for size, n in sizes[:6]]
            more = f", {len(sizes) - 6} other sizes" if len(sizes) > 6 else ""
            lines.append("sizes, height x width: " + ", ".join(listed) + more)
            lines.append("images: " + ", ".join(f"{n} {kind}" for kind, n in facts.kinds.items()))
        if facts.coding:
            lines.append(f"masks: {facts.coding}")
            shares = [f"{name}: {100 * share:.2f} %" for name, share in facts.class_shares.items()]
            lines.append("classes: " + ", ".join(shares))
        lines += [facts.objects.line()] if facts.objects else []
        lines += _balance_lines(facts)
        if facts.mean:
            pairs = zip(facts.mean, facts.std, strict=True)
            values = [f"{mean:.3f} +- {std:.3f}" for mean, std in pairs]
            lines.append("intensity, of 1: " + ", ".join(_once_if_alike(values)))
            lines += _intensity_lines(facts.intensity)
            lines.append(f"field of view: {100 * facts.fov_share:.1f} % of the pixels")
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"fault: {fault}" for fault in self.faults]
        faults = counted(len(self.faults), "fault")
        lines.append(f"{faults}, {counted(len(self.warnings), 'warning')}")
        return "\n".join(lines)


def intensity_of(channel: str, levels: NDArray[np.int64], black: int, saturated: int) -> Intensity:
    """From the number of pixels at each of ``LEVELS`` intensities."""
    pixels = int(levels.sum())
    ranks = np.array(PERCENTILES) / 100 * pixels
    # The smallest intensity that so many pixels do not exceed.
    places = np.searchsorted(np.cumsum(levels), ranks)
    return Intensity(
        channel=channel,
        percentiles={
            str(percent): float(place / (LEVELS - 1))
            for percent, place in zip(PERCENTILES, places, strict=True)
        },
        black=black / pixels,
        saturated=saturated / pixels,
    )


def of_patients(patients: int, samples: int) -> str:
    """Nothing where each sample stands for itself: nobody said that they are patients."""
    noun = "patient or volume" if patients == 1 else "patients or volumes"
    return "" if patients == samples else f" (of {patients} {noun})"


def _balance_lines(facts: DatasetFacts) -> list[str]:
    """A table: a line for each class, a column for each part that has images."""
    parts = [part for part, classes in facts.class_balance.items() if classes]
    if not parts:
        return []
    names = list(facts.class_balance[parts[0]])
    width = max(map(len, names))
    lines = [f"  {'':{width}}" + "".join(f"{part:>23}" for part in parts)]
    for name in names:
        cells = ""
        for part in parts:
            balance = facts.class_balance[part][name]
            cells += f"{balance.share:>10.2%} in {balance.images:>3} of {facts.counts[part]:>3}"
        lines.append(f"  {name:{width}}{cells}")
    return lines


def _once_if_alike(values: list[str]) -> list[str]:
    """Channels of grey images are alike."""
    return values[:1] if len(set(values)) == 1 else values


def _intensity_lines(channels: Sequence[Intensity]) -> list[str]:
    together = " = ".join(one.channel for one in channels)
    alike = _once_if_alike([_intensity_line(replace(one, channel=together)) for one in channels])
    return alike if len(alike) == 1 else [_intensity_line(one) for one in channels]


def _intensity_line(one: Intensity) -> str:
    values = ", ".join(f"{percent} % {value:.3f}" for percent, value in one.percentiles.items())
    return (
        f"  {one.channel}: percentiles {values}; {one.black:.1%} black, "
        f"{one.saturated:.1%} saturated"
    )
