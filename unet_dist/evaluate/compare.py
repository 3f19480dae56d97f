"""Two trainings, or two sets of them, image by image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from unet_dist.data.balance import SMALLEST_SAMPLE
from unet_dist.data.listing import closest
from unet_dist.data.masks import expected_kind
from unet_dist.errors import UserError
from unet_dist.evaluate.fingerprint import PROTOCOL_KEYS
from unet_dist.evaluate.names import METRICS, main_dice
from unet_dist.evaluate.structure import why_not
from unet_dist.evaluate.table import Interval, bootstrap_intervals, bootstrap_unit
from unet_dist.runs import SPLITS, RunDir, read_json

NOTED_KEYS = ("threshold_source", "structure_threshold_source", "versions")
"""Differences of fingerprints that are told, but leave the numbers comparable."""
FEW_UNITS = 10


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The part of a result file that a comparison reads."""

    path: Path
    metric: str
    fingerprint: Mapping[str, Any]
    values: Mapping[str, float]
    """The metric of each image, NaN where it is not defined."""
    groups: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Side A less side B, over the images where both have the metric."""

    metric: str
    lower_is_better: bool
    images: int
    left_out: int
    """Images where the metric is not defined on a side."""
    only_a: int
    """Of these, images where A has it."""
    only_b: int
    mean_a: float
    mean_b: float
    difference: float
    interval: Interval | None
    """95 % bootstrap interval of the mean difference."""
    unit: str
    """What was drawn for it, image or patient."""
    units: int
    p_value: float | None
    """Two-sided, of the Wilcoxon signed-rank test over the units; None for fewer than three."""
    better: int
    """Images on which A is better."""
    worse: int
    deciding: tuple[tuple[str, float], ...]
    """Images and their differences, the largest first."""
    removable: int
    """The mean difference vanishes or turns without the so many images that speak for it most;
    0 if there is none."""
    seeds_a: int
    seeds_b: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        deciding = [{"id": id_, "difference": value} for id_, value in self.deciding]
        return {**asdict(self), "deciding": deciding}


def read_evaluation(run: Path, split: str, metric: str = "") -> Evaluation:
    """
    Args:
        metric: the Dice that the run leads with if empty.

    Raises:
        UserError: the run has no result of this split, or not one with the metric.
    """
    path = RunDir(run).evaluation(split)
    if not path.is_file():
        raise UserError(str(run), _why_missing(run, split))
    tree = read_json(path)
    try:
        metric = metric or main_dice(tree)
        fingerprint = dict(tree["fingerprint"])
        rows = [(str(row["id"]), str(row["group"]), row) for row in tree["per_image"]]
        if absent := [key for key in (*PROTOCOL_KEYS, *NOTED_KEYS) if key not in fingerprint]:
            raise KeyError(f"fingerprint without {', '.join(absent)}")
        if any(metric not in row for _, _, row in rows):
            has = ", ".join(name for name in METRICS if all(name in row for _, _, row in rows))
            raise UserError(str(path), f"has no metric {metric}; it has {has}{_cure(run, metric)}")
        values = {id_: _number(row[metric]) for id_, _, row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            str(path),
            f"is no evaluation of this version ({error}): run unet-dist eval {run} --split {split}",
        ) from error
    return Evaluation(
        path=run,
        metric=metric,
        fingerprint=fingerprint,
        values=values,
        groups={id_: group for id_, group, _ in rows},
    )


def _why_missing(run: Path, split: str) -> str:
    """Why a run has no evaluation of a split, and what to do."""
    if not run.is_dir():
        beside = run.parent.iterdir() if run.parent.is_dir() else ()
        return f"there is no such run{closest(run.name, [path.name for path in beside])}"
    folder = RunDir(run)
    parts = read_json(folder.dataset).get("splits", {}) if folder.dataset.is_file() else {}
    if parts and not parts.get(split):
        filled = [f"--split {part}" for part in SPLITS if parts.get(part)]
        return f"its part {split} is empty: compare with {' or '.join(filled)}"
    return f"has no {folder.evaluation(split).name}: unet-dist eval {run} --split {split}"


def _cure(run: Path, metric: str) -> str:
    """How a run gets a metric that only some structures have."""
    objects = dict.fromkeys(("foreground_dice", "ap_50", "ap_50_95", "aji"), "objects")
    measured_with = {"cldice": "tubular", **objects}
    structure = "partition" if metric.startswith("v_") else measured_with.get(metric)
    if structure is None:
        return ""
    setting = f"evaluate.structure={structure}"
    folder = RunDir(run)
    if folder.config.is_file():
        config = folder.load_config()
        if reason := why_not(structure, config, expected_kind(config.data)):
            return f". It is measured with {setting} alone, which this run cannot have: {reason}"
    return f". It needs {setting}: unet-dist train {run} --resume {setting}"


def compare(side_a: Sequence[Evaluation], side_b: Sequence[Evaluation]) -> Comparison:
    """Each side is the mean over its runs (seeds) of each image.

    Raises:
        UserError: if the runs did not measure the same images in the same way.
    """
    everything = [*side_a, *side_b]
    metric = side_a[0].metric
    if faults := _protocol_faults(everything):
        raise UserError("these runs cannot be compared", faults)
    ids = sorted(side_a[0].values)
    a_i, b_i = (_mean_of_seeds(side, ids) for side in (side_a, side_b))
    both = ~np.isnan(a_i - b_i)
    only_a, only_b = (int(np.count_nonzero(~np.isnan(one) & ~both)) for one in (a_i, b_i))
    if not both.any():
        raise UserError(metric, "is defined on no image of both sides")
    kept = [id_ for id_, ok in zip(ids, both, strict=True) if ok]
    a_i, b_i = a_i[both], b_i[both]
    # Means of seeds differ in the last bit where the seeds do not, and a rank test would see it.
    difference_i = np.round(a_i - b_i, 12)
    groups = [side_a[0].groups[id_] for id_ in kept]
    unit = bootstrap_unit(groups)
    of_units = _unit_means(difference_i, groups if unit == "patient" else kept)
    lower = METRICS[metric].lower_is_better
    gain_i = -difference_i if lower else difference_i
    order = np.argsort(-np.abs(difference_i), kind="stable")
    return Comparison(
        metric=metric,
        lower_is_better=lower,
        images=len(kept),
        left_out=len(ids) - len(kept),
        only_a=only_a,
        only_b=only_b,
        mean_a=float(a_i.mean()),
        mean_b=float(b_i.mean()),
        difference=float(difference_i.mean()),
        interval=bootstrap_intervals(difference_i[:, None], groups)[0],
        unit=unit,
        units=len(of_units),
        p_value=_wilcoxon(of_units),
        better=int((gain_i > 0).sum()),
        worse=int((gain_i < 0).sum()),
        deciding=tuple((kept[i], float(difference_i[i])) for i in order),
        removable=_removable(difference_i),
        seeds_a=len(side_a),
        seeds_b=len(side_b),
        notes=(
            *_notes_on_one_side(metric, only_a, only_b),
            *_notes_on_units(of_units, unit),
            *_notes(everything),
        ),
    )


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _protocol_faults(runs: Sequence[Evaluation]) -> list[str]:
    first, faults = runs[0], []
    for other in runs[1:]:
        if other.metric != first.metric:  # as both were asked for theirs, so are their structures
            faults.append(f"{first.metric} of {first.path} against {other.metric} of {other.path}")
        for key in PROTOCOL_KEYS:
            one, two = first.fingerprint[key], other.fingerprint[key]
            if one != two:
                here, there = (str(value)[:12] for value in (one, two))
                faults.append(f"{key} is {here} in {first.path} but {there} in {other.path}")
        if only := sorted(set(first.values) ^ set(other.values)):
            shown = ", ".join(only[:5]) + (" and others" if len(only) > 5 else "")
            faults.append(f"{shown}: measured in only one of {first.path} and {other.path}")
        elif first.groups != other.groups:
            faults.append(
                f"{first.path} and {other.path} have other patients: data.split.group differs"
            )
    return faults


def _mean_of_seeds(side: Sequence[Evaluation], ids: Sequence[str]) -> NDArray[np.float64]:
    values_si = np.array([[run.values[id_] for id_ in ids] for run in side], np.float64)
    return np.asarray(values_si.mean(axis=0))


def _unit_means(values: NDArray[np.float64], units: Sequence[str]) -> NDArray[np.float64]:
    """A patient's images are no independent witnesses, so they speak once."""
    _, unit_of = np.unique(np.array(units), return_inverse=True)
    return np.asarray(np.bincount(unit_of, weights=values) / np.bincount(unit_of))


def _wilcoxon(differences: NDArray[np.float64]) -> float | None:
    if len(differences) < SMALLEST_SAMPLE:
        return None
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def _removable(differences: NDArray[np.float64]) -> int:
    total = float(differences.sum())
    if total == 0:
        return 0
    towards = np.sort(differences * math.copysign(1, total))[::-1]
    left = abs(total) - np.cumsum(towards)
    return int(np.argmax(left <= 0)) + 1


def _notes_on_one_side(metric: str, only_a: int, only_b: int) -> list[str]:
    """Such images speak for a side, but have no difference that could be counted."""
    if not only_a + only_b:
        return []
    return [
        f"{metric} is defined on one side only on {only_a + only_b} images (A {only_a}, B "
        f"{only_b}), which neither the difference nor p counts: a side that draws nothing where "
        "nothing is has no overlap, one that draws something there has 0"
    ]


def _notes_on_units(differences: NDArray[np.float64], unit: str) -> list[str]:
    units, differing = len(differences), int(np.count_nonzero(differences))
    if units < SMALLEST_SAMPLE:
        found = f", and these images are of {units}" if unit == "patient" else ""
        return [f"an interval and a p need {SMALLEST_SAMPLE} {unit}s at least{found}"]
    if not 0 < differing < FEW_UNITS:
        return []
    some = f"{units} {unit}s" if differing == units else f"{differing} of {units} {unit}s differ"
    # The test leaves out differences of 0. With all others of one sign, the least p is 2 of the
    # 2^n assignments of signs.
    return [f"only {some}: no difference, however large, can have a p below {2 / 2**differing:.2g}"]


def _notes(runs: Sequence[Evaluation]) -> list[str]:
    notes = []
    for key in NOTED_KEYS:
        found = {str(run.fingerprint[key]) for run in runs}
        if len(found) > 1:
            notes.append(f"{key} differs: {'; '.join(sorted(found))}")
    return notes
