"""Memory of a device: its peak, what holds it, what is reserved in vain, whether it grows, and how
often it changes hands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_dist.profiling.intervals import (
    Intervals,
    common,
    gaps,
    merged,
    of_pairs,
    total_ns,
    without,
)
from unet_dist.profiling.tables import MemoryCurve, RankProfile, Step

GROWS = 0.01
"""Share of the peak by which each step must end higher than the one before to be called growth."""
HOLDERS = 10
RESIZED_MB = 0.01
"""Less is rounding."""


@dataclass(frozen=True, kw_only=True)
class Churn:
    """How memory changes hands in a mean step."""

    allocations: float
    """Of tensors, from the pool."""
    frees: float
    resizes: float
    """Of the pool: it asks the device for memory, or gives some back. A step that is like the last
    one needs none."""
    stalled_ns: float
    """While the device computes nothing around them, since it must not to give memory back."""
    sending_ns: float
    """Of that, while data moves between ranks."""


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """In MB as the profiler counts them; MindSpore's are 1,024,000 bytes."""

    component: str
    peak_allocated_mb: float
    peak_reserved_mb: float
    gap_share: float
    """Of the largest reservation, what is above the most that tensors take at any moment."""
    holders: tuple[tuple[str, float], ...]
    """Operators whose allocations are alive at the peak, and their MB, the largest first."""
    growth_mb: float
    """From the first step's end to the last one's, if every step ends higher; else 0."""
    churn: Churn


def memory_use(profile: RankProfile, steps: Sequence[Step]) -> MemoryUse | None:
    """Of the framework's own pool; None if the profile tells none.

    Args:
        steps: those that do not warm up, over which churn is looked for.
    """
    curve = _framework(profile.memory)
    if curve is None:
        return None
    place = int(np.nanargmax(curve.allocated_mb))
    fullest = int(np.nanargmax(curve.reserved_mb))
    reserved = float(curve.reserved_mb[fullest])
    most = float(np.nanmax(curve.allocated_mb))
    return MemoryUse(
        component=curve.component,
        peak_allocated_mb=most,
        peak_reserved_mb=reserved,
        gap_share=(reserved - most) / reserved if reserved > 0 else 0.0,
        holders=_holders(profile, int(curve.at_ns[place])),
        growth_mb=_growth(curve, profile.steps),
        churn=churn_of(profile, curve, steps),
    )


def churn_of(profile: RankProfile, curve: MemoryCurve, steps: Sequence[Step]) -> Churn:
    """Allocations are those of single tensors if the profile has them, else rises of the curve."""
    number = max(1, len(steps))
    moments = curve.at_ns[1:]
    if profile.allocations:
        begins = np.array([one.begin_ns for one in profile.allocations], np.int64)
        ends = np.array([o.end_ns for o in profile.allocations if o.end_ns is not None], np.int64)
    else:
        change = np.diff(curve.allocated_mb)
        begins, ends = moments[change > RESIZED_MB], moments[change < -RESIZED_MB]
    resized = moments[np.abs(np.diff(curve.reserved_mb)) > RESIZED_MB]
    stalls = _stalls(profile, resized, steps) if len(resized) else merged()
    return Churn(
        allocations=_within(begins, steps) / number,
        frees=_within(ends, steps) / number,
        resizes=_within(resized, steps) / number,
        stalled_ns=total_ns(stalls) / number,
        sending_ns=total_ns(common(stalls, profile.transferring)) / number,
    )


def _stalls(profile: RankProfile, resized: NDArray[np.int64], steps: Sequence[Step]) -> Intervals:
    """While nothing is computed around the moments at which the pool changed: all of a gap in which
    the device does nothing, and of one in which it communicates what lies between two changes,
    since the rest may be waiting for that."""
    if not steps:
        return merged()
    low, high = steps[0].begin_ns, steps[-1].end_ns
    inside = merged(of_pairs((step.begin_ns, step.end_ns) for step in steps))
    nothing = without(gaps(profile.computing, low, high), merged(*profile.beside.values()))
    nothing = common(without(nothing, profile.data_waits), inside)
    first = np.searchsorted(resized, nothing[:, 0], side="left")
    after = np.searchsorted(resized, nothing[:, 1], side="right")
    chosen = first < after
    found = nothing[chosen]
    between = np.column_stack([resized[first[chosen]], resized[after[chosen] - 1]])
    return merged(without(found, profile.communicating), between)


def _within(moments: NDArray[np.int64], steps: Sequence[Step]) -> int:
    ordered = np.sort(moments)
    return sum(
        int(np.searchsorted(ordered, step.end_ns) - np.searchsorted(ordered, step.begin_ns))
        for step in steps
    )


def _framework(curves: Sequence[MemoryCurve]) -> MemoryCurve | None:
    """The one that knows what is allocated: PTA of torch_npu, MindSpore's of MindSpore."""
    known = [
        curve
        for curve in curves
        if np.isfinite(curve.allocated_mb).any() and np.isfinite(curve.reserved_mb).any()
    ]
    named = [curve for curve in known if curve.component in ("PTA", "MindSpore", "simulated")]
    ordered = named or sorted(known, key=lambda curve: -float(np.nanmax(curve.allocated_mb)))
    return ordered[0] if ordered else None


def _holders(profile: RankProfile, at_ns: int) -> tuple[tuple[str, float], ...]:
    sizes: dict[str, float] = {}
    for one in profile.allocations:
        alive = one.begin_ns <= at_ns and (one.end_ns is None or one.end_ns > at_ns)
        if alive and one.size_kb > 0:
            sizes[one.operator] = sizes.get(one.operator, 0.0) + one.size_kb / 1024
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ordered[:HOLDERS])


def _growth(curve: MemoryCurve, steps: Sequence[Step]) -> float:
    ends = []
    for step in steps:
        before = np.flatnonzero((curve.at_ns <= step.end_ns) & np.isfinite(curve.allocated_mb))
        if len(before):
            ends.append(float(curve.allocated_mb[before[-1]]))
    if len(ends) < 3:
        return 0.0
    rises = np.diff(ends)
    least = GROWS * float(np.nanmax(curve.allocated_mb))
    return ends[-1] - ends[0] if (rises > least).all() else 0.0
