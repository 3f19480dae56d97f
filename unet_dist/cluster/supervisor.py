"""Starts the processes of a plan, watches them, and leaves none behind."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from unet_dist.cluster.plan import INHERITED_FROM_A_PARENT_RANK, LaunchPlan, ProcessSpec
from unet_dist.runs import AttemptDir, write_json

POLL_S = 0.05
TERM_GRACE_S = 3.0
STOP_GRACE_S = 120.0
"""From the first Ctrl-C: a step, a checkpoint."""
LAST_LINES = 20
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1

Running = list[tuple[ProcessSpec, "subprocess.Popen[bytes]"]]

_MPI_SIGNAL = re.compile(
    r"process rank (\d+) with PID (\d+) on node (\S+) exited on\s+signal (\d+)"
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The first thing that went wrong; what came after follows from it."""

    rank: int | None
    """None if it was not a rank, but the launcher of them."""
    reason: str
    user_error: bool
    log: str
    last_lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LaunchResult:
    failure: Failure | None
    interrupted: bool


def run_plan(
    plan: LaunchPlan,
    attempt: AttemptDir,
    *,
    on_poll: Callable[[], None],
    on_asked: Callable[[], None] | None = None,
) -> LaunchResult:
    """Runs the plan to its end.

    SIGINT, SIGTERM and SIGHUP end the processes. With ``on_asked`` the first of them only asks
    the ranks to stop, at a step of their choice, and calls it. ``on_poll`` is called some twenty
    times a second.
    """
    attempt.path.mkdir(parents=True)
    write_json(attempt.plan, plan.to_json())
    running: Running = []
    failed: ProcessSpec | None = None
    with _signals_counted() as signals:
        try:
            for spec in plan.processes:
                running.append((spec, _start(spec, attempt)))
            deadline = float("inf")
            while failed is None and any(p.poll() is None for _, p in running):
                if len(signals) > (on_asked is not None) or time.monotonic() > deadline:
                    break
                if signals and on_asked is not None and deadline == float("inf"):
                    attempt.stop_request.touch()
                    deadline = time.monotonic() + STOP_GRACE_S
                    on_asked()
                failed = _first_failed(running)
                on_poll()
                time.sleep(POLL_S)
            failed = failed or _first_failed(running)
        finally:
            _end_all([process for _, process in running])
        on_poll()
    failure = None
    if failed is not None:
        codes = {spec.name: process.returncode for spec, process in running}
        failure = first_failure(attempt, failed, codes[failed.name])
    return LaunchResult(failure=failure, interrupted=bool(signals))


def _first_failed(running: Running) -> ProcessSpec | None:
    return next((spec for spec, process in running if process.poll() not in (None, 0)), None)


def _start(spec: ProcessSpec, attempt: AttemptDir) -> "subprocess.Popen[bytes]":
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(INHERITED_FROM_A_PARENT_RANK)
    }
    with attempt.log(spec.name).open("wb") as log:
        return subprocess.Popen(
            spec.argv,
            env={**inherited, **spec.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def die_with_parent(sent: int = signal.SIGTERM) -> None:
    """The kernel signals this process when its parent ends, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, sent)


@contextlib.contextmanager
def _signals_counted() -> Iterator[list[int]]:
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    old = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _end_all(processes: list["subprocess.Popen[bytes]"]) -> None:
    """TERM to all at once, a grace period for all together, then KILL to whole groups."""
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + TERM_GRACE_S
    for process in alive:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for process in processes:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    # Each was started as the leader of its own session, so the group has its number.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def first_failure(attempt: AttemptDir, spec: ProcessSpec, code: int) -> Failure:
    """The earliest error that a rank wrote down; else the rank that a signal ended."""
    for error in attempt.errors():
        rank = int(error["rank"])
        return Failure(
            rank=rank,
            reason=str(error["message"]),
            user_error=bool(error["user_error"]),
            log=str(attempt.rank_log(rank)),
            last_lines=() if error["user_error"] else _tail(attempt.rank_log(rank)),
        )
    killed = _MPI_SIGNAL.search(attempt.log(spec.name).read_text(errors="replace"))
    if killed is not None:
        rank, number = int(killed[1]), int(killed[4])
        return Failure(
            rank=rank,
            reason=f"{_ended_by(number)}, process {killed[2]} on {killed[3]}",
            user_error=False,
            log=str(attempt.rank_log(rank)),
            last_lines=_tail(attempt.rank_log(rank)),
        )
    log = attempt.log(spec.name)
    return Failure(
        rank=spec.ranks[0] if len(spec.ranks) == 1 else None,
        reason=_ended_by(-code) if code < 0 else f"{spec.name} ended with exit code {code}",
        user_error=False,
        log=str(log),
        last_lines=_tail(log),
    )


def _ended_by(number: int) -> str:
    hint = " (was the memory exhausted?)" if number == signal.SIGKILL else ""
    return f"ended by {signal.Signals(number).name}{hint}"


def _tail(log: Path) -> tuple[str, ...]:
    if not log.exists():
        return ()
    return tuple(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
