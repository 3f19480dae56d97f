"""All problems of a table at once, and the table itself if it has no structural one."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_dist.cluster.tables.chips import chip_problems, unchecked_chip_rules
from unet_dist.cluster.tables.draft import CardDraft, Draft
from unet_dist.cluster.tables.draft_groups import COUNTED_BY, draft_of_groups
from unet_dist.cluster.tables.draft_ranks import draft_of_ranks
from unet_dist.cluster.tables.draft_servers import draft_of_servers
from unet_dist.cluster.tables.model import CHIPS_OF, Chip, Device, Dialect, RankTable, Server
from unet_dist.cluster.tables.problems import Problem, errors_of
from unet_dist.cluster.tables.recognise import recognise
from unet_dist.cluster.tables.rules import common_problems
from unet_dist.cluster.tables.super_pods import super_pod_problems

MAX_PATH = 4095

TOP_KEYS: Mapping[Dialect, tuple[str, ...]] = {
    "1.0": ("version", "status", "server_count", "server_list"),
    "1.2": ("version", "status", "server_count", "server_list"),
    "template2": ("status", "group_count", "group_list"),
    "lab": ("status", "group_count", "group_list"),
    "2.0": ("version", "status", "rank_count", "rank_list"),
}
GROUP_KEYS = ("instance_count", "instance_list", *COUNTED_BY.values())
SERVER_KEYS = ("server_id", "device")
DEVICE_KEYS: Mapping[Dialect, tuple[str, ...]] = {
    "1.0": ("device_id", "rank_id", "device_ip"),
    "1.2": ("device_id", "rank_id", "device_ip"),
    "template2": ("device_id", "device_ip"),
    "lab": ("device_id", "device_ip"),
    "2.0": ("device_id", "rank_id"),
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found."""

    dialect: Dialect | None
    """None for a file that is no rank table, or of a dialect that is not read."""
    problems: tuple[Problem, ...]
    unchecked: tuple[str, ...] = ()
    """Rules that need the chip to be named."""
    fingerprint: str = ""
    """Must be the same on every server; empty for what is no JSON object."""
    table: RankTable | None = None
    """None if the structure is wrong; not if only a chip cannot work with it."""


def check_tree(tree: Any, chip: Chip | None = None) -> Checked:
    """Checks the parsed JSON of a rank table."""
    problems: list[Problem] = []
    if not isinstance(tree, dict):
        wrong = f"a rank table is one JSON object in braces, but this is a {type(tree).__name__}"
        fix = "see rank_tables/README.md for the keys"
        problems.append(Problem(path="$", rule="R6", code="EI0017", message=wrong, fix=fix))
        return Checked(dialect=None, problems=tuple(problems))
    dialect = recognise(tree, problems)
    if dialect is None:
        return Checked(dialect=None, problems=tuple(problems), fingerprint=fingerprint(tree))
    draft = _draft(tree, dialect, problems)
    problems += common_problems(draft)
    problems += super_pod_problems(draft)
    broken = errors_of(problems)
    problems += chip_problems(draft, chip)
    return Checked(
        dialect=dialect,
        problems=tuple(problems),
        unchecked=tuple(unchecked_chip_rules(draft, chip)),
        fingerprint=fingerprint(tree),
        table=None if broken else _table(draft),
    )


def refused_by_910a(tree: Any) -> list[Problem]:
    """The errors of a 910A that another chip of the dialect has not; none if 910A has another."""
    known = {(problem.path, problem.rule) for problem in errors_of(check_tree(tree).problems)}
    checked = check_tree(tree, "910A")
    if checked.dialect is None or "910A" not in CHIPS_OF[checked.dialect]:
        return []
    errors = errors_of(checked.problems)
    return [problem for problem in errors if (problem.path, problem.rule) not in known]


def path_problems(path: Path) -> list[Problem]:
    """What HCCL has against the place of the file; this program hands it the resolved path."""
    text = str(path.resolve())
    problems = []
    if len(text.encode()) > MAX_PATH:
        problems.append(
            Problem(
                path="$",
                rule="R1",
                code="EI0004",
                message=f"the path has {len(text.encode())} bytes, but HCCL takes {MAX_PATH}",
                fix="move the file to a shorter path",
            )
        )
    if text.find(".json") + len(".json") != len(text):
        problems.append(
            Problem(
                path="$",
                rule="R2",
                code="EI0004",
                message=f"HCCL refuses the path {text}: the name must end in .json, with no "
                "earlier '.json' in the path",
                fix="rename the file to end in .json, and folders that contain .json",
            )
        )
    return problems


def fingerprint(tree: Mapping[str, Any]) -> str:
    """The same for files that HCCL takes for the same: the order of keys and blanks do not
    count, the order of lists does (R18)."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def _draft(tree: Mapping[str, Any], dialect: Dialect, problems: list[Problem]) -> Draft:
    if dialect == "1.0" or dialect == "1.2":  # noqa: PLR1714 (mypy narrows only this)
        return draft_of_servers(tree, dialect, problems)
    if dialect == "2.0":
        return draft_of_ranks(tree, problems)
    return draft_of_groups(tree, dialect, problems)


def _table(draft: Draft) -> RankTable:
    return RankTable(
        dialect=draft.dialect,
        servers=tuple(
            Server(
                server_id=server.server_id or "",
                devices=tuple(_device(card, draft.dialect) for card in server.cards),
                extra=_without(server.raw, SERVER_KEYS),
            )
            for server in draft.servers
        ),
        extra=_without(draft.tree, TOP_KEYS[draft.dialect]),
        group=_without(draft.group, GROUP_KEYS),
    )


def _device(card: CardDraft, dialect: Dialect) -> Device:
    assert card.device_id is not None
    assert card.rank is not None
    extra = _without(card.raw, DEVICE_KEYS[dialect])
    if dialect == "2.0":
        ip = ",".join(filter(None, card.ips))
    else:
        ip = card.raw.get("device_ip", "")
        if card.raw.get("device_ip") == "":  # not the same as absent: HCCL tells them apart
            extra["device_ip"] = ""
    return Device(device_id=card.device_id, rank=card.rank, ip=ip, extra=extra, pod=card.pod)


def _without(entry: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in keys}
