"""Where the ranks of a job run: the one source of the world size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet_dist.cluster.rank_table import RankTable
from unet_dist.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One rank's place in the cluster."""

    rank: int
    server: str
    device_id: int
    """Physical card on its server; a simulated rank's own number."""
    cores: tuple[int, ...]
    """CPU cores it may use; empty leaves them to the system."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """All ranks of a job, and those that this server starts."""

    target: Literal["CPU", "Ascend"]
    world: int
    slots: tuple[Slot, ...]
    """Of this server, by rank."""
    rank_table: Path | None = None

    def __post_init__(self) -> None:
        assert len({slot.rank for slot in self.slots}) == len(self.slots)
        assert all(0 <= slot.rank < self.world for slot in self.slots)


def simulated(ranks: int, cores: Sequence[int]) -> Topology:
    """Ranks on this machine's CPU, cores shared out evenly; one core each if there are too few.

    MindSpore's kernels take all cores they may run on, so without this the ranks would fight.
    """
    if ranks < 1:
        raise UserError("--simulate", f"{ranks} ranks make no job; pass 1 or more")
    slots = []
    for rank in range(ranks):
        if ranks <= len(cores):
            mine = cores[rank * len(cores) // ranks : (rank + 1) * len(cores) // ranks]
        else:
            mine = [cores[rank % len(cores)]]
        slots.append(Slot(rank=rank, server="localhost", device_id=rank, cores=tuple(mine)))
    return Topology(target="CPU", world=ranks, slots=tuple(slots))


def from_rank_table(table: RankTable, server_id: str | None) -> Topology:
    server = table.server(server_id)
    slots = [
        Slot(rank=d.rank, server=server.server_id, device_id=d.device_id, cores=())
        for d in sorted(server.devices, key=lambda device: device.rank)
    ]
    return Topology(
        target="Ascend",
        world=table.world,
        slots=tuple(slots),
        rank_table=table.path.resolve(),
    )


def parts_of_batch(batch: int, accumulation: int, world: int) -> int:
    """Images per rank in one forward pass.

    Raises:
        UserError: the ranks do not divide the batch; says which numbers of ranks would.
    """
    if batch % (accumulation * world):
        per_pass = batch // accumulation
        fitting = [n for n in range(1, per_pass + 1) if per_pass % n == 0]
        raise UserError(
            "train.batch",
            f"{batch} images per step cannot be shared equally by {world} ranks x "
            f"{accumulation} accumulation steps; ranks that fit: "
            f"{', '.join(map(str, fitting))}; or choose another train.batch",
        )
    return batch // (accumulation * world)
