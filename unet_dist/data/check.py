"""The examination of a whole data set before anything is trained: every fault at once."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np
from numpy.typing import NDArray

from unet_dist.config_data import DataConfig, SplitConfig
from unet_dist.data.balance import class_balance, missing_classes
from unet_dist.data.dataset import (
    READERS,
    Dataset,
    ImageCache,
    moments_to_normalisation,
)
from unet_dist.data.facts import (
    CHANNELS,
    LEVELS,
    DatasetFacts,
    DatasetReport,
    Intensity,
    Objects,
    intensity_of,
)
from unet_dist.data.finding import Finding, class_pixels, examine
from unet_dist.data.listing import FEW, some
from unet_dist.data.masks import MaskCoding, recognise
from unet_dist.data.sample import IGNORE, Sample
from unet_dist.data.sources import scan_samples
from unet_dist.data.splits import Splits, split_samples
from unet_dist.errors import UserError

SMALL_VIEW = 0.2
"""A field of view below this share of the image is probably wrong."""
TWELVE_BITS = 4095


def check_dataset(
    config: DataConfig,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Lists, reads and compares everything; nothing is raised for a faulty data set."""
    return check_and_open(config, seed=seed, on_progress=on_progress)[0]


def check_and_open(
    config: DataConfig,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    other_splits: Sequence[SplitConfig] = (),
) -> tuple[DatasetReport, Dataset | None]:
    """As ``check_dataset``, with the data set itself if it has no fault.

    Args:
        other_splits: divisions besides the configured one that must keep equal pictures together.
    """
    listing = scan_samples(config)
    findings, levels = _examine_all(listing.samples, config, on_progress)
    faults = list(listing.faults)
    faults += _alike_together([fault for finding in findings for fault in finding.faults])
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
    for other in other_splits if splits is not None and not repeated else ():
        divided = split_samples(listing.samples, other, seed=seed)
        repeated = repeated or _repeated_images(readable, divided)[0]
    if coding is not None:
        warnings += _mask_warnings(readable, coding)
    facts = _facts(readable, coding, splits, config, levels)
    warnings += missing_classes(facts.class_balance)
    report = DatasetReport(
        faults=tuple(faults + repeated),
        warnings=tuple(warnings + harmless + _image_warnings(readable, config)),
        facts=facts,
    )
    if report.faults or coding is None or splits is None:
        return report, None
    cache = ImageCache(config.cache_mb << 20)
    return report, Dataset(config=config, coding=coding, splits=splits, cache=cache)


def _examine_all(
    samples: Sequence[Sample],
    config: DataConfig,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[list[Finding], NDArray[np.int64]]:
    findings = []
    total = np.zeros((config.in_channels, LEVELS), np.int64)
    with ThreadPoolExecutor(READERS) as pool:
        for finding, levels in pool.map(lambda sample: examine(sample, config), samples):
            findings.append(finding)
            if levels is not None:
                total += levels
            if on_progress is not None:
                on_progress(len(findings), len(samples))
    return findings, total


def _alike_together(faults: Sequence[str]) -> list[str]:
    """Faults such as ``03.png: truncated``, with one line for what more than ``FEW`` have."""
    places: dict[str, list[str]] = {}
    for fault in faults:
        where, _, what = fault.partition(": ")
        places.setdefault(what, []).append(where)
    lines = []
    for what, found in places.items():
        lines += [f"{where}: {what}" for where in ([some(found, 3)] if len(found) > FEW else found)]
    return lines


def _repeated_images(
    findings: Sequence[Finding], splits: Splits | None
) -> tuple[list[str], list[str]]:
    """Faults and warnings on images whose decoded pixels are the same."""
    part_of_id = (
        {s.id: part for part, found in splits.parts().items() for s in found} if splits else {}
    )
    same: dict[bytes, list[Finding]] = {}
    for finding in findings:
        same.setdefault(finding.digest, []).append(finding)
    faults, warnings = [], []
    for alike in same.values():
        if len(alike) < 2:
            continue
        ids = [finding.sample.id for finding in alike]
        differ = len({finding.mask_digest for finding in alike}) > 1
        masks = " with different masks, so that nobody can learn it" if differ else ""
        parts = {part_of_id[id_] for id_ in ids if id_ in part_of_id}
        named = ", ".join(f"{id_} ({part_of_id.get(id_, 'unused')})" for id_ in ids)
        if len(parts) > 1:
            faults.append(
                f"the same picture{masks} is in {' and '.join(sorted(parts))}: {named}; remove all "
                "but one, or make them one patient with data.split.group"
            )
        else:
            warnings.append(f"the same picture {len(ids)} times{masks}: {named}")
    return faults, warnings


def _mask_warnings(findings: Sequence[Finding], coding: MaskCoding) -> list[str]:
    empty, full = [], []
    for finding in findings:
        classes = class_pixels(finding, coding)
        counted = sum(number for class_, number in classes.items() if class_ != IGNORE)
        if classes.get(0, 0) == counted:
            empty.append(finding.sample.id)
        elif classes.get(0, 0) == 0:
            full.append(finding.sample.id)
    warnings = []
    if empty:
        warnings.append(f"{len(empty)} masks have no foreground: {some(empty)}")
    if full:
        warnings.append(f"{len(full)} masks have no background: {some(full)}")
    seen = {class_ for finding in findings for class_ in class_pixels(finding, coding)}
    if absent := [str(class_) for class_ in range(coding.classes) if class_ not in seen]:
        warnings.append(f"no mask has class {', '.join(absent)}")
    return warnings


def _image_warnings(findings: Sequence[Finding], config: DataConfig) -> list[str]:
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
            f"the field of view is less than {SMALL_VIEW:.0%} of the image in {some(small)}: "
            f"look at it (data.fov={config.fov})"
        )
    return warnings


def _facts(
    findings: Sequence[Finding],
    coding: MaskCoding | None,
    splits: Splits | None,
    config: DataConfig,
    levels: NDArray[np.int64],
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
    of_id = {f.sample.id: class_pixels(f, coding) for f in findings} if coding else {}
    diameters = sorted(finding.diameter for finding in findings if finding.diameter) or [0.0]
    objects = Objects(
        number=sum(finding.objects for finding in findings),
        diameters=(diameters[0], median(diameters), diameters[-1]),
        size=config.object_size,
    )
    classes: Counter[int] = Counter()
    for pixels_of_class in of_id.values():
        classes.update(pixels_of_class)
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
        class_balance=class_balance(parts, of_id, config.names) if of_id else {},
        mean=mean,
        std=std,
        intensity=_intensities(findings, levels, config) if number else (),
        fov_share=number / pixels,
        objects=objects if config.has_objects else None,
    )


def _intensities(
    findings: Sequence[Finding], levels: NDArray[np.int64], config: DataConfig
) -> tuple[Intensity, ...]:
    black = np.sum([finding.black for finding in findings], axis=0).tolist()
    saturated = np.sum([finding.saturated for finding in findings], axis=0).tolist()
    names = CHANNELS[config.channels]
    return tuple(
        intensity_of(*channel) for channel in zip(names, levels, black, saturated, strict=True)
    )
