"""Which ranks make the others wait, why, and what that costs.

A collective cannot end before its last rank has come, so lateness at its begin, by one clock for
all ranks, is what the others pay. Two kinds of culprits are looked for: a rank that comes late all
the time, however little, and one that comes late seldom, but then by much.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from unet_dist.profiling.clocks import Clock, occurrences
from unet_dist.profiling.intervals import merged, of_pairs
from unet_dist.profiling.steps import StepParts
from unet_dist.profiling.tables import RankProfile

NORMAL_MAD = 1.4826
"""From the median absolute deviation to the standard deviation of normal numbers."""
MEDIAN_ERROR = 1.2533
"""The standard error of a median, in those of a mean of normal numbers."""
LATE_BY = 4.5
"""Standard errors of its median lateness from which a rank is called late. With 100 collectives it
is a jitter of half a standard deviation; by chance it happens once in 100,000 ranks."""
LEAST_SHARE = 0.01
"""Of the step: culprits that cost less are not named."""
SELDOM_SHARE = 0.01
"""Of the step: what a rank must cost that is late seldom."""
FEWEST = 10
"""Collectives that make a rule."""
CHANCE = 0.02
CAUSES = ("compute", "data", "host")
OFTEN = 0.1
"""Of the mean: a median above it is no chance, and tells more than a mean that one stall moves."""
EXPLAINS = 0.8
"""Share of the lateness that a cause must explain to be named."""


@dataclass(frozen=True, kw_only=True)
class Straggler:
    rank: int
    late_ns: float
    """Median over the collectives, against the median rank."""
    cost_ns: float
    """By how much a step would be shorter if the rank came when the median rank does; where several
    are late, its share of what is gained if none of them is."""
    cause: str
    """compute, host, data, or unknown."""
    evidence: str


def arrivals(
    profiles: Sequence[RankProfile], clocks: Mapping[int, Clock]
) -> tuple[NDArray[np.float64], list[tuple[str, int]]]:
    """Begins [collective, rank] by the common clock, of the collectives that all ranks have."""
    found = [occurrences(profile) for profile in profiles]
    shared = set(found[0]).intersection(*found[1:]) if found else set()
    keys = sorted(shared, key=lambda key: found[0][key].begin_ns)
    begins = [
        [
            clocks[p.rank].common_ns(own[key].begin_ns)
            for p, own in zip(profiles, found, strict=True)
        ]
        for key in keys
    ]
    return np.array(begins, np.float64).reshape(len(keys), len(profiles)), keys


def divided_by_arrival(
    profiles: Sequence[RankProfile], clocks: Mapping[int, Clock]
) -> list[RankProfile]:
    """Where all ranks of a job are there and nothing tells of transfers, a collective is waiting
    until the last rank has come, and transfer from then on."""
    told = any(len(p.transferring) or len(p.awaiting) for p in profiles)
    if told or not all(p.world == len(profiles) > 1 for p in profiles):
        return list(profiles)
    begins_cr, keys = arrivals(profiles, clocks)
    divided = []
    for place, profile in enumerate(profiles):
        own = occurrences(profile)
        moments = [
            own[key].begin_ns + round(float(begins.max() - begins[place]))
            for key, begins in zip(keys, begins_cr, strict=True)
        ]
        pairs = [
            (own[key].begin_ns, min(last, own[key].end_ns), own[key].end_ns)
            for key, last in zip(keys, moments, strict=True)
        ]
        parts = {
            (own[key].name, own[key].begin_ns): (end - last, last - begin)
            for key, (begin, last, end) in zip(keys, pairs, strict=True)
        }
        divided.append(
            replace(
                profile,
                awaiting=merged(of_pairs((begin, last) for begin, last, _ in pairs)),
                transferring=merged(of_pairs((last, end) for _, last, end in pairs)),
                collectives=tuple(
                    replace(call, transfer_ns=found[0], wait_ns=found[1])
                    if (found := parts.get((call.name, call.begin_ns)))
                    else call
                    for call in profile.collectives
                ),
            )
        )
    return divided


def stragglers_of(
    begins_cr: NDArray[np.float64], ranks: Sequence[int], *, step_ns: float, num_steps: int
) -> list[tuple[int, float, float]]:
    """Rank, median lateness and cost of a step of those that come late, the costliest first.

    Args:
        begins_cr: as ``arrivals`` gives them.
    """
    if len(begins_cr) < 1 or len(ranks) < 2:
        return []
    late_cr = begins_cr - usual_ns(begins_cr)[:, None]
    medians = np.median(late_cr, axis=0)
    # Each rank's own jitter: two late ranks do not widen that of the others.
    jitter = NORMAL_MAD * np.median(np.abs(late_cr - medians), axis=0)
    error = MEDIAN_ERROR * np.median(jitter) / np.sqrt(len(late_cr))
    costs = np.array([_saved(late_cr, [place]).sum() for place in range(len(ranks))])
    costs /= max(1, num_steps)
    waiting = float(late_cr.max(axis=1).clip(0).sum()) / max(1, num_steps)
    # Half of what is more than its even share: of two ranks one always costs the half.
    most = waiting * (1 + 1 / len(ranks)) / 2
    named = []
    for place in range(len(ranks)):
        often = medians[place] > LATE_BY * error and _is_rule(late_cr[:, place] > 0)
        seldom = costs[place] > max(SELDOM_SHARE * step_ns, most)
        if (often and _worth(medians[place], len(late_cr), num_steps, step_ns)) or seldom:
            named.append(place)
    per_step = len(late_cr) / max(1, num_steps)
    found = [
        (ranks[place], float(medians[place]), middle_of(saved) * per_step)
        for place, saved in zip(named, _saved(late_cr, named).T, strict=True)
    ]
    return sorted(found, key=lambda one: -one[2])


def _is_rule(late_c: NDArray[np.bool_]) -> bool:
    """Whether it is late so often that it is no chance: two ranks that take turns are late half of
    the time each, and the median of the one that is so once more tells nothing of its jitter."""
    count = len(late_c)
    return count >= FEWEST and float(stats.binom.sf(late_c.sum() - 1, count, 0.5)) < CHANCE


def usual_ns(begins_cr: NDArray[np.float64]) -> NDArray[np.float64]:
    """When the usual rank comes: the median, or of two ranks the earlier one."""
    if begins_cr.shape[1] == 2:
        return np.asarray(begins_cr.min(axis=1))
    return np.asarray(np.median(begins_cr, axis=1))


def _worth(late_ns: float, collectives: int, num_steps: int, step_ns: float) -> bool:
    """Whether it costs enough to be named: each of its collectives begins so much later."""
    return late_ns * collectives / max(1, num_steps) > LEAST_SHARE * step_ns


def _saved(late_cr: NDArray[np.float64], places: Sequence[int]) -> NDArray[np.float64]:
    """Of each collective and each of these ranks, how much earlier the last one would come if they
    came when the usual rank does. Where several of them are late, what only all of them together
    save is divided evenly among those that are as late:

        late by 12, 10 and 2, the last not among them: 7 and 5
    """
    others = np.delete(late_cr, places, axis=1).max(axis=1, initial=0)
    excess = (late_cr[:, places] - others[:, None]).clip(0)
    order = np.argsort(excess, axis=1)
    rises = np.diff(np.take_along_axis(excess, order, axis=1), axis=1, prepend=0)
    shares = np.cumsum(rises / np.arange(len(places), 0, -1), axis=1)
    saved = np.zeros(excess.shape)
    np.put_along_axis(saved, order, shares, axis=1)
    return saved


def middle_of(values: NDArray[np.float64]) -> float:
    return float(_middle(values)(values))


def _middle(values: NDArray[np.float64]) -> Callable[..., Any]:
    """The median, which a single stall does not move, for what is there most of the time; for what
    is there seldom the mean."""
    return np.median if np.median(values) >= OFTEN * values.mean() else np.mean


def explained(
    ranks: Sequence[int],
    found: Sequence[tuple[int, float, float]],
    begins_cr: NDArray[np.float64],
    before: Sequence[Sequence[Mapping[str, int]]],
) -> list[Straggler]:
    """With what each of them did while the others waited already: since all ranks were level the
    last time, the late rank computed, waited for data, or did neither, longer than the median
    rank.

    Args:
        before: of each rank, as ``levels.ahead_of_collectives`` gives it.
    """
    if not found:
        return []
    late_cr = begins_cr - usual_ns(begins_cr)[:, None]
    culprits = {rank for rank, _, _ in found}
    told = []
    for rank, late_ns, cost_ns in found:
        place = ranks.index(rank)
        latest = np.flatnonzero(late_cr[:, place] >= np.quantile(late_cr[:, place], 0.5))
        middle = _middle(late_cr[:, place].clip(0))
        late, excess, waits = float(middle(late_cr[latest, place])), {}, {}
        for cause in CAUSES:
            others = [
                [own[number][cause] for number in latest.tolist()]
                for own, other in zip(before, ranks, strict=True)
                if other not in culprits
            ] or [[0] * len(latest)]
            own = np.array([before[place][number][cause] for number in latest.tolist()])
            waits[cause] = float(np.median(others, axis=1).max())
            excess[cause] = float(middle(own - np.median(others, axis=0)))
        cause, most = max(excess.items(), key=lambda item: item[1])
        named = late > 0 and most >= EXPLAINS * late
        if named and cause == "data" and waits["data"] >= late / 2:
            # Others wait for their loaders too, which run ahead of the steps at the same pace: one
            # that began later stays later, and its images sooner would make no step shorter.
            continue
        told.append(
            Straggler(
                rank=rank,
                late_ns=late_ns,
                cost_ns=cost_ns,
                cause=cause if named else "unknown",
                evidence=_evidence(excess, late, len(latest)),
            )
        )
    return told


def _evidence(excess: Mapping[str, float], late: float, collectives: int) -> str:
    parts = ", ".join(f"{name} {value / 1e6:+.2f} ms" for name, value in excess.items())
    return (
        f"before the {collectives} collectives where it was latest (by {late / 1e6:.2f} ms each) "
        f"it differs from the median rank by {parts}"
    )


def stragglers_of_tables(parts: Sequence[StepParts]) -> list[Straggler]:
    """Of ranks that have no timelines: the one that the others wait for communicates least, since
    it comes last, and does something else for longer."""
    if len(parts) < 3:
        return []
    exposed = {one.rank: one.exposed_ns for one in parts}
    usual = statistics.median(exposed.values())
    scale = NORMAL_MAD * statistics.median(abs(value - usual) for value in exposed.values())
    ordered = sorted(parts, key=lambda one: one.exposed_ns)
    first, second = ordered[0], ordered[1]
    step_ns = statistics.median(one.step_ns for one in parts)
    cost = second.exposed_ns - first.exposed_ns
    if cost < SELDOM_SHARE * step_ns or usual - first.exposed_ns < scale:
        return []
    excess = {
        cause: getattr(first, f"{part}_ns")
        - statistics.median(getattr(one, f"{part}_ns") for one in parts)
        for cause, part in (("compute", "computing"), ("data", "data"), ("host", "free"))
    }
    cause, most = max(excess.items(), key=lambda item: item[1])
    late = usual - first.exposed_ns
    return [
        Straggler(
            rank=first.rank,
            late_ns=late,
            cost_ns=cost,
            cause=cause if most >= EXPLAINS * late else "unknown",
            evidence=f"it communicates {late / 1e6:.1f} ms less than the median rank, and "
            + ", ".join(f"{name} {value / 1e6:+.1f} ms" for name, value in excess.items()),
        )
    ]
