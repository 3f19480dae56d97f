"""Moments at which all ranks are level, and what each rank does between them."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from unet_dist.profiling.clocks import occurrences
from unet_dist.profiling.intervals import common, measured_ns, merged, of_pairs, without
from unet_dist.profiling.stragglers import usual_ns
from unet_dist.profiling.tables import RankProfile


def levels_of(profiles: Sequence[RankProfile], keys: Sequence[tuple[str, int]]) -> list[bool]:
    """Whether ranks are level when a collective ends: they are if none of them computes meanwhile.
    One that is hidden behind computing leaves who is late as late as before."""
    computes = np.zeros(len(keys), np.bool_)
    for profile in profiles:
        own = occurrences(profile)
        ends = np.array([own[key].end_ns for key in keys], np.int64)
        computes |= measured_ns(profile.computing, ends - 1, ends) > 0
    return [bool(one) for one in ~computes]


def decisive(
    profiles: Sequence[RankProfile],
    begins_cr: NDArray[np.float64],
    keys: Sequence[tuple[str, int]],
    levels: Sequence[bool],
) -> NDArray[np.intp]:
    """Places of the collectives whose lateness counts: of those between two moments at which all
    ranks are level, the one with the largest. A rank that begins a step late is late for each part
    of its gradients as long as computing hides them, and that costs the step only once."""
    own = occurrences(profiles[0])
    steps = np.array([own[key].step for key in keys], np.int64)
    apart = np.append(False, np.diff(steps) != 0)[: len(keys)]
    apart[1:] |= np.array(levels[:-1], np.bool_)
    groups = np.cumsum(apart)
    spread = (begins_cr - usual_ns(begins_cr)[:, None]).max(axis=1)
    order = np.lexsort((-spread, groups))
    _, firsts = np.unique(groups[order], return_index=True)
    return np.asarray(order[firsts])


def of_steps(
    chosen: NDArray[np.intp],
    profiles: Sequence[RankProfile],
    keys: Sequence[tuple[str, int]],
    steps: Collection[int],
) -> NDArray[np.intp]:
    """Those of the chosen places that lie in these steps, and in what is trained of them: a
    validation or a checkpoint, with collectives of its own, is told by itself. All of them where
    none does, as where steps are not marked."""
    calls = [occurrences(profile) for profile in profiles]
    asides = [merged(*profile.beside.values()) for profile in profiles]
    kept = [
        place
        for place in chosen.tolist()
        if calls[0][keys[place]].step in steps
        and not any(
            (
                (aside[:, 0] <= own[keys[place]].begin_ns)
                & (own[keys[place]].begin_ns < aside[:, 1])
            ).any()
            for own, aside in zip(calls, asides, strict=True)
        )
    ]
    return np.array(kept, np.intp) if kept else chosen


def ahead_of_collectives(
    profiles: Sequence[RankProfile],
    keys: Sequence[tuple[str, int]],
    levels: Sequence[bool],
    chosen: NDArray[np.intp],
) -> list[list[dict[str, int]]]:
    """Of each rank, what it did before each collective, since all were level the last time.

    Args:
        chosen: as ``decisive`` gives them.
    """
    if not keys:
        return [[] for _ in profiles]
    every = (_since_level(profile, keys, levels) for profile in profiles)
    return [[own[place] for place in chosen] for own in every]


def _since_level(
    profile: RankProfile, keys: Sequence[tuple[str, int]], levels: Sequence[bool]
) -> list[dict[str, int]]:
    """What the rank did between the last moment at which all were level and the begin of each
    collective."""
    own = occurrences(profile)
    calls = [own[key] for key in keys]
    steps = np.array([step.begin_ns for step in profile.steps], np.int64)
    begins, lows, last = [], [], min((s.begin_ns for s in profile.steps), default=0)
    for call, is_level in zip(calls, levels, strict=True):
        place = int(np.searchsorted(steps, call.begin_ns, side="right")) - 1
        low = max(last, int(steps[place])) if place >= 0 else last
        begins.append(call.begin_ns)
        lows.append(min(low, call.begin_ns) if low else call.begin_ns)
        last = call.end_ns if is_level else last
    low_n, high_n = np.array(lows, np.int64), np.array(begins, np.int64)
    busy = merged(profile.computing, profile.communicating)
    whole = of_pairs([(int(low_n.min()), int(high_n.max()))])
    idle = without(merged(whole), busy)
    computed = measured_ns(profile.computing, low_n, high_n)
    idled = measured_ns(idle, low_n, high_n)
    waited = measured_ns(common(idle, profile.data_waits), low_n, high_n)
    return [
        {"compute": int(c), "data": int(d), "host": int(i - d)}
        for c, d, i in zip(computed, waited, idled, strict=True)
    ]
