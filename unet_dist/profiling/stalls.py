"""Steps in which the device idles for longer than a whole step takes, and what is seen of it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from unet_dist.profiling.intervals import clipped, gaps, merged, total_ns, without
from unet_dist.profiling.operators import computing_rows
from unet_dist.profiling.steps import StepParts
from unet_dist.profiling.tables import RankProfile, Step

FEWEST = 4
"""Steps that tell what is usual."""
EXPLAINS = 0.5
"""Share of a stall that must be compiling to be called so."""
OFTEN = 3
"""Stalls that make a period."""

Cause = Literal["compile", "checkpoint", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Stall:
    """No launch of a kernel takes as long."""

    step: int
    excess_ns: int
    """Of idling, beyond that of the usual step."""
    cause: Cause
    gap_ns: int
    """The longest in which the device does nothing."""
    before: str
    """The kernel that ends it; empty if none does."""


def stalls_of(profile: RankProfile, kept: Sequence[StepParts]) -> list[Stall]:
    """
    Args:
        kept: its steps that do not warm up.
    """
    if len(kept) < FEWEST or not profile.steps:
        return []
    usual = statistics.median(one.step_ns - one.beside_ns for one in kept)
    idle = statistics.median(one.idle_ns for one in kept)
    marks = {step.number: step for step in profile.steps}
    long = [one for one in kept if one.idle_ns - idle > usual and one.step in marks]
    return [_stall(profile, marks[one.step], round(one.idle_ns - idle)) for one in long]


def _stall(profile: RankProfile, step: Step, excess_ns: int) -> Stall:
    beside = merged(*profile.beside.values())
    busy = merged(profile.computing, profile.communicating, beside)
    free = gaps(busy, step.begin_ns, step.end_ns)
    free = without(free, profile.data_waits)
    longest = free[int((free[:, 1] - free[:, 0]).argmax())]
    compiling = total_ns(clipped(profile.compiling, step.begin_ns, step.end_ns))
    # What a checkpoint leaves to the disk is still written while the next step runs.
    before = [one.begin_ns for one in profile.steps if one.begin_ns < step.begin_ns]
    since = max(before, default=step.begin_ns)
    cause: Cause = "unknown"
    if compiling >= EXPLAINS * excess_ns:
        cause = "compile"
    elif len(clipped(profile.beside.get("checkpoint", merged()), since, step.end_ns)):
        cause = "checkpoint"
    return Stall(
        step=step.number,
        excess_ns=excess_ns,
        cause=cause,
        gap_ns=int(longest[1] - longest[0]),
        before=_kernel_at(profile, int(longest[1])),
    )


def _kernel_at(profile: RankProfile, moment: int) -> str:
    if profile.kernels is None:
        return ""
    kernels, rows = profile.kernels, computing_rows(profile.kernels)
    begins = kernels.time_ns[rows, 0]
    place = int(np.searchsorted(begins, moment))
    found = place < len(rows) and begins[place] == moment
    return kernels.texts[kernels.name[rows[place]]] if found else ""


def by_cause(stalls: Sequence[Stall]) -> dict[str, list[Stall]]:
    """By the rule of advice; those without evidence of a cause are only told."""
    found: dict[str, list[Stall]] = {}
    for one in stalls:
        found.setdefault(RULES[one.cause], []).append(one)
    return found


def stall_evidence(found: Sequence[Stall]) -> tuple[str, str]:
    longest = max(found, key=lambda one: one.gap_ns)
    steps = ", ".join(str(one.step) for one in found[:8])
    apart = {later.step - one.step for one, later in pairwise(found)}
    period = f" (every {apart.pop()} steps)" if len(found) >= OFTEN and len(apart) == 1 else ""
    before = f", before {longest.before}" if longest.before else ""
    mean = statistics.fmean(one.excess_ns for one in found)
    return (
        f"in steps {steps}{period} the device idles {mean / 1e6:.2f} ms longer than usual",
        f"the longest gap has {longest.gap_ns / 1e6:.2f} ms, in step {longest.step}{before}",
    )


RULES: Mapping[Cause, str] = {
    "compile": "recompiles", "checkpoint": "checkpoint", "unknown": "stall"
}  # fmt: skip
STALLS: Mapping[str, tuple[str, str, str]] = {
    "recompiles": (
        "some steps compile again",
        "the same shapes in each step: augment.crop, and evaluate.tile for all images",
        "the host's compiling is as long in steps that do not stall",
    ),
    "checkpoint": (
        "steps stall next to checkpoints",
        "checkpoint.every_epochs larger, or a faster disk for the run folder",
        "the same steps stall without a checkpoint",
    ),
    "stall": (
        "some steps stall: the machine or the host does something else meanwhile",
        "look what else runs on that host then (other jobs, a full disk, too few cores for the "
        "ranks), and leave --bind-cores on",
        "the steps that stall are those that see other shapes, and compile",
    ),
}
"""What, setting and disproof, by rule."""
