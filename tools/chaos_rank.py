"""A light rank for ``tools/chaos.py``: steps, heartbeats, an all-reduce by a file, and one fault.

    python tools/chaos_rank.py FOLDER RANKS VICTIM FAULT PEERS

FOLDER holds the all-reduce, and ``fault``: the moment of the fault, written just before it.
PEERS is ``notice`` (an all-reduce fails when a peer dies, as over TCP) or ``wait`` (it waits for
ever, as Open MPI does in shared memory).
"""

import ctypes
import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from unet_dist.heartbeat import Heartbeat

FAULT_STEP = 5
STEP_S = 0.02
POLL_S = 0.005
LIFE_S = 120.0
"""After this a rank ends by itself, so that nothing outlives a chaos that was itself killed."""
FREE_BYTES = 100_000_000
"""What the rank without memory may still take."""
SLEEPER_S = 600
COUNTER = struct.Struct("q")
LOCKS_AT = 4096


def main() -> None:
    folder, ranks, victim = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    fault, notices = sys.argv[4], sys.argv[5] == "notice"
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["RANK_ID"])
    # By this chaos finds what a rank leaves behind; without it, it would see no survivor.
    assert "CHAOS_ID" in os.environ
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if fault == "ignore-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    heartbeat = Heartbeat.of_this_rank()
    peers = Peers(folder / "peers", rank, ranks, notices=notices)
    ends, step = time.monotonic() + LIFE_S, 0
    while time.monotonic() < ends:
        step += 1
        heartbeat.beat("step", step=step)
        time.sleep(STEP_S)
        if rank == victim and step == FAULT_STEP:
            print(f"rank {rank} is to {fault} in step {step}", flush=True)
            commit(fault, folder)
        with heartbeat.waiting("all-reduce"):
            peers.all_reduce(step)


class Peers:
    """The other ranks, in one shared file: how often each entered the all-reduce, and a lock of
    each that the kernel takes back when it dies."""

    def __init__(self, path: Path, rank: int, ranks: int, *, notices: bool) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._rank = rank
        self._others = [other for other in range(ranks) if other != rank]
        self._notices = notices
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, LOCKS_AT + rank)

    def all_reduce(self, count: int) -> None:
        os.pwrite(self._file, COUNTER.pack(count), COUNTER.size * self._rank)
        for other in self._others:
            while self._count_of(other) < count:
                if self._notices and self._count_of(other) and self._is_dead(other):
                    raise ConnectionResetError(f"connection reset by rank {other}")
                time.sleep(POLL_S)

    def _count_of(self, rank: int) -> int:
        stored = os.pread(self._file, COUNTER.size, COUNTER.size * rank)
        return int(COUNTER.unpack(stored)[0]) if len(stored) == COUNTER.size else 0

    def _is_dead(self, rank: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, LOCKS_AT + rank)
        except OSError:
            return False
        return True


def commit(fault: str, folder: Path) -> None:
    """Makes this process fail; comes back if it is another process that shall."""
    {
        "raise": raise_error,
        "exit": exit_with_code,
        "kill": lambda folder: signal_itself(folder, signal.SIGKILL),
        "segv": read_nothing,
        "stall": stall,
        "ignore-term": end_at_once,
        "grandchild": leave_grandchild,
        "oom": exhaust_memory,
        "launcher": note_moment,
    }[fault](folder)


def note_moment(folder: Path) -> None:
    part = folder / "fault.part"
    part.write_text(repr(time.time()))
    part.rename(folder / "fault")


def raise_error(folder: Path) -> None:
    note_moment(folder)
    raise ValueError("planted")


def exit_with_code(folder: Path) -> None:
    note_moment(folder)
    sys.exit(3)


def end_at_once(folder: Path) -> None:
    """Without a word: as native code does that calls exit()."""
    note_moment(folder)
    os._exit(3)


def signal_itself(folder: Path, number: int) -> None:
    note_moment(folder)
    os.kill(os.getpid(), number)


def read_nothing(folder: Path) -> None:
    note_moment(folder)
    ctypes.string_at(0)


def stall(folder: Path) -> None:
    note_moment(folder)
    time.sleep(LIFE_S)


def leave_grandchild(folder: Path) -> None:
    """One that is in a session of its own, and whose parent has ended."""
    subprocess.run(["setsid", "--fork", "sleep", str(SLEEPER_S)], check=True)
    note_moment(folder)
    os._exit(3)


def exhaust_memory(folder: Path) -> None:
    """Not the kernel's OOM killer, which would choose a process of the machine's: a limit."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    note_moment(folder)
    resource.setrlimit(resource.RLIMIT_AS, (now + FREE_BYTES, now + FREE_BYTES))
    taken, size = [], 1 << 23
    while True:
        try:
            taken.append(bytearray(size))
        except MemoryError:
            if size <= 1 << 10:
                raise
            size >>= 1


if __name__ == "__main__":
    main()
