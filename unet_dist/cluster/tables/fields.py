"""One value out of a JSON object; a wrong one is told, and comes out as None."""

import difflib
from collections.abc import Mapping
from typing import Any

from unet_dist.cluster.tables.problems import Problem, shown

MAX_NUMBER = 2**32 - 1
MISSING = "EI0017"
"""HCCL's code for a key that is not there."""
KNOWN = """
version status server_count server_list server_id device device_id rank_id device_ip host_ip
device_port host_port backup_device_ip backup_device_port device_vnic_port super_device_id
net_position net_protocol super_pod_list super_pod_id cluster_list cluster_id server_ip dpu_ip
numa_id pod_ip container_ip hardware_type
group_count group_list group_name instance_count instance_list device_count device_num devices
pod_name server_num deploy_mode board_id chip_info para_plane_nic_location para_plane_nic_name
para_plane_nic_num
rank_count rank_list local_id replaced_local_id level_list net_layer net_instance_id net_type
net_attr rank_addr_list addr_type addr ports plane_id
"""
KNOWN_KEYS = frozenset(KNOWN.split())
"""Of all dialects. Any other key is allowed, but may be one of these misspelt."""
MOST_COMPARED = 32
"""Keys of one object, and letters of a key; a file may have millions of either."""


def text_of(
    entry: Mapping[str, Any],
    key: str,
    path: str,
    problems: list[Problem],
    *,
    code: str = MISSING,
) -> str | None:
    """A string that HCCL needs; it may be empty.

    Args:
        code: what HCCL reports for a value of another type; 1.x says that it is missing.
    """
    if key not in entry:
        problems.append(missing(key, path, entry))
        return None
    return optional_text_of(entry, key, path, problems, code=code)


def optional_text_of(
    entry: Mapping[str, Any],
    key: str,
    path: str,
    problems: list[Problem],
    *,
    code: str = MISSING,
) -> str | None:
    value = entry.get(key)
    if isinstance(value, str):
        return value
    if key not in entry:
        return None
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    problems.append(
        Problem(
            path=inside(path, key),
            rule="R5",
            code=code,
            message=f"{key} is {shown(value)}, which is not a JSON string"
            + (f"; HCCL would say that {key} is missing" if code == MISSING else ""),
            fix=f'write "{shown(value)}"' if plain else "write a string",
        )
    )
    return None


def number_of(
    entry: Mapping[str, Any], key: str, path: str, problems: list[Problem], *, rule: str
) -> int | None:
    """A whole number that 1.x writes as a string."""
    text = text_of(entry, key, path, problems)
    if text is None:
        return None
    number = parse_number(text)
    if number is None:
        problems.append(
            Problem(
                path=inside(path, key),
                rule=rule,
                message=f"{key} is {shown(text)}, which is not a whole number",
                fix='write digits only, such as "0"',
            )
        )
    return number


def int_of(
    entry: Mapping[str, Any], key: str, path: str, problems: list[Problem], *, needed: bool = True
) -> int | None:
    """A whole number that 2.0 writes as a number."""
    if key not in entry:
        if needed:
            problems.append(missing(key, path, entry))
        return None
    value = entry[key]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER:
        return value
    digits = isinstance(value, str) and parse_number(value) is not None
    problems.append(
        Problem(
            path=inside(path, key),
            rule="R5",
            message=f"{key} is {shown(value)}, but 2.0 wants a whole number without quotes",
            fix=f"write {value}" if digits else "write a number such as 0",
        )
    )
    return None


def objects_of(
    entry: Mapping[str, Any], key: str, path: str, problems: list[Problem], *, rule: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of a list that must not be empty, each with its JSON path."""
    value = entry.get(key)
    where = inside(path, key)
    if key not in entry:
        problems.append(missing(key, path, entry))
        return []
    if not isinstance(value, list) or not value:
        wrong = f"{key} is {shown(value)}, but must be a list that is not empty"
        problems.append(Problem(path=where, rule=rule, message=wrong, fix="list at least one"))
        return []
    found: list[tuple[str, Mapping[str, Any]]] = []
    for index, item in enumerate(value):
        spot = f"{where}[{index}]"
        if isinstance(item, dict):
            found.append((spot, item))
        else:
            wrong = f"{shown(item)} is not an object"
            problems.append(
                Problem(path=spot, rule=rule, message=wrong, fix="write an object in braces")
            )
    return found


def missing(key: str, path: str, entry: Mapping[str, Any]) -> Problem:
    """Args:
    entry: the object without the key; it may have it misspelt.
    """
    typed = misspelling_of(key, entry)
    return Problem(
        path=inside(path, key),
        rule="R6",
        code=MISSING,
        message=f"{key} is missing{is_meant(key, typed)}",
        fix=f'rename {shown(typed)} to "{key}"' if typed else f'add "{key}"',
    )


def misspelling_of(key: str, entry: Mapping[str, Any]) -> str | None:
    """The unknown key of an object that looks most like one that it lacks."""
    unknown = [name for name in entry if name not in KNOWN_KEYS and len(name) <= MOST_COMPARED]
    return next(iter(difflib.get_close_matches(key, unknown[:MOST_COMPARED], 1, 0.75)), None)


def is_meant(key: str, typed: str | None) -> str:
    return f"; unknown key {shown(typed)}: is {key} meant?" if typed else ""


def parse_number(text: str) -> int | None:
    """Digits as HCCL takes them: ASCII, and no more than fits into 32 bits."""
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > MAX_NUMBER:
        return None
    return int(text)


def inside(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
