"""Which dialect a file is written in, and a clear word for those that are not read."""

from collections.abc import Mapping
from typing import Any, cast

from unet_dist.cluster.tables.fields import is_meant, missing, misspelling_of
from unet_dist.cluster.tables.model import Dialect
from unet_dist.cluster.tables.problems import Problem, shown

OTHER_FILES: Mapping[str, tuple[str, str]] = {
    # hiascend.com: MindCluster, global-ranktable description
    "server_group_list": (
        "this is the global rank table of an inference service, which HCCL does not read",
        "use the rank table of one of its jobs",
    ),
    # hccl: rank_table_config_a5.md
    "peer_list": (
        "this is a topology file of /usr/local/Ascend/driver/topo, not a rank table",
        "use the file with rank_list",
    ),
}
EARLY_DRAFT_KEYS = ("level", "fabric_type", "rank_addrs")


def recognise(tree: Mapping[str, Any], problems: list[Problem]) -> Dialect | None:
    """The dialect; None, and a problem, for one that is not read."""
    for key, (message, fix) in OTHER_FILES.items():
        if key in tree:
            problems.append(Problem(path="$", rule="R7", message=message, fix=fix))
            return None
    if "version" not in tree:
        return _without_version(tree, problems)
    version = tree["version"]
    if not isinstance(version, str):
        problems.append(
            Problem(
                path="version",
                rule="R5",
                code="EI0017",
                message=f"version is {shown(version)}, which is not a JSON string; "
                "HCCL would say that it is missing",
                fix=f'write "{shown(version)}"',
            )
        )
        version = str(version)
    if version == "2.0" and _is_early_draft(tree):
        problems.append(
            Problem(
                path="$",
                rule="R7",
                message="this is an early draft of 2.0 (level, fabric_type, rank_addrs), which "
                "HCCL no longer reads",
                fix="write net_layer, net_type and rank_addr_list as hccl's "
                "rank_table_config_a5.md has them",
            )
        )
        return None
    if version in ("1.0", "1.2", "2.0"):
        return cast(Dialect, version)
    problems.append(_unknown_version(version))
    return None


def _without_version(tree: Mapping[str, Any], problems: list[Problem]) -> Dialect | None:
    if "group_list" in tree:
        return "lab" if "deploy_mode" in tree else "template2"
    guess = "1.0" if "server_list" in tree else "2.0" if "rank_list" in tree else None
    if guess is None:
        problems.append(missing("version", "", tree))
        return None
    typed = misspelling_of("version", tree)
    problems.append(
        Problem(
            path="version",
            rule="R7",
            code="EI0017",
            message="version is missing; HCCL takes such a table for template 2 and would say "
            "that group_count is missing" + is_meant("version", typed),
            fix=f'rename {shown(typed)} to "version"' if typed else f'add "version": "{guess}"',
        )
    )
    return cast(Dialect, guess)


def _unknown_version(version: str) -> Problem:
    if version == "1.1":
        return Problem(
            path="version",
            rule="R7",
            severity="UNSUPPORTED",
            message='version is "1.1", a table of hosts and cards together; only tables of cards '
            "are read here",
            fix='write the cards as a table of version "1.0"',
        )
    return Problem(
        path="version",
        rule="R7",
        message=f"version is {shown(version)}; HCCL knows 1.0, 1.2, 2.0, and template 2, which "
        "has no version",
        fix='write "1.0" for 910A and 910B, "1.2" for a 910C super pod, "2.0" for 950',
    )


def _is_early_draft(tree: Mapping[str, Any]) -> bool:
    if "replace_list" in tree:
        return True
    ranks = tree.get("rank_list")
    first = ranks[0] if isinstance(ranks, list) and ranks else None
    levels = first.get("level_list") if isinstance(first, dict) else None
    level = levels[0] if isinstance(levels, list) and levels else None
    return (
        isinstance(level, dict)
        and "net_layer" not in level
        and any(key in level for key in EARLY_DRAFT_KEYS)
    )
