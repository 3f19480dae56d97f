"""Going on without a card that keeps failing: fewer ranks for the same images per step."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from unet_dist.cluster.tables.check import check_tree
from unet_dist.cluster.tables.edit import Numbers, slice_table
from unet_dist.cluster.tables.model import RankTable
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.cluster.tables.write import tree_of, write_rank_table
from unet_dist.launching.placement import Placement
from unet_dist.runs import RunDir


def without_card(
    placement: Placement,
    card: tuple[str, int],
    *,
    run: RunDir,
    fitting: Sequence[int],
    min_ranks: int,
) -> Placement | None:
    """A placement of the most ranks that fit, without this card; None if there is none.

    Args:
        card: server and device_id.
        fitting: numbers of ranks that share the images of a step equally.
    """
    world = placement.topology().world
    sizes = [n for n in sorted(fitting, reverse=True) if min_ranks <= n < world]
    if placement.hosts or placement.part or not sizes:
        return None
    if not placement.rank_table:
        return replace(placement, simulate=sizes[0])
    table = load_rank_table(Path(placement.rank_table))
    for size in sizes:
        smaller = cards_that_work_together(table, card[1], size)
        if smaller is not None:
            path = run.path / f"rank_table_without_{card[1]}.json"
            write_rank_table(path, smaller, force=True)
            return replace(placement, rank_table=str(path.resolve()))
    return None


def cards_that_work_together(table: RankTable, bad: int, size: int) -> RankTable | None:
    """A table of one server with ``size`` of its cards, and without the bad one.

    The rules of the 910A are asked, which are the strictest: what it takes, all chips take.
    """
    if len(table.servers) > 1 or table.dialect == "2.0":
        return None
    ranks = [device.rank for device in table.servers[0].devices if device.device_id != bad]
    for kept in combinations(ranks, size):
        smaller = with_ranks(table, kept)
        if work_together(smaller):
            return smaller
    return None


def with_ranks(table: RankTable, ranks: Sequence[int]) -> RankTable:
    """A table of these ranks, numbered anew."""
    return slice_table(table, ranks=Numbers(tuple((rank, rank) for rank in ranks), "ranks"))


def work_together(table: RankTable) -> bool:
    """Whether a 910A lets the cards of each server make a job."""
    problems = check_tree(tree_of(table), "910A").problems
    return not any(problem.rule == "R15" for problem in problems)
