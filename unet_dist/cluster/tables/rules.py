"""The rules that hold for every chip: draft in, problems out."""

import ipaddress
from collections.abc import Callable, Iterator
from itertools import pairwise

from unet_dist.cluster.tables.draft import CardDraft, Draft, ServerDraft, instance_path
from unet_dist.cluster.tables.fields import inside, optional_text_of, parse_number, text_of
from unet_dist.cluster.tables.problems import Problem, Severity, plain, shown
from unet_dist.errors import counted

MAX_SERVER_ID = 64
MAX_NAME = 127
PORTS = ("device_port", "host_port", "backup_device_port", "device_vnic_port")
MAX_PORT = 65535
SYSTEM_PORTS = 1023


def common_problems(draft: Draft) -> list[Problem]:
    return [problem for rule in COMMON_RULES for problem in rule(draft)]


def _status(draft: Draft) -> Iterator[Problem]:
    told: list[Problem] = []
    # HCCL does not look at it in 2.0, whose documents still call an "initializing" table not
    # usable.
    optional = draft.dialect == "2.0"
    read = optional_text_of if optional else text_of
    status = read(draft.tree, "status", "", told)
    yield from told
    if status is not None and status != "completed":
        yield Problem(
            path="status",
            rule="R4",
            severity="UNSUPPORTED" if optional else "ERROR",
            code="EI0004",
            message=f'status is {shown(status)}, not "completed"; '
            + ("the documents call this not usable" if optional else "HCCL would wait 1800 s"),
            fix="let the scheduler finish the file (--wait), or write completed if it is finished",
        )


def _server_names(draft: Draft) -> Iterator[Problem]:
    if draft.dialect == "2.0":
        return
    owners: dict[str, str] = {}
    for server in draft.servers:
        yield from _name_problems(server.server_id, "server_id", server.path, MAX_SERVER_ID)
        # Instances of template 2 share a server; two entries of 1.x must not.
        if draft.dialect in ("1.0", "1.2") and server.server_id:
            yield from _taken(owners, server.server_id, "server_id", server.path, "R9")
    if draft.dialect == "template2":
        pod_owners: dict[str, str] = {}
        pods = {instance_path(card): card.pod.get("pod_name") for _, card in draft.cards()}
        for path, name in pods.items():
            if isinstance(name, str):
                yield from _name_problems(name, "pod_name", path, MAX_NAME)
                yield from _taken(pod_owners, name, "pod_name", path, "R9")


def _name_problems(name: str | None, key: str, path: str, limit: int) -> Iterator[Problem]:
    if name == "":
        yield Problem(
            path=inside(path, key),
            rule="R9",
            message=f"{key} is empty",
            fix="write a name that no other has, such as the server's address",
        )
    elif name is not None and len(name.encode()) > limit:
        yield Problem(
            path=inside(path, key),
            rule="R9",
            message=f"{key} {shown(name)} has {len(name.encode())} bytes, but at most {limit} fit",
            fix="write a shorter name",
        )


def _cards(draft: Draft) -> Iterator[Problem]:
    for server in draft.servers:
        owners: dict[str, str] = {}
        for card in server.cards:
            if card.device_id is not None:
                yield from _taken(owners, str(card.device_id), "device_id", card.path, "R10")


def _ranks(draft: Draft) -> Iterator[Problem]:
    """Duplicates, and ranks from N on; as many ranks are missing as these are."""
    count = sum(len(server.cards) for server in draft.servers)
    if draft.dialect == "template2":
        return
    expected = "rank 0" if count == 1 else f"ranks 0 to {count - 1}"
    owners: dict[int, str] = {}
    told = []
    for _, card in draft.cards():
        if card.rank is None:
            continue
        path = card.path if draft.dialect != "lab" else instance_path(card)
        first = owners.setdefault(card.rank, path)
        if first != path:
            told.append((path, f"rank_id {card.rank} is already used by {first}"))
        elif card.rank >= count:
            told.append(
                (path, f"rank_id is {card.rank}, but {counted(count, 'card')} must have {expected}")
            )
    missing = [rank for rank in range(count) if rank not in owners]
    for (path, message), rank in zip(told, missing, strict=False):
        yield Problem(
            path=inside(path, "rank_id"), rule="R12", message=message, fix=f"{rank} is free"
        )


def _addresses(draft: Draft) -> Iterator[Problem]:
    if draft.dialect == "2.0":  # checked with its layers
        return
    severity: Severity = "ERROR"
    if draft.dialect == "template2" and len(draft.servers) == 1:
        pods = {instance_path(card) for _, card in draft.cards()}
        # One instance: HCCL does not read the addresses (GetCloudDevList).
        severity = "UNSUPPORTED" if len(pods) == 1 else "ERROR"
    owners: dict[str, str] = {}
    family: tuple[int, str] | None = None
    for _, card in draft.cards():
        for ip in card.ips:
            version = ip_version(ip)
            if version is None:
                yield _bad_address(card.path, "device_ip", ip, severity)
                continue
            yield from _taken(owners, ip, "device_ip", card.path, "R11", severity=severity)
            family = family or (version, card.path)
            if version != family[0] and len(draft.servers) > 1:
                yield Problem(
                    path=inside(card.path, "device_ip"),
                    rule="R11",
                    code="EI0001",
                    message=f"device_ip {shown(ip)} is IPv{version}, but that of {family[1]} is "
                    f"IPv{family[0]}",
                    fix="use one family for all cards",
                )
                break
    yield from _address_counts(draft)
    yield from _other_addresses(draft)


def _address_counts(draft: Draft) -> Iterator[Problem]:
    cards = [card for _, card in draft.cards()]
    for card in cards[1:]:
        # A card without an address counts as one: HCCL puts an invalid one there.
        first, number = max(len(cards[0].ips), 1), max(len(card.ips), 1)
        if number != first:
            yield Problem(
                path=inside(card.path, "device_ip"),
                rule="R11",
                message=f"{counted(number, 'address', 'addresses')}, but {cards[0].path} has "
                f"{first}",
                fix="give each card equally many",
            )


def _other_addresses(draft: Draft) -> Iterator[Problem]:
    for server in draft.servers:
        host = server.raw.get("host_ip")
        if isinstance(host, str) and ip_version(host) is None:
            # The ascend-operator writes the key even if it knows no address.
            severity: Severity = "ERROR" if host else "WARN"
            yield _bad_address(server.path, "host_ip", host, severity)
    owners: dict[str, str] = {}
    for _, card in draft.cards():
        backup = card.raw.get("backup_device_ip")
        if not isinstance(backup, str) or not backup:
            continue
        # Read only while operators are retried over super pods (HCCL_OP_RETRY_ENABLE L2:1).
        if ip_version(backup) is None:
            yield _bad_address(card.path, "backup_device_ip", backup, "WARN")
        else:
            yield from _taken(owners, backup, "backup_device_ip", card.path, "R11", severity="WARN")


def _ports(draft: Draft) -> Iterator[Problem]:
    for server in draft.servers:
        hosts: dict[str, str] = {}
        for card in server.cards:
            for key in PORTS:
                if key in card.raw and isinstance(card.raw[key], str | int):
                    yield from _port_problems(key, card, draft.dialect == "2.0")
            host = card.raw.get("host_port")
            if draft.dialect != "2.0" and isinstance(host, str) and parse_number(host):
                yield from _taken(
                    hosts, host, "host_port", card.path, "R16", severity="UNSUPPORTED"
                )


def _port_problems(key: str, card: CardDraft, is_number: bool) -> Iterator[Problem]:
    value = card.raw[key]
    if isinstance(value, str) == is_number or isinstance(value, bool):
        return  # told as R5
    port = parse_number(str(value))
    if port is None or not 1 <= port <= MAX_PORT:
        yield Problem(
            path=inside(card.path, key),
            rule="R16",
            code="EI0014" if is_number else "HCCL_E_PARA",
            message=f"{key} is {shown(value)}, but a port is 1 to {MAX_PORT}",
            fix=f"write a free port, or leave {key} out",
        )
    elif port <= SYSTEM_PORTS:
        yield Problem(
            path=inside(card.path, key),
            rule="R16",
            severity="WARN",
            message=f"{key} is {port}; ports up to {SYSTEM_PORTS} are the system's",
            fix="take a port from 1024 on",
        )


def _order(draft: Draft) -> Iterator[Problem]:
    """Each server's ranks are a run, and the runs follow the dictionary order of server_id."""
    if draft.dialect in ("2.0", "template2"):
        return
    known = [card.rank for _, card in draft.cards() if card.rank is not None]
    if len(set(known)) < sum(len(server.cards) for server in draft.servers):
        return  # told already
    runs: list[tuple[int, int, ServerDraft]] = []
    for server in draft.servers:
        ranks = sorted(card.rank for card in server.cards if card.rank is not None)
        if not ranks or not server.server_id:
            return  # told already
        runs.append((ranks[0], ranks[-1], server))
    runs.sort(key=lambda run: run[:2])
    mixed = [(before, after) for before, after in pairwise(runs) if after[0] < before[1]]
    for before, after in mixed:
        yield Problem(
            path=after[2].path,
            rule="R20",
            severity="UNSUPPORTED",
            message=f"ranks {after[0]} to {after[1]} of server {after[2].name} are mixed with "
            f"{before[0]} to {before[1]} of server {before[2].name}",
            fix="give each server one run of ranks",
        )
    names = [run[2].server_id or "" for run in runs]
    if mixed or names == sorted(names):
        return
    first, second = next((a, b) for a, b in pairwise(names) if a > b)
    yield Problem(
        path=runs[names.index(second)][2].path,
        rule="R20",
        severity="WARN",
        message=f"server {plain(second)} comes after {plain(first)} by rank, but before it in "
        "dictionary order, which MindSpore numbers by",
        fix="number the ranks in the order of the server_ids as text",
    )


COMMON_RULES: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    _status,
    _server_names,
    _cards,
    _ranks,
    _addresses,
    _ports,
    _order,
)


def ip_version(text: str) -> int | None:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None


def _bad_address(path: str, key: str, ip: str, severity: Severity) -> Problem:
    return Problem(
        path=inside(path, key),
        rule="R11",
        severity=severity,
        message=f"{key} {shown(ip)} is not an IP address",
        fix="hccn_tool -i ID -ip -g tells the address of a card"
        if key == "device_ip"
        else f"write an address, or leave {key} out",
    )


def _taken(
    owners: dict[str, str],
    value: str,
    key: str,
    path: str,
    rule: str,
    *,
    severity: Severity = "ERROR",
) -> Iterator[Problem]:
    owner = owners.setdefault(value, path)
    if owner != path:
        yield Problem(
            path=inside(path, key),
            rule=rule,
            severity=severity,
            message=f"{key} {shown(value)} is already used by {owner}",
            fix=f"write a {key} of its own",
        )
