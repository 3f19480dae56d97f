"""What this server really has: cards, their addresses, the cores near them, its own addresses.

A card has several numbers, and mixing them up is the usual fault of rank tables
(vllm-project/vllm-ascend#16309). Here ``device_id`` is always the physical one, which rank tables,
/etc/hccn.conf and /dev/davinci* use; ``logical_id`` counts from 0 within a container.

It has run against stand-ins of npu-smi and hccn_tool only, never on an Ascend server.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_dist.cluster.host import usable_cores
from unet_dist.cluster.server.device_list import format_device_list, parse_device_list
from unet_dist.cluster.server.hccn import parse_conf, parse_ip
from unet_dist.cluster.server.npu_smi import ChipIds, ChipState, Overview, parse_info, parse_map
from unet_dist.cluster.server.tools import (
    HCCN_CONF,
    TIMEOUT_S,
    Answer,
    ask_at_once,
    card_files,
    read_file,
)
from unet_dist.cluster.topology import share_cores
from unet_dist.errors import UserError

RUNTIME_VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
"""Read by CANN: logical ids, which the process then counts from 0 again."""
"""Read by the container runtime before the process exists: physical ids."""

PCI_DEVICES = "sys/bus/pci/devices"
NUMA_NODES = "sys/devices/system/node"
IPV4_ROUTES = "proc/net/fib_trie"
IPV6_ADDRESSES = "proc/net/if_inet6"
LINK_LOCAL_SCOPE = "20"


@dataclass(frozen=True, kw_only=True)
class Card:
    """One chip that a rank can use."""

    device_id: int
    """Physical."""
    logical_id: int | None
    npu_id: int
    chip_id: int
    model: str
    health: str
    bus_id: str


@dataclass(frozen=True, kw_only=True)
class CardsSeen:
    cards: tuple[Card, ...] = ()
    overview: Overview | None = None
    """None if ``npu-smi info`` did not answer."""
    unseen: tuple[str, ...] = ()
    """What could not be seen, and why."""
    missing: bool = False
    """npu-smi is not on this machine."""

    def by_place(self, npu_id: int, chip_id: int) -> Card | None:
        places = {(card.npu_id, card.chip_id): card for card in self.cards}
        return places.get((npu_id, chip_id))


@dataclass(frozen=True, kw_only=True)
class CardAddress:
    """The address of one card's network port, from its two sources."""

    from_tool: tuple[str, ...] = ()
    from_conf: tuple[str, ...] = ()
    fault: str = ""
    """Why hccn_tool told none."""

    @property
    def ip(self) -> str:
        """What the card itself says is what HCCL compares a rank table with."""
        return next(iter(self.from_tool or self.from_conf), "")


def see_cards(root: Path = Path("/"), *, timeout_s: float = TIMEOUT_S) -> CardsSeen:
    """The cards that npu-smi lists, by physical id."""
    questions = (("npu-smi", "info", "-m"), ("npu-smi", "info"))
    ids, states = ask_at_once(questions, root=root, timeout_s=timeout_s)
    overview = parse_info(states.text)
    cards = join_cards(parse_map(ids.text), overview.chips, card_files(root))
    unseen = [answer.fault for answer in (ids, states) if answer.fault]
    if not cards and not unseen:
        unseen = ["npu-smi answers, but lists no card that this program understands"]
    return CardsSeen(
        cards=cards,
        overview=overview if overview.chips or overview.shows_processes else None,
        unseen=tuple(dict.fromkeys(unseen)),
        missing=ids.missing,
    )


def join_cards(
    ids: Sequence[ChipIds], states: Sequence[ChipState], files: Sequence[int]
) -> tuple[Card, ...]:
    """One card for each chip, whichever of the two tables it is in.

    The physical id is, in this order: the one that npu-smi names; the n-th of /dev/davinci* for
    the logical id n, if there are as many files as chips; the board's number if each has one chip
    only, as 910A and 910B boards do (containers keep it); the logical id; the place in the list.

    Args:
        files: the numbers of /dev/davinci*.
    """
    ids_of = {(each.npu_id, each.chip_id): each for each in ids}
    state_of = {(each.npu_id, each.chip_id): each for each in states}
    places = sorted(ids_of or state_of)
    single = all(chip == 0 for _, chip in places)
    cards: dict[int, Card] = {}
    for index, place in enumerate(places):
        known, state = ids_of.get(place), state_of.get(place)
        logical = known.logical_id if known else None
        order = index if logical is None else logical
        named = [each.physical_id for each in (known, state) if each is not None]
        physical = next((each for each in named if each is not None), None)
        if physical is None:
            fits = len(files) == len(places) and order < len(files)
            physical = files[order] if fits else place[0] if single else order
        card = Card(
            device_id=physical,
            logical_id=logical,
            npu_id=place[0],
            chip_id=place[1],
            model=(state.model if state else "") or (known.model if known else ""),
            health=state.health if state else "",
            bus_id=state.bus_id if state else "",
        )
        cards.setdefault(physical, card)
    return tuple(cards[device] for device in sorted(cards))


def see_addresses(
    device_ids: Iterable[int], root: Path = Path("/"), *, timeout_s: float = TIMEOUT_S
) -> dict[int, CardAddress]:
    """The address of each card, all asked side by side; IPv6 of those that have no IPv4.

    hccn_tool is asked by physical id, as the vendor's own HIXL does; where a container numbers
    otherwise, its answer differs from /etc/hccn.conf, and both are in the result.
    """
    devices = tuple(device_ids)
    conf = parse_conf(read_file(root / HCCN_CONF) or "")
    told = _ask_addresses(devices, (), root, timeout_s)
    silent = [device for device in devices if told[device] == ((), "")]
    told |= _ask_addresses(silent, ("-inet6",), root, timeout_s)
    return {
        device: CardAddress(
            from_tool=told[device][0],
            from_conf=conf.get(device, ()),
            fault=told[device][1] or ("" if told[device][0] else "hccn_tool names no address"),
        )
        for device in devices
    }


def _ask_addresses(
    devices: Sequence[int], family: Sequence[str], root: Path, timeout_s: float
) -> dict[int, tuple[tuple[str, ...], str]]:
    questions = [("hccn_tool", "-i", str(device), "-ip", *family, "-g") for device in devices]
    answers: list[Answer] = ask_at_once(questions, root=root, timeout_s=timeout_s)
    told = zip(devices, answers, strict=True)
    return {device: (parse_ip(answer.text), answer.fault) for device, answer in told}


def known_device_ids(root: Path = Path("/")) -> tuple[int, ...]:
    """Physical cards named by files, which answer even if the driver does not."""
    return card_files(root) or tuple(sorted(parse_conf(read_file(root / HCCN_CONF) or "")))


def cards_and_names(root: Path = Path("/")) -> tuple[dict[int, str], tuple[str, ...]]:
    """The address of each card of this server, and what the server itself is called.

    Raises:
        UserError: no card can be seen.
    """
    seen = see_cards(root)
    devices = tuple(card.device_id for card in seen.cards) or known_device_ids(root)
    if not devices:
        raise UserError("this server", seen.unseen or "npu-smi lists no card")
    found = see_addresses(devices, root)
    names = (*host_addresses(root), socket.gethostname())
    return {device: found[device].ip for device in devices}, names


def visible_devices(
    cards: Sequence[Card], environment: Mapping[str, str] = os.environ
) -> tuple[int, ...] | None:
    """The physical cards that ASCEND_RT_VISIBLE_DEVICES leaves to this process; None if it is not
    set.

    Raises:
        UserError: it is no list of cards, or names one that is not there.
    """
    text = environment.get(RUNTIME_VISIBLE, "")
    if not text:
        return None
    wanted = parse_device_list(text, where=RUNTIME_VISIBLE)
    physical = {card.device_id if card.logical_id is None else card.logical_id: card.device_id
                for card in cards}  # fmt: skip
    absent = [device for device in wanted if device not in physical]
    if absent:
        raise UserError(
            RUNTIME_VISIBLE,
            f"is {text}, but there is no card with the logical number "
            f"{format_device_list(absent)}; npu-smi info -m lists them",
        )
    return tuple(sorted(physical[device] for device in wanted))


def host_addresses(root: Path = Path("/")) -> tuple[str, ...]:
    """All addresses of this machine, loopback and link-local ones aside."""
    return (
        *parse_local_ipv4(read_file(root / IPV4_ROUTES) or ""),
        *parse_local_ipv6(read_file(root / IPV6_ADDRESSES) or ""),
    )


def parse_local_ipv4(text: str) -> tuple[str, ...]:
    """/proc/net/fib_trie: an address is followed by a line ``/32 host LOCAL``."""
    found, before = [], ""
    for line in text.splitlines():
        if "/32 host LOCAL" in line and _is_reachable(before):
            found.append(before)
        before = line.rpartition(" ")[2]
    return tuple(dict.fromkeys(found))


def parse_local_ipv6(text: str) -> tuple[str, ...]:
    """/proc/net/if_inet6: address, interface number, prefix length, scope, flags, name."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 6 and len(fields[0]) == 32 and fields[3] != LINK_LOCAL_SCOPE:
            groups = (fields[0][at : at + 4] for at in range(0, 32, 4))
            spelled = ":".join(groups)
            if _is_reachable(spelled):
                found.append(str(ipaddress.ip_address(spelled)))
    return tuple(found)


def _is_reachable(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def default_address() -> str:
    """This machine's address on its default route; empty without one. Sends no packet.

    Not the address of the host name: that is 127.0.1.1 on many distributions, which made
    hccl_tools.py write tables that no other server could use.
    """
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                address = str(probe.getsockname()[0])
        except OSError:
            continue
        if _is_reachable(address):
            return address
    return ""


def cores_near_cards(
    device_ids: Iterable[int],
    *,
    root: Path = Path("/"),
    usable: Sequence[int] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> dict[int, tuple[int, ...]]:
    """CPU cores for the rank of each card: an even share of those of its NUMA node.

    Args:
        device_ids: physical cards.
        usable: cores that this process may use; None reads them.

    Returns:
        Empty if the node of some card cannot be seen, or has fewer usable cores than cards.
    """
    devices = sorted(set(device_ids))
    bus_of = {card.device_id: card.bus_id for card in see_cards(root, timeout_s=timeout_s).cards}
    near = {device: cores_of_bus(bus_of.get(device, ""), root) for device in devices}
    return share_node_cores(near, usable_cores() if usable is None else usable)


def share_node_cores(
    near: Mapping[int, frozenset[int]], usable: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """``{0: {0-3}, 1: {0-3}, 2: {4-7}}`` becomes ``{0: (0, 1), 1: (2, 3), 2: (4, 5, 6, 7)}``."""
    shares: dict[int, tuple[int, ...]] = {}
    for node in set(near.values()):
        cards = sorted(card for card in near if near[card] == node)
        cores = sorted(node & set(usable))
        if len(cores) < len(cards):
            return {}
        shares |= dict(zip(cards, share_cores(cores, len(cards)), strict=True))
    return shares


def cores_of_bus(bus_id: str, root: Path = Path("/")) -> frozenset[int]:
    """The cores of the NUMA node that a PCI device hangs on; empty if that cannot be seen."""
    if not bus_id:
        return frozenset()
    device = root / PCI_DEVICES / bus_id
    near = parse_core_list(read_file(device / "local_cpulist") or "")
    if near:
        return near
    node = (read_file(device / "numa_node") or "").strip()
    if not node.isdecimal():  # -1: the firmware does not say
        return frozenset()
    return parse_core_list(read_file(root / NUMA_NODES / f"node{node}" / "cpulist") or "")


def parse_core_list(text: str) -> frozenset[int]:
    """``0-3,8`` as the kernel writes it; empty for anything else."""
    cores: set[int] = set()
    for span in filter(None, text.strip().split(",")):
        first, _, last = span.partition("-")
        ends = (first, last or first)
        if not all(end.isascii() and end.isdecimal() and len(end) < 6 for end in ends):
            return frozenset()
        cores.update(range(int(ends[0]), int(ends[1]) + 1))
    return frozenset(cores)
