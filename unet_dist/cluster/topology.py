"""Where the ranks of a job run: the one source of the world size."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from unet_dist.cluster.tables.model import RankTable, Server
from unet_dist.errors import UserError

THIS_HOST = "localhost"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One rank's place in the cluster."""

    rank: int
    server: str
    device_id: int
    """Physical card on its server; a simulated rank's own number."""
    cores: tuple[int, ...] = ()
    """CPU cores it may use; empty leaves them to the system."""


@dataclass(frozen=True)
class Part:
    """Which part of the ranks this command starts, where each server is given the same command."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class Host:
    """A machine that mpirun starts ranks on."""

    name: str
    """As ssh knows it."""
    slots: int = 0
    """Number of ranks; 0 if it was not said."""
    server_id: str = ""
    """Its server in the rank table; empty: by its place among the hosts."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """All ranks of a job, and those that this command starts."""

    target: Literal["CPU", "Ascend"]
    slots: tuple[Slot, ...]
    """By rank."""
    mine: tuple[int, ...]
    """Ranks that this command starts."""
    part: Part = Part()
    hosts: tuple[Host, ...] = ()
    """Over which mpirun spreads the ranks; empty starts them here."""
    rank_table: Path | None = None

    def __post_init__(self) -> None:
        assert [slot.rank for slot in self.slots] == list(range(self.world))
        assert set(self.mine) <= set(range(self.world))

    @property
    def world(self) -> int:
        return len(self.slots)

    @property
    def my_slots(self) -> tuple[Slot, ...]:
        return tuple(self.slots[rank] for rank in self.mine)

    def with_cores(self, cores: Mapping[int, tuple[int, ...]]) -> "Topology":
        """The ranks that are started here held to these CPU cores, by card."""
        slots = [
            replace(slot, cores=cores.get(slot.device_id, ())) if slot.rank in self.mine else slot
            for slot in self.slots
        ]
        return replace(self, slots=tuple(slots))


def simulated(
    ranks: int, cores: Sequence[int], *, part: Part | None = None, hosts: Sequence[Host] = ()
) -> Topology:
    """Ranks on CPUs: on this machine, on each host, or this machine's part of them."""
    part = part or Part()
    if ranks < 1:
        raise UserError("--simulate", f"{ranks} ranks make no job; pass 1 or more")
    if hosts:
        return _simulated_over_hosts(ranks, hosts)
    chunks = list(_chunks(ranks, part.count))
    slots = []
    for index, chunk in enumerate(chunks):
        shares = share_cores(cores, len(chunk)) if index == part.index else [()] * len(chunk)
        server = THIS_HOST if part.count == 1 else f"part {index}"
        slots += [
            Slot(rank=rank, server=server, device_id=rank, cores=share)
            for rank, share in zip(chunk, shares, strict=True)
        ]
    return Topology(target="CPU", slots=tuple(slots), mine=tuple(chunks[part.index]), part=part)


def _simulated_over_hosts(ranks: int, hosts: Sequence[Host]) -> Topology:
    chunks = list(_chunks(ranks, len(hosts)))
    wanted = [host.slots or len(chunk) for host, chunk in zip(hosts, chunks, strict=True)]
    if sum(wanted) != ranks:
        raise UserError("--hosts", f"its slots are {sum(wanted)}, but --simulate asks for {ranks}")
    filled = tuple(replace(host, slots=number) for host, number in zip(hosts, wanted, strict=True))
    names = [host.name for host in filled for _ in range(host.slots)]
    # Only the host itself knows its cores; the rank takes its share there.
    slots = [Slot(rank=rank, server=name, device_id=rank) for rank, name in enumerate(names)]
    return Topology(target="CPU", slots=tuple(slots), mine=tuple(range(ranks)), hosts=filled)


def share_cores(cores: Sequence[int], ranks: int) -> list[tuple[int, ...]]:
    """Shares cores out evenly; one core each if there are too few.

    MindSpore's kernels take all cores they may run on, so without this the ranks would fight.
    """
    if ranks > len(cores):
        return [(cores[rank % len(cores)],) for rank in range(ranks)]
    ends = [rank * len(cores) // ranks for rank in range(ranks + 1)]
    return [tuple(cores[a:b]) for a, b in pairwise(ends)]


def from_rank_table(
    table: RankTable,
    path: Path,
    *,
    server_id: str = "",
    part: Part | None = None,
    hosts: Sequence[Host] = (),
) -> Topology:
    """The cards of a table: all of them over ``hosts``, or those of one server or part."""
    slots = sorted(
        (
            Slot(rank=device.rank, server=server.server_id, device_id=device.device_id)
            for server in table.servers
            for device in server.devices
        ),
        key=lambda slot: slot.rank,
    )
    if hosts:
        part, mine = Part(), tuple(range(table.world))
    elif part is not None:
        mine = _ranks_of_part(table, part)
    else:
        server = table.server(server_id or None)
        part = Part(table.servers.index(server), len(table.servers))
        mine = _ranks_of(server)
    return Topology(
        target="Ascend",
        slots=tuple(slots),
        mine=mine,
        part=part,
        hosts=_hosts_of_servers(table, hosts),
        rank_table=path.resolve(),
    )


def _ranks_of(server: Server) -> tuple[int, ...]:
    return tuple(sorted(device.rank for device in server.devices))


def _ranks_of_part(table: RankTable, part: Part) -> tuple[int, ...]:
    """A server each if there are as many parts as servers, else equal pieces of servers."""
    if part.count == len(table.servers):
        return _ranks_of(table.servers[part.index])
    servers = [len(server.devices) for server in table.servers]
    size, rest = divmod(table.world, part.count)
    if rest or not size or any(number % size for number in servers):
        raise UserError(
            "--part",
            f"{part.count} parts do not fit {len(servers)} servers with {_listed(servers)} cards; "
            f"use {len(servers)} parts, one for each server, or {table.world}, one for each card",
        )
    in_order = [rank for server in table.servers for rank in _ranks_of(server)]
    return tuple(in_order[part.index * size : (part.index + 1) * size])


def _hosts_of_servers(table: RankTable, hosts: Sequence[Host]) -> tuple[Host, ...]:
    """Each host with its server: by server_id where that is said, else in the table's order."""
    if not hosts:
        return ()
    names = [server.server_id for server in table.servers]
    if len(hosts) != len(names):
        raise UserError(
            "--hosts",
            f"names {len(hosts)} hosts, but the rank table has {len(names)} servers; name one "
            "for each, in the table's order or with server_id=",
        )
    said = [host.server_id for host in hosts if host.server_id]
    if said and sorted(said) != sorted(names):
        raise UserError(
            "--hosts",
            f"gives the server_ids {', '.join(said)}; the rank table has {', '.join(names)}: "
            "give each host one of them, or none at all",
        )
    cards = {server.server_id: len(server.devices) for server in table.servers}
    matched = [
        replace(host, server_id=host.server_id or name)
        for host, name in zip(hosts, names, strict=True)
    ]
    faults = [
        f"{host.name} has {host.slots} slots, but server {host.server_id} has "
        f"{cards[host.server_id]} cards"
        for host in matched
        if host.slots not in (0, cards[host.server_id])
    ]
    if faults:
        raise UserError("--hosts", faults)
    return tuple(replace(host, slots=cards[host.server_id]) for host in matched)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _chunks(ranks: int, count: int) -> Iterator[range]:
    if ranks < count:
        raise UserError("--simulate", f"{ranks} ranks cannot be spread over {count} machines")
    for index in range(count):
        yield range(index * ranks // count, (index + 1) * ranks // count)


def parse_part(text: str) -> Part | None:
    """``1/4`` is the second of four."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise UserError("--part", f"{text!r} must be I/N with 0 <= I < N, such as 0/4")
    return Part(int(match[1]), int(match[2]))


def parts_of_batch(batch: int, accumulation: int, world: int) -> int:
    """Images per rank in one forward pass.

    Raises:
        UserError: the ranks do not divide the batch; says which numbers of ranks would.
    """
    if batch % (accumulation * world):
        raise UserError(
            "train.batch",
            f"{batch} images per step cannot be shared equally by {world} ranks x "
            f"{accumulation} accumulation steps; ranks that fit: "
            f"{_listed(fitting_ranks(batch, accumulation))}; or choose another train.batch",
        )
    return batch // (accumulation * world)


def fitting_ranks(batch: int, accumulation: int) -> list[int]:
    """The numbers of ranks that share a batch equally."""
    per_pass = batch // accumulation
    return [n for n in range(1, per_pass + 1) if per_pass % n == 0]
