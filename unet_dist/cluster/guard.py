"""Starts one process of a plan, tells how it ended, and leaves nothing of it behind.

    python -S -E guard.py PLAN NAME HOST PID

NAME as in the plan, or ``mpi``: the rank that mpirun gave. HOST and PID are the supervisor's.

One guard stands over each rank, whoever started it (the supervisor, mpirun, srun), so that exit
codes, signals and moments are known in the same way everywhere. It is started by its path and
imports the standard library only: it costs 20 ms and 10 MB a rank.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

POLL_S = 0.1
FLUSH_S = 1.0
LINGER_S = 5.0
"""What a guard under mpirun leaves the launcher for its wish to end all ranks."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
MARK = "UNET_DIST_ATTEMPT"
PART_MARK = "UNET_DIST_PART"
"""Environment variables that every process of an attempt inherits: by them a launcher finds those
of its own part, where several parts run on one host."""
STACKS_REQUEST = "stacks"
"""Once this file exists in the attempt's folder, each rank is asked to write its stacks, and each
guard writes down the state of its process."""
END_REQUEST = "end"
"""The same, for guards to end their ranks as after SIGTERM. mpirun passes a SIGTERM on, but kills
0.2 s later whatever the grace period is (PRRTE 3; it has no setting for that)."""


def main() -> int:
    path, name, host, supervisor = Path(sys.argv[1]), *sys.argv[2:5]
    plan, attempt = json.loads(path.read_text()), path.parent
    if name == "mpi":
        name = plan["mpi_order"][int(os.environ["OMPI_COMM_WORLD_RANK"])]
    process = next(process for process in plan["processes"] if process["name"] == name)
    die_with_parent(signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    asked: list[int] = []
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda sent, frame: asked.append(sent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    signal.signal(signal.SIGCHLD, lambda sent, frame: None)  # ends the wait below at once
    facts = {"guard": os.getpid(), "host": socket.gethostname()}
    lifeline = open_lifeline(host, int(supervisor))
    if not lifeline and host == socket.gethostname():
        return 0  # nobody is left who would want this process
    oom_before = oom_kills()
    try:
        child = start(attempt, process, str(plan["part"]["index"]))
    except OSError as error:
        ending = {"code": 127, "signal": 0, "by": "itself", "reason": str(error)}
        report(attempt, name, "exit", **ending, **facts)
        return 127
    facts["pid"] = child.pid
    report(attempt, name, "start", **facts)
    ended_by = watch(attempt, plan, process, child, asked, [wake, *lifeline])
    code = child.returncode
    # Before the leftovers are looked for: the moment is what tells a cause from its victims.
    ending = {"code": max(code, 0), "signal": max(-code, 0), "by": ended_by}
    ending["oom_kills"] = oom_kills() - oom_before
    report(attempt, name, "exit", **ending, **facts)
    kill_descendants()
    if sys.argv[2] == "mpi" and code and asked_by_file(attempt, asked, lifeline):
        return 0  # at another code mpirun would kill the ranks that are given time
    return code if code >= 0 else 128 - code


def start(attempt: Path, process: dict[str, Any], part: str) -> "subprocess.Popen[bytes]":
    cores = process["cores"]
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(tuple(process["drop_env"]))
    }

    def in_child() -> None:
        die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # an ignored one would be inherited
        if cores:
            os.sched_setaffinity(0, cores)

    with (attempt / f"{process['name']}.log").open("ab") as log:
        return subprocess.Popen(
            process["argv"],
            env={**inherited, **process["env"], MARK: str(attempt), PART_MARK: part},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_child,
        )


def watch(
    attempt: Path,
    plan: dict[str, Any],
    process: dict[str, Any],
    child: "subprocess.Popen[bytes]",
    asked: list[int],
    wakers: list[int],
) -> str:
    """Returns when the child has ended: by ``itself``, or by the ``launcher``."""
    lifelines = wakers[1:]
    stacks, told, shown = attempt / STACKS_REQUEST, False, False
    end = attempt / END_REQUEST
    deadline, flushed = float("inf"), time.monotonic()
    while child.poll() is None:
        ready, _, _ = select.select(wakers, [], [], POLL_S)
        with contextlib.suppress(BlockingIOError):
            os.read(wakers[0], 4096)
        now = time.monotonic()
        if any(line in ready for line in lifelines):
            deadline = now  # nobody is left to wait for what it could still save
        elif (asked or end.exists()) and deadline == float("inf"):
            deadline = now + plan["grace_s"]
            if plan["grace_s"] > 0:
                signal_group(child.pid, signal.SIGTERM)
        if now >= deadline:
            signal_group(child.pid, signal.SIGKILL)
            child.wait()
        if not told and stacks.exists():
            told = True
            report(attempt, process["name"], "state", state=state_of(child.pid))
        if told and not shown and catches(child.pid, signal.SIGUSR1):
            shown = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGUSR1)
        if plan["several_hosts"] and now - flushed > FLUSH_S:
            flushed = now
            flush(attempt / f"{process['name']}.log", attempt / "heartbeats" / process["name"])
    # Slurm, for one, signals all processes of a job at once.
    signalled = -child.returncode in asked
    return "launcher" if deadline < float("inf") or signalled else "itself"


def asked_by_file(attempt: Path, asked: list[int], lifelines: list[int]) -> bool:
    """Waits a moment for the launcher, which reads this guard's report, to ask for the end."""
    end, deadline = attempt / END_REQUEST, time.monotonic() + LINGER_S
    while not end.exists() and not asked and time.monotonic() < deadline:
        if select.select(lifelines, [], [], POLL_S)[0]:
            return False
    return end.exists()


def open_lifeline(host: str, pid: int) -> list[int]:
    """A handle that becomes readable when the supervisor of this host ends; none where it runs
    on another host: there mpirun's daemon ends with it, and this guard with the daemon."""
    if host != socket.gethostname():
        return []
    try:
        return [os.pidfd_open(pid)]
    except OSError:
        return []


def report(attempt: Path, name: str, what: str, **facts: Any) -> None:
    """By rename: a reader sees all of it or nothing."""
    folder = attempt / "processes"
    part = folder / f".{name}.{what}.{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        part.write_text(json.dumps({"name": name, "time": time.time(), **facts}))
        part.rename(folder / f"{name}.{what}.json")
    except OSError as error:  # a full disk must not keep the guard from its duty
        sys.stderr.write(f"{name}: {what} {facts}; not written down: {error}\n")
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def oom_kills() -> int:
    """Processes that this host's kernel has killed for want of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def flush(*files: Path) -> None:
    """On a shared file system other hosts see what was synchronised; the rank itself doesn't
    take the time."""
    for path in files:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            os.fsync(handle)
            os.close(handle)


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value)


def die_with_parent(number: int) -> None:
    """The kernel signals this process when its parent ends, however that ends."""
    parent = os.getppid()
    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended in between
        os.kill(os.getpid(), number)


def signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler: without one the signal would end it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)


def state_of(pid: int) -> str:
    """As ``ps`` tells it: T is stopped by a signal."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def kill_descendants() -> None:
    """What the child left behind: as their subreaper this guard inherits orphans, so all of them
    are below it."""
    while below := descendants(os.getpid()):
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def descendants(ancestor: int) -> list[int]:
    """Not by /proc/PID/task/TID/children, which many kernels are built without."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
                parent = int(stat.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    below = list(children.get(ancestor, []))
    for pid in below:  # grows while it is walked
        below += children.get(pid, [])
    return below


if __name__ == "__main__":
    sys.exit(main())
