"""How fast data moves between ranks, and which link is slower than others of its kind."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unet_dist.profiling.tables import RankProfile, Transfer

NO_LINK = ("LOCAL",)
SMALL_BYTES = 1_000_000
"""Smaller transfers are latency, not bandwidth."""
SLOW = 0.85
"""Of the median bandwidth of its kind; a link below is slow."""
FEWEST = 4
"""Links of a kind that a median needs."""


@dataclass(frozen=True, kw_only=True)
class Link:
    source: int
    target: int
    kind: str
    sent_mb: float
    gb_per_s: float


def links_of(profiles: Iterable[RankProfile]) -> list[Link]:
    """Of all ranks, summed over collectives; in the order of ranks."""
    sums: dict[tuple[int, int, str], list[Transfer]] = {}
    for profile in profiles:
        for one in profile.transfers:
            if one.link not in NO_LINK and one.duration_ns > 0:
                sums.setdefault((one.source, one.target, one.link), []).append(one)
    return [
        Link(
            source=source,
            target=target,
            kind=kind,
            sent_mb=sum(one.sent_bytes for one in found) / 1e6,
            gb_per_s=sum(o.sent_bytes for o in found) / sum(o.duration_ns for o in found),
        )
        for (source, target, kind), found in sorted(sums.items())
    ]


def slow_links(links: Sequence[Link]) -> list[tuple[Link, float]]:
    """With the median bandwidth of their kind, the slowest first."""
    found = []
    for kind in {link.kind for link in links}:
        alike = [link for link in links if link.kind == kind and link.sent_mb * 1e6 > SMALL_BYTES]
        if len(alike) < FEWEST:
            continue
        usual = statistics.median(link.gb_per_s for link in alike)
        # Links differ by themselves, and by how ring and mesh share them: only what is beyond both.
        spread = statistics.median(abs(link.gb_per_s - usual) for link in alike)
        least = min(SLOW * usual, usual - 4 * 1.4826 * spread)
        found += [(link, usual) for link in alike if link.gb_per_s < least]
    return sorted(found, key=lambda pair: pair[0].gb_per_s / pair[1])
