"""Disjoint parts of where a job may run, for jobs beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unet_dist.cluster import host
from unet_dist.cluster.tables.model import RankTable
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.cluster.tables.write import write_rank_table
from unet_dist.cluster.topology import Topology, from_rank_table, share_cores
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement
from unet_dist.launching.shrink import with_ranks, work_together


@dataclass(frozen=True, kw_only=True)
class Division:
    """Placements that share no card, and no CPU core while there are enough."""

    places: tuple[Placement, ...]
    tables: tuple[tuple[Path, RankTable], ...] = ()
    """What must be written before a job starts."""
    idle_cards: int = 0

    def topologies(self) -> list[Topology]:
        """Of each place, whether or not its table is written yet."""
        if not self.tables:
            return [place.topology() for place in self.places]
        return [
            from_rank_table(table, path, server_id=table.servers[0].server_id)
            for path, table in self.tables
        ]

    def write_tables(self) -> None:
        for path, table in self.tables:
            write_rank_table(path, table, force=True)


def divide(placement: Placement, count: int, *, folder: Path, fitting: Sequence[int]) -> Division:
    """Pure: the tables of the parts are to be written by the caller.

    Simulated ranks are as many in each part, and share the CPU cores. The cards of a rank table
    are dealt in their order, an equal number to each part.

    Args:
        folder: where the rank tables of the parts go.
        fitting: numbers of ranks that can do the job.

    Raises:
        UserError: the cards are too few, or on several servers.
    """
    if count == 1:
        return Division(places=(placement,))
    if placement.hosts or placement.part:
        raise UserError(
            "--parallel",
            "jobs beside each other run on one machine; leave out --parallel, and they follow "
            "each other on all of the machines",
        )
    if not placement.rank_table:
        shares = share_cores(placement.cores or host.usable_cores(), count)
        return Division(places=tuple(replace(placement, cores=share) for share in shares))
    table = load_rank_table(Path(placement.rank_table))
    parts = cards_in_parts(table, count, fitting)
    paths = [(folder / f"rank_table_{number}.json").resolve() for number in range(count)]
    return Division(
        places=tuple(replace(placement, rank_table=str(path)) for path in paths),
        tables=tuple(zip(paths, parts, strict=True)),
        idle_cards=table.world - sum(part.world for part in parts),
    )


def cards_in_parts(table: RankTable, count: int, fitting: Sequence[int]) -> list[RankTable]:
    """``count`` tables of equally many cards, the most that fit and that work together on a 910A
    (which wants 2 cards on one half of the server, for example)."""
    if len(table.servers) > 1:
        raise UserError(
            "--parallel",
            f"the rank table has {len(table.servers)} servers, but jobs beside each other run on "
            "one; cut it first: unet-dist rank-table slice --servers",
        )
    ranks = [device.rank for _, device in table.by_rank()]
    for size in sorted(fitting, reverse=True):
        if size * count > len(ranks):
            continue
        starts = range(0, size * count, size)
        parts = [with_ranks(table, ranks[start : start + size]) for start in starts]
        if all(map(work_together, parts)):
            return parts
    raise UserError(
        "--parallel",
        f"{count} jobs beside each other need {count} cards or more, but the rank table has "
        f"{len(ranks)}",
    )
