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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

POLL_S = 0.1
FLUSH_S = 1.0
SWEEP_S = 5.0
"""How long a guard tries to end what its process left behind."""
LINGER_S = 5.0
"""What a guard under mpirun leaves the launcher for its wish to end all ranks."""
REPORTS_S = 1.0
"""What the reports of ranks that were killed after the grace period may take."""
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
"""The same, for guards under mpirun to end their ranks. mpirun passes a signal on, but kills 0.2 s
later whatever the grace period is (PRRTE 3; it has no setting for that)."""
END_SIGNAL = signal.SIGRTMIN + 5
"""By this the supervisor tells its own guards to end their ranks. SIGTERM may come to every process
of a job at once, from systemd or Slurm, and then a training shall still write its checkpoint."""


def main() -> int:
    path, name, host, supervisor = Path(sys.argv[1]), *sys.argv[2:5]
    plan, attempt = json.loads(path.read_text()), path.parent
    if name == "mpi":
        name = plan["mpi_order"][int(os.environ["OMPI_COMM_WORLD_RANK"])]
    process = next(process for process in plan["processes"] if process["name"] == name)
    launcher = Launcher(host, int(supervisor))
    die_with_parent(signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Only a training agrees on a step to stop at; what else is asked to end is ended.
    wishes = Wishes(attempt / END_REQUEST, launcher, first_asks=plan["job"].get("kind") == "train")
    facts = {"guard": os.getpid(), "host": socket.gethostname()}
    if launcher.gone():
        return 0  # nobody is left who would want this process
    oom_before = oom_kills()
    watchdog: list[int] = []
    try:
        if sys.argv[2] == "mpi" and launcher.elsewhere:
            watchdog = start_watchdog(launcher.parent, plan["host_s"])
        child = start(attempt, process, str(plan["part"]["index"]))
    except OSError as error:
        ending = {"code": 127, "signal": 0, "by": "itself", "reason": str(error)}
        report(attempt, name, "exit", **ending, **facts)
        return 127
    facts["pid"] = child.pid
    report(attempt, name, "start", **facts)
    ended_by = watch(child, process, plan, attempt, wishes)
    code = child.returncode
    # Before the leftovers are looked for: the moment is what tells a cause from its victims.
    ending = {"code": max(code, 0), "signal": max(-code, 0), "by": ended_by}
    ending["oom_kills"] = oom_kills() - oom_before
    report(attempt, name, "exit", **ending, **facts)
    kill_descendants(but=watchdog)
    if sys.argv[2] == "mpi" and code and wishes.come_by_file():
        # At another code mpirun would kill the ranks that are given time, and so it does at the end
        # of one that has called MPI_Init and not MPI_Finalize.
        wait_for_reports(attempt, plan)
        return 0
    return code if code >= 0 else 128 - code


class Launcher:
    """Whether the supervisor lives, and the parent: mpirun, or its daemon on another host."""

    def __init__(self, host: str, pid: int) -> None:
        self.parent = os.getppid()
        self.elsewhere = host != socket.gethostname()
        self._pid = 0 if self.elsewhere else pid
        self._began = began(self._pid)
        self.handle: int | None = None
        """Becomes readable when the supervisor ends."""
        # Linux before 5.3 has none, and containers may forbid it; then /proc must do.
        with contextlib.suppress(AttributeError, OSError):
            self.handle = os.pidfd_open(self._pid) if self._pid else None

    def gone(self) -> bool:
        if os.getppid() != self.parent:
            return True
        if self.handle is not None:
            return bool(select.select([self.handle], [], [], 0)[0])
        return self._pid > 0 and (not self._began or began(self._pid) != self._began)


class Wishes:
    """Who asks this guard to end its process.

    With ``first_asks`` the first SIGTERM is a wish that the launcher and the process answer, which
    have it as well; the second one ends the process.
    """

    def __init__(self, end: Path, launcher: Launcher, *, first_asks: bool) -> None:
        self.received: list[int] = []
        self._end, self.launcher, self._first_asks = end, launcher, first_asks
        self._wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken)
        answered = [signal.SIGTERM, END_SIGNAL]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            answered.append(signal.SIGHUP)
        for number in answered:
            signal.signal(number, lambda sent, frame: self.received.append(sent))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
        signal.signal(signal.SIGCHLD, lambda sent, frame: None)  # ends a wait at once
        # mpirun is started with SIGTERM blocked, and may hand that down.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def wait(self) -> None:
        """Until something may have changed, for a moment at most."""
        handle = self.launcher.handle
        select.select([self._wake] if handle is None else [self._wake, handle], [], [], POLL_S)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def are_final(self) -> bool:
        asked = len(self.received) > self._first_asks
        return asked or END_SIGNAL in self.received or self._end.exists()

    def come_by_file(self) -> bool:
        """Waits a moment for the launcher, which reads this guard's report, to ask for the end."""
        deadline = time.monotonic() + LINGER_S
        while not self.are_final() and time.monotonic() < deadline and not self.launcher.gone():
            self.wait()
        return self._end.exists()


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


def start_watchdog(daemon: int, limit_s: float) -> list[int]:
    """The first guard of each other host starts one over mpirun's daemon: its process, if so."""
    if os.environ["OMPI_COMM_WORLD_LOCAL_RANK"] != "0" or limit_s == 0:
        return []
    program = (sys.executable, "-S", "-E", "-m", "unet_dist.cluster.watchdog")
    started = subprocess.Popen(
        [*program, str(daemon), str(limit_s)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return [started.pid]


def watch(
    child: "subprocess.Popen[bytes]",
    process: dict[str, Any],
    plan: dict[str, Any],
    attempt: Path,
    wishes: Wishes,
) -> str:
    """Returns when the child has ended: by ``itself``, or by the ``launcher``."""
    # MindSpore's scheduler has nothing to save, and ignores SIGTERM.
    grace_s = plan["grace_s"] if process["ranks"] else 0.0
    stacks, told, shown, killed = attempt / STACKS_REQUEST, False, False, False
    deadline, flushed = float("inf"), time.monotonic()
    while child.poll() is None:
        wishes.wait()
        now = time.monotonic()
        if wishes.launcher.gone():
            deadline = now  # nobody is left to wait for what it could still save
        elif wishes.are_final() and deadline == float("inf"):
            deadline = now + grace_s
            if grace_s > 0:
                signal_group(child.pid, signal.SIGTERM)
        if now >= deadline:
            killed = True
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
    if child.returncode == -signal.SIGKILL and not killed:
        return "itself"  # a culprit, though its victims were heard of first
    # Slurm, for one, signals all processes of a job at once.
    signalled = -child.returncode in wishes.received
    return "launcher" if deadline < float("inf") or signalled else "itself"


def report(attempt: Path, name: str, what: str, **facts: Any) -> None:
    """By rename: a reader sees all of it or nothing."""
    folder = attempt / "processes"
    part = folder / f".{name}.{what}.{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        part.write_text(json.dumps({"name": name, "time": time.time(), **facts}))
        part.rename(folder / f"{name}.{what}.json")
    except OSError as error:  # a full disk must not keep the guard from its duty
        with contextlib.suppress(OSError):  # the log lies on the same disk
            os.write(2, f"{name}: {what} {facts}; not written down: {error}\n".encode())
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def wait_for_reports(attempt: Path, plan: dict[str, Any]) -> None:
    """Until the guards of all processes have told how they ended, for the grace period at most."""
    deadline = time.monotonic() + plan["grace_s"] + REPORTS_S
    awaited = [attempt / "processes" / f"{each['name']}.exit.json" for each in plan["processes"]]
    while time.monotonic() < deadline and not all(map(Path.exists, awaited)):
        time.sleep(POLL_S / 2)


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
    return (stat_of(pid) or [""])[0]


def began(pid: int) -> str:
    """When a process was started: tells it from a later one of the same number. Empty if there is
    none, or if it only waits to be reaped."""
    stat = stat_of(pid)
    return stat[19] if stat and stat[0] not in "ZX" else ""


def stat_of(pid: int) -> list[str]:
    """What ``/proc`` holds behind the name; nothing of a process that is no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()


def kill_descendants(*, but: Iterable[int] = ()) -> None:
    """What the child left behind: as their subreaper this guard inherits orphans, so all of them
    are below it. Those of another user (setuid) it may not end."""
    deadline, spared = time.monotonic() + SWEEP_S, set(but)
    while (below := set(descendants(os.getpid())) - spared) and time.monotonic() < deadline:
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            except PermissionError:
                spared.add(pid)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def children_of() -> dict[int, list[int]]:
    """Of every process. Not by /proc/PID/task/TID/children, which many kernels lack."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := stat_of(int(entry))):
            children.setdefault(int(stat[1]), []).append(int(entry))
    return children


def descendants(ancestor: int) -> list[int]:
    children = children_of()
    below = list(children.get(ancestor, []))
    for pid in below:  # grows while it is walked
        below += children.get(pid, [])
    return below


if __name__ == "__main__":
    # Not by sys.exit, which would take another code if stderr lies on a full disk.
    os._exit(main())
