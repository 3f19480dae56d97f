"""A rank table against the server that one stands on."""

from collections.abc import Collection, Iterator, Mapping
from itertools import groupby

from unet_dist.cluster.tables.model import Device, RankTable, Server
from unet_dist.cluster.tables.problems import Problem, plain, shown

SERVER_ADDRESSES = ("host_ip", "pod_ip", "container_ip", "server_ip")
"""Keys of a server that may hold an address of the host."""


def server_here(
    table: RankTable, cards: Mapping[int, str], addresses: Collection[str]
) -> Server | None:
    """The server of the table that this one is; None if that cannot be told.

    A table of one server is for this one, whatever its name is.
    """
    if len(table.servers) == 1:
        return table.servers[0]
    known = {address for address in addresses if address}
    for server in table.servers:
        names = {server.server_id, *(server.extra.get(key, "") for key in SERVER_ADDRESSES)}
        if names & known:
            return server
    own = {ip for ip in cards.values() if ip}
    for server in table.servers:
        if any(own & set(device.ip.split(",")) for device in server.devices):
            return server
    return None


def problems_here(
    table: RankTable, cards: Mapping[int, str], addresses: Collection[str]
) -> list[Problem]:
    """Where the table and this server differ.

    Args:
        cards: address of each physical card of this server; empty if it has none.
        addresses: addresses and host name of this server.
    """
    server = server_here(table, cards, addresses)
    if server is None:
        names = ", ".join(plain(server.server_id) for server in table.servers)
        return [
            Problem(
                path="$",
                rule="R14",
                message=f"this server ({', '.join(sorted(addresses)) or 'without addresses'}) is "
                f"none of the table's: {names}",
                fix="use the table of the cluster that this server belongs to",
            )
        ]
    return [
        problem
        for index, device in enumerate(server.devices)
        for problem in _card_problems(table, server, index, device, cards)
    ]


def rank_id_problems(table: RankTable, rank_id: str) -> list[Problem]:
    """What HCCL would make of the environment variable RANK_ID with this table."""
    if table.dialect == "template2":
        pods = sorted({str(device.pod["pod_name"]) for _, device in table.by_rank()})
        good = rank_id in pods
        expected = f"the pod_name of an instance: {', '.join(map(plain, pods))}"
    else:
        digits = rank_id.isascii() and rank_id.isdigit() and len(rank_id) < 10
        good = digits and int(rank_id) < table.world
        expected = f"a rank from 0 to {table.world - 1}"
    if good:
        return []
    return [
        Problem(
            path="$",
            rule="R13",
            code="EI0014" if rank_id.isdigit() else "EI0003",
            message=f"the environment says RANK_ID={shown(rank_id)}, but it must be {expected}",
            fix="unset RANK_ID; unet-dist sets it for each rank",
        )
    ]


def _card_problems(
    table: RankTable, server: Server, index: int, device: Device, cards: Mapping[int, str]
) -> Iterator[Problem]:
    path = _path(table, server, index)
    if device.device_id not in cards:
        have = ", ".join(map(str, sorted(cards))) or "none"
        yield Problem(
            path=f"{path}.device_id",
            rule="R14",
            message=f"card {device.device_id} of server {plain(server.server_id)} is not here; "
            f"this server has {have}",
            fix="list the physical numbers of its cards: ls /dev/davinci*",
        )
        return
    real = cards[device.device_id]
    # 2.0 has addresses of another kind, and without an address on one side nothing is wrong.
    if table.dialect != "2.0" and device.ip and real and real not in device.ip.split(","):
        yield Problem(
            path=f"{path}.device_ip",
            rule="R19",
            message=f"device_ip of card {device.device_id} is {device.ip}, but the card has {real}",
            fix=f"write {real}",
        )


def _path(table: RankTable, server: Server, index: int) -> str:
    """JSON path of a card, as the file of the table's dialect has it."""
    if table.dialect == "2.0":
        return f"rank_list[{server.devices[index].rank}]"
    if table.dialect in ("1.0", "1.2"):
        return f"server_list[{table.servers.index(server)}].device[{index}]"
    instance = 0
    for owner in table.servers:
        before = 0
        for _, devices in groupby(owner.devices, key=lambda device: device.pod):
            count = len(list(devices))
            if owner is server and index < before + count:
                return f"group_list[0].instance_list[{instance}].devices[{index - before}]"
            instance += 1
            before += count
    raise AssertionError(f"server {server.server_id} is not of this table")
