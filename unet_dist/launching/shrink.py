"""Going on without a card: fewer ranks for the same images per step."""

from collections.abc import Sequence
from dataclasses import replace

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
    """A placement without this card, of the most ranks that fit; None if none does."""
    world = placement.topology().world
    sizes = [n for n in sorted(fitting, reverse=True) if min_ranks <= n < world]
    if placement.hosts or placement.part or not sizes:
        return None
    if not placement.rank_table:
        return replace(placement, simulate=sizes[0])
    raise NotImplementedError
