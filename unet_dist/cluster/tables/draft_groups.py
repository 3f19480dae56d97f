"""Drafts of template 2 and of its old lab form: a list of instances (pods), each with its cards."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from unet_dist.cluster.tables.draft import CardDraft, Draft, ServerDraft, check_count, ips_of
from unet_dist.cluster.tables.fields import (
    missing,
    number_of,
    objects_of,
    optional_text_of,
    text_of,
)
from unet_dist.cluster.tables.problems import Problem, shown

COUNTED_BY = {"template2": "device_count", "lab": "device_num"}
"""The key with the number of a group's cards."""


def draft_of_groups(
    tree: Mapping[str, Any], dialect: Literal["template2", "lab"], problems: list[Problem]
) -> Draft:
    groups = objects_of(tree, "group_list", "", problems, rule="R8")
    _check_needed_count(tree, "group_count", "", problems, real=len(groups))
    cards: dict[str, list[CardDraft]] = {}
    paths: dict[str, str] = {}
    for path, group in groups:
        text_of(group, "group_name", path, problems)
        instances = objects_of(group, "instance_list", path, problems, rule="R8")
        before = sum(map(len, cards.values()))
        for spot, instance in instances:
            _add_instance(instance, spot, dialect, problems, cards=cards, paths=paths)
        added = sum(map(len, cards.values())) - before
        _check_needed_count(group, "instance_count", path, problems, real=len(instances))
        _check_needed_count(group, COUNTED_BY[dialect], path, problems, real=added)
    if dialect == "lab":
        _check_lab(tree, groups, problems)
    servers = [
        ServerDraft(path=paths[name], server_id=name, cards=tuple(cards[name])) for name in cards
    ]
    if dialect == "template2":
        servers = _with_ranks(servers)
    group = groups[0][1] if groups else {}
    return Draft(dialect=dialect, servers=tuple(servers), tree=tree, group=group)


def _add_instance(
    entry: Mapping[str, Any],
    path: str,
    dialect: str,
    problems: list[Problem],
    *,
    cards: dict[str, list[CardDraft]],
    paths: dict[str, str],
) -> None:
    server_id = text_of(entry, "server_id", path, problems)
    name = server_id if server_id is not None else f"(none at {path})"
    rank = None
    if dialect == "lab":
        rank = number_of(entry, "rank_id", path, problems, rule="R12")
    else:
        text_of(entry, "pod_name", path, problems)
    paths.setdefault(name, path)
    pod = {key: entry[key] for key in entry if key not in ("server_id", "devices", "rank_id")}
    devices = objects_of(entry, "devices", path, problems, rule="R10")
    if dialect == "lab" and len(devices) > 1:
        problems.append(
            Problem(
                path=f"{path}.devices",
                rule="R12",
                message=f"an instance of the lab form has one rank_id, but this has "
                f"{len(devices)} cards",
                fix="write an instance for each card",
            )
        )
    for spot, device in devices:
        optional_text_of(device, "device_ip", spot, problems)
        device_id = number_of(device, "device_id", spot, problems, rule="R10")
        cards.setdefault(name, []).append(
            CardDraft(
                path=spot, rank=rank, device_id=device_id, ips=ips_of(device), raw=device, pod=pod
            )
        )


def _with_ranks(servers: list[ServerDraft]) -> list[ServerDraft]:
    """Numbers the cards as HCCL does: it keeps the servers in a map sorted by server_id, and
    sorts the cards of each by device_id (topoinfo_ranktableStandard.cc GetSortClouldRankList)."""
    keys = sorted(
        (server.server_id, card.device_id, card.path)
        for server in servers
        for card in server.cards
        if server.server_id is not None and card.device_id is not None
    )
    if len(keys) < sum(len(server.cards) for server in servers):
        return servers
    ranks = {path: rank for rank, (_, _, path) in enumerate(keys)}
    return [
        replace(
            server,
            cards=tuple(replace(card, rank=ranks[card.path]) for card in server.cards),
        )
        for server in servers
    ]


def _check_needed_count(
    entry: Mapping[str, Any], key: str, path: str, problems: list[Problem], *, real: int
) -> None:
    # A list that is missing or empty is told already; its count would only be an echo.
    if text_of(entry, key, path, problems) is not None and real:
        check_count(entry, key, path, problems, real=real)


def _check_lab(
    tree: Mapping[str, Any],
    groups: list[tuple[str, Mapping[str, Any]]],
    problems: list[Problem],
) -> None:
    for path, group in groups:
        if "server_num" not in group:
            problems.append(missing("server_num", path, group))
    location = text_of(tree, "para_plane_nic_location", "", problems)
    if location not in (None, "device"):
        problems.append(
            Problem(
                path="para_plane_nic_location",
                rule="R6",
                code="HCCL_E_PARA",
                message=f'para_plane_nic_location is {shown(location)}, but HCCL takes "device" '
                "only",
                fix='write "device"',
            )
        )
