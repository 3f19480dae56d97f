"""Chrome traces, read as a stream: a bare list of events, or an object with ``traceEvents``.

Of each event the track, the name and the time are kept, as numbers in arrays: 20 bytes for an
event that may have 1,000 in the file.
"""

import gzip
import zlib
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
from unet_dist.profiling.moments import MOST_NS, ns_of_us
from unet_dist.profiling.texts import OTHER, Codes, plain

MOST_EVENTS = 20_000_000
"""That are kept, in 400 MB; one GB of a real trace has some 5 million."""
MOST_TASKS = 1_000_000
"""Pieces of collectives that are kept."""
MOST_TRACKS = 100_000
TURNS = 2
"""Of each track, from which a file is in the order of time; real ones have tens."""
LARGEST_EVENT = 1 << 22
"""Bytes that are read on for one event; it would be built in memory before anybody sees it."""
DEEPEST = 250
"""Brackets within each other: ijson keeps the path to each of them, which grows with its square."""
BRACKETS = bytes(
    {ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(byte, 0) for byte in range(256)
)
"""By how much a byte goes deeper, as 8 bits with a sign."""
DIGITS = 1000
BUFFER = 1 << 16


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
    """Why not all of it was read; empty if it was."""
    is_cut: bool = False
    """Whether the reading ended before the end of the file."""
    is_by_time: bool = False
    """Whether tracks take turns in the file, or stand one after the other."""

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
    codes: Codes = field(default_factory=lambda: Codes(OTHER))
    processes: dict[Any, str] = field(default_factory=dict)
    threads: dict[tuple[Any, Any], str] = field(default_factory=dict)
    tasks: list[CommunicationTask] = field(default_factory=list)
    events: int = 0
    turns: int = 0
    """How often an event was of another track than the one before."""
    _last: tuple[Any, Any] = (None, None)
    left_out: set[str] = field(default_factory=set)
    """What there was too much of."""

    def take(self, event: Mapping[str, Any]) -> None:
        phase = event.get("ph")
        if phase == "X":
            self._take_span(event)
        elif phase == "M":
            name = plain(str((event.get("args") or {}).get("name", "")))
            if len(self.threads) + len(self.processes) >= MOST_TRACKS:
                self.left_out.add(f"the first {MOST_TRACKS:,} names of tracks")
            elif event.get("name") == "process_name":
                self.processes[_key(event.get("pid"))] = name
            elif event.get("name") == "thread_name":
                self.threads[_key(event.get("pid")), _key(event.get("tid"))] = name

    def _take_span(self, event: Mapping[str, Any]) -> None:
        begin, duration = ns_of_us(event.get("ts")), ns_of_us(event.get("dur", 0))
        if begin is None or duration is None or duration < 0 or begin + duration > MOST_NS:
            return
        track = _key(event.get("pid")), _key(event.get("tid"))
        columns = self.columns.get(track)
        if columns is None:
            if len(self.columns) >= MOST_TRACKS:
                self.left_out.add(f"the first {MOST_TRACKS:,} tracks")
                return
            columns = self.columns[track] = _Columns()
        if track != self._last:
            self._last = track
            self.turns += 1
        arguments = event.get("args") or {}
        name = self.codes(str(event.get("name", "")))
        columns.begin.append(begin)
        columns.end.append(begin + duration)
        columns.name.append(name)
        self.events += 1
        if "transport type" in arguments:
            if len(self.tasks) >= MOST_TASKS:
                self.left_out.add(f"the first {MOST_TASKS:,} pieces of collectives")
                return
            self.tasks.append(
                CommunicationTask(
                    kind=plain(str(arguments.get("task type", event.get("name", "")))),
                    begin_ns=begin,
                    end_ns=begin + duration,
                    link=plain(str(arguments.get("link type", arguments["transport type"]))),
                    sent_bytes=float(arguments.get("size(Byte)") or 0),
                )
            )

    def finished(self, fault: str, *, is_cut: bool) -> Trace:
        """Ends the reading: what is handed on is held no longer."""
        names, tracks = self.codes.texts, []
        is_by_time = self.turns > TURNS * len(self.columns)
        while self.columns:
            track = next(iter(self.columns))
            columns = self.columns.pop(track)
            time_ns = np.empty((len(columns.begin), 2), np.int64)
            time_ns[:, 0] = np.frombuffer(columns.begin, np.int64)
            time_ns[:, 1] = np.frombuffer(columns.end, np.int64)
            tracks.append(
                Track(
                    process=self.processes.get(track[0], plain(str(track[0]))),
                    thread=self.threads.get(track, plain(str(track[1]))),
                    time_ns=time_ns,
                    name=np.frombuffer(columns.name, np.int32),
                    names=names,
                )
            )
        return Trace(
            tracks=tuple(tracks), tasks=tuple(self.tasks), names=names, fault=fault, is_cut=is_cut,
            is_by_time=is_by_time,
        )  # fmt: skip


def read_trace(path: Path) -> Trace:
    """What can be read of it: a file that was cut off, or is damaged somewhere, has what stands
    before that place.

    Raises:
        UserError: the file cannot be opened, or is no trace.
    """
    reading, faults = _Reading(), list[str]()
    malformed, is_cut = 0, False
    for event in events_of(path, faults):
        try:
            if isinstance(event, dict):
                reading.take(event)
        except (AttributeError, TypeError, ValueError, RecursionError):
            malformed += 1
        if reading.events >= MOST_EVENTS:
            reading.left_out.add(f"the first {MOST_EVENTS:,} events")
            is_cut = True
            break
    is_cut = is_cut or bool(faults)
    if malformed:
        faults.append(f"{path.name}: {malformed} events are none, and left out")
    faults += [f"{path.name}: only {what} are read" for what in sorted(reading.left_out)]
    if not reading.columns and not faults:
        raise UserError(str(path), "is no Chrome trace: it has no event with a duration")
    return reading.finished("; ".join(faults), is_cut=is_cut)


def events_of(path: Path, faults: list[str]) -> Iterator[Any]:
    """One after the other, up to where the file is cut off or damaged, which ``faults`` tells.

    Raises:
        UserError: the file cannot be opened, or is no JSON.
    """
    try:
        with _opened(path) as file:
            try:
                yield from _events(file, path)
            except (
                ijson.JSONError, UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error,
                _TooLarge,
            ) as error:  # fmt: skip
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
    counted = _Counted(file=file)
    # Numbers as Decimal: a float has no room for nanoseconds since 1970.
    found: Iterator[Any] = ijson.items(
        counted, "item" if start[:1] == b"[" else "traceEvents.item", buf_size=BUFFER
    )
    for event in found:
        counted.since = counted.depth = 0
        yield event


class _TooLarge(Exception):
    """More bytes than an event has."""


@dataclass(kw_only=True)
class _Counted:
    """A file that ends the reading of an event without an end: a name of a gigabyte, nothing but
    brackets, or what a small file unpacks to."""

    file: IO[bytes]
    since: int = 0
    """Bytes since the last event."""
    depth: int = 0
    """Brackets that are open; about, as it counts from the begin of a buffer."""
    ends_by: str = ""
    """Why no more is read."""

    def read(self, size: int) -> bytes:
        if self.since > LARGEST_EVENT:
            raise _TooLarge(f"more than {LARGEST_EVENT >> 20} MiB without an event")
        if self.ends_by:
            raise _TooLarge(self.ends_by)
        content = self.file.read(size)
        # With more than 4300 digits ijson 3.6 crashes, and Python with it. A run of so many holds
        # all digits between two of these places, in one of two buffers.
        for place in range(0, len(content) - DIGITS, DIGITS):
            if content[place : place + DIGITS].isdigit():
                self.ends_by = f"a number has more than {DIGITS:,} digits"
                content = content[:place].rstrip(b"0123456789")
                break
        # Brackets within texts count as well: it takes many that are not closed to be too many.
        steps = np.frombuffer(content.translate(BRACKETS), np.int8).cumsum(dtype=np.int32)
        if self.depth + steps.max(initial=0) > DEEPEST:
            self.ends_by = f"more than {DEEPEST} brackets are opened within each other"
            return content[: int(np.argmax(self.depth + steps > DEEPEST))]
        self.depth = max(0, self.depth + int(steps[-1])) if len(steps) else self.depth
        self.since += len(content)
        return content


def _key(number: Any) -> Any:
    """Of a process or thread; some programs give names in place of numbers."""
    return plain(number) if isinstance(number, str) else number


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
