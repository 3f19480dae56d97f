"""The examination of a whole data set before anything is trained: every fault at once."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import numpy as np

from unet_dist.config import DataConfig
from unet_dist.data.dataset import (
    READERS,
    moments_to_normalisation,
    read_view,
    size_faults,
)
from unet_dist.data.images import read_image, read_indices, to_unit_range
from unet_dist.data.masks import MaskCoding, count_values, expected_kind, object_borders, recognise
from unet_dist.data.sample import IGNORE, Sample
from unet_dist.data.sources import scan_samples
from unet_dist.data.splits import Splits, split_samples
from unet_dist.errors import UserError

SMALL_VIEW = 0.2
"""A field of view below this share of the image is probably wrong."""
TWELVE_BITS = 4095


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
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fov_share: float = 1.0


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
                f"{n} {part}" + _of_patients(facts.patients[part], n)
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
        if facts.mean:
            pairs = zip(facts.mean, facts.std, strict=True)
            values = [f"{mean:.3f} +- {std:.3f}" for mean, std in pairs]
            lines.append("intensity, of 1: " + ", ".join(values))
            lines.append(f"field of view: {100 * facts.fov_share:.1f} % of the pixels")
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"fault: {fault}" for fault in self.faults]
        lines.append(f"{len(self.faults)} faults, {len(self.warnings)} warnings")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """What one sample showed."""

    sample: Sample
    faults: tuple[str, ...] = ()
    size: str = ""
    kind: str = ""
    brightest: int = 0
    digest: bytes = b""
    values: dict[int, int] = field(default_factory=dict)
    border_pixels: int = 0
    view_pixels: int = 0
    pixels: int = 0
    sums: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()


def check_dataset(
    config: DataConfig,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Lists, reads and compares everything; nothing is raised for a faulty data set."""
    listing = scan_samples(config)
    findings = _examine_all(listing.samples, config, on_progress)
    faults = list(listing.faults)
    faults += [fault for finding in findings for fault in finding.faults]
    warnings = list(listing.notes)
    readable = [finding for finding in findings if finding.values]
    coding: MaskCoding | None = None
    if readable:
        try:
            coding = recognise({f.sample.id: f.values for f in readable}, config)
        except UserError as error:
            faults += error.faults
    splits: Splits | None = None
    if listing.samples:
        try:
            splits = split_samples(listing.samples, config.split, seed=seed)
        except UserError as error:
            faults += [f"{error.where}: {fault}" for fault in error.faults]
    if splits is not None:
        warnings += [f"the part {part} is empty" for part, s in splits.parts().items() if not s]
    repeated, harmless = _repeated_images(readable, splits)
    if coding is not None:
        warnings += _mask_warnings(readable, coding)
    return DatasetReport(
        faults=tuple(faults + repeated),
        warnings=tuple(warnings + harmless + _image_warnings(readable, config)),
        facts=_facts(readable, coding, splits),
    )


def _examine_all(
    samples: Sequence[Sample],
    config: DataConfig,
    on_progress: Callable[[int, int], None] | None,
) -> list[_Finding]:
    findings = []
    with ThreadPoolExecutor(READERS) as pool:
        for finding in pool.map(lambda sample: _examine(sample, config), samples):
            findings.append(finding)
            if on_progress is not None:
                on_progress(len(findings), len(samples))
    return findings


def _examine(sample: Sample, config: DataConfig) -> _Finding:
    assert sample.mask is not None  # listed samples have one
    faults: list[str] = []
    image = mask = view = None
    try:
        image = read_image(sample.image)
    except UserError as error:
        faults += _told(error)
    try:
        mask = read_indices(sample.mask)
    except UserError as error:
        faults += _told(error)
    try:
        view = None if image is None else read_view(sample, image, config)
    except UserError as error:
        faults += _told(error)
    if image is None or mask is None or view is None:
        return _Finding(sample=sample, faults=tuple(faults))
    if faults := size_faults(sample, image.shape, mask.shape, view.shape):
        return _Finding(sample=sample, faults=tuple(faults))
    inside = to_unit_range(image, config.channels)[view].astype(np.float64)
    layout = f"{image.dtype} {image.shape}".encode()
    return _Finding(
        sample=sample,
        size=f"{image.shape[0]} x {image.shape[1]}",
        kind=f"{image.dtype} {'rgb' if image.ndim == 3 else 'grey'}",
        brightest=int(image.max()),
        digest=hashlib.blake2b(layout + image.tobytes(), digest_size=16).digest(),
        values=count_values(mask),
        border_pixels=int(object_borders(mask).sum())
        if expected_kind(config) == "instances_border"
        else 0,
        view_pixels=int(view.sum()),
        pixels=view.size,
        sums=tuple(inside.sum(axis=0).tolist()),
        squares=tuple((inside**2).sum(axis=0).tolist()),
    )


def _told(error: UserError) -> list[str]:
    return [f"{error.where}: {fault}" for fault in error.faults]


def _repeated_images(
    findings: Sequence[_Finding], splits: Splits | None
) -> tuple[list[str], list[str]]:
    """Faults and warnings on images whose decoded pixels are the same."""
    part_of_id = (
        {s.id: part for part, found in splits.parts().items() for s in found} if splits else {}
    )
    same: dict[bytes, list[str]] = {}
    for finding in findings:
        same.setdefault(finding.digest, []).append(finding.sample.id)
    faults, warnings = [], []
    for ids in same.values():
        if len(ids) < 2:
            continue
        parts = {part_of_id[id_] for id_ in ids if id_ in part_of_id}
        named = ", ".join(f"{id_} ({part_of_id.get(id_, 'unused')})" for id_ in ids)
        if len(parts) > 1:
            faults.append(
                f"the same picture is in {' and '.join(sorted(parts))}: {named}; remove all but "
                "one, or make them one patient with data.split.group"
            )
        else:
            warnings.append(f"the same picture {len(ids)} times: {named}")
    return faults, warnings


def _mask_warnings(findings: Sequence[_Finding], coding: MaskCoding) -> list[str]:
    empty, full = [], []
    for finding in findings:
        classes = _class_pixels(finding, coding)
        counted = sum(number for class_, number in classes.items() if class_ != IGNORE)
        if classes.get(0, 0) == counted:
            empty.append(finding.sample.id)
        elif classes.get(0, 0) == 0:
            full.append(finding.sample.id)
    warnings = []
    if empty:
        warnings.append(f"{len(empty)} masks have no foreground: {_some(empty)}")
    if full:
        warnings.append(f"{len(full)} masks have no background: {_some(full)}")
    seen = {class_ for finding in findings for class_ in _class_pixels(finding, coding)}
    if absent := [str(class_) for class_ in range(coding.classes) if class_ not in seen]:
        warnings.append(f"no mask has class {', '.join(absent)}")
    return warnings


def _image_warnings(findings: Sequence[_Finding], config: DataConfig) -> list[str]:
    warnings = []
    deep = [finding.brightest for finding in findings if finding.kind.startswith("uint16")]
    if deep and max(deep) <= TWELVE_BITS:
        warnings.append(
            f"the 16-bit images use 0..{max(deep)} only: augment.brightness and augment.noise "
            "are shares of 65535, so rescale the images or set both to 0"
        )
    if len({finding.kind for finding in findings}) > 1:
        kinds = Counter(finding.kind for finding in findings)
        warnings.append(
            "images of several kinds: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        )
    small = [f.sample.id for f in findings if f.view_pixels < SMALL_VIEW * f.pixels]
    if small:
        warnings.append(
            f"the field of view is less than {SMALL_VIEW:.0%} of the image in {_some(small)}: "
            f"look at it (data.fov={config.fov})"
        )
    return warnings


def _facts(
    findings: Sequence[_Finding], coding: MaskCoding | None, splits: Splits | None
) -> DatasetFacts:
    if not findings:
        return DatasetFacts(samples=0)
    number = sum(finding.view_pixels for finding in findings)
    pixels = sum(finding.pixels for finding in findings)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if number:
        mean, std = moments_to_normalisation(
            number,
            np.sum([finding.sums for finding in findings], axis=0),
            np.sum([finding.squares for finding in findings], axis=0),
        )
    classes: Counter[int] = Counter()
    if coding is not None:
        for finding in findings:
            classes.update(_class_pixels(finding, coding))
    parts = splits.parts() if splits is not None else {}
    return DatasetFacts(
        samples=len(findings),
        counts={part: len(samples) for part, samples in parts.items()},
        patients={part: len({s.group for s in samples}) for part, samples in parts.items()},
        sizes=dict(Counter(finding.size for finding in findings)),
        kinds=dict(Counter(finding.kind for finding in findings)),
        coding=coding.describe() if coding is not None else "",
        class_shares={
            "ignored" if class_ == IGNORE else str(class_): classes[class_] / pixels
            for class_ in sorted(classes)
        },
        mean=mean,
        std=std,
        fov_share=number / pixels,
    )


def _class_pixels(finding: _Finding, coding: MaskCoding) -> Mapping[int, int]:
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


def _of_patients(patients: int, samples: int) -> str:
    """Nothing where each sample stands for itself: nobody said that they are patients."""
    return "" if patients == samples else f" (of {patients} patients or volumes)"


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
