"""What a person sees while ranks work: a live line, or plain lines where there is no terminal.

It is told by rank 0's records alone, so it is the same for every way of starting the ranks.
"""

import contextlib
import io
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.status import Status

from unet_dist.evaluate.names import decimals
from unet_dist.records import RecordFollower

PLAIN_EVERY_S = 5.0
LIVE_STEPS = 20
"""Whose mean speed a live line tells; a plain one tells that of the steps since the one before."""
TAIL_AT_ONCE = 256_000
"""Bytes of a log shown in one look."""


@contextlib.contextmanager
def counter(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing elsewhere, since this takes seconds."""
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


class _Line:
    """A line that changes: in its place on a terminal; elsewhere it is printed when there is
    something new in it, and now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_plain = 0.0
        self._live = Status("", console=console) if console.is_terminal else None

    @property
    def is_live(self) -> bool:
        return self._live is not None

    def start(self) -> None:
        if self._live:
            self._live.start()

    def stop(self) -> None:
        if self._live:
            self._live.stop()

    def show(self, text: str, *, is_new: bool) -> bool:
        """Whether it is there to stay, as a plain line."""
        now = time.monotonic()
        if self._live:
            self._live.update(escape(text))
        elif is_new or now - self._last_plain >= PLAIN_EVERY_S:
            self._last_plain = now
            self._console.print(text, markup=False)
            return True
        return False


class Phases:
    """How far a long computation in this process is, with a plain line for each phase at least."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._line = _Line(console)

    def __enter__(self) -> Self:
        self._line.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._line.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """
        Args:
            phase: with {} in the place of the numbers.
        """
        self._line.show(phase.format(f"{done} of {total}"), is_new=phase != self._phase)
        self._phase = phase

    def say(self, line: str) -> None:
        """What stays to be read."""
        self._console.print(line, markup=False)


class _Prefixed(io.TextIOBase):
    """Passes whole lines on to a console, each with what it is of."""

    def __init__(self, console: Console, prefix: str) -> None:
        self._console = console
        self._prefix = prefix
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._console.print(self._prefix + line, markup=False, soft_wrap=True)
        return len(text)


def prefixed(console: Console, name: str) -> Console:
    """For one of several jobs beside each other: plain lines that begin with its name."""
    stream = cast(IO[str], _Prefixed(console, f"{name}: "))
    return Console(file=stream, force_terminal=False, highlight=False, soft_wrap=True)


class Progress:
    """Follows a record file from the moment of its creation; ``poll`` shows what is new. Without
    a file it only says what is waited for."""

    def __init__(self, records: Path | None, console: Console, waiting_for: str) -> None:
        self._records = RecordFollower(records) if records else None
        self._console = console
        self._since = time.time()
        self._total_steps = 0
        self._started = False
        self._rates: list[float] = []
        self._line = _Line(console)
        # Single steps differ too much to tell a speed.
        self._since_line = deque[Mapping[str, Any]](
            maxlen=LIVE_STEPS if self._line.is_live else None
        )
        self._line.start()
        self._line.show(waiting_for, is_new=True)

    def poll(self) -> None:
        for record in self._records.new_records() if self._records else ():
            if record.get("time", 0) >= self._since:
                self._show(record)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None:
        self.poll()
        self._line.stop()

    def _show(self, record: dict[str, Any]) -> None:
        kind = record["kind"]
        if kind == "start":
            self._total_steps = record["total_steps"]
            self._console.print(describe_arithmetic(record))
            if record["step"] < record["total_steps"]:
                compiling = f"compiling the network for step {record['step'] + 1}"
                self._line.show(f"{compiling}/{record['total_steps']}", is_new=True)
        elif kind == "step":
            # The first step holds the compilation, and would foretell hours.
            is_first = not self._started
            if not is_first:
                if not self._rates:
                    self._since_line.clear()
                self._rates = [*self._rates[-19:], record["step_s"]]
            self._started = True
            self._since_line.append(record)
            if record["overflow"]:
                self._console.print(
                    f"step {record['step']}: fp16 overflow, skipped on all ranks; loss scale "
                    f"{record['loss_scale']:g}"
                )
            is_last = record["step"] == self._total_steps
            if self._line.show(self._step_line(record), is_new=is_first or is_last):
                self._since_line.clear()
        elif kind == "eval":
            best = ""
            if record["best"] and record["dice"] != 0:  # the best of nothing found is none
                best = ", as good as the best so far" if record.get("tied") else ", best so far"
            self._console.print(
                f"validation after step {record['step']}: Dice {decimals(record['dice'])}, IoU "
                f"{decimals(record['iou'])}, {_decision(record)}{best}",
                markup=False,
            )
        elif kind == "warning":
            self._console.print(f"warning: {record['message']}")
        elif kind == "profile":
            self._console.print(profile_line(record), markup=False)
        elif kind == "progress":
            done, total = record["done"], record["total"]
            text = f"{record['phase']}: {done} of {total} images"
            self._line.show(text, is_new=done == total)

    def _step_line(self, record: dict[str, Any]) -> str:
        left = ""
        if self._rates:
            mean_s = sum(self._rates) / len(self._rates)
            left = f"  left {_clock((self._total_steps - record['step']) * mean_s)}"
        took_s = sum(one["step_s"] for one in self._since_line)
        images = sum(one["images_per_s"] * one["step_s"] for one in self._since_line)
        waited_s = sum(one["data_wait_s"] for one in self._since_line)
        return (
            f"step {record['step']}/{self._total_steps}  loss {decimals(record['loss'])}  "
            f"batch Dice {decimals(record['dice'])}  {images / took_s:.1f} images/s  "
            f"waiting for data {waited_s / took_s:.0%}{left}"
        )


class LogTail:
    """Shows what grows at the end of log files. A rank that writes a lot is never kept waiting:
    it writes into its file, and what comes too fast to be read is passed over."""

    def __init__(self, logs: Mapping[int, Path], console: Console, *, many: bool) -> None:
        self._logs = logs
        self._console = console
        self._many = many
        self._offsets = dict.fromkeys(logs, 0)

    def poll(self) -> None:
        for rank, log in self._logs.items():
            for line in self._new_lines(rank, log):
                prefix = f"[{rank}] " if self._many else ""
                self._console.print(prefix + line, markup=False, highlight=False)

    def _new_lines(self, rank: int, log: Path) -> list[str]:
        try:
            with log.open("rb") as stream:
                size = stream.seek(0, 2)
                skipped = size - self._offsets[rank] - TAIL_AT_ONCE
                if skipped > 0:
                    self._offsets[rank] += skipped
                stream.seek(self._offsets[rank])
                text = stream.read(TAIL_AT_ONCE)
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1] if len(text) < TAIL_AT_ONCE else text
        self._offsets[rank] += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        return [f"... {skipped} bytes left out", *lines] if skipped > 0 else lines


def describe_arithmetic(record: dict[str, Any]) -> str:
    """For example ``4 ranks x 2 images x 1 accumulation = 8 per step, 12 steps per epoch``."""
    ranks, images = record["ranks"], record["images_per_rank"]
    text = (
        f"{ranks} rank{'s' if ranks > 1 else ''} x {images} image{'s' if images > 1 else ''} x "
        f"{record['accumulation']} accumulation = {record['batch']} per step, "
        f"{record['steps_per_epoch']} steps per epoch of {record['crops']} crops of "
        f"{record['crop_size'][1]} x {record['crop_size'][0]}, {record['total_steps']} steps; "
        f"{record['parameters']:,} parameters"
    )
    if record["step"] >= record["total_steps"]:
        return text + f"; step {record['step']} was the last, so nothing is left to train"
    return text + (f"; going on from step {record['step']}" if record["step"] else "")


def _decision(record: Mapping[str, Any]) -> str:
    """The threshold, or the Dice of each class where the most probable one wins."""
    if record["threshold"] is not None:
        return f"threshold {record['threshold']}"
    of_class = record["dice_of_class"].items()
    return "of " + ", ".join(f"{name} {decimals(dice)}" for name, dice in of_class)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def profile_line(record: dict[str, Any]) -> str:
    """What became of a profile, and what it cost."""
    if record["fault"]:
        return f"warning: no profile: {record['fault']}"
    cost, scatter = record["overhead"], record.get("scatter") or 0.0
    if cost is None:
        told = ""
    elif cost > scatter:
        told = f" (time of a step {cost:+.0%})"
    else:  # no capture makes steps faster either
        told = " (what it costs is too noisy to tell)"
    folder = Path(record["folder"]).parent
    note = f" ({record['note']})" if record.get("note") else ""
    return f"profile of {record['steps']} steps{told}: unet-dist profile analyze {folder}{note}"
