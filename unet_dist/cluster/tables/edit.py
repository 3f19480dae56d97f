"""New tables out of tables: merged, cut, or in another dialect."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unet_dist.cluster.tables.model import Device, Dialect, RankTable, Server
from unet_dist.cluster.tables.problems import plain
from unet_dist.cluster.tables.super_pods import join_groups, keep_groups
from unet_dist.errors import UserError

LOOPBACK_HINT = "; hccl_tools writes the address that the host name resolves to"


@dataclass(frozen=True)
class Numbers:
    """Numbers given as ``0-3,6``; kept as spans, so a wide one costs nothing."""

    spans: tuple[tuple[int, int], ...]
    option: str
    """Where they came from, for messages."""

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.spans)

    def listed(self, *, most: int, what: str) -> tuple[int, ...]:
        """Each number, in the order given.

        Raises:
            UserError: they are more than ``most``; ``what`` they are.
        """
        number = sum(last - first + 1 for first, last in self.spans)
        if number > most:
            raise UserError(self.option, f"{number} {what} are many: {most} at most")
        return tuple(n for first, last in self.spans for n in range(first, last + 1))


def parse_numbers(text: str, option: str) -> Numbers:
    spans = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isascii() and end.isdigit() and len(end) <= 9 for end in ends):
            raise UserError(option, f'"{part}" is not a number or a span like 0-3')
        if int(ends[0]) > int(ends[1]):
            raise UserError(option, f'"{part}" goes backwards; write {ends[1]}-{ends[0]}')
        spans.append((int(ends[0]), int(ends[1])))
    return Numbers(tuple(spans), option)


def merge_tables(named: Sequence[tuple[str, RankTable]]) -> RankTable:
    """One table of several, ranks numbered anew in the order of the tables.

    Args:
        named: each table with the name of its file.

    Raises:
        UserError: dialects differ, or a server or an address is in two of them.
    """
    first_name, first = named[0]
    faults = [
        f"{name} is of dialect {table.dialect}, but {first_name} of {first.dialect}; "
        + (
            "2.0 cannot be merged with others"
            if "2.0" in (table.dialect, first.dialect)
            else "convert one"
        )
        for name, table in named
        if table.dialect != first.dialect
    ]
    if faults:
        raise UserError("merge", faults)
    given = Counter(name for name, _ in named)
    faults = [f"{name} is given {count} times" for name, count in given.items() if count > 1]
    if faults:
        raise UserError("merge", faults)
    faults = _taken_twice(named)
    if faults:
        raise UserError("merge", faults)
    extra = dict(first.extra)
    for _, table in named[1:]:
        extra = {**table.extra, **extra}
    extra |= join_groups([table.extra for _, table in named])
    servers: list[Server] = []
    start = 0
    for _, table in named:
        servers += [_renumbered(server, start) for server in table.servers]
        start += table.world
    if first.dialect == "template2":
        servers = _numbered_by_name(servers)
    return replace(first, servers=tuple(servers), extra=extra)


def slice_table(
    table: RankTable,
    *,
    servers: Sequence[str] = (),
    devices: Numbers | None = None,
    ranks: Numbers | None = None,
) -> RankTable:
    """The cards that all given choices hold, ranks numbered 0 to n-1 in their old order.

    Raises:
        UserError: a choice names what the table does not have, or nothing is left.
    """
    faults = _unknown_choices(table, servers, devices, ranks)
    if faults:
        raise UserError("slice", faults)
    kept = [
        (server, device)
        for server, device in table.by_rank()
        if not servers or server.server_id in servers
        if devices is None or device.device_id in devices
        if ranks is None or device.rank in ranks
    ]
    if not kept:
        raise UserError("slice", "no card is in all the choices; leave one of them out")
    new_rank = {device.rank: rank for rank, (_, device) in enumerate(kept)}
    left = [
        replace(
            server,
            devices=tuple(
                replace(device, rank=new_rank[device.rank])
                for device in server.devices
                if device.rank in new_rank
            ),
        )
        for server in table.servers
    ]
    left = [server for server in left if server.devices]
    names = {server.server_id for server in left}
    return replace(table, servers=tuple(left), extra=keep_groups(table.extra, names))


def convert_table(table: RankTable, dialect: Dialect) -> RankTable:
    """The same ranks in another dialect.

    Raises:
        UserError: the dialect cannot say what the table says.
    """
    if table.dialect == dialect:
        return table
    if "2.0" in (table.dialect, dialect):
        raise UserError(
            f"--to {dialect}",
            f"a table of dialect {table.dialect} has not what {dialect} needs: 2.0 describes the "
            "network layer by layer, the others give each card one address",
        )
    if dialect == "template2":
        if table.dialect == "1.2":
            raise UserError(
                "--to template2", "1.2 is for 910C and template 2 for 910A; no chip reads both"
            )
        return _to_template2(table)
    flat = table if table.dialect in ("1.0", "1.2") else _from_groups(table)
    return replace(flat, dialect=dialect)


def _to_template2(table: RankTable) -> RankTable:
    """Template 2 has no rank_id: HCCL numbers by server_id in dictionary order, then by card."""
    flat = _from_groups(table) if table.dialect == "lab" else table
    numbered = _numbered_by_name(flat.servers)
    for server, now in zip(flat.servers, numbered, strict=True):
        for device, renamed in zip(server.devices, now.devices, strict=True):
            if device.rank != renamed.rank:
                raise UserError(
                    "--to template2",
                    "template 2 has no rank_id; HCCL numbers the servers in dictionary order, and "
                    f"the cards of each by device_id: server {plain(server.server_id)} card "
                    f"{device.device_id} would become rank {renamed.rank} instead of "
                    f"{device.rank}. Rename the servers, or number the ranks in that order",
                )
    servers = []
    for server in flat.servers:
        keys = {"pod_name": server.server_id, **server.extra}
        devices = [
            replace(
                device,
                extra={key: device.extra[key] for key in device.extra if key != "pod_name"},
                pod={**keys, "pod_name": device.extra.get("pod_name", keys["pod_name"])},
            )
            for device in server.devices
        ]
        servers.append(replace(server, devices=tuple(devices), extra={}))
    extra = {key: value for key, value in flat.extra.items() if key not in LAB_KEYS}
    return replace(flat, dialect="template2", servers=tuple(servers), extra=extra)


def _from_groups(table: RankTable) -> RankTable:
    """Instances become servers; names of pods stay, for the way back."""
    servers = []
    for server in table.servers:
        pods = [device.pod for device in server.devices]
        one = all(pod == pods[0] for pod in pods)
        devices = [
            replace(device, pod={}, extra=device.extra if one else {**device.extra, **device.pod})
            for device in server.devices
        ]
        servers.append(replace(server, devices=tuple(devices), extra=dict(pods[0]) if one else {}))
    extra = {key: value for key, value in table.extra.items() if key not in LAB_KEYS}
    return replace(table, servers=tuple(servers), extra=extra, group={})


def keys_not_carried(before: RankTable, after: RankTable) -> list[str]:
    """Keys that the new dialect is there for, but the old table has nothing to fill with."""
    if after.dialect != "1.2" or before.dialect == "1.2":
        return []
    cards = [device.extra for _, device in after.by_rank()]
    found = {
        "super_device_id": all("super_device_id" in extra for extra in cards),
        "super_pod_list": "super_pod_list" in after.extra,
    }
    return [key for key, there in found.items() if not there]


LAB_KEYS = (
    "board_id",
    "chip_info",
    "deploy_mode",
    "para_plane_nic_location",
    "para_plane_nic_name",
    "para_plane_nic_num",
)
"""Of the lab form only; ``deploy_mode`` would make HCCL read another dialect as lab."""


def _renumbered(server: Server, start: int) -> Server:
    devices = [replace(device, rank=start + device.rank) for device in server.devices]
    return replace(server, devices=tuple(devices))


def _numbered_by_name(servers: Sequence[Server]) -> list[Server]:
    """As HCCL numbers template 2: servers in dictionary order, cards by number."""
    order = sorted((s.server_id, d.device_id) for s in servers for d in s.devices)
    ranks = {place: rank for rank, place in enumerate(order)}
    return [
        replace(
            server,
            devices=tuple(
                replace(device, rank=ranks[server.server_id, device.device_id])
                for device in server.devices
            ),
        )
        for server in servers
    ]


def _taken_twice(named: Sequence[tuple[str, RankTable]]) -> list[str]:
    """Servers and addresses that are in two tables, with both places.

    Of a server that is in two tables, its addresses are not told as well.
    """
    faults = []
    file_of: dict[str, str] = {}
    owners: dict[str, tuple[str, Server, Device]] = {}
    for name, table in named:
        for server in table.servers:
            before = file_of.setdefault(server.server_id, name)
            if before != name:
                faults.append(
                    f"server_id {plain(server.server_id)} is in {before} and in {name}"
                    + (LOOPBACK_HINT if server.server_id.startswith("127.") else "")
                )
        if table.dialect == "2.0":
            continue  # its addresses may be of a host, shared by cards
        for server, device in table.by_rank():
            for ip in filter(None, device.ip.split(",")):
                owner = owners.setdefault(ip, (name, server, device))
                if owner[0] != name and owner[1].server_id != server.server_id:
                    places = f"{_place(*owner)} and in {_place(name, server, device)}"
                    faults.append(f"device_ip {plain(ip)} is in {places}")
    return faults


def _place(name: str, server: Server, device: Device) -> str:
    return f"{name} (server {plain(server.server_id)} card {device.device_id})"


def _unknown_choices(
    table: RankTable, servers: Sequence[str], devices: Numbers | None, ranks: Numbers | None
) -> list[str]:
    names = [server.server_id for server in table.servers]
    faults = [
        f"--servers {name}: the table has {', '.join(map(plain, names))}"
        for name in servers
        if name not in names
    ]
    cards = {device.device_id for server in table.servers for device in server.devices}
    for chosen, known, what in (
        (devices, cards, "cards"),
        (ranks, set(range(table.world)), "ranks"),
    ):
        for first, last in chosen.spans if chosen else ():
            if first not in known or last not in known:
                span = str(first) if first == last else f"{first}-{last}"
                faults.append(
                    f"{chosen.option if chosen else ''} {span}: the table has {what} "
                    f"{', '.join(map(str, sorted(known)))}"
                )
    return faults
