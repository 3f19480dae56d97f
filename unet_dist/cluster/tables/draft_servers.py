"""Drafts of 1.0 and 1.2: a list of servers, each with its cards."""

from collections.abc import Mapping
from typing import Any, Literal

from unet_dist.cluster.tables.draft import CardDraft, Draft, ServerDraft, check_count, ips_of
from unet_dist.cluster.tables.fields import number_of, objects_of, optional_text_of, text_of
from unet_dist.cluster.tables.problems import Problem

SERVER_TEXTS = ("host_ip",)
DEVICE_TEXTS = (
    "device_ip",
    "device_port",
    "host_port",
    "backup_device_ip",
    "backup_device_port",
    "device_vnic_port",
    "super_device_id",
    "net_position",
    "net_protocol",
)
"""What HCCL reads besides the keys that it needs."""


def draft_of_servers(
    tree: Mapping[str, Any], dialect: Literal["1.0", "1.2"], problems: list[Problem]
) -> Draft:
    listed = tree.get("server_list")
    if optional_text_of(tree, "server_count", "", problems) is not None and isinstance(
        listed, list
    ):
        check_count(tree, "server_count", "", problems, real=len(listed))
    servers = [
        _server(entry, path, problems)
        for path, entry in objects_of(tree, "server_list", "", problems, rule="R8")
    ]
    return Draft(dialect=dialect, servers=tuple(servers), tree=tree)


def _server(entry: Mapping[str, Any], path: str, problems: list[Problem]) -> ServerDraft:
    server_id = text_of(entry, "server_id", path, problems)
    for key in SERVER_TEXTS:
        optional_text_of(entry, key, path, problems)
    cards = [
        _card(device, spot, problems)
        for spot, device in objects_of(entry, "device", path, problems, rule="R10")
    ]
    return ServerDraft(path=path, server_id=server_id, cards=tuple(cards), raw=entry)


def _card(entry: Mapping[str, Any], path: str, problems: list[Problem]) -> CardDraft:
    rank = number_of(entry, "rank_id", path, problems, rule="R12")
    device_id = number_of(entry, "device_id", path, problems, rule="R10")
    for key in DEVICE_TEXTS:
        optional_text_of(entry, key, path, problems)
    return CardDraft(path=path, rank=rank, device_id=device_id, ips=ips_of(entry), raw=entry)
