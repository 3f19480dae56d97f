"""One clock for all ranks. A collective ends on all of them at almost the same moment, so the ends
of those that ranks have in common tell how their clocks differ."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from unet_dist.profiling.tables import Collective, RankProfile

FEWEST = 3
"""Collectives in common, or clocks are not compared."""
FOR_DRIFT = 20
"""Collectives in common from which a drift is fitted: quartz clocks part by 20 us in a second."""


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


def occurrences(profile: RankProfile) -> dict[tuple[str, int], Collective]:
    """Collectives by name and by how often the name came before: a name may return each step."""
    found: dict[tuple[str, int], Collective] = {}
    count: dict[str, int] = {}
    for one in profile.collectives:
        number = count.get(one.name, 0)
        count[one.name] = number + 1
        found[one.name, number] = one
    return found


def align(profiles: Sequence[RankProfile]) -> dict[int, Clock]:
    """By rank; the first one's clock is the common one."""
    if not profiles:
        return {}
    reference = occurrences(profiles[0])
    return {
        profile.rank: _clock(profile.rank, reference, occurrences(profile)) for profile in profiles
    }


def _clock(
    rank: int,
    reference: Mapping[tuple[str, int], Collective],
    own: Mapping[tuple[str, int], Collective],
) -> Clock:
    shared = sorted(
        (reference[key].end_ns, own[key].end_ns) for key in reference.keys() & own.keys()
    )
    if len(shared) < FEWEST:
        return Clock(rank=rank, offset_ns=0, drift=0, at_ns=0, spread_ns=0, collectives=len(shared))
    at_ns = shared[0][1]
    ahead = np.array([end - other for other, end in shared], np.float64)
    since = np.array([end - at_ns for _, end in shared], np.float64)
    drift, offset = 0.0, float(np.median(ahead))
    if len(shared) >= FOR_DRIFT and since[-1] > 0:
        # Theil and Sen's line, which collectives that end late on one rank do not turn. Over at
        # most 400 of them, since it looks at all pairs.
        few = np.linspace(0, len(shared) - 1, min(len(shared), 400)).astype(int)
        fit = stats.theilslopes(ahead[few], since[few])
        if not fit.low_slope <= 0 <= fit.high_slope:
            drift, offset = float(fit.slope), float(np.median(ahead - fit.slope * since))
    left = np.abs(ahead - offset - drift * since)
    spread = float(left.max() if len(shared) < 10 else statistics.median(left))
    return Clock(
        rank=rank,
        offset_ns=offset,
        drift=drift,
        at_ns=at_ns,
        spread_ns=spread,
        collectives=len(shared),
    )
