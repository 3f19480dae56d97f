"""Drafts of 2.0: a list of ranks, each with its addresses layer by layer of the network."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from unet_dist.cluster.tables.draft import CardDraft, Draft, ServerDraft
from unet_dist.cluster.tables.fields import (
    inside,
    int_of,
    missing,
    objects_of,
    optional_text_of,
    text_of,
)
from unet_dist.cluster.tables.problems import Problem, Severity, shown
from unet_dist.errors import counted

WRONG_TYPE = "EI0014"  # rank_table_report_macro.h
BACKUP_LOCAL_ID = 64
MAX_RANKS = 65536
MAX_LAYERS = 8
MAX_ADDRESSES = 24
MAX_PORTS = 16
NET_TYPES = ("CLOS", "TOPO_FILE_DESC", "1DMESH", "2DMESH", "A3_SERVER", "A2_AX_SERVER")
ADDRESS_FORMS: Mapping[str, Callable[[str], object]] = {
    "IPV4": ipaddress.IPv4Address,
    "IPV6": ipaddress.IPv6Address,
    "EID": re.compile(r"[0-9A-Fa-f]{32}").fullmatch,
}


def draft_of_ranks(tree: Mapping[str, Any], problems: list[Problem]) -> Draft:
    entries = objects_of(tree, "rank_list", "", problems, rule="R8")
    count = int_of(tree, "rank_count", "", problems)
    if count is not None and entries and count != len(entries):
        problems.append(
            Problem(
                path="rank_count",
                rule="R8",
                message=f"rank_count is {count}, but rank_list has {len(entries)}",
                fix=f"write {len(entries)}",
            )
        )
    if len(entries) > MAX_RANKS:
        problems.append(
            Problem(
                path="rank_list",
                rule="R8",
                message=f"{len(entries)} ranks, but 2.0 holds {MAX_RANKS}",
                fix="start fewer ranks",
            )
        )
    servers: dict[str, list[CardDraft]] = {}
    sizes: dict[tuple[int, str], tuple[int, str]] = {}
    for path, entry in entries:
        server_id, card = _card(entry, path, problems, sizes)
        servers.setdefault(server_id, []).append(card)
    drafts = [
        ServerDraft(path=cards[0].path, server_id=name or None, cards=tuple(cards))
        for name, cards in servers.items()
    ]
    return Draft(dialect="2.0", servers=tuple(drafts), tree=tree)


def _card(
    entry: Mapping[str, Any],
    path: str,
    problems: list[Problem],
    sizes: dict[tuple[int, str], tuple[int, str]],
) -> tuple[str, CardDraft]:
    local_id = int_of(entry, "local_id", path, problems)
    if local_id is not None and local_id > BACKUP_LOCAL_ID:
        _tell(problems, f"{path}.local_id", f"local_id is {local_id}, but goes from 0 to 64", "R10")
    if local_id == BACKUP_LOCAL_ID and "replaced_local_id" not in entry:
        problems.append(missing("replaced_local_id", path, entry))
    for key in ("device_port", "host_port"):
        int_of(entry, key, path, problems, needed=False)
    server_id, addresses = _layers(entry, path, problems, sizes)
    card = CardDraft(
        path=path,
        rank=int_of(entry, "rank_id", path, problems),
        device_id=int_of(entry, "device_id", path, problems),
        ips=tuple(addresses),
        raw=entry,
    )
    return server_id, card


def _layers(
    entry: Mapping[str, Any],
    path: str,
    problems: list[Problem],
    sizes: dict[tuple[int, str], tuple[int, str]],
) -> tuple[str, list[str]]:
    """The instance of the lowest layer, which stands for the server, and all addresses."""
    levels = objects_of(entry, "level_list", path, problems, rule="R21")
    if len(levels) > MAX_LAYERS:
        _tell(problems, f"{path}.level_list", f"{len(levels)} layers, but 2.0 has {MAX_LAYERS}")
    server_id, addresses, last = "", [], -1
    for spot, level in levels:
        layer = int_of(level, "net_layer", spot, problems)
        name = text_of(level, "net_instance_id", spot, problems, code=WRONG_TYPE)
        if name is not None and not 1 <= len(name) <= 1024:
            _tell(problems, f"{spot}.net_instance_id", f"{len(name)} characters, not 1 to 1024")
        if layer is not None and not last < layer < MAX_LAYERS:
            _tell(
                problems,
                f"{spot}.net_layer",
                f"net_layer is {layer}, but must be above the one before, from 0 to 7",
            )
        last = layer if layer is not None else last
        server_id = server_id or name or ""
        _check_net_type(level, spot, layer, problems)
        found = _addresses(level, spot, problems)
        addresses += found
        if layer is None or name is None:
            continue
        size, first = sizes.setdefault((layer, name), (len(found), spot))
        if size != len(found):
            _tell(
                problems,
                f"{spot}.rank_addr_list",
                f"{counted(len(found), 'address', 'addresses')} in {shown(name)} of layer {layer}, "
                f"but {first} has {size}",
            )
    return server_id, addresses


def _check_net_type(
    level: Mapping[str, Any], spot: str, layer: int | None, problems: list[Problem]
) -> None:
    net_type = optional_text_of(level, "net_type", spot, problems, code=WRONG_TYPE)
    if net_type is not None and net_type not in NET_TYPES:
        wrong = f"net_type is {shown(net_type)}, not one of {', '.join(NET_TYPES)}"
        _tell(problems, f"{spot}.net_type", wrong)
    elif layer == 0 and net_type not in (None, "TOPO_FILE_DESC"):
        wrong = f"net_type of layer 0 is {shown(net_type)}, but must be TOPO_FILE_DESC"
        _tell(problems, f"{spot}.net_type", wrong, severity="UNSUPPORTED")


def _addresses(level: Mapping[str, Any], spot: str, problems: list[Problem]) -> list[str]:
    """Addresses of one layer; the list may be empty, as the ascend-operator writes it."""
    if level.get("rank_addr_list") == []:
        return []
    entries = objects_of(level, "rank_addr_list", spot, problems, rule="R21")
    if len(entries) > MAX_ADDRESSES:
        wrong = f"{len(entries)} addresses, but a layer holds {MAX_ADDRESSES}"
        _tell(problems, f"{spot}.rank_addr_list", wrong)
    found = []
    owners: dict[str, str] = {}
    for place, entry in entries:
        kind = text_of(entry, "addr_type", place, problems, code=WRONG_TYPE)
        address = text_of(entry, "addr", place, problems, code=WRONG_TYPE)
        if kind is not None and kind not in ADDRESS_FORMS:
            wrong = f"addr_type is {shown(kind)}, not one of {', '.join(ADDRESS_FORMS)}"
            _tell(problems, f"{place}.addr_type", wrong)
        elif kind is not None and address is not None and not _is_address(kind, address):
            wrong = f"addr is {shown(address)}, which is not an address of type {kind}"
            _tell(problems, f"{place}.addr", wrong, "R11")
        found.append(address or "")
        _check_ports(entry, place, problems, owners)
    return found


def _is_address(kind: str, text: str) -> bool:
    try:
        return bool(ADDRESS_FORMS[kind](text))
    except ValueError:
        return False


def _check_ports(
    entry: Mapping[str, Any], place: str, problems: list[Problem], owners: dict[str, str]
) -> None:
    ports = entry.get("ports")
    if "ports" not in entry:
        problems.append(missing("ports", place, entry))
        return
    where = f"{place}.ports"
    good = isinstance(ports, list) and all(isinstance(p, str) and 1 <= len(p) <= 32 for p in ports)
    if not isinstance(ports, list) or not good or not 1 <= len(ports) <= MAX_PORTS:
        wrong = f'ports is {shown(ports)}, but must list 1 to {MAX_PORTS} like "0/4"'
        _tell(problems, where, wrong)
        return
    for port in ports:
        owner = owners.setdefault(port, place)
        if owner != place:
            wrong = f"port {shown(port)} is already used by {owner} in this layer"
            _tell(problems, where, wrong, severity="UNSUPPORTED")


def _tell(
    problems: list[Problem],
    path: str,
    message: str,
    rule: str = "R21",
    *,
    severity: Severity = "ERROR",
) -> None:
    problems.append(
        Problem(
            path=inside("", path),
            rule=rule,
            severity=severity,
            message=message,
            fix="compare with hccl's rank_table_config_a5.md",
        )
    )
