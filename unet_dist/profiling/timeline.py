"""The traces of all ranks as one, by one clock, for Perfetto, MindStudio Insight or chrome://tracing.

Events pass one at a time, so that traces larger than memory are merged as well.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from unet_dist.errors import UserError
from unet_dist.profiling.ascend_text import output_of
from unet_dist.profiling.clocks import Clock
from unet_dist.profiling.load import TABLES
from unet_dist.profiling.moments import ns_of_us
from unet_dist.profiling.tables import RankProfile
from unet_dist.profiling.trace import events_of
from unet_dist.profiling.write import trace_events

PROCESSES = 1000
"""Numbers of processes that each rank has; Perfetto wants them to be numbers."""


@dataclass(frozen=True, kw_only=True)
class Merged:
    ranks: tuple[int, ...]
    events: int
    left_out: tuple[str, ...]
    """Ranks without a trace or with less than one, and files that end in the middle."""


@dataclass(kw_only=True)
class _Numbers:
    """Of processes, by rank and the trace's own number."""

    known: dict[tuple[int, Any], int] = field(default_factory=dict)
    count: dict[int, int] = field(default_factory=dict)

    def of(self, rank: int, pid: Any) -> int:
        key = rank, pid
        if key not in self.known:
            self.count[rank] = self.count.get(rank, 0) + 1
            self.known[key] = rank * PROCESSES + min(self.count[rank], PROCESSES - 1)
        return self.known[key]


def merge_traces(
    profiles: Sequence[RankProfile], clocks: Mapping[int, Clock], out: IO[str]
) -> Merged:
    """Writes one list of events; times count from the first event of the first rank's step.

    Raises:
        UserError: no rank has a trace.
    """
    start_ns = min(
        (round(clocks[p.rank].common_ns(step.begin_ns)) for p in profiles for step in p.steps),
        default=0,
    )
    numbers, ranks, left_out, count = _Numbers(), [], [], 0
    out.write("[\n")
    for profile in profiles:
        path = trace_of(profile)
        if path is None and profile.kernels is None and not profile.collectives:
            left_out.append(f"rank {profile.rank}: has no trace")
            continue
        faults: list[str] = []
        if path is None:  # a database, whose tables hold as much but for the host's calls
            left_out.append(f"rank {profile.rank}: from its tables, without the host's calls")
        for event in trace_events(profile) if path is None else events_of(path, faults):
            shifted = _shifted(event, profile.rank, clocks[profile.rank], start_ns, numbers)
            if shifted is not None:
                out.write(("" if not count else ",\n") + json.dumps(shifted, default=_plain))
                count += 1
        ranks.append(profile.rank)
        left_out += [f"rank {profile.rank}: {fault}" for fault in faults]
    out.write("\n]\n")
    if not ranks:
        raise UserError("DIR", left_out)
    return Merged(ranks=tuple(ranks), events=count, left_out=tuple(left_out))


def trace_of(profile: RankProfile) -> Path | None:
    """The file of a rank's trace; None if it has none."""
    source = Path(profile.source)
    path = output_of(source) / "trace_view.json" if source.is_dir() else source
    return path if path.is_file() and path.suffix not in TABLES else None


def _shifted(
    event: Any, rank: int, clock: Clock, start_ns: int, numbers: _Numbers
) -> dict[str, Any] | None:
    if not isinstance(event, dict):
        return None
    moved = {**event, "pid": numbers.of(rank, event.get("pid"))}
    if event.get("ph") == "M":
        if event.get("name") == "process_name":
            name = (event.get("args") or {}).get("name", "")
            moved["args"] = {"name": f"rank {rank}: {name}"}
        return moved
    at = ns_of_us(event.get("ts"))
    if at is None:
        return None
    ns = round(clock.common_ns(at)) - start_ns
    moved["ts"] = ns / 1000  # counts from the begin, so a float holds it
    if "dur" in event:
        moved["dur"] = (ns_of_us(event["dur"]) or 0) / 1000
    if event.get("ph") in ("s", "t", "f"):
        moved["id"] = f"{rank}:{event.get('id')}"
    return moved


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)


def lines(merged: Merged) -> Iterator[str]:
    yield f"{merged.events:,} events of ranks {', '.join(map(str, merged.ranks))}"
    yield from merged.left_out
