"""One clock for all ranks. A collective ends on all of them at almost the same moment, so the ends
of those that ranks have in common tell how their clocks differ."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from unet_dist.profiling.tables import Collective, RankProfile

FEWEST = 3
"""Collectives in common, or clocks are not compared."""
SURE = 0.9999
"""Confidence with which a slope must differ from 0, as there are many ranks."""
TRIMMED = 0.25
"""Share of the collectives that count on neither side, since some end late on one rank."""
FOR_DRIFT = 20
"""Collectives in common from which a drift is fitted: quartz clocks part by 20 us in a second."""


Key = tuple[str, int]
"""Name of a collective, and how often it came before."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How to read a rank's clock by that of the first one."""

    rank: int
    offset_ns: float
    """That it is ahead, at ``at_ns``."""
    drift: float
    """That it gains for each second, in seconds."""
    at_ns: int
    spread_ns: float
    """Largest deviation of half of the collectives (median absolute deviation), or of all of them
    where there are fewer than ten."""
    collectives: int
    """In common; below ``FEWEST`` nothing is known and the clock is read as it is."""

    @property
    def is_known(self) -> bool:
        return self.collectives >= FEWEST

    def common_ns(self, moment_ns: int) -> float:
        """The moment by the first rank's clock."""
        return moment_ns - self.offset_ns - self.drift * (moment_ns - self.at_ns)


def occurrences(profile: RankProfile) -> dict[Key, Collective]:
    """Collectives by name and by how often the name came before: a name may return each step."""
    found: dict[Key, Collective] = {}
    count: dict[str, int] = {}
    for one in profile.collectives:
        number = count.get(one.name, 0)
        count[one.name] = number + 1
        found[one.name, number] = one
    return found


def align(profiles: Sequence[RankProfile]) -> dict[int, Clock]:
    """By rank; the common clock is that of the first one whose profile tells collectives."""
    if not profiles:
        return {}
    ends = {
        profile.rank: {key: one.end_ns for key, one in occurrences(profile).items()}
        for profile in profiles
    }
    told = (profile.rank for profile in profiles if len(profile.collectives) >= FEWEST)
    first = next(told, profiles[0].rank)
    if profiles[0].simulated and len({profile.host for profile in profiles}) == 1:
        return {rank: _same(rank, len(own)) for rank, own in ends.items()}
    rough = {rank: _clock(rank, ends[first], own) for rank, own in ends.items()}
    # Against the middle of all ranks, since each end has its own jitter.
    middle = _middle({rank: own for rank, own in ends.items() if rough[rank].is_known}, rough)
    fine = {rank: _clock(rank, middle, own) for rank, own in ends.items()}
    own = fine[first]
    return {
        rank: replace(
            clock,
            offset_ns=clock.offset_ns - own.offset_ns if rank != first else 0.0,
            drift=clock.drift - own.drift if rank != first else 0.0,
            spread_ns=rough[rank].spread_ns,
        )
        if rough[rank].is_known
        else rough[rank]
        for rank, clock in fine.items()
    }


def _same(rank: int, collectives: int) -> Clock:
    """Of ranks that read the clock of one host."""
    known = max(FEWEST, collectives)
    return Clock(rank=rank, offset_ns=0, drift=0, at_ns=0, spread_ns=0, collectives=known)


def _middle(ends: Mapping[int, Mapping[Key, int]], clocks: Mapping[int, Clock]) -> dict[Key, int]:
    """Median end of each collective by the first rank's clock."""
    found: dict[Key, list[float]] = {}
    for rank, own in ends.items():
        for key, end in own.items():
            found.setdefault(key, []).append(clocks[rank].common_ns(end))
    return {key: round(statistics.median(moments)) for key, moments in found.items()}


def _clock(rank: int, reference: Mapping[Key, int], own: Mapping[Key, int]) -> Clock:
    shared = sorted((own[key], reference[key]) for key in reference.keys() & own.keys())
    if len(shared) < FEWEST:
        return Clock(rank=rank, offset_ns=0, drift=0, at_ns=0, spread_ns=0, collectives=len(shared))
    # In whole numbers, before what is left fits a float.
    at_ns = shared[len(shared) // 2][0]
    ahead = np.array([end - other for end, other in shared], np.float64)
    since = np.array([end - at_ns for end, _ in shared], np.float64)
    drift = 0.0
    if len(shared) >= FOR_DRIFT and since[-1] > since[0]:
        # Theil and Sen's line, which collectives that end late on one rank do not turn. Over at
        # most 400 of them, since it looks at all pairs.
        few = np.linspace(0, len(shared) - 1, min(len(shared), 400)).astype(int)
        fit = stats.theilslopes(ahead[few], since[few], alpha=SURE)
        if not fit.low_slope <= 0 <= fit.high_slope:
            drift = float(fit.slope)
    cut = int(TRIMMED * len(shared))
    offset = float(np.sort(ahead - drift * since)[cut : len(shared) - cut].mean())
    left = np.abs(ahead - offset - drift * since)
    spread = float(left.max() if len(shared) < 10 else np.median(left))
    return Clock(
        rank=rank,
        offset_ns=offset,
        drift=drift,
        at_ns=at_ns,
        spread_ns=spread,
        collectives=len(shared),
    )
