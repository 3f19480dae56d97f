"""Where trials run: all the cards of a controller, and the part of one trial."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from unet_dist.cluster import host
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.cluster.tables.write import write_rank_table
from unet_dist.cluster.topology import share_cores
from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement, check_fit
from unet_dist.launching.shrink import with_ranks, work_together
from unet_dist.runs import RunDir
from unet_dist.search.leases import Cards, Fits, Lease, anywhere, in_rings_of_four
from unet_dist.search.spec import SearchSpec


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where trials run, and where the study is kept."""

    placement: Placement
    """All cards, or all simulated ones."""
    storage: str = ""
    """URL of a database that several controllers share; empty: a file in the folder."""
    study_name: str = "study"

    @property
    def seeds_name(self) -> str:
        """Of the study that trains the best again, in the same database."""
        return f"{self.study_name}: seeds"

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> "Site":
        return cls(
            placement=Placement.of_json(tree["placement"]),
            storage=str(tree["storage"]),
            study_name=str(tree["study_name"]),
        )

    def cards(self) -> int:
        return self.placement.topology().world

    def fits(self) -> Fits:
        """Which of the cards may make a job."""
        if not self.placement.rank_table:
            return in_rings_of_four
        table = load_rank_table(Path(self.placement.rank_table))
        if len(table.servers) > 1:
            raise UserError(
                self.placement.rank_table,
                f"has {len(table.servers)} servers, but a controller leads the cards of one: cut "
                "the table (unet-dist rank-table slice --servers) and start a controller on each, "
                "with --storage postgresql+psycopg://...",
            )
        if table.dialect == "2.0":
            return anywhere
        return lambda cards: work_together(with_ranks(table, cards))


def place_of(site: Site, lease: Lease, run: RunDir) -> Placement:
    """A trial's own part of the cards: a slice of the rank table, or its share of the cores."""
    if site.placement.rank_table:
        table = load_rank_table(Path(site.placement.rank_table))
        path = (run.path / "rank_table.json").resolve()
        write_rank_table(path, with_ranks(table, lease.cards), force=True)
        return replace(site.placement, rank_table=str(path))
    shares = share_cores(site.placement.cores or host.usable_cores(), site.cards())
    cores = sorted({core for card in lease.cards for core in shares[card]})
    return replace(site.placement, simulate=len(lease.cards), cores=tuple(cores))


def train_command(config: Path, site: Site, cards: int) -> str:
    """The command that trains a trial's configuration on as many of the cards as it had."""
    table = site.placement.rank_table
    if not table:
        return shlex.join(["unet-dist", "train", str(config), "--simulate", str(cards)])
    cut = []
    if cards < site.cards():
        part = str(config.with_name(f"cards_{cards}.json"))
        cut = ["unet-dist", "rank-table", "slice", table, "--ranks", f"0-{cards - 1}", "-o", part]
        table = part
    train = ["unet-dist", "train", str(config), "--rank-table", table]
    return " && ".join(map(shlex.join, filter(None, (cut, train))))


def check_site(spec: SearchSpec, base: Config, site: Site) -> None:
    """Raises UserError if the trials of some width could never start, as ``train`` would."""
    cards = Cards(number=site.cards(), fits=site.fits())
    errors = []
    if impossible := [str(width) for width in spec.widths() if not cards.possible(width)]:
        errors.append(
            UserError(
                "cards",
                f"{', '.join(impossible)} of {site.cards()} cards never make a job (on a 910A 1, 2 "
                "or 4 of one ring, or all 8); give more cards, or trials other numbers",
            )
        )
    target = site.placement.topology().target
    for width in spec.widths():
        if unshared := _unshared(spec, base, width):
            errors.append(UserError("space", unshared))
        try:
            check_fit(base, width, target, open_keys=spec.space)
        except UserError as error:
            errors.append(error)
    told = tuple(dict.fromkeys(map(str, errors)))
    if len(told) == 1:
        raise errors[0]
    if told:
        raise UserError("search", told)


def _unshared(spec: SearchSpec, base: Config, width: int) -> str:
    """That so many cards can share none of the batches that are searched; empty if they can, or
    if ``check_fit`` tells it."""
    batches = _wholes(spec, "train.batch", base.train.batch)
    passes = _wholes(spec, "train.accumulation", base.train.accumulation)
    searched = {
        "train.batch",
        "train.accumulation",
    } & spec.space.keys()
    if not searched or any(b % (each * width) == 0 for b, each in product(batches, passes)):
        return ""
    return (
        f"images per step cannot be shared equally by {width} ranks with any of the values of "
        f"{' and '.join(sorted(searched))}"
    )


def _wholes(spec: SearchSpec, key: str, otherwise: int) -> Sequence[int]:
    """All values of a key; ``otherwise`` if it is not searched."""
    parameter = spec.space.get(key)
    if parameter is None:
        return (otherwise,)
    if parameter.choice:
        return [int(value) for value in parameter.choice if isinstance(value, int | float)]
    low, high = parameter.bounds
    return range(int(low), int(high) + 1)
