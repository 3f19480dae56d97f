"""A rank table as a person reads it."""

from collections.abc import Sequence
from typing import Any

from unet_dist.cluster.tables.chips import RINGS
from unet_dist.cluster.tables.model import Device, RankTable
from unet_dist.cluster.tables.problems import Problem, plain
from unet_dist.errors import counted

HEADINGS = ("rank", "card", "ring", "address", "more")
MOST_DOUBTS = 6
UNREMARKABLE = ("level_list", "local_id", "device_ip")
"""Keys of a card that say what other columns say, or too much for a line."""


def describe_table(table: RankTable) -> str:
    """One block for each server, one line for each card."""
    blocks = [
        f"dialect {table.dialect}: {counted(len(table.servers), 'server')}, "
        f"{counted(table.world, 'rank')}"
    ]
    groups = _groups_of_servers(table)
    for server in table.servers:
        facts = [
            f"{plain(key)} {plain(value)}"
            for key, value in server.extra.items()
            if isinstance(value, str)
        ]
        facts = [f"server {plain(server.server_id)}", *groups.get(server.server_id, []), *facts]
        rows = [HEADINGS, *(_row(table, device) for device in server.devices)]
        blocks.append("\n".join([", ".join(facts), *_aligned(rows)]))
    return "\n\n".join(blocks)


def table_facts(table: RankTable) -> dict[str, Any]:
    """The same for programs."""
    groups = _groups_of_servers(table)
    return {
        "dialect": table.dialect,
        "ranks": table.world,
        "servers": [
            {
                "server_id": server.server_id,
                "groups": groups.get(server.server_id, []),
                "devices": [
                    {
                        "rank": device.rank,
                        "device_id": device.device_id,
                        "ring": ring_of(table, device),
                        "device_ip": device.ip,
                        **{k: v for k, v in device.extra.items() if k not in UNREMARKABLE},
                        **device.pod,
                    }
                    for device in server.devices
                ],
                "extra": dict(server.extra),
            }
            for server in table.servers
        ],
    }


def describe_doubts(problems: Sequence[Problem], of_910a: Sequence[Problem]) -> list[str]:
    """Lines below a table that was written: what is wrong with it though HCCL takes it.

    Args:
        of_910a: what a 910A would refuse, if the chip is not known.
    """
    told = {(problem.path, problem.rule) for problem in of_910a}
    lines = [f"{p.severity} {p}" for p in problems if (p.path, p.rule) not in told]
    lines += [f"910A would refuse this: {problem}" for problem in of_910a]
    more = len(lines) - MOST_DOUBTS
    return [*lines[:MOST_DOUBTS], f"and {more} more: rank-table check"] if more > 0 else lines


def ring_of(table: RankTable, device: Device) -> int | None:
    """Which four cards of a 910A server it is joined with; other chips have no rings."""
    if table.dialect not in ("1.0", "template2", "lab"):
        return None
    return next((i for i, ring in enumerate(RINGS) if device.device_id in ring), None)


def _row(table: RankTable, device: Device) -> tuple[str, ...]:
    ring = ring_of(table, device)
    more = {**{k: v for k, v in device.extra.items() if k not in UNREMARKABLE}, **device.pod}
    return (
        str(device.rank),
        str(device.device_id),
        "-" if ring is None else str(ring),
        device.ip or "-",
        ", ".join(
            f"{plain(k)} {plain(str(v))}"
            for k, v in more.items()
            if isinstance(v, str | int) and v != ""
        ),
    )


def _groups_of_servers(table: RankTable) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    pods = table.extra.get("super_pod_list", []) if table.dialect == "1.2" else []
    for pod in pods:
        for entry in pod["server_list"]:
            groups.setdefault(entry["server_id"], []).append(
                f"super pod {plain(pod['super_pod_id'])}"
            )
    return groups


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
