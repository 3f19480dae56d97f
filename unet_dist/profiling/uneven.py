"""Waiting for which no rank answers alone, since each time another one comes last: what it costs,
and what the last one does for longer than the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_dist.profiling.stragglers import CAUSES, EXPLAINS, middle_of, usual_ns

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
    ranks: Sequence[int],
    begins_cr: NDArray[np.float64],
    before: Sequence[Sequence[Mapping[str, int]]],
    *,
    culprits: Sequence[int],
    num_steps: int,
) -> Uneven | None:
    """
    Args:
        begins_cr: of those collectives that ``levels.decisive`` gives.
        before: of each rank, as ``levels.ahead_of_collectives`` gives it.
        culprits: ranks that are late all the time, or that answer for most of the waiting.
    """
    if not len(begins_cr):
        return None
    places = [place for place, rank in enumerate(ranks) if rank not in culprits]
    if len(places) < 2:
        return Uneven(cost_ns=0.0, cause="unknown", evidence=())
    begins_cr = begins_cr[:, places]
    late_cr = begins_cr - usual_ns(begins_cr)[:, None]
    late_c, last_c = late_cr.max(axis=1), late_cr.argmax(axis=1)
    latest = np.flatnonzero(late_c >= np.quantile(late_c, 0.5))
    before = [before[place] for place in places]
    longer = {
        cause: float(np.mean([_differs(before, at, last_c[at], cause) for at in latest.tolist()]))
        for cause in CAUSES
    }
    cause, most = max(longer.items(), key=lambda item: item[1])
    late = float(late_c[latest].mean())
    apart = ", ".join(map(str, culprits[:SHOWN]))
    who = _who([ranks[place] for place in places], last_c, late_c)
    return Uneven(
        cost_ns=middle_of(late_c) * len(late_c) / max(1, num_steps),
        cause=cause if late > 0 and most >= EXPLAINS * late else "unknown",
        evidence=(
            f"of {len(begins_cr)} collectives the last one was {who}, by at the most "
            f"{late_c.max() / 1e6:.2f} ms{f', without rank {apart}' if apart else ''}",
            f"in the {len(latest)} where it was latest (by {late / 1e6:.2f} ms on the average) it "
            "differs from the median rank by "
            + ", ".join(f"{name} {ns / 1e6:+.2f} ms" for name, ns in longer.items()),
        ),
    )


def _differs(
    before: Sequence[Sequence[Mapping[str, int]]], place: int, last: int, cause: str
) -> float:
    """From the median rank, or of two ranks from the other one."""
    spent = [own[place][cause] for own in before]
    usual = spent[1 - last] if len(spent) == 2 else float(np.median(spent))
    return spent[last] - usual


def without_data_waits_ns(
    begins_cr: NDArray[np.float64],
    before: Sequence[Sequence[Mapping[str, int]]],
    *,
    num_steps: int,
) -> float:
    """By how much a step would be shorter if no rank waited for its input: the last one would come
    so much earlier, whoever it is then.

        begins 100 and 60, waits 70 and 20:  the last one would come at 40 in place of 100
    """
    if not len(begins_cr):
        return 0.0
    waits_cr = np.array([[one["data"] for one in own] for own in before], np.float64).T
    saved_c = begins_cr.max(axis=1) - (begins_cr - waits_cr).max(axis=1)
    return middle_of(saved_c) * len(saved_c) / max(1, num_steps)


def _who(ranks: Sequence[int], last_c: NDArray[np.intp], late_c: NDArray[np.float64]) -> str:
    """How often each rank came last."""
    counts = np.bincount(last_c[late_c > 0], minlength=len(ranks))
    order = [int(place) for place in np.argsort(-counts, kind="stable") if counts[place]]
    told = ", ".join(f"rank {ranks[place]} in {counts[place]}" for place in order[:SHOWN])
    return told + (f", {len(order) - SHOWN} more ranks" if len(order) > SHOWN else "")


LARGER = "twice the train.batch with train.accumulation=2 waits half as often"
UNEVEN: Mapping[str, str] = {
    "compute": "images of one size for all ranks (augment.crop), and look for what slows cards or "
    f"cores down at times: other jobs, heat (npu-smi info); {LARGER}",
    "host": "look what else runs on those hosts then, leave --bind-cores on, and see in stacks "
    f"(--profile-stack, on cards) whether Python collects garbage; {LARGER}",
    "unknown": "profile more steps (--profile steps=A:B), and look what the last rank does before "
    f"(unet-dist profile timeline); {LARGER}",
}
"""What to change, by cause. Where it is images, the advice on these says so."""
