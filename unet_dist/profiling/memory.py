"""Memory of a device: its peak, what holds it, what is reserved in vain, and whether it grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_dist.profiling.tables import MemoryCurve, RankProfile, Step

GROWS = 0.01
"""Share of the peak by which each step must end higher than the one before to be called growth."""
HOLDERS = 10


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """In MB as the profiler counts them; MindSpore's are 1,024,000 bytes."""

    component: str
    peak_allocated_mb: float
    peak_reserved_mb: float
    gap_share: float
    """Of what is reserved at the moment of the largest reservation, what no tensor uses."""
    holders: tuple[tuple[str, float], ...]
    """Operators whose allocations are alive at the peak, and their MB, the largest first."""
    growth_mb: float
    """From the first step's end to the last one's, if every step ends higher; else 0."""


def memory_use(profile: RankProfile) -> MemoryUse | None:
    """Of the framework's own pool; None if the profile tells none."""
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
    )


def _framework(curves: Sequence[MemoryCurve]) -> MemoryCurve | None:
    """The one that knows what is allocated: PTA of torch_npu, MindSpore's of MindSpore."""
    known = [curve for curve in curves if np.isfinite(curve.allocated_mb).any()]
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
