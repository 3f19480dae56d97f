"""Rank tables from files: limits, waiting for one that is being written, and all faults at once."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from unet_dist.cluster.tables.check import Checked, check_tree, path_problems
from unet_dist.cluster.tables.model import Chip, RankTable
from unet_dist.cluster.tables.problems import Problem, errors_of
from unet_dist.errors import UserError
from unet_dist.files import read_bytes

MAX_BYTES = 10_000_000
MAX_DEPTH = 64
# 2.0 goes up to 65,536 ranks, each with a layer and an address; a problem for each key of more
# objects than these would fill the memory.
MAX_OBJECTS = 200_000
POLL_S = 0.5
STABLE_S = 2.0
"""What is no JSON for so long without a change is not being written."""

OnWait = Callable[[str, float], None]
"""Told why a table is waited for, and the seconds left."""


def load_rank_table(
    path: Path, chip: Chip | None = None, *, wait_s: float = 0, on_wait: OnWait | None = None
) -> RankTable:
    """The table of a file that HCCL would take.

    Raises:
        UserError: every problem for which HCCL would refuse it, with its place and its cure.
    """
    return table_of(path, check_file(path, chip, wait_s=wait_s, on_wait=on_wait))


def table_of(path: Path, checked: Checked) -> RankTable:
    """The table that a check found good, or a UserError with every reason why it is not."""
    refused = errors_of(checked.problems)
    if refused or checked.table is None:
        raise UserError(str(path), [str(problem) for problem in refused or checked.problems])
    return checked.table


def check_file(
    path: Path, chip: Chip | None = None, *, wait_s: float = 0, on_wait: OnWait | None = None
) -> Checked:
    """Every problem of a rank table.

    Raises:
        UserError: the file is missing, cannot be read, or is too large.
    """
    tree, problems = read_when_ready(path, wait_s, on_wait=on_wait)
    problems = [*path_problems(path), *problems]
    if tree is None:
        return Checked(dialect=None, problems=tuple(problems))
    checked = check_tree(tree, chip)
    found = (*problems, *checked.problems)
    table = None if errors_of(problems) else checked.table
    return replace(checked, problems=found, table=table)


def read_when_ready(
    path: Path,
    wait_s: float,
    *,
    on_wait: OnWait | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Any, list[Problem]]:
    """The JSON of a file, or the reason why it is none.

    Schedulers write the file in place and say ``status: initializing`` until it is complete. So
    that status is waited for, and what is no JSON is read again until it stays the same.
    """
    now = changed = clock()
    end = now + wait_s
    before: bytes | None = None
    while True:
        content = read_bytes(path, most=MAX_BYTES, beyond="which no rank table is")
        if content != before:
            before, changed = content, now
        tree, problems = parse(content)
        reason = _reason_to_wait(tree, problems, still=now - changed >= STABLE_S)
        if reason is None or now >= end:
            return tree, problems
        if on_wait is not None:
            on_wait(reason, end - now)
        sleep(min(POLL_S, end - now))
        now = clock()


def parse(content: bytes) -> tuple[Any, list[Problem]]:
    """JSON as strict as HCCL's parser; None and a problem if it is none."""
    try:
        text = content.decode("utf-8-sig")
        tree = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        depth, objects = _depth_and_objects(tree)
        if depth > MAX_DEPTH:
            return None, [_not_json(f"lists and objects are nested deeper than {MAX_DEPTH}")]
        if objects > MAX_OBJECTS:
            return None, [_not_json(f"{objects} objects, more than any rank table has")]
        json.dumps(tree, ensure_ascii=False).encode()  # half a surrogate pair fails here
    except UnicodeError as error:
        return None, [_not_json(f"it is not UTF-8 text: {error}")]
    except RecursionError:
        return None, [_not_json(f"lists and objects are nested deeper than {MAX_DEPTH}")]
    except ValueError as error:
        if not content.strip():
            return None, [_not_json("it is empty")]
        hint = "; JSON has no comments" if "//" in text else ""
        return None, [_not_json(f"{error}{hint}")]
    if tree is None:
        return None, [_not_json("it holds only null")]
    return tree, []


def _reason_to_wait(tree: Any, problems: list[Problem], *, still: bool) -> str | None:
    if problems:
        return None if still else "it is not JSON, perhaps half written"
    if isinstance(tree, dict) and tree.get("status") == "initializing":
        return "its status is initializing"
    return None


def _not_json(reason: str) -> Problem:
    return Problem(
        path="$",
        rule="R3",
        code="EI0004",
        message=f"the file is not JSON that can be read: {reason}",
        fix="write it anew; HCCL ends the job at once, even if the file was only half written",
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _depth_and_objects(tree: Any) -> tuple[int, int]:
    """Levels of nesting and number of objects, found without recursion."""
    deepest = objects = 0
    rest = [(tree, 1)]
    while rest:
        value, depth = rest.pop()
        deepest = max(deepest, depth)
        if depth > MAX_DEPTH:
            break
        if isinstance(value, dict):
            objects += 1
            rest.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            rest.extend((item, depth + 1) for item in value)
    return deepest, objects
