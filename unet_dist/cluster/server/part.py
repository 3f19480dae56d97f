"""One server's part of a rank table, and the hosts file that says which servers there are."""

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unet_dist import __version__
from unet_dist.cluster.server.device_list import format_device_list, parse_device_list
from unet_dist.cluster.server.discover import (
    CardAddress,
    CardsSeen,
    default_address,
    host_addresses,
    known_device_ids,
    see_addresses,
    see_cards,
    visible_devices,
)
from unet_dist.errors import UserError

HOST_NAME = re.compile(r"[A-Za-z0-9_.:-]+(?:%[A-Za-z0-9]+)?", re.ASCII)
INLINE_HOST = re.compile(r"(?P<name>[^:\s]+|\[[^\]\s]+\])(?::(?P<slots>\d{1,4}))?")
LONGEST_NAME = 255
"""Bytes of a file's name on Linux."""
KEYS = ("slots", "devices", "server_id")


@dataclass(frozen=True, kw_only=True)
class HostLine:
    """What a hosts file asks of one host."""

    name: str
    """Empty for this machine."""
    devices: tuple[int, ...] = ()
    """Empty: those that the host has."""
    slots: int = 0
    """The first so many of its cards; 0 is all."""
    server_id: str = ""
    """Empty: the host's own address."""


@dataclass(frozen=True, kw_only=True)
class ServerPart:
    """What one server puts into a rank table."""

    host: str
    """As the hosts file names it, or the host name."""
    hostname: str
    server_id: str = ""
    devices: tuple[tuple[int, str], ...] = ()
    """Physical card and its address, which may be empty."""
    models: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be seen, but is no fault by itself."""
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "ServerPart":
        return ServerPart(
            host=str(value["host"]),
            hostname=str(value["hostname"]),
            server_id=str(value["server_id"]),
            devices=tuple((int(device), str(ip)) for device, ip in value["devices"]),
            models=tuple(map(str, value["models"])),
            faults=tuple(map(str, value["faults"])),
            notes=tuple(map(str, value["notes"])),
            version=str(value["version"]),
        )


def hosts_of(text: str) -> tuple[HostLine, ...]:
    """What ``--hosts`` means: ``a,b`` or ``a:2,b:2``, or the name of a hosts file.

    Raises:
        UserError: every host that is not understood, or is named twice.
    """
    listed = "," in text or len(text) > LONGEST_NAME
    if not listed and ("/" in text or text.endswith(".txt") or Path(text).is_file()):
        return read_hosts_file(Path(text))
    lines = []
    for item in text.split(","):
        matched = INLINE_HOST.fullmatch(item.strip())
        if matched is None:
            raise UserError("--hosts", f"{item!r} must be HOST or HOST:NUMBER")
        slots = f" slots={matched['slots']}" if matched["slots"] else ""
        lines.append(f"{matched['name'].strip('[]')}{slots}")
    return parse_hosts("\n".join(lines))


def read_hosts_file(path: Path) -> tuple[HostLine, ...]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}") from error
    return parse_hosts(text, where=str(path))


def parse_hosts(text: str, *, where: str = "--hosts") -> tuple[HostLine, ...]:
    """A host per line, with what is wanted of it: ``node1 slots=4`` or ``node2 devices=0-3``.

    Raises:
        UserError: every line that is not understood, and hosts that are named twice.
    """
    hosts: list[HostLine] = []
    faults: list[str] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            hosts.append(_host_line(words, f"line {number}"))
        except UserError as error:
            faults += [f"{error.where}: {fault}" for fault in error.faults]
            continue
        first = line_of.setdefault(words[0], number)
        if first != number:
            faults.append(f"line {number}: host {words[0]} is already in line {first}")
    if faults or not hosts:
        raise UserError(where, faults or "names no host; write one per line")
    return tuple(hosts)


def _host_line(words: Sequence[str], where: str) -> HostLine:
    name, *settings = words
    if not HOST_NAME.fullmatch(name):
        raise UserError(where, f"{name!r} is no host name or address")
    given: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in KEYS or not equals or not value or key in given:
            raise UserError(
                where, f"{setting!r} must be one of {', '.join(f'{k}=...' for k in KEYS)}, once"
            )
        given[key] = value
    if "slots" in given and "devices" in given:
        raise UserError(where, "has both slots= and devices=; give one of them")
    slots = given.get("slots", "0")
    if not (slots.isascii() and slots.isdecimal() and len(slots) < 4) or (
        "slots" in given and int(slots) == 0
    ):
        raise UserError(where, f"slots={slots} must be a number of cards")
    devices = parse_device_list(given["devices"], where=where) if "devices" in given else ()
    return HostLine(
        name=name, devices=devices, slots=int(slots), server_id=given.get("server_id", "")
    )


def part_of_this_server(line: HostLine, root: Path = Path("/")) -> ServerPart:
    """Asks this machine for its cards and their addresses; faults are in the result."""
    hostname = socket.gethostname()
    faults: list[str] = []
    seen = see_cards(root)
    try:
        devices = choose_devices(line, seen, known_device_ids(root), visible_devices(seen.cards))
    except UserError as error:
        devices = ()
        faults += [f"{error.where}: {fault}" for fault in error.faults]
    server_id = line.server_id or choose_server_id(line.name, host_addresses(root))
    if not server_id:
        faults.append(
            "this machine has no default route, so its address is not known; name the address by "
            "which the other servers reach it: --server-id ADDRESS, or server_id=ADDRESS in the "
            "hosts file"
        )
    addresses = see_addresses(devices, root)
    faults_of_addresses, notes = judge_addresses(addresses)
    models = [card.model for card in seen.cards if card.device_id in devices and card.model]
    return ServerPart(
        host=line.name or hostname,
        hostname=hostname,
        server_id=server_id,
        devices=tuple((device, addresses[device].ip) for device in devices),
        models=tuple(dict.fromkeys(models)),
        faults=(*faults, *faults_of_addresses),
        notes=(*seen.unseen, *notes),
    )


def choose_devices(
    line: HostLine,
    seen: CardsSeen,
    in_files: Sequence[int],
    visible: Sequence[int] | None,
) -> tuple[int, ...]:
    """The physical cards that a server gives.

    Args:
        in_files: cards named by /dev or /etc/hccn.conf, for where npu-smi does not answer.
        visible: the cards that the environment leaves to this process.

    Raises:
        UserError: there is none, or too few, or one that is asked for is not there.
    """
    present = tuple(card.device_id for card in seen.cards) or tuple(in_files)
    chosen = line.devices or tuple(present if visible is None else visible)
    if not chosen:
        reasons = "; ".join(seen.unseen) or "npu-smi lists none"
        raise UserError(
            "cards",
            f"none found ({reasons}; no /dev/davinci*, nothing in /etc/hccn.conf); name them by "
            "--devices 0-7 if you know them",
        )
    absent = [device for device in line.devices if present and device not in present]
    if absent:
        raise UserError(
            "--devices",
            f"card {format_device_list(absent)} is not on this server; it has "
            f"{format_device_list(present)}",
        )
    if line.slots > len(chosen):
        raise UserError(
            "slots", f"{line.slots} cards are asked for, but there are {len(chosen)}: "
            f"{format_device_list(chosen)}",
        )  # fmt: skip
    return chosen[: line.slots] if line.slots else chosen


def choose_server_id(name: str, mine: Sequence[str]) -> str:
    """The address in the hosts file if this machine has it, else the one on the default route."""
    try:
        address = str(ipaddress.ip_address(name))
    except ValueError:
        return default_address()
    return address if address in mine else default_address()


def judge_addresses(addresses: Mapping[int, CardAddress]) -> tuple[list[str], list[str]]:
    """What is wrong with the cards' addresses, and what could not be seen of them."""
    faults: list[str] = []
    unseen: dict[tuple[str, bool], list[int]] = {}
    for device, address in addresses.items():
        tool, conf = address.from_tool, address.from_conf
        if tool and conf and not set(tool) & set(conf):
            faults.append(
                f"card {device} has address {', '.join(tool)}, but /etc/hccn.conf says "
                f"{', '.join(conf)}; set it anew by hccn_tool -i {device} -ip -s address ... "
                "netmask ..., or, in a container, mount the host's file"
            )
        if not tool:
            unseen.setdefault((address.fault, bool(conf)), []).append(device)
    return faults, [_note(addresses, *why, devices) for why, devices in unseen.items()]


def _note(
    addresses: Mapping[int, CardAddress], fault: str, in_conf: bool, devices: Sequence[int]
) -> str:
    """One line for all cards that hccn_tool fails for in the same way."""
    several = len(devices) > 1
    if in_conf:
        ips = ", ".join(addresses[device].from_conf[0] for device in devices)
        outcome = f"{ips} {'are' if several else 'is'} from /etc/hccn.conf"
    else:
        outcome = "their addresses are left empty" if several else "its address is left empty"
    return f"card{'s' if several else ''} {format_device_list(devices)}: {fault}; {outcome}"
