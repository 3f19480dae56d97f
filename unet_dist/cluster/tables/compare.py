"""What differs between two rank tables: first who has which rank, then the other keys."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unet_dist.cluster.tables.model import Device, RankTable, Server
from unet_dist.cluster.tables.problems import RULES, plain, shown


@dataclass(frozen=True)
class Difference:
    where: str
    key: str
    a: Any
    b: Any

    def __str__(self) -> str:
        return f"{plain(self.where)}: {plain(self.key)} {_text(self.a)} -> {_text(self.b)}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_tables(a: RankTable, b: RankTable) -> list[Difference]:
    """Everything that differs; tables of different dialects are compared by what both can say."""
    found = []
    same = a.dialect == b.dialect
    if not same:
        found.append(Difference(where="table", key="dialect", a=a.dialect, b=b.dialect))
    if a.world != b.world:
        found.append(Difference(where="table", key="ranks", a=a.world, b=b.world))
    ranks_a, ranks_b = a.by_rank(), b.by_rank()
    for rank in range(max(a.world, b.world)):
        if rank >= min(a.world, b.world):
            places = (_place(ranks, rank) for ranks in (ranks_a, ranks_b))
            found.append(Difference(f"rank {rank}", "card", *places))
            continue
        one = _facts(*ranks_a[rank], other_keys=same)
        other = _facts(*ranks_b[rank], other_keys=same)
        found += _differing(f"rank {rank}", one, other)
    if same:
        servers_b = {server.server_id: server for server in b.servers}
        for server in a.servers:
            if server.server_id in servers_b:
                twin = servers_b[server.server_id]
                found += _differing(f"server {server.server_id}", server.extra, twin.extra)
        found += _differing("group", a.group, b.group)
        found += _differing("table", a.extra, b.extra)
    return found


def moved_servers(a: RankTable, b: RankTable) -> list[str]:
    """Servers of both tables whose ranks follow those of other servers than before."""
    order_a = list(dict.fromkeys(server.server_id for server, _ in a.by_rank()))
    order_b = list(dict.fromkeys(server.server_id for server, _ in b.by_rank()))
    both_a = [name for name in order_a if name in set(order_b)]
    both_b = [name for name in order_b if name in set(order_a)]
    return [plain(one) for one, other in zip(both_a, both_b, strict=True) if one != other]


def order_difference(fingerprint_a: str, fingerprint_b: str) -> str:
    """Of files that say the same: whether HCCL takes them for the same."""
    if fingerprint_a == fingerprint_b:
        return ""
    return (
        "the same ranks, but the files list them in another order or write numbers or optional "
        f"keys differently; with one file on some servers and the other on others, HCCL stops "
        f"with EI0005 (R18: {RULES['R18'].title})"
    )


def _place(ranks: Sequence[tuple[Server, Device]], rank: int) -> str | None:
    if rank >= len(ranks):
        return None
    server, device = ranks[rank]
    return f"{device.device_id} of {server.server_id}"


def _facts(server: Server, device: Device, *, other_keys: bool) -> dict[str, Any]:
    place = {"server": server.server_id, "device_id": device.device_id, "device_ip": device.ip}
    if not other_keys:
        return place
    rest = {key: value for key, value in device.extra.items() if key != "device_ip"}
    return {**place, **rest, **device.pod}


def _differing(where: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    for key in [*a, *(key for key in b if key not in a)]:
        if key not in a or key not in b or a[key] != b[key]:
            yield Difference(where=where, key=key, a=a.get(key), b=b.get(key))


def _text(value: Any) -> str:
    if value is None or value == "":
        return "(none)"
    return plain(value) if isinstance(value, str) else shown(value)
