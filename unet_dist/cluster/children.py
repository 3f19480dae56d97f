"""The processes that a supervisor itself starts: a guard for each rank, or mpirun for all."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unet_dist.cluster import guard
from unet_dist.cluster.plan import (
    INHERITED_FROM_A_PARENT_RANK,
    LAUNCH_SETTINGS,
    MPIRUN,
    LaunchPlan,
)
from unet_dist.cluster.topology import Part
from unet_dist.runs import AttemptDir

AFTER_GRACE_S = 3.0
"""What guards and mpirun may take beyond the grace period of the ranks."""
POLL_S = 0.05
ENDS_MPIRUN = signal.SIGINT


@dataclass(frozen=True)
class Child:
    name: str
    process: "subprocess.Popen[bytes]"


def start_all(plan: LaunchPlan, attempt: AttemptDir) -> list[Child]:
    """The guards of all processes: by mpirun, or one by one."""
    plan_file = attempt.part_plan(plan.topology.part.index)
    children: list[Child] = []
    try:
        if plan.starter is not None:
            argv = (*plan.starter.argv, *_guard_argv(plan_file, "mpi"))
            started = _start(argv, plan.starter.env, attempt.log(MPIRUN), _prepare_mpirun)
            children.append(Child(MPIRUN, started))
        else:
            for spec in plan.processes:
                argv = _guard_argv(plan_file, spec.name)
                started = _start(argv, {}, attempt.log(spec.name), _prepare_guard)
                children.append(Child(spec.name, started))
    except BaseException:
        end_all(children, attempt, 0.0)
        raise
    return children


def _guard_argv(plan_file: Path, name: str) -> tuple[str, ...]:
    program = (sys.executable, "-S", "-E", guard.__file__)
    return (*program, str(plan_file.resolve()), name, socket.gethostname(), str(os.getpid()))


def _start(
    argv: tuple[str, ...], env: Mapping[str, str], log: Path, prepare: Callable[[], None]
) -> "subprocess.Popen[bytes]":
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(LAUNCH_SETTINGS) or not name.startswith(INHERITED_FROM_A_PARENT_RANK)
    }
    with log.open("ab") as stream:
        return subprocess.Popen(
            argv,
            env={**inherited, **env},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )


def _prepare_guard() -> None:
    guard.die_with_parent(signal.SIGTERM)


def _prepare_mpirun() -> None:
    """A SIGTERM to every process of a job (systemd, Slurm) must not end the ranks before they have
    agreed on a step. mpirun replaces an ignored signal's handler, but leaves a blocked one so."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    guard.die_with_parent(ENDS_MPIRUN)


def failed_child(children: list[Child]) -> Child | None:
    return next((child for child in children if child.process.poll() not in (None, 0)), None)


def end_all(
    children: list[Child],
    attempt: AttemptDir,
    grace_s: float,
    *,
    on_wait: Callable[[], None] = lambda: None,
) -> None:
    """A signal to all guards at once, or a file that those under mpirun look for; they give their
    ranks the grace period, all at the same time, and then KILL them. A guard that does not answer
    is killed, and its rank with it."""
    limit_s = grace_s + AFTER_GRACE_S
    if any(child.name == MPIRUN and child.process.poll() is None for child in children):
        with contextlib.suppress(OSError):  # a full disk: then the signal below must do
            (attempt.path / guard.END_REQUEST).touch()
            _wait(children, limit_s, on_wait)
    for child in children:
        if child.process.poll() is None:
            number = ENDS_MPIRUN if child.name == MPIRUN else guard.END_SIGNAL
            guard.signal_group(child.process.pid, number)
    _wait(children, limit_s, on_wait)
    for child in children:
        guard.signal_group(child.process.pid, signal.SIGKILL)
        child.process.wait()


def _wait(children: list[Child], limit_s: float, on_wait: Callable[[], None]) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and any(c.process.poll() is None for c in children):
        on_wait()
        time.sleep(POLL_S)


def sweep(attempt: AttemptDir, part: Part) -> None:
    """Kills what is left of this part of an attempt on this host: grandchildren in sessions of
    their own whose guard was killed. All carry the marks in their environment."""
    marks = {
        f"{guard.MARK}={attempt.path.resolve()}".encode(),
        f"{guard.PART_MARK}={part.index}".encode(),
    }
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if marks <= set((entry / "environ").read_bytes().split(b"\0")):
                    os.kill(int(entry.name), signal.SIGKILL)
