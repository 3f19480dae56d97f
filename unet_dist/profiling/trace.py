"""Chrome traces, read as a stream: a bare list of events, or an object with ``traceEvents``.

Of each event the track, the name and the time are kept, as numbers in arrays: 20 bytes for an
event that may have 1,000 in the file.
"""

import gzip
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import ijson
import numpy as np
from numpy.typing import NDArray

from unet_dist.errors import UserError
from unet_dist.profiling.intervals import Intervals
from unet_dist.profiling.moments import ns_of_us

MOST_NAMES = 500_000
"""Different names that are told apart; of a trace with more, all others are called ``other``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """The events of a thread, or of a stream or plane of a device, in the order of the file."""

    process: str
    thread: str
    time_ns: Intervals
    name: NDArray[np.int32]
    names: tuple[str, ...]
    """Of all tracks of the trace."""

    def texts(self) -> list[str]:
        return [self.names[code] for code in self.name]


@dataclass(frozen=True, kw_only=True)
class CommunicationTask:
    """A piece of a collective: data that moves, or a signal that is awaited."""

    kind: str
    """Memcpy, Reduce_Inline, Notify_Wait, RDMASend, ..."""
    begin_ns: int
    end_ns: int
    link: str
    sent_bytes: float


@dataclass(frozen=True, kw_only=True)
class Trace:
    tracks: tuple[Track, ...]
    tasks: tuple[CommunicationTask, ...]
    names: tuple[str, ...]
    """Of the events of all tracks, which have codes into these."""
    fault: str
    """Why the reading ended before the end of the file; empty if it did not."""

    def of(self, *processes: str) -> list[Track]:
        return [track for track in self.tracks if track.process in processes]

    def times_named(self, is_meant: Callable[[str], object]) -> list[Intervals]:
        """Of the events of each track whose name is meant; each name is asked about once."""
        meant = np.array([bool(is_meant(name)) for name in self.names], np.bool_)
        return [track.time_ns[meant[track.name]] for track in self.tracks]


@dataclass(kw_only=True)
class _Columns:
    begin: "array[int]" = field(default_factory=lambda: array("q"))
    end: "array[int]" = field(default_factory=lambda: array("q"))
    name: "array[int]" = field(default_factory=lambda: array("i"))


@dataclass(kw_only=True)
class _Reading:
    columns: dict[tuple[Any, Any], _Columns] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=lambda: {"other": 0})
    processes: dict[Any, str] = field(default_factory=dict)
    threads: dict[tuple[Any, Any], str] = field(default_factory=dict)
    tasks: list[CommunicationTask] = field(default_factory=list)

    def take(self, event: Mapping[str, Any]) -> None:
        phase = event.get("ph")
        if phase == "X":
            self._take_span(event)
        elif phase == "M":
            name = str((event.get("args") or {}).get("name", ""))
            if event.get("name") == "process_name":
                self.processes[event.get("pid")] = name
            elif event.get("name") == "thread_name":
                self.threads[event.get("pid"), event.get("tid")] = name

    def _take_span(self, event: Mapping[str, Any]) -> None:
        begin, duration = ns_of_us(event.get("ts")), ns_of_us(event.get("dur", 0))
        if begin is None or duration is None or duration < 0:
            return
        track = event.get("pid"), event.get("tid")
        columns = self.columns.get(track)
        if columns is None:
            columns = self.columns[track] = _Columns()
        arguments = event.get("args") or {}
        columns.begin.append(begin)
        columns.end.append(begin + duration)
        columns.name.append(self._code(str(event.get("name", ""))))
        if "transport type" in arguments:
            self.tasks.append(
                CommunicationTask(
                    kind=str(arguments.get("task type", event.get("name", ""))),
                    begin_ns=begin,
                    end_ns=begin + duration,
                    link=str(arguments.get("link type", arguments["transport type"])),
                    sent_bytes=float(arguments.get("size(Byte)") or 0),
                )
            )

    def _code(self, name: str) -> int:
        code = self.codes.get(name)
        if code is None:
            if len(self.codes) >= MOST_NAMES:
                return 0
            code = self.codes[name] = len(self.codes)
        return code

    def finished(self, fault: str) -> Trace:
        """Ends the reading: what is handed on is held no longer."""
        names, tracks = tuple(self.codes), []
        while self.columns:
            track = next(iter(self.columns))
            columns = self.columns.pop(track)
            time_ns = np.empty((len(columns.begin), 2), np.int64)
            time_ns[:, 0] = np.frombuffer(columns.begin, np.int64)
            time_ns[:, 1] = np.frombuffer(columns.end, np.int64)
            tracks.append(
                Track(
                    process=self.processes.get(track[0], str(track[0])),
                    thread=self.threads.get(track, str(track[1])),
                    time_ns=time_ns,
                    name=np.frombuffer(columns.name, np.int32),
                    names=names,
                )
            )
        return Trace(tracks=tuple(tracks), tasks=tuple(self.tasks), names=names, fault=fault)


def read_trace(path: Path) -> Trace:
    """What can be read of it: a file that was cut off, or is damaged somewhere, has what stands
    before that place.

    Raises:
        UserError: the file cannot be opened, or is no trace.
    """
    reading, faults = _Reading(), list[str]()
    malformed = 0
    for event in events_of(path, faults):
        try:
            if isinstance(event, dict):
                reading.take(event)
        except (AttributeError, TypeError, ValueError):
            malformed += 1
    if malformed:
        faults.append(f"{path.name}: {malformed} events are none, and left out")
    if not reading.columns and not faults:
        raise UserError(str(path), "is no Chrome trace: it has no event with a duration")
    return reading.finished("; ".join(faults))


def events_of(path: Path, faults: list[str]) -> Iterator[Any]:
    """One after the other, up to where the file is cut off or damaged, which ``faults`` tells.

    Raises:
        UserError: the file cannot be opened, or is no JSON.
    """
    try:
        with _opened(path) as file:
            try:
                yield from _events(file, path)
            except (ijson.JSONError, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
                faults.append(f"{path.name} ends or is damaged in the middle: {_first_line(error)}")
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror or error}") from error


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]  # a file of bytes all the same
    return path.open("rb")


def _events(file: IO[bytes], path: Path) -> Iterator[Any]:
    start = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    file.seek(0)
    if start[:1] not in (b"[", b"{"):
        raise UserError(str(path), "is no Chrome trace: it is neither a list nor an object of JSON")
    # Numbers as Decimal: a float has no room for nanoseconds since 1970.
    found: Iterator[Any] = ijson.items(
        file, "item" if start[:1] == b"[" else "traceEvents.item", buf_size=1 << 18
    )
    return found


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
