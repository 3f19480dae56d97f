"""What the tracks of an Ascend trace say: steps, collectives, computing, waiting for data."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_dist.profiling.intervals import Intervals, common, merged, total_ns
from unet_dist.profiling.tables import NO_STEP, Collective, Step
from unet_dist.profiling.trace import CommunicationTask, Trace

COMMUNICATION = ("HCCL", "Communication")
"""The process of collectives, in older and in newer versions."""
OVERLAP = "Overlap Analysis"
STEP = re.compile(r"ProfilerStep#(\d{1,18})")
WAITS = ("Notify_Wait",)
MOVES = ("Memcpy", "Reduce_Inline", "RDMASend", "SDMA")
ON_CHIP = ("ON_CHIP", "LOCAL")
BESIDE = ("validation", "checkpoint")
RECEIVE = re.compile(r"receive|_recv", re.IGNORECASE)
COMPILES = re.compile(r"^(?!.*\.py\().*compile", re.IGNORECASE)
"""Calls of the framework, but no frames of Python that only have it in a file's name."""
COMPILING_FROM_NS = 1_000_000
"""``aclopCompileAndExecuteV2`` launches kernels that are known, too, in some 100 us."""
DATA = re.compile(r"dataloader.*__next__|GetNext|data_wait|InitDataSetQueue", re.IGNORECASE)


def timeline_of(
    trace: Trace, told: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Fields of a ``RankProfile``: all that tracks tell, but for kernels and computing.

    Args:
        told: see ``collectives_of``.
    """
    steps = steps_of(trace)
    collectives = collectives_of(trace, steps, told or {})
    return {
        "steps": steps,
        "communicating": times_of(collectives),
        "transferring": times_of(moving_tasks(trace.tasks)),
        "awaiting": times_of([task for task in trace.tasks if task.kind in WAITS]),
        "bubbles": bubbles_of(collectives),
        "data_waits": merged(*trace.times_named(DATA.search)),
        "compiling": merged(*map(_of_compilers, trace.times_named(COMPILES.search))),
        "beside": beside_of(trace),
        "collectives": collectives,
        "is_cut": bool(trace.fault),
    }


def steps_of(trace: Trace) -> tuple[Step, ...]:
    """As the program marked them on the host."""
    marks = [STEP.fullmatch(name) for name in trace.names]
    is_mark = np.array([mark is not None for mark in marks], np.bool_)
    found: dict[int, Step] = {}
    for track in trace.tracks:
        for place in np.flatnonzero(is_mark[track.name]):
            mark = marks[track.name[place]]
            assert mark is not None
            begin, end = map(int, track.time_ns[place])
            number = int(mark[1])
            # The same step may be marked twice, once by each part of the profiler.
            if number not in found or end - begin > found[number].end_ns - found[number].begin_ns:
                found[number] = Step(number=number, begin_ns=begin, end_ns=end)
    return tuple(found[number] for number in sorted(found))


def _of_compilers(calls: Intervals) -> Intervals:
    return calls[calls[:, 1] - calls[:, 0] >= COMPILING_FROM_NS]


def computing_of(trace: Trace) -> Intervals:
    """Merged; empty without an overlap analysis."""
    return merged(*(t.time_ns for t in trace.of(OVERLAP) if t.thread == "Computing"))


def beside_of(trace: Trace) -> dict[str, Intervals]:
    """What a program marks as no part of training."""
    found = {kind: merged(*trace.times_named(kind.__eq__)) for kind in BESIDE}
    return {kind: times for kind, times in found.items() if len(times)}


def bubbles_of(collectives: Sequence[Collective]) -> Intervals:
    """While a stage of a pipeline waits for what another one sends."""
    return times_of([one for one in collectives if RECEIVE.search(one.name)])


def collectives_of(
    trace: Trace, steps: Sequence[Step], told: Mapping[str, Mapping[str, Any]]
) -> tuple[Collective, ...]:
    """Calls in the order of their begins.

    Args:
        told: what communication.json says of some of them, by name; it tells nothing of planes
            beside the first one, so tasks of the trace come before it.
    """
    tasks = sorted(trace.tasks, key=lambda task: task.begin_ns)
    found = []
    for track in trace.of(*COMMUNICATION):
        if track.thread.startswith("Plane"):
            continue
        for name, (begin, end) in zip(track.texts(), track.time_ns.tolist(), strict=True):
            transfer, wait, sent = divided(tasks, told.get(name), begin, end)
            found.append(
                Collective(
                    name=name,
                    group=track.thread.removesuffix(" Communication"),
                    step=step_at(steps, begin),
                    begin_ns=begin,
                    end_ns=end,
                    transfer_ns=transfer,
                    wait_ns=wait,
                    sent_bytes=sent,
                )
            )
    return tuple(sorted(found, key=lambda one: one.begin_ns))


def divided(
    tasks: Sequence[CommunicationTask], told: Mapping[str, Any] | None, begin: int, end: int
) -> tuple[int | None, int | None, int | None]:
    """Transfer, waiting and bytes of a collective; None where nothing is known.

    Args:
        tasks: of all collectives, in the order of their begins.
        told: what communication.json says of this one.
    """
    first = bisect_left(tasks, begin, key=lambda task: task.begin_ns)
    tasks = tasks[first : bisect_left(tasks, end, key=lambda task: task.begin_ns)]
    moving = moving_tasks(tasks)
    if tasks:
        moved, waited = times_of(moving), times_of([t for t in tasks if t.kind in WAITS])
        whole = np.array([[begin, end]], np.int64)
        moved, waited = common(moved, whole), common(waited, whole)
        return total_ns(moved), total_ns(waited), round(sum(t.sent_bytes for t in moving))
    if told is None:
        return None, None, None
    times, links = told["Communication Time Info"], told["Communication Bandwidth Info"]
    sizes = [
        float(link["Transit Size(MB)"]) for name, link in links.items() if name in ("SDMA", "RDMA")
    ]
    return (
        round(float(times["Transit Time(ms)"]) * 1e6),
        round(float(times["Wait Time(ms)"]) * 1e6),
        round(sum(sizes) * 1e6),
    )


def moving_tasks(tasks: Sequence[CommunicationTask]) -> list[CommunicationTask]:
    return [t for t in tasks if t.kind in MOVES and t.link not in ON_CHIP and t.sent_bytes > 0]


def times_of(tasks: Sequence[CommunicationTask | Collective]) -> Intervals:
    """Merged."""
    pairs = [(task.begin_ns, task.end_ns) for task in tasks]
    return merged(np.array(pairs, np.int64).reshape(-1, 2))


def step_at(steps: Sequence[Step], moment: int) -> int:
    """The number of the step at a moment, of steps in the order of their begins."""
    place = bisect_right(steps, moment, key=lambda step: step.begin_ns) - 1
    return steps[place].number if place >= 0 and moment < steps[place].end_ns else NO_STEP
