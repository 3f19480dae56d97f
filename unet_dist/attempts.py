"""The part of a run folder that one start of its ranks writes."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_dist.errors import UserError
from unet_dist.files import read_json


def rank_name(rank: int) -> str:
    return f"rank_{rank:03d}"


@dataclass(frozen=True)
class AttemptDir:
    """One start of the ranks; a restart makes the next one, so no evidence is overwritten."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    def part_plan(self, index: int) -> Path:
        """The plan of a server that starts only its part of the ranks; the first leads."""
        return self.plan if index == 0 else self.path / f"plan_part_{index:03d}.json"

    def part_beat(self, index: int) -> Path:
        """Rewritten by the launcher of each part for as long as it lives."""
        return self.path / "parts" / f"{index:03d}"

    @property
    def stop_request(self) -> Path:
        """Once it exists, all ranks stop together at the next step and write a checkpoint."""
        return self.path / "stop"

    @property
    def ended(self) -> Path:
        """How the attempt ended, for the launchers of the other parts."""
        return self.path / "ended.json"

    @property
    def processes(self) -> Path:
        """What the guards wrote down: NAME.start.json, NAME.exit.json; on a hang
        NAME.state.json."""
        return self.path / "processes"

    def heartbeat(self, rank: int) -> Path:
        return self.path / "heartbeats" / rank_name(rank)

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def rank_log(self, rank: int) -> Path:
        return self.log(rank_name(rank))

    def error(self, rank: int) -> Path:
        return self.path / f"{rank_name(rank)}.error.json"

    def result(self) -> Path:
        """What the job answers to the command that asked for it; written by rank 0."""
        return self.path / "result.json"

    def errors(self) -> dict[str, dict[str, Any]]:
        """The error files of the ranks, by their names, the earliest first."""
        found = _reports(self.path.glob("rank_*.error.json"))
        return {path.name.removesuffix(".error.json"): report for path, report in found}

    def starts(self) -> list[dict[str, Any]]:
        """Which process was started on which host, and its process id."""
        return [report for _, report in _reports(self.processes.glob("[!.]*.start.json"))]

    def stopped(self) -> list[str]:
        """Processes that a signal had stopped when a hang was found."""
        found = _reports(self.processes.glob("[!.]*.state.json"))
        return [report["name"] for _, report in found if report["state"] == "T"]

    def exits(self) -> list[dict[str, Any]]:
        """How processes ended, the earliest first."""
        return [report for _, report in _reports(self.processes.glob("[!.]*.exit.json"))]


def _reports(paths: Iterable[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """The earliest first. A script of the user's may write its error file itself: what is torn or
    has no time is passed over, and what the guard saw counts."""
    found = []
    for path in paths:
        with contextlib.suppress(UserError, KeyError, TypeError, ValueError):
            report = read_json(path)
            found.append((float(report["time"]), path, report))
    return [(path, report) for _, path, report in sorted(found, key=lambda item: item[0])]
