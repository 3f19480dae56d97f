"""JSON lines that a run leaves behind: append-only, fields are added and never renamed."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from unet_dist.runs import write_text_atomically

SCHEMA = 1


class RecordWriter:
    """Appends records to a file, each flushed, so that a reader can follow the run.

    On resume, records of steps after the checkpoint are dropped: those steps run again.
    """

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if resume_step is not None and path.exists():
            kept = [r for r in read_records(path) if r.get("step", 0) <= resume_step]
            write_text_atomically(path, "".join(_line(record) for record in kept))
        torn = _is_torn(path)
        self._stream: IO[str] = path.open("a", encoding="utf-8")
        if torn:
            self._stream.write("\n")  # else the next record would be part of the torn one

    def write(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Adds the schema and the time, in seconds since 1970."""
        record = {"schema": SCHEMA, "kind": kind, "time": time.time(), **fields}
        self._stream.write(_line(record))
        self._stream.flush()
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()


def _is_torn(path: Path) -> bool:
    """Whether the last line lacks its end; the history before it can be long and is not read."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(record)) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN: an undefined number is null."""
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; a torn last line, from a killed writer, is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            record = parse_record(line)
            if record is not None:
                yield record


class RecordFollower:
    """Reads a file while it grows, each record once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_records(self) -> Iterator[dict[str, Any]]:
        """Those that are complete; none as long as there is no file."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            if self._path.stat().st_size < self._offset:
                self._offset = 0  # the ranks cut the file back to their checkpoint
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                record = parse_record(line.decode(errors="replace"))
                if record is not None:
                    yield record


def parse_record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
