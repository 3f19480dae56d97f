"""HCCL rank tables, version 1.0: which card of which server holds which rank.

The rules are those of HCCL's own parser and of its documents; all violations are told at once.
"""

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_dist.errors import UserError
from unet_dist.runs import read_json

MAX_BYTES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Device:
    device_id: int
    """Physical card on its server."""
    rank: int
    ip: str


@dataclass(frozen=True, kw_only=True)
class Server:
    server_id: str
    devices: tuple[Device, ...]


@dataclass(frozen=True, kw_only=True)
class RankTable:
    path: Path
    servers: tuple[Server, ...]

    @property
    def world(self) -> int:
        return sum(len(server.devices) for server in self.servers)

    def server(self, server_id: str | None) -> Server:
        """The named server, or the only one."""
        if server_id is None and len(self.servers) == 1:
            return self.servers[0]
        for server in self.servers:
            if server.server_id == server_id:
                return server
        names = ", ".join(server.server_id for server in self.servers)
        raise UserError(
            str(self.path),
            f"which of its servers is this one? Pass --server-id with one of: {names}"
            if server_id is None
            else f"there is no server {server_id}; it lists {names}",
        )


def read_rank_table(path: Path) -> RankTable:
    """Raises UserError with every violation and its JSON path."""
    # HCCL itself takes only a path whose first ".json" is its end.
    faults = []
    if str(path.resolve()).find(".json") != len(str(path.resolve())) - len(".json"):
        faults.append("HCCL refuses this path: the first '.json' in it must be its end")
    tree = read_json(path, max_bytes=MAX_BYTES)
    faults += _faults(tree)
    if faults:
        raise UserError(str(path), faults)
    servers = tuple(
        Server(
            server_id=server["server_id"],
            devices=tuple(
                Device(
                    device_id=int(device["device_id"]),
                    rank=int(device["rank_id"]),
                    ip=device.get("device_ip", ""),
                )
                for device in server["device"]
            ),
        )
        for server in tree["server_list"]
    )
    return RankTable(path=path, servers=servers)


def _faults(tree: dict[str, Any]) -> Iterator[str]:
    if tree.get("version") != "1.0":
        yield f'version is {json.dumps(tree.get("version"))}; only "1.0" can be started so far'
        return
    if tree.get("status") != "completed":
        yield f'status is {json.dumps(tree.get("status"))}, but HCCL waits for "completed"'
    servers = tree.get("server_list")
    if not isinstance(servers, list) or not servers:
        yield "server_list must hold at least one server"
        return
    count = tree.get("server_count")
    if count is not None and count != str(len(servers)):
        yield f"server_count is {json.dumps(count)} but server_list has {len(servers)} entries"
    owners: dict[tuple[str, Any], str] = {}
    ranks = []
    for i, server in enumerate(servers):
        where = f"server_list[{i}]"
        if not isinstance(server, dict) or not isinstance(server.get("device"), list):
            yield f"{where} must be an object with a list called device"
            continue
        yield from _text_faults(server, "server_id", where)
        yield from _taken(owners, "server_id", server.get("server_id"), where)
        if not server["device"]:
            yield f"{where}.device is empty"
        for j, device in enumerate(server["device"]):
            spot = f"{where}.device[{j}]"
            if not isinstance(device, dict):
                yield f"{spot} must be an object"
                continue
            yield from _device_faults(device, spot)
            yield from _taken(owners, "rank_id", device.get("rank_id"), spot)
            yield from _taken(owners, "device_ip", device.get("device_ip") or None, spot)
            card = (i, device.get("device_id"))
            yield from _taken(owners, "device_id", card, spot)
            ranks.append(device.get("rank_id"))
    numbers = sorted(int(rank) for rank in ranks if isinstance(rank, str) and rank.isdecimal())
    if numbers != list(range(len(ranks))) and len(set(numbers)) == len(ranks):
        yield f"the rank_ids must be 0 to {len(ranks) - 1} without a gap, not {numbers}"


def _device_faults(device: dict[str, Any], spot: str) -> Iterator[str]:
    for key in ("device_id", "rank_id"):
        value = device.get(key)
        yield from _text_faults(device, key, spot)
        if isinstance(value, str) and value and not value.isdecimal():
            yield f'{spot}.{key} is "{value}", which is not a whole number'
    ip = device.get("device_ip")
    if isinstance(ip, str) and ip:
        try:
            ipaddress.ip_address(ip)
        except ValueError:
            yield f'{spot}.device_ip is "{ip}", which is not an IP address'


def _text_faults(tree: dict[str, Any], key: str, where: str) -> Iterator[str]:
    value = tree.get(key)
    if not isinstance(value, str) or not value:
        shown = "missing" if key not in tree else json.dumps(value)
        yield f"{where}.{key} is {shown}, but must be a JSON string that is not empty"


def _taken(owners: dict[tuple[str, Any], str], key: str, value: Any, where: str) -> Iterator[str]:
    if value is None or isinstance(value, dict | list):
        return
    owner = owners.setdefault((key, value), where)
    if owner != where:
        shown = value[1] if isinstance(value, tuple) else value
        yield f"{where}.{key} {json.dumps(shown)} is already used by {owner}"
