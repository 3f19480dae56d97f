"""Signs of life of a rank: what it is doing, so that a hang can be told from long work.

A rank overwrites one small file; whoever watches it compares contents, so no clocks are compared.
Standard library only: a script of one's own under ``unet-dist launch`` can use it as well:

    from unet_dist.heartbeat import Heartbeat
    heartbeat = Heartbeat.of_this_rank()
    heartbeat.beat("step", step=12)
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

ENVIRONMENT = "UNET_DIST_HEARTBEAT"
"""Set for each rank: its file."""
SIZE = 256
"""Bytes of a file: one write, which a reader of the same machine never sees by halves."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    phase: str = "start"
    """Decides how long it may last: start, compile, step, validation, checkpoint, evaluation,
    prediction, done; or a name of one's own."""
    step: int = 0
    doing: str = ""
    collectives: int = 0
    """Collective operations entered so far: who has entered fewer keeps the others waiting."""
    waiting: bool = False
    """Inside a collective operation."""


class Heartbeat:
    """Writes the beats of one rank; without a path they go nowhere."""

    def __init__(self, path: Path | None = None) -> None:
        self._beat = Beat()
        self._file: int | None = None
        self.on_wait: Callable[[str, int, int, int | None], None] | None = None
        """Told of each wait what it was for, from when to when (ns since 1970), and how many bytes
        this rank sent, if that is known."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._write()

    @classmethod
    def of_this_rank(cls) -> Self:
        path = os.environ.get(ENVIRONMENT)
        return cls(Path(path) if path else None)

    def beat(self, phase: str, *, step: int = 0, doing: str = "") -> None:
        self._beat = replace(self._beat, phase=phase, step=step, doing=doing, waiting=False)
        self._write()

    def goes_on(self, doing: str) -> None:
        """Of the same phase and step: a part of it is done, and another begins."""
        self._beat = replace(self._beat, doing=doing)
        self._write()

    @contextlib.contextmanager
    def waiting(self, what: str, *, sent_bytes: int | None = None) -> Iterator[None]:
        """Around a collective operation, in which this rank waits for the others."""
        before = self._beat
        count = before.collectives + 1
        self._beat = replace(before, doing=what, collectives=count, waiting=True)
        self._write()
        began_ns = time.time_ns()
        yield  # not marked as left if it fails: then it was the last thing this rank did
        if self.on_wait is not None:
            self.on_wait(what, began_ns, time.time_ns(), sent_bytes)
        self._beat = replace(before, collectives=count)
        self._write()

    def _write(self) -> None:
        if self._file is not None:
            phase, doing = _short(self._beat.phase), _short(self._beat.doing)
            beat = replace(self._beat, phase=phase, doing=doing)
            text = json.dumps(asdict(beat)).ljust(SIZE - 1)
            with contextlib.suppress(OSError):  # a full disk is told by what needs the disk
                os.pwrite(self._file, f"{text}\n".encode(), 0)


def _short(text: str) -> str:
    return text[:60].encode("ascii", "replace").decode()


def read_beat(path: Path) -> Beat | None:
    """None before the first beat, and for what is no beat."""
    try:
        fields = json.loads(path.read_bytes()[:SIZE])
        return Beat(**fields)
    except (OSError, ValueError, TypeError):
        return None
