"""What a job writes down of itself: the timeline, the status of the run, how an attempt ended."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from unet_dist.cluster.failure import Failure
from unet_dist.records import RecordWriter
from unet_dist.runs import AttemptDir, RunDir, write_json


class Journal:
    """A full disk must not hide what happened before it: what cannot be written is said."""

    def __init__(self, run: RunDir, console: Console, *, keeps_status: bool) -> None:
        self._run = run
        self._console = console
        self._keeps_status = keeps_status

    def note(self, kind: str, **facts: Any) -> None:
        """One line of the timeline; the disk that refuses it refuses the status as well."""
        with contextlib.suppress(OSError), RecordWriter(self._run.timeline) as timeline:
            timeline.write(kind, **facts)

    def status(self, state: str, attempt: AttemptDir, **facts: Any) -> None:
        """``running``, ``done``, ``stopped`` or ``failed``; an evaluation leaves it as it was."""
        if self._keeps_status:
            self._write(self._run.status, {"state": state, "attempt": attempt.path.name, **facts})

    def close_open_attempt(self) -> None:
        """The last attempt has no end if its launcher was killed; the run is locked, so it is not
        going on."""
        number = self._run.next_attempt() - 1
        attempt = self._run.attempt(number)
        if number >= 0 and attempt.plan.exists() and not attempt.ended.exists():
            self.end(attempt, "lost", None, again=False, why="its launcher was killed")

    def end(
        self, attempt: AttemptDir, ending: str, failure: Failure | None, *, again: bool, why: str
    ) -> None:
        """For the timeline, and for the launchers of other parts."""
        told = asdict(failure) if failure else None
        self.note("end", attempt=attempt.number, state=ending, failure=told, decision=why)
        verdict = {"state": ending, "again": again, "why": why, "failure": told}
        self._write(attempt.ended, verdict)

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        try:
            write_json(path, value)
        except OSError as error:
            self._console.print(f"{path} could not be written: {error.strerror}", markup=False)
