"""From the profiles of all ranks to one verdict with its numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unet_dist.profiling.advice import LEAST_SHARE, advise
from unet_dist.profiling.clocks import Clock, align, occurrences
from unet_dist.profiling.finite import finite
from unet_dist.profiling.intervals import common, total_ns
from unet_dist.profiling.levels import ahead_of_collectives, decisive, levels_of, of_steps
from unet_dist.profiling.links import Link, links_of, slow_links
from unet_dist.profiling.memory import MemoryUse, memory_use
from unet_dist.profiling.operators import (
    Launches,
    OperatorGroup,
    by_scope,
    by_shape,
    by_type,
    cube_utilisation,
    float32_ns,
    launches_of,
    layout_ns,
    num_steps,
)
from unet_dist.profiling.roofline import CHIPS
from unet_dist.profiling.seen import Advice, Seen
from unet_dist.profiling.stalls import stalls_of
from unet_dist.profiling.steps import PARTS, StepParts, median_parts, parts_of, steady
from unet_dist.profiling.stragglers import (
    Straggler,
    arrivals,
    divided_by_arrival,
    explained,
    stragglers_of,
    stragglers_of_tables,
)
from unet_dist.profiling.tables import RankProfile
from unet_dist.profiling.uneven import Uneven, uneven_of, without_data_waits_ns

SCHEMA = 1
MOST_RANKS = 1 << 16
"""Of a job; a file may tell any number."""
PART_NAMES: Mapping[str, str] = {
    "computing": "computing",
    "transfer": "data moving between ranks",
    "waiting": "waiting for other ranks",
    "late": "communication that is not explained",
    "bubble": "waiting for another pipeline stage",
    "data": "waiting for input",
    "beside": "validation and checkpoints",
    "preparing": "the host preparing, before the device starts",
    "free": "the device idle",
    "unattributed": "after the device's last work",
}
"""Of the parts of a step, for a reader."""


@dataclass(frozen=True, kw_only=True)
class RankSummary:
    rank: int
    source: str
    format: str
    steps: tuple[StepParts, ...]
    """Without those that warm up."""
    left_out: int
    """Steps that warm up."""
    median: Mapping[str, float]
    """Nanoseconds by part; empty if nothing is known of a step."""
    memory: MemoryUse | None
    missing: tuple[str, ...]
    untold: tuple[str, ...]
    """What a whole profile of its kind does not hold."""
    is_cut: bool
    unknown: tuple[str, ...]
    """Parts that ``steps`` and ``median`` have as 0 since the profile cannot tell them."""


@dataclass(frozen=True, kw_only=True)
class CollectiveRow:
    """One call by all ranks, milliseconds by rank; None where a profile does not tell."""

    name: str
    late_ms: Mapping[int, float]
    """Behind the first rank that came, by the common clock."""
    duration_ms: Mapping[int, float]
    transfer_ms: Mapping[int, float | None]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    simulated: bool
    chip: str
    """Whose nominal peaks bound kernels (``roofline.CHIPS``)."""
    ranks: tuple[RankSummary, ...]
    typical: int
    """The rank whose step is in the middle, of those whose timeline is whole and that are not late,
    if there are any: its parts and operators are shown."""
    clocks: tuple[Clock, ...]
    stragglers: tuple[Straggler, ...]
    collectives: tuple[CollectiveRow, ...]
    links: tuple[Link, ...]
    slow_links: tuple[tuple[Link, float], ...]
    kernel_steps: int
    """That the kernels of ``types``, ``shapes`` and ``scopes`` are of, warm-up and all."""
    types: tuple[OperatorGroup, ...]
    shapes: tuple[OperatorGroup, ...]
    scopes: tuple[OperatorGroup, ...]
    launches: Launches | None
    cube_utilisation: float
    advice: tuple[Advice, ...]
    verdict: str

    @property
    def parts(self) -> Mapping[str, float]:
        return next(one.median for one in self.ranks if one.rank == self.typical)

    @property
    def is_partial(self) -> bool:
        return any(one.missing for one in self.ranks)

    def to_json(self) -> dict[str, Any]:
        tree = {"schema": SCHEMA, **finite(asdict(self))}
        for rank in tree["ranks"]:
            rank["median"].update(dict.fromkeys(rank["unknown"] if rank["median"] else ()))
        return tree


def analyse(profiles: Sequence[RankProfile], *, amp: str = "", chip: str = "910B") -> Analysis:
    """Of one job; at least one profile.

    Args:
        amp: of the run's configuration, if it is known.
        chip: of ``roofline.CHIPS``, whose peaks bound kernels.
    """
    clocks = align(profiles)
    profiles = divided_by_arrival(profiles, clocks)
    ranks = tuple(_summary(profile) for profile in profiles)
    typical = _typical(ranks, ())
    late = _lateness(profiles, ranks, clocks, typical)
    typical = _typical(ranks, [one.rank for one in late.stragglers])
    links = links_of(profiles)
    profile = next(one for one in profiles if one.rank == typical.rank)
    kernels, peaks = profile.kernels, CHIPS[chip]
    types = by_type(kernels, peaks) if kernels else []
    seen = _seen(profiles, profile, typical, late, types, slow_links(links), amp)
    advice = advise(seen)
    return Analysis(
        simulated=seen.simulated,
        chip=chip,
        ranks=ranks,
        typical=typical.rank,
        clocks=tuple(clocks.values()),
        stragglers=tuple(late.stragglers),
        collectives=tuple(late.rows),
        links=tuple(links),
        slow_links=tuple(seen.slow_links),
        kernel_steps=num_steps(kernels) if kernels else 0,
        types=tuple(types),
        shapes=tuple(by_shape(kernels, peaks)) if kernels else (),
        scopes=tuple(by_scope(kernels, peaks)) if kernels else (),
        launches=seen.launches,
        cube_utilisation=cube_utilisation(kernels) if kernels else math.nan,
        advice=tuple(advice),
        verdict=_verdict(seen, advice, len(ranks)),
    )


def _seen(
    profiles: Sequence[RankProfile],
    profile: RankProfile,
    typical: RankSummary,
    late: "Lateness",
    types: Sequence[OperatorGroup],
    slow: Sequence[tuple[Link, float]],
    amp: str,
) -> Seen:
    """What advice is given by; of one rank but for what concerns them all."""
    kernels, marked = profile.kernels, max(1, len(profile.steps))
    steps, launches = 1, None
    if kernels:
        steps = num_steps(kernels)
        launches = launches_of(kernels, profile.communicating, profile.transferring)
    return Seen(
        data_ns=late.data_ns,
        parts=typical.median or dict.fromkeys(("step", "overlapped", *PARTS), 0.0),
        stragglers=late.stragglers,
        uneven=late.uneven,
        types=[group.of_one_step(steps) for group in types],
        layout_ns=layout_ns(kernels) / steps if kernels else 0.0,
        launches=launches and launches.of_one_step(steps),
        float32_ns=float32_ns(kernels) / steps if kernels else 0.0,
        slow_links=slow,
        memory=typical.memory,
        beside={name: total_ns(each) / marked for name, each in profile.beside.items()},
        absent=_absent(profiles),
        hidden_transfer_ns=total_ns(common(profile.transferring, profile.computing)) / marked,
        stalls=stalls_of(profile, typical.steps),
        undivided_ns=_undivided(profile, typical),
        num_steps=len(typical.steps),
        simulated=any(one.simulated for one in profiles),
        amp=amp,
    )


def _undivided(profile: RankProfile, typical: RankSummary) -> float:
    """Of exposed communication, if nothing tells what of it is waiting."""
    divided = len(profile.transferring) or len(profile.awaiting)
    return 0.0 if divided or not len(profile.communicating) else typical.median.get("late", 0.0)


def _typical(ranks: Sequence[RankSummary], late: Sequence[int]) -> RankSummary:
    """In the middle of those whose timeline is whole, and that keep nobody waiting."""
    known = [one for one in ranks if one.median]
    if not known:
        return ranks[0]
    preferred = sorted(
        known, key=lambda one: (one.is_cut, one.rank in late, one.median["step"], one.rank)
    )
    first = preferred[0]
    alike = [
        one
        for one in preferred
        if (one.is_cut, one.rank in late) == (first.is_cut, first.rank in late)
    ]
    return alike[(len(alike) - 1) // 2]


def _summary(profile: RankProfile) -> RankSummary:
    parts, unknown = parts_of(profile)
    kept = steady(parts)
    numbers = {one.step for one in kept}
    return RankSummary(
        rank=profile.rank,
        source=profile.source,
        format=profile.format,
        steps=tuple(kept),
        left_out=len(parts) - len(kept),
        median=median_parts(kept) if kept else {},
        memory=memory_use(profile, [s for s in profile.steps if s.number in numbers]),
        missing=profile.missing,
        untold=profile.untold,
        is_cut=profile.is_cut,
        unknown=unknown,
    )


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """Which ranks come late to collectives."""

    stragglers: Sequence[Straggler]
    uneven: Uneven | None
    """What they wait for each other besides; None where nothing tells who comes when."""
    rows: Sequence[CollectiveRow]
    data_ns: float
    """By how much a step would be shorter if no rank waited for its input."""


def _lateness(
    profiles: Sequence[RankProfile],
    ranks: Sequence[RankSummary],
    clocks: Mapping[int, Clock],
    typical: RankSummary,
) -> Lateness:
    # That each of them waits for is gained at the least.
    data_ns = min((one.median["data"] for one in ranks if one.median), default=0.0)
    aligned = [p for p in profiles if p.collectives and clocks[p.rank].is_known]
    if len(aligned) < 2:
        told = [one.steps[-1] for one in ranks if one.steps and "late" not in one.unknown]
        late = stragglers_of_tables(told)
        return Lateness(stragglers=late, uneven=None, rows=(), data_ns=data_ns)
    begins_cr, keys = arrivals(aligned, clocks)
    num_steps = max(1, len(typical.steps))
    numbers = [profile.rank for profile in aligned]
    levels = levels_of(aligned, keys)
    chosen = of_steps(
        decisive(aligned, begins_cr, keys, levels),
        aligned,
        keys,
        {one.step for one in typical.steps},
    )
    decisive_cr, before = begins_cr[chosen], ahead_of_collectives(aligned, keys, levels, chosen)
    found = stragglers_of(
        decisive_cr,
        numbers,
        step_ns=typical.median.get("step", 0.0),
        num_steps=num_steps,
    )
    stragglers = explained(numbers, found, decisive_cr, before)
    culprits = [late.rank for late in stragglers]
    return Lateness(
        stragglers=stragglers,
        uneven=uneven_of(numbers, decisive_cr, before, culprits=culprits, num_steps=num_steps),
        rows=_rows(aligned, begins_cr, keys),
        data_ns=max(data_ns, without_data_waits_ns(decisive_cr, before, num_steps=num_steps)),
    )


def _rows(
    profiles: Sequence[RankProfile], begins_cr: Any, keys: Sequence[tuple[str, int]]
) -> list[CollectiveRow]:
    found = [occurrences(profile) for profile in profiles]
    rows = []
    for key, begins in zip(keys, begins_cr, strict=True):
        calls = {p.rank: own[key] for p, own in zip(profiles, found, strict=True)}
        first = float(begins.min())
        rows.append(
            CollectiveRow(
                name=key[0],
                late_ms={
                    p.rank: (float(begin) - first) / 1e6
                    for p, begin in zip(profiles, begins, strict=True)
                },
                duration_ms={rank: one.duration_ns / 1e6 for rank, one in calls.items()},
                transfer_ms={
                    rank: None if one.transfer_ns is None else one.transfer_ns / 1e6
                    for rank, one in calls.items()
                },
            )
        )
    return rows


def _absent(profiles: Sequence[RankProfile]) -> list[int]:
    named = {end for p in profiles for one in p.transfers for end in (one.source, one.target)}
    named |= set(range(min(MOST_RANKS, max(profile.world for profile in profiles))))
    return sorted(named - {profile.rank for profile in profiles})


def _verdict(seen: Seen, advice: Sequence[Advice], ranks: int) -> str:
    step = seen.parts["step"]
    if not step:
        return "Nothing is known of a step: see what is missing."
    largest = sorted(PARTS, key=lambda name: -seen.parts[name])[:3]
    shares = ", ".join(
        f"{seen.parts[name] / step:.0%} {PART_NAMES[name]}"
        for name in largest
        if seen.parts[name] >= 0.01 * step
    )
    several = f" on {ranks} ranks" if ranks > 1 else ""
    text = f"A step takes {step / 1e6:.1f} ms{several}: {shares}."
    gains = [one for one in advice if not math.isnan(one.gain_ns)]
    if not gains:
        if seen.parts["waiting"] >= LEAST_SHARE * step:
            text += " Ranks wait for each other, for several small reasons."
        return f"{text} Nothing was found whose change would gain 3 % of it."
    first = gains[0]
    return f"{text} First of all: {first.what} ({first.gain_text(step)})."
