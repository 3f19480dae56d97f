"""From the scores of single images to the numbers of a report, with the protocol beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from unet_dist.data.balance import SMALLEST_SAMPLE
from unet_dist.errors import counted
from unet_dist.evaluate.fingerprint import AVERAGING
from unet_dist.evaluate.metrics import (
    CLASS_QUALITIES,
    QUALITIES,
    ImageScore,
    Quality,
    class_qualities,
    mean_defined,
    mean_quality,
    pool,
    quality,
)
from unet_dist.evaluate.table import (
    BOOTSTRAP_SEED,
    RESAMPLES,
    bootstrap_intervals,
    bootstrap_unit,
    within_range,
)

ThresholdSource = Literal["configured", "validation", "default", "argmax"]
"""A number from the configuration; the best one on the validation images; a half; or none,
since the most probable of several classes wins."""

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the images were predicted and scored, for a reader."""

    split: str
    observer: str
    """Whose masks are the truth, empty if the data set has only one."""
    fov: Literal["file", "estimate", "none"]
    """Where the field of view comes from; none: every pixel counts."""
    classes: int
    """With the background."""
    resize: float
    """Factor on height and width before the network."""
    object_size: float = 0.0
    """Diameter in pixels that the median object found in each image is brought to; 0: none."""
    tile: int
    """Side of a tile in pixels after resize."""
    overlap: float
    """Share of a tile that its neighbour covers too."""
    views: int = 1
    """Mirrored and turned views of each tile, whose mean is taken."""


@dataclass(frozen=True, kw_only=True)
class EvalSummary:
    """Scores of a set of images. Each metric is the mean over the images where it is defined."""

    protocol: Protocol
    threshold: float | None
    threshold_source: ThresholdSource
    images: int
    counted: dict[str, int]
    """Images where each metric is defined: the Dice of an absent class is not."""
    mean: Quality
    dice_std: float
    """Sample standard deviation of Dice over images; NaN for fewer than two."""
    dice_interval: tuple[float, float] | None
    """95 % bootstrap interval of the mean Dice; None for fewer than three units."""
    bootstrap_unit: str
    """What was drawn for it, image or patient."""
    bootstrap_units: int
    """Number of them."""
    dice_at_half: float | None
    """Dice at threshold 0.5, which nobody chose; None without a threshold."""
    pooled: Quality
    """All pixels as if they were one image's."""
    per_class: tuple[Quality, ...]
    """Mean over images for each foreground class."""
    per_image: tuple[tuple[ImageScore, Quality], ...]
    """Ordered by id."""

    @property
    def dice(self) -> float:
        return self.mean.dice

    def sentence(self) -> str:
        """The protocol for a reader."""
        return " ".join(_protocol_sentences(self))

    def to_json(self) -> dict[str, Any]:
        """JSON values, null where a metric is not defined.

        Keys: the metrics of ``Quality`` (mean over images, also below ``pooled``, ``per_class``
        and ``per_image``), ``dice_std``, ``dice_interval`` (95 %), ``dice_at_half``,
        ``threshold``, ``threshold_source``, ``split``, ``images``, ``counted`` (images where each
        metric is defined) and ``protocol`` (with a ``sentence``). ``results.result_of`` adds what
        is measured only at the end.
        """
        interval = self.dice_interval
        bootstrap = {
            "resamples": RESAMPLES,
            "seed": BOOTSTRAP_SEED,
            "level": 0.95,
            "unit": self.bootstrap_unit,
            "units": self.bootstrap_units,
        }
        return {
            "split": self.protocol.split,
            "images": self.images,
            **_quality_json(self.mean),
            "dice_std": null_if_nan(self.dice_std),
            "dice_interval": None if interval is None else list(interval),
            "dice_at_half": None if self.dice_at_half is None else null_if_nan(self.dice_at_half),
            "threshold": self.threshold,
            "threshold_source": self.threshold_source,
            "counted": self.counted,
            "pooled": _quality_json(self.pooled),
            "per_class": [
                {"class": number, **{name: _quality_json(one)[name] for name in CLASS_QUALITIES}}
                for number, one in enumerate(self.per_class, start=1)
            ],
            "per_image": [
                {
                    "id": score.id,
                    "height": score.height,
                    "width": score.width,
                    **_quality_json(one),
                }
                for score, one in self.per_image
            ],
            "protocol": {
                "sentence": self.sentence(),
                "averaging": AVERAGING,
                "bootstrap": bootstrap,
                **asdict(self.protocol),
            },
        }


def summarise(
    scores: Sequence[ImageScore],
    *,
    threshold: float | None,
    threshold_source: ThresholdSource,
    protocol: Protocol,
    groups: Mapping[str, str] | None = None,
) -> EvalSummary:
    """The same bits in whatever order the scores arrive.

    Args:
        threshold: a multiple of 1 / STEPS; None with several foreground classes.
        groups: the patient of each image; None if each image is one's own.
    """
    assert scores
    ordered = sorted(scores, key=lambda score: score.id)
    ids = [score.id for score in ordered]
    assert len(set(ids)) == len(ids), "an image was scored twice"
    assert (threshold is None) == (threshold_source == "argmax")
    per_image = [quality(score.counts, threshold) for score in ordered]
    by_class = zip(*(class_qualities(one.counts, threshold) for one in ordered), strict=True)
    dice = np.array([one.dice for one in per_image])
    defined = dice[~np.isnan(dice)]
    patients = ids if groups is None else [groups[id_] for id_ in ids]
    interval = bootstrap_intervals(dice[:, None], patients)[0]
    at_half = (quality(score.counts, 0.5).dice for score in ordered if threshold is not None)
    return EvalSummary(
        protocol=protocol,
        threshold=threshold,
        threshold_source=threshold_source,
        images=len(ordered),
        counted={
            name: mean_defined(getattr(one, name) for one in per_image)[1] for name in QUALITIES
        },
        mean=mean_quality(per_image),
        dice_std=float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan,
        dice_interval=interval and within_range(interval, "dice"),
        bootstrap_unit=bootstrap_unit(patients),
        bootstrap_units=len(set(patients)),
        dice_at_half=None if threshold is None else mean_defined(at_half)[0],
        pooled=quality(pool(ordered), threshold),
        per_class=tuple(mean_quality(qualities) for qualities in by_class),
        per_image=tuple(zip(ordered, per_image, strict=True)),
    )


def worst_and_best(dice: Mapping[str, float], number: int) -> tuple[list[str], list[str]]:
    """The ids of so many images, or of all: half of them with the lowest Dice, the worst first, and
    half with the highest, the best first. One without a Dice is neither, unless too few have one.

    Args:
        dice: of each id, NaN if it is not defined.
    """
    ranked = sorted(dice, key=lambda id_: (math.isnan(dice[id_]), dice[id_]))
    defined = sum(not math.isnan(value) for value in dice.values())
    ids = ranked[: max(defined, number)]
    number = min(number, len(ids))
    return ids[: -(-number // 2)], ids[::-1][: number // 2]


def shard(items: Sequence[Item], rank: int, world: int) -> Sequence[Item]:
    """The rank's share: every item belongs to exactly one rank."""
    return items[rank::world]


def _protocol_sentences(summary: EvalSummary) -> list[str]:
    protocol = summary.protocol
    several = protocol.classes > 2
    field = {
        "file": "Only pixels inside the field of view given by the data set count.",
        "estimate": "Only pixels inside the estimated field of view count.",
        "none": "All pixels of the image count.",
    }
    decision = {
        "configured": "a threshold set in the configuration",
        "validation": "the threshold with the best mean Dice on the validation images",
        "default": "since no validation chose one for these weights",
        "argmax": "",
    }
    sentences = [
        "Metrics are computed per image"
        + (", averaged over the foreground classes present," if several else "")
        + f" and averaged over the {counted(summary.images, 'image')} of the "
        + f"{protocol.split} split.",
        field[protocol.fov],
        "Each pixel gets its most probable class."
        if summary.threshold is None
        else f"Foreground is probability >= {summary.threshold:g}, "
        f"{decision[summary.threshold_source]}.",
    ]
    if protocol.split == "val":
        chosen = summary.threshold_source == "validation"
        what = "The epoch and the threshold were" if chosen else "The epoch was"
        sentences.append(f"{what} chosen on these very images, so the numbers are optimistic.")
    if protocol.observer:
        sentences.append(f"The truth is drawn by the {protocol.observer} observer.")
    size = "" if protocol.resize == 1 else f" after resizing by {protocol.resize:g}"
    if protocol.object_size:
        size = (
            ", each resized so that the median diameter of the objects that a first look finds is "
            f"{protocol.object_size:g} pixels,"
        )
    views = "" if protocol.views == 1 else f", as the mean of {protocol.views} views of each"
    sentences.append(
        f"Whole images are predicted{size} by tiles of {protocol.tile} pixels that overlap by "
        f"{protocol.overlap:.0%}{views}; metrics are computed at the true size."
    )
    if summary.bootstrap_units < SMALLEST_SAMPLE:
        unit, number = summary.bootstrap_unit, summary.bootstrap_units
        found = f", and these images are of {number}" if unit == "patient" else ""
        sentences.append(f"Intervals need {SMALLEST_SAMPLE} {unit}s at least{found}.")
    return sentences


def _quality_json(one: Quality) -> dict[str, float | None]:
    return {name: null_if_nan(getattr(one, name)) for name in QUALITIES}


def null_if_nan(value: float) -> float | None:
    """As JSON has it."""
    return None if math.isnan(value) else value
