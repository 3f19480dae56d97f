"""Waiting for which no rank answers alone, since each time another one comes last: what it costs,
and what the last one does for longer than the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_dist.profiling.stragglers import (
    CAUSES,
    EXPLAINS,
    ahead_of_collectives,
    middle_of,
    usual_ns,
)
from unet_dist.profiling.tables import RankProfile

SHOWN = 8
"""Ranks of which it is told how often they came last."""


@dataclass(frozen=True, kw_only=True)
class Uneven:
    cost_ns: float
    """By how much a step would be shorter if none of these ranks came after the usual one."""
    cause: str
    """compute, host, data, or unknown: what the last one does for longer."""
    evidence: tuple[str, ...]


def uneven_of(
    profiles: Sequence[RankProfile],
    begins_cr: NDArray[np.float64],
    keys: Sequence[tuple[str, int]],
    chosen: NDArray[np.intp],
    *,
    culprits: Sequence[int],
    num_steps: int,
) -> Uneven | None:
    """
    Args:
        begins_cr, keys: as ``stragglers.arrivals`` gives them.
        chosen: as ``stragglers.decisive`` gives them.
        culprits: ranks that are late all the time, or that answer for most of the waiting.
    """
    places = [place for place, one in enumerate(profiles) if one.rank not in culprits]
    if not len(chosen) or not places:
        return None
    begins_cr = begins_cr[chosen]
    late_cr = begins_cr - usual_ns(begins_cr)[:, None]
    late_c = late_cr[:, places].max(axis=1).clip(0)
    last_c = np.array(places)[late_cr[:, places].argmax(axis=1)]
    latest = np.flatnonzero(late_c >= np.quantile(late_c, 0.5))
    before = ahead_of_collectives(profiles, keys)
    longer, usual_data_ns, behind_ns = dict.fromkeys(CAUSES, 0.0), 0.0, 0.0
    for number in latest:
        key, last = chosen[number], last_c[number]
        others = [place for place in places if place != last] or [
            place for place in range(len(profiles)) if place != last
        ]
        behind = begins_cr[number, last] - np.median(begins_cr[number, others])
        behind_ns += float(behind) / len(latest)
        for cause in CAUSES:
            usual = float(np.median([before[place][key][cause] for place in others]))
            longer[cause] += (before[last][key][cause] - usual) / len(latest)
            usual_data_ns += usual / len(latest) if cause == "data" else 0.0
    cause, most = max(longer.items(), key=lambda item: item[1])
    cost = float(middle_of(late_c)) * len(late_c) / max(1, num_steps)
    if cause == "data" and usual_data_ns >= behind_ns:
        cost = 0.0  # all of them wait for their images, and for longer: that is what to change
    return Uneven(
        cost_ns=cost,
        cause=cause if behind_ns > 0 and most >= EXPLAINS * behind_ns else "unknown",
        evidence=(
            _who(profiles, last_c, late_c, [keys[place][0] for place in chosen]),
            f"before the {len(latest)} collectives where it was latest (by {behind_ns / 1e6:.2f} ms"
            " on the average) the last rank differs from the median of the others by "
            + ", ".join(f"{name} {ns / 1e6:+.2f} ms" for name, ns in longer.items()),
        ),
    )


def _who(
    profiles: Sequence[RankProfile],
    last_c: NDArray[np.intp],
    late_c: NDArray[np.float64],
    names: Sequence[str],
) -> str:
    """How often each rank came last, and by how much at the most."""
    counts = np.bincount(last_c, minlength=len(profiles))
    order = [int(place) for place in np.argsort(-counts, kind="stable") if counts[place]]
    told = ", ".join(f"rank {profiles[place].rank} in {counts[place]}" for place in order[:SHOWN])
    more = f", {len(order) - SHOWN} more ranks in the others" if len(order) > SHOWN else ""
    most = int(late_c.argmax())
    return (
        f"of {len(last_c)} collectives the last one was {told}{more}; by {late_c[most] / 1e6:.2f} "
        f"ms at the most (rank {profiles[last_c[most]].rank}, {names[most]})"
    )


LARGER = "twice the train.batch with train.accumulation=2 waits half as often"
UNEVEN: Mapping[str, str] = {
    "compute": "images of one size for all ranks (augment.crop), and look for what slows cards or "
    f"cores down at times: other jobs, heat (npu-smi info); {LARGER}",
    "data": "train.prefetch=4, which evens out images that take unequal time to read, "
    "data.cache_mb as large as the images, and images in files of one size",
    "host": "look what else runs on those hosts then, leave --bind-cores on, and see in stacks "
    f"(--profile-stack, on cards) whether Python collects garbage; {LARGER}",
    "unknown": "profile more steps (--profile steps=A:B), and look what the last rank does before "
    f"(unet-dist profile timeline); {LARGER}",
}
"""What to change, by cause."""
