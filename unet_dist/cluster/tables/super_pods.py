"""Lists of server groups inside a table: the super pods of 1.2, and MindSpore's clusters."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unet_dist.cluster.tables.draft import Draft
from unet_dist.cluster.tables.fields import objects_of, parse_number, text_of
from unet_dist.cluster.tables.problems import Problem, Severity, plain, shown

SERVER_GROUPS: Mapping[str, str] = {"super_pod_list": "super_pod_id", "cluster_list": "cluster_id"}
"""A list of groups at the top of a table, and the key that names one of them."""


def super_pod_problems(draft: Draft) -> list[Problem]:
    if draft.dialect != "1.2":
        return []
    told: list[Problem] = []
    owner_of: dict[str, str] = {}
    if "super_pod_list" in draft.tree:
        owner_of = _owners(draft, told)
        told += _unowned(draft, owner_of)
        told += _torn(draft, owner_of)
    told += _super_device_ids(draft, owner_of)
    return told


def _owners(draft: Draft, told: list[Problem]) -> dict[str, str]:
    """The super pod of each server."""
    known = {server.server_id for server in draft.servers}
    owner_of: dict[str, str] = {}
    pods: dict[str, str] = {}
    for path, pod in objects_of(draft.tree, "super_pod_list", "", told, rule="R17"):
        name = text_of(pod, "super_pod_id", path, told)
        if name == "":
            told.append(_problem(f"{path}.super_pod_id", "super_pod_id is empty"))
        elif name is not None and pods.setdefault(name, path) != path:
            wrong = f"super_pod_id {shown(name)} is already used by {pods[name]}"
            told.append(_problem(f"{path}.super_pod_id", wrong))
        for spot, entry in objects_of(pod, "server_list", path, told, rule="R17"):
            server_id = text_of(entry, "server_id", spot, told)
            if server_id is None:
                continue
            if server_id not in known:
                wrong = f"server_id {shown(server_id)} is not in server_list"
                told.append(_problem(f"{spot}.server_id", wrong))
            elif server_id in owner_of:
                wrong = f"server {plain(server_id)} is already in super pod {owner_of[server_id]}"
                told.append(_problem(f"{spot}.server_id", wrong))
            else:
                owner_of[server_id] = plain(name) if name else path
    return owner_of


def _unowned(draft: Draft, owner_of: Mapping[str, str]) -> Iterator[Problem]:
    for server in draft.servers:
        if server.server_id and server.server_id not in owner_of:
            wrong = f"server {server.name} is in no super pod of super_pod_list"
            yield _problem(server.path, wrong)


def _torn(draft: Draft, owner_of: Mapping[str, str]) -> Iterator[Problem]:
    """The servers of a super pod must stand together."""
    left: set[str] = set()
    current = ""
    for server in draft.servers:
        pod = owner_of.get(server.server_id or "", "")
        if pod and pod != current:
            if pod in left:
                wrong = f"server {server.name} of super pod {pod} stands apart from its others"
                yield _problem(server.path, wrong, severity="UNSUPPORTED")
            left.add(current)
            current = pod


def _super_device_ids(draft: Draft, owner_of: Mapping[str, str]) -> Iterator[Problem]:
    owners: dict[tuple[str, int], str] = {}
    for server, card in draft.cards():
        pod = owner_of.get(server.server_id or "", "")
        text = card.raw.get("super_device_id")
        path = f"{card.path}.super_device_id"
        number = parse_number(text) if isinstance(text, str) else None
        if isinstance(text, str) and number is None:
            yield _problem(path, f"super_device_id is {shown(text)}, which is not a whole number")
        elif text is None and pod:
            yield _problem(path, f"super_device_id is missing, but super pod {pod} needs it")
        elif number is not None and pod and owners.setdefault((pod, number), path) != path:
            first = owners[pod, number].removesuffix(".super_device_id")
            wrong = f"super_device_id {number} is already used by {first} in super pod {pod}"
            yield _problem(path, wrong)


def _problem(path: str, message: str, *, severity: Severity = "ERROR") -> Problem:
    return Problem(
        path=path,
        rule="R17",
        severity=severity,
        message=message,
        fix="npu-smi info -t spod-info -i ID -c CHIP tells super pod and SDID of a card; list the "
        "servers of each super pod one after the other",
    )


def keep_groups(tree_part: Mapping[str, Any], server_ids: set[str]) -> dict[str, Any]:
    """Top-level keys with the groups cut down to these servers; empty groups go."""
    kept = dict(tree_part)
    for key in SERVER_GROUPS:
        if _are_groups(kept.get(key), key):
            groups = [
                {**group, "server_list": [e for e in group["server_list"] if _id(e) in server_ids]}
                for group in kept[key]
            ]
            kept[key] = [group for group in groups if group["server_list"]]
    return kept


def join_groups(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The groups of several tables' top-level keys; those with the same name become one."""
    joined = {}
    for key, name_key in SERVER_GROUPS.items():
        lists = [part[key] for part in parts if _are_groups(part.get(key), key)]
        by_name: dict[str, dict[str, Any]] = {}
        for group in (group for groups in lists for group in groups):
            before = by_name.get(group[name_key], {"server_list": []})
            servers = [*before["server_list"], *group["server_list"]]
            by_name[group[name_key]] = {**group, **before, "server_list": servers}
        if by_name:
            joined[key] = list(by_name.values())
    return joined


def _are_groups(value: Any, key: str) -> bool:
    """Where a dialect does not use the key, nothing was said of its form."""
    return isinstance(value, list) and all(
        isinstance(group, dict)
        and isinstance(group.get(SERVER_GROUPS[key]), str)
        and isinstance(group.get("server_list"), list)
        for group in value
    )


def _id(entry: Any) -> str | None:
    server_id = entry.get("server_id") if isinstance(entry, dict) else None
    return server_id if isinstance(server_id, str) else None
