"""Where the time of a step goes. Every nanosecond of it is in exactly one part."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.profiling.intervals import (
    Intervals,
    common,
    gaps,
    measured_ns,
    merged,
    without,
)
from unet_dist.profiling.moments import NS_PER_US
from unet_dist.profiling.tables import NO_STEP, RankProfile, Step

WARM_UP = 1.5
"""Steps at the begin that take so many times the median of the later half are left out."""

CONTRADICTS = 1.25
"""Times the median step is a mean one that tells of something else."""


@dataclass(frozen=True, kw_only=True)
class StepParts:
    """Nanoseconds. Those of the parts add up to the step's.

    before            |-- preparing --|                                       (host alone)
    on the device                     |computing|exposed...|free|computing|
    after                                                                 |-- unattributed --|
    """

    rank: int
    step: int
    step_ns: int
    computing_ns: int
    """Also while communication goes on beside it."""
    transfer_ns: int
    """Exposed communication that moves data: it is not hidden behind computing."""
    waiting_ns: int
    """Exposed communication that waits for a signal of another rank."""
    late_ns: int
    """The rest of exposed communication: the host was late to start its pieces, or, without
    details of the collectives, all of it."""
    bubble_ns: int
    """Exposed waiting to receive from another stage of a pipeline."""
    data_ns: int
    """Waiting for input, the device being idle."""
    beside_ns: int
    """Validation and checkpoints between two steps, whatever the device does meanwhile."""
    preparing_ns: int
    """Before the device's first work of the step, without waiting for input."""
    free_ns: int
    """The device idle between its first and its last work, without waiting for input."""
    unattributed_ns: int
    """After the device's last work, or all of a step that shows none."""
    overlapped_ns: int
    """Communication hidden behind computing; a part of ``computing_ns``, not of the sum."""

    @property
    def idle_ns(self) -> int:
        """Of the device, for which the host alone answers."""
        return self.preparing_ns + self.free_ns + self.unattributed_ns

    @property
    def exposed_ns(self) -> int:
        return self.transfer_ns + self.waiting_ns + self.late_ns + self.bubble_ns


PARTS = tuple(
    name.removesuffix("_ns")
    for name in (each.name for each in fields(StepParts))
    if name not in ("rank", "step", "step_ns", "overlapped_ns")
)
"""Those that add up, in the order in which they are shown."""


def step_parts(profile: RankProfile) -> list[StepParts]:
    """Of each step that the profile marks; of one that marks none, of the device's whole time."""
    steps: Sequence[Step] = profile.steps or whole_of(profile)
    if not steps:
        return []
    lows = np.array([step.begin_ns for step in steps], np.int64)
    highs = np.array([step.end_ns for step in steps], np.int64)
    found = _divided(profile, lows, highs)
    return [
        StepParts(
            rank=profile.rank,
            step=step.number,
            step_ns=step.end_ns - step.begin_ns,
            **{name: int(values[place]) for name, values in found.items()},
        )
        for place, step in enumerate(steps)
    ]


def whole_of(profile: RankProfile) -> tuple[Step, ...]:
    """From the device's first work to its last, as one step; none without any work."""
    busy = merged(profile.computing, profile.communicating)
    if not len(busy):
        return ()
    return (Step(number=NO_STEP, begin_ns=int(busy[0, 0]), end_ns=int(busy[-1, 1])),)


def _divided(
    profile: RankProfile, lows: NDArray[np.int64], highs: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """The parts of all steps at once, by their names: the sets are made of the whole profile, and
    only then measured step by step."""
    beside = merged(*profile.beside.values())
    computing = without(profile.computing, beside)
    communicating = without(profile.communicating, beside)
    exposed = without(communicating, computing)
    bubble = common(exposed, profile.bubbles)
    rest = without(exposed, bubble)
    transfer = common(rest, profile.transferring)
    waiting = without(common(rest, profile.awaiting), transfer)
    busy = merged(computing, communicating)
    idle = without(gaps(busy, int(lows.min()), int(highs.max())), beside)
    data = common(idle, profile.data_waits)
    idle = without(idle, data)
    first, last = _busy_ends(busy, lows, highs)

    def within(intervals: Intervals) -> NDArray[np.int64]:
        return measured_ns(intervals, lows, highs)

    return {
        "computing_ns": within(computing),
        "transfer_ns": within(transfer),
        "waiting_ns": within(waiting),
        "late_ns": within(rest) - within(transfer) - within(waiting),
        "bubble_ns": within(bubble),
        "data_ns": within(data),
        "beside_ns": within(beside),
        "preparing_ns": measured_ns(idle, lows, first),
        "free_ns": measured_ns(idle, first, last),
        "unattributed_ns": measured_ns(idle, last, highs),
        "overlapped_ns": within(communicating) - within(exposed),
    }


def _busy_ends(
    busy: Intervals, lows: NDArray[np.int64], highs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The device's first and last moment of work between pairs of moments; both the low one where
    it does nothing."""
    if not len(busy):
        return lows, lows
    begins = np.searchsorted(busy[:, 1], lows, side="right")
    ends = np.searchsorted(busy[:, 0], highs, side="left") - 1
    works = begins <= ends
    most = len(busy) - 1
    first = np.maximum(busy[np.minimum(begins, most), 0], lows)
    last = np.minimum(busy[np.clip(ends, 0, most), 1], highs)
    return np.where(works, first, lows), np.where(works, last, lows)


NOT_IN_TABLES = ("transfer", "waiting", "data", "beside", "unattributed")
"""Parts that no table tells apart from others."""
COMMUNICATION = ("late", "bubble", "overlapped")


def parts_of(profile: RankProfile) -> tuple[list[StepParts], tuple[str, ...]]:
    """Of each step, by its timeline or else by what tables say; and which parts these cannot tell:
    they count as nothing in the sum, and are shown as unknown."""
    parts = step_parts(profile)
    if profile.has_timeline and any(one.computing_ns for one in parts):
        return parts, ()
    if told := told_parts(profile):
        columns = set[str]().union(*profile.told_steps.values())
        absent = [part for part in ("bubble", "preparing") if part.capitalize() not in columns]
        return told, (*NOT_IN_TABLES, *absent)
    if profile.has_timeline or not parts:
        return parts, ()
    silent = () if len(profile.communicating) else COMMUNICATION
    return parts, (*NOT_IN_TABLES, "preparing", *silent)


def told_parts(profile: RankProfile) -> list[StepParts]:
    """Of a profile that has no timeline, as its table of steps tells them: the parts that it does
    not divide are in ``late_ns`` and ``free_ns``."""
    found = []
    for number, row in profile.told_steps.items():

        def ns(column: str, row: Any = row) -> int:
            value = row.get(column, 0.0)
            return round(value * NS_PER_US) if np.isfinite(value) else 0

        exposed, bubble = ns("Communication(Not Overlapped)"), ns("Bubble")
        parts = {
            "computing_ns": ns("Computing"),
            "transfer_ns": 0,
            "waiting_ns": 0,
            "late_ns": max(0, exposed - bubble),
            "bubble_ns": min(bubble, exposed),
            "data_ns": 0,
            "beside_ns": 0,
            "preparing_ns": ns("Preparing"),
            "free_ns": ns("Free"),
            "unattributed_ns": 0,
        }
        found.append(
            StepParts(
                rank=profile.rank,
                step=number,
                step_ns=sum(parts.values()),
                overlapped_ns=ns("Overlapped"),
                **parts,
            )
        )
    return found


def steady(parts: Sequence[StepParts]) -> list[StepParts]:
    """Without the first steps if they take much longer, since they compile or fill queues."""
    ordered = sorted(parts, key=lambda one: one.step)
    later = [one.step_ns for one in ordered[len(ordered) // 2 :]]
    while len(ordered) > 2 and ordered[0].step_ns > WARM_UP * statistics.median(later):
        ordered = ordered[1:]
    return ordered


def median_parts(parts: Iterable[StepParts]) -> dict[str, float]:
    """Nanoseconds by part, the mean over the steps whose length is the median or next to it, so
    that they still add up."""
    ordered = sorted(parts, key=lambda one: one.step_ns)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    names = ("step", *PARTS, "overlapped")
    return {name: statistics.fmean(getattr(one, f"{name}_ns") for one in middle) for name in names}


def outlier_text(parts: Sequence[StepParts]) -> str:
    """``mean 905.00 ms, median 241.00, step 37 alone 5588.00``, where the mean step, that kernels
    are told of, and the median one, that parts are told of, contradict each other; else empty."""
    if not parts:
        return ""
    mean, median = (
        f([one.step_ns for one in parts]) for f in (statistics.fmean, statistics.median)
    )
    if CONTRADICTS * mean > median and mean < CONTRADICTS * median:
        return ""
    longest = max(parts, key=lambda one: one.step_ns)
    alone = "" if longest.step == NO_STEP else f", step {longest.step} alone {_ms(longest.step_ns)}"
    return f"mean {_ms(mean)} ms, median {_ms(median)}{alone}"


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.2f}"
