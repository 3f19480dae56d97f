"""Traces and tables of kernels that were cut off in the middle: what is whole of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_dist.profiling.intervals import Intervals, clipped, merged, total_ns
from unet_dist.profiling.operators import computing_rows
from unet_dist.profiling.tables import NO_STEP, Kernels, Step
from unet_dist.profiling.trace import Trace

LOST = 0.01
"""Of computing that a table of kernels lacks, from which it was cut off."""
NEVER = -1
"""A moment before all others."""


@dataclass(frozen=True, kw_only=True)
class Remainder:
    """Of a timeline that was cut off."""

    steps: tuple[Step, ...]
    has_timeline: bool
    """Whether these steps can be divided by it."""
    told: str


def by_tables(
    timeline: dict[str, Any],
    trace: Trace,
    table: Kernels | None,
    shown: Kernels | None,
    told: Mapping[int, Mapping[str, float]],
    faults: list[str],
) -> None:
    """What is whole of a timeline whose trace is gone or was cut off, and what the table of kernels
    says in place of it.

    Args:
        shown: kernels that were read of the trace.
    """
    timeline["is_cut"] = True
    device = shown.time_ns if shown is not None else merged()
    sending = np.delete(table.time_ns, computing_rows(table), axis=0) if table else merged()
    if timeline["has_timeline"]:
        sent = [row.get("Communication", 0.0) for row in told.values()]
        rest = remaining(
            timeline, device, communicates=bool(len(sending) or any(one > 0 for one in sent)),
            has_table=bool(told), is_by_time=trace.is_by_time,
        )  # fmt: skip
        timeline["steps"], timeline["has_timeline"] = rest.steps, rest.has_timeline
        faults += [rest.told] if rest.told else []
    timeline["communicating"] = merged(timeline["communicating"], sending)
    if table is not None:
        timeline["computing"] = merged(table.time_ns[computing_rows(table)])
    elif not len(timeline["computing"]):
        timeline["computing"] = merged(device)


def lost_kernels(table: Kernels, computing: Intervals) -> str:
    """What a table of kernels has lost at its end, by the timeline; empty if nothing.

    Args:
        computing: of the trace.
    """
    if not len(computing) or not len(table):
        return ""
    end = int(table.time_ns[:, 1].max())
    lost = total_ns(clipped(computing, end, max(end, int(computing[-1, 1]))))
    if lost <= LOST * total_ns(computing):
        return ""
    known = table.step[table.step != NO_STEP]
    where = f" in step {known.max()}" if len(known) else ""
    return (
        f"kernel_details.csv: ends{where} after {len(table):,} kernels, {lost / 1e6:.2f} ms of "
        "computing before the trace does: counts and times of kernels are too low from there on"
    )


def remaining(
    timeline: Mapping[str, Any],
    device: Intervals,
    *,
    communicates: bool,
    has_table: bool,
    is_by_time: bool,
) -> Remainder:
    """The steps that had ended where the trace does; without any, what was read of the first one,
    unless a table says it better.

    Args:
        timeline: as ``timeline_of`` gives it.
        device: the device's work that was read of the trace.
        communicates: whether another file says that there are collectives.
        has_table: of steps.
        is_by_time: see ``Trace``.
    """
    steps: Sequence[Step] = timeline["steps"]
    until = _read_until(timeline, device, communicates=communicates, is_by_time=is_by_time)
    whole = tuple(step for step in steps if step.end_ns <= until)
    if not steps:
        return Remainder(steps=(), has_timeline=True, told="")
    if whole:
        left = len(steps) - len(whole)
        lost = f"steps from {steps[len(whole)].number} on are left out" if left else ""
        return Remainder(steps=whole, has_timeline=True, told=lost and f"the trace ends: {lost}")
    first = steps[0]
    if has_table or until <= first.begin_ns:
        instead = "the table of steps is shown" if has_table else "no step can be divided"
        told = f"the trace ends within step {first.number}: {instead}"
        return Remainder(steps=(), has_timeline=False, told=told)
    ends = Step(number=first.number, begin_ns=first.begin_ns, end_ns=until)
    told = (
        f"the trace ends {(until - first.begin_ns) / 1e6:.2f} ms into step {first.number}, which "
        "is shown up to there"
    )
    return Remainder(steps=(ends,), has_timeline=True, told=told)


def _read_until(
    timeline: Mapping[str, Any], device: Intervals, *, communicates: bool, is_by_time: bool
) -> int:
    """Of a file in the order of time all is known up to the last begin; of one that has its tracks
    one after the other, up to where the shortest of them ends."""
    pieces = merged(timeline["transferring"], timeline["awaiting"])
    sets = [device]
    if communicates or len(timeline["communicating"]) or len(pieces):
        sets += [timeline["communicating"], pieces]
    if is_by_time:
        return max(int(np.max(one[:, 0], initial=NEVER)) for one in sets)
    return min(int(np.max(one[:, 1], initial=NEVER)) for one in sets)
