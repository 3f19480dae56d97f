"""Launchers of one job on several servers, each of which starts its own part of the ranks.

They meet in the attempt's folder, on a file system that all servers share. The first part leads:
it numbers the attempts, watches all ranks, and says how an attempt ended. A launcher that lives
rewrites a small file; whoever sees it unchanged for long takes that host for lost. Contents are
compared, never clocks. Who creates that file has the part for this attempt, and nobody after it:
the ranks of a launcher that was killed are gone, and another one that is started in its place must
not hide that.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unet_dist.cluster.topology import Part
from unet_dist.errors import UserError
from unet_dist.runs import AttemptDir, RunDir, read_json

BEAT_EVERY_S = 1.0
ATTEMPT_POLL_S = 0.2


class Parts:
    """This launcher among the launchers of one attempt."""

    def __init__(self, attempt: AttemptDir, part: Part, *, lost_after_s: float) -> None:
        self._attempt = attempt
        self._part = part
        self._lost_after_s = lost_after_s
        self._beats = 0
        self._next_beat = 0.0
        watched = range(1, part.count) if part.index == 0 else [0]
        self._seen: dict[int, tuple[str, float]] = dict.fromkeys(watched, ("", 0.0))

    @property
    def leads(self) -> bool:
        return self._part.index == 0

    def beat(self, now: float) -> None:
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_EVERY_S
        self._beats += 1
        path = self._attempt.part_beat(self._part.index)
        path.parent.mkdir(exist_ok=True)
        # A full disk is told by what needs the disk; the others would soon miss this beat.
        with contextlib.suppress(OSError):
            path.write_text(f"{self._beats}\n")

    def lost(self, now: float) -> list[int]:
        """Parts that once lived and have not been heard of for too long."""
        missing = []
        for index, (before, since) in self._seen.items():
            content = _read(self._attempt.part_beat(index))
            if content and content != before:
                self._seen[index] = (content, now)
            elif before and now - since > self._lost_after_s:
                missing.append(index)
        return missing

    def all_heard_since(self, moment: float) -> bool:
        """Whether every part that once lived has shown it after this moment."""
        return all(since > moment for content, since in self._seen.values() if content)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def wait_for_attempt(
    run: RunDir,
    part: Part,
    *,
    after: int,
    limit_s: float,
    given_up: Callable[[], bool],
) -> AttemptDir | None:
    """The attempt that the leading launcher works on, once it is seen to live.

    Args:
        after: number of the last attempt that this launcher took part in; -1 at first.
        given_up: looked at between polls; True returns None.

    Raises:
        UserError: none came within the limit, it was planned for another number of parts, or
            another launcher of this part works in it.
    """
    deadline = time.monotonic() + limit_s
    first_seen: dict[Path, str] = {}
    while time.monotonic() < deadline:
        if given_up():
            return None
        number = run.next_attempt() - 1
        attempt = run.attempt(number)
        leader, mine = attempt.part_beat(0), attempt.part_beat(part.index)
        beat = _read(leader) if number > after else ""
        # An attempt of a launcher that was killed lies there too, but its beat stands still.
        if beat and first_seen.setdefault(leader, beat) != beat and not attempt.ended.exists():
            count = read_json(attempt.plan)["part"]["count"]
            if count != part.count:
                raise UserError(
                    "--part", f"this is one of {part.count} parts, but part 0 is one of {count}"
                )
            if _takes(attempt, part):
                return attempt
            if first_seen.setdefault(mine, _read(mine)) != _read(mine):
                raise UserError(
                    "--part", f"another launcher of part {part.index} works in {run.path}"
                )
        time.sleep(ATTEMPT_POLL_S)
    raise UserError(
        str(run.path),
        f"part 0 has not started a job here within {limit_s:.0f} s. Was the same command started "
        "on every server, and is this folder on a file system that they share?",
    )


def _takes(attempt: AttemptDir, part: Part) -> bool:
    """Whether this launcher is the first of its part in this attempt."""
    try:
        with attempt.part_beat(part.index).open("x") as beat:
            beat.write("0\n")
    except FileExistsError:
        return False
    return True


def how_it_ended(attempt: AttemptDir) -> dict[str, Any]:
    """What the leader wrote: ``state``, ``again``, ``failure``; empty while it goes on."""
    return read_json(attempt.ended) if attempt.ended.exists() else {}
