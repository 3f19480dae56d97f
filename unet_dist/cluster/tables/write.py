"""Rank tables into files, in each dialect that HCCL still reads."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from unet_dist.cluster.tables.check import check_tree, path_problems
from unet_dist.cluster.tables.model import Device, Dialect, RankTable
from unet_dist.cluster.tables.problems import errors_of
from unet_dist.errors import UserError
from unet_dist.runs import write_text_atomically

GROUP_NAME = "hccl_world_group"
"""The documents of template 2 ask for it, and HCCL makes this group whatever the name."""


def write_rank_table(
    path: Path, table: RankTable, *, inputs: Sequence[Path] = (), force: bool = False
) -> None:
    """Writes the file whole or not at all.

    Args:
        inputs: files that the table was made of; they are never overwritten.
        force: replace a file that exists.

    Raises:
        UserError: the place is taken, or HCCL would refuse the path or the table.
    """
    faults = [problem.message for problem in path_problems(path)]
    same = [str(each) for each in inputs if each.exists() and path.exists() and each.samefile(path)]
    if same:
        faults.append(f"is an input ({same[0]}); write to another file")
    elif path.is_dir():
        faults.append("is a folder; name a file")
    elif path.exists() and not force:
        faults.append("exists; pass --force to replace it, or name another file")
    if faults:
        raise UserError(str(path), faults)
    write_text_atomically(path, text_of_table(table))


def text_of_table(table: RankTable) -> str:
    """The file's text.

    Raises:
        UserError: HCCL would refuse it.
    """
    tree = tree_of(table)
    refused = errors_of(check_tree(tree).problems)
    if refused:
        heading = f"HCCL would refuse the table, were it written as {table.dialect}"
        raise UserError(heading, [str(problem) for problem in refused])
    return json.dumps(tree, indent=2) + "\n"


def tree_of(table: RankTable) -> dict[str, Any]:
    """The table as the JSON of its dialect, keys that are not known included."""
    writer = WRITERS.get(table.dialect)
    if writer is None:
        raise UserError(
            f"dialect {table.dialect}",
            "is read only; convert the table first: unet-dist rank-table convert --to 1.0",
        )
    return writer(table)


def _tree_of_servers(table: RankTable) -> dict[str, Any]:
    servers = [
        _with(
            server.extra,
            server_id=server.server_id,
            device=[
                _with(device.extra, **_card(device), rank_id=str(device.rank))
                for device in server.devices
            ],
        )
        for server in table.servers
    ]
    return _with(
        table.extra,
        version=table.dialect,
        server_count=str(len(servers)),
        server_list=servers,
        status="completed",
    )


def _tree_of_groups(table: RankTable) -> dict[str, Any]:
    instances = [
        _with(
            pod,
            server_id=server.server_id,
            devices=[_with(device.extra, **_card(device)) for device in devices],
        )
        for server in table.servers
        for pod, devices in _pods(server.devices)
    ]
    group = _with(
        {"group_name": GROUP_NAME, **table.group},
        instance_count=str(len(instances)),
        device_count=str(table.world),
        instance_list=instances,
    )
    return _with(table.extra, status="completed", group_count="1", group_list=[group])


def _pods(devices: Sequence[Device]) -> list[tuple[Mapping[str, Any], list[Device]]]:
    return [(pod, list(mine)) for pod, mine in groupby(devices, key=lambda device: device.pod)]


def _tree_of_ranks(table: RankTable) -> dict[str, Any]:
    ranks = [
        _with(device.extra, rank_id=device.rank, device_id=device.device_id)
        for _, device in table.by_rank()
    ]
    return _with(
        table.extra, version="2.0", status="completed", rank_count=table.world, rank_list=ranks
    )


def _card(device: Device) -> dict[str, str]:
    ip = {"device_ip": device.ip} if device.ip else {}
    return {"device_id": str(device.device_id), **ip}


def _with(extra: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """The known keys first, then the others; in another dialect an old key may clash."""
    return {**known, **extra, **known}


WRITERS: Mapping[Dialect, Callable[[RankTable], dict[str, Any]]] = {
    "1.0": _tree_of_servers,
    "1.2": _tree_of_servers,
    "template2": _tree_of_groups,
    "2.0": _tree_of_ranks,
}
