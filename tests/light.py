"""Plans of light processes in place of ranks, for tests of the supervisor."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from unet_dist.cluster.interruptions import Interruptions
from unet_dist.cluster.limits import Limits
from unet_dist.cluster.plan import LaunchPlan, ProcessSpec
from unet_dist.cluster.supervisor import LaunchResult, run_plan
from unet_dist.cluster.topology import Part, Slot, Topology
from unet_dist.heartbeat import ENVIRONMENT as HEARTBEAT
from unet_dist.heartbeat import Heartbeat
from unet_dist.rank_error import ENVIRONMENT as ERROR_FILE
from unet_dist.runs import AttemptDir, rank_name

UNWATCHED = Limits(start_is_watched=False)
SLEEPS = "import time; time.sleep(60)"


def light_plan(
    attempt: AttemptDir, *codes: str, limits: Limits = UNWATCHED, part: Part | None = None
) -> LaunchPlan:
    """A plan that starts a Python process for each piece of code, as ranks 0, 1, ..."""
    slots = tuple(Slot(rank=r, server="localhost", device_id=r) for r in range(len(codes)))
    part = part or Part()
    size = len(codes) // part.count
    mine = tuple(range(part.index * size, (part.index + 1) * size))
    processes = [
        ProcessSpec(
            name=rank_name(rank),
            ranks=(rank,),
            # Without installed packages it starts in a third of the time.
            argv=(
                sys.executable,
                *([] if "unet_dist" in codes[rank] else ["-S"]),
                "-c",
                codes[rank],
            ),
            env={
                "RANK_ID": str(rank),
                HEARTBEAT: str(attempt.heartbeat(rank).resolve()),
                ERROR_FILE: str(attempt.error(rank).resolve()),
            },
        )
        for rank in mine
    ]
    topology = Topology(target="CPU", slots=slots, mine=mine, part=part)
    return LaunchPlan(
        topology=topology, comm="mpi", processes=tuple(processes), starter=None, limits=limits,
        job={"kind": "test"},
    )  # fmt: skip


def run_light(
    attempt: AttemptDir,
    *codes: str,
    limits: Limits = UNWATCHED,
    interruptions: Interruptions | None = None,
    on_poll: Callable[[], None] = lambda: None,
) -> LaunchResult:
    return run_plan(
        light_plan(attempt, *codes, limits=limits),
        attempt,
        interruptions=interruptions or Interruptions(),
        on_poll=on_poll,
    )


def is_alive(process: int) -> bool:
    """A zombie, which only waits to be reaped, is not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def processes_of(attempt: AttemptDir) -> list[int]:
    """All processes that carry the attempt's mark."""
    mark = f"UNET_DIST_ATTEMPT={attempt.path.resolve()}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark in environment.split(b"\0") and is_alive(int(entry.name)):
                found.append(int(entry.name))
    return found


class Alone:
    """The communicator of a single rank, without MPI."""

    rank, world = 0, 1
    heartbeat = Heartbeat()

    def all_gather(self, payload: bytes) -> list[bytes]:
        return [payload]
