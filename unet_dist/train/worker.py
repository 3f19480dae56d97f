"""One rank: ``python -m unet_dist.train.worker PLAN``. Started by its guard.

A rank reads its environment here and hands down what it learnt.
"""

import contextlib
import faulthandler
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from unet_dist.cluster.host import usable_cores
from unet_dist.cluster.topology import share_cores
from unet_dist.comm import Communicator
from unet_dist.errors import EXIT_JOB_FAILED, TrainingDiverged, UserError
from unet_dist.heartbeat import Heartbeat
from unet_dist.rank_error import end_by_error
from unet_dist.runs import AttemptDir


def main() -> None:
    # Graphs are compiled from millions of small Python objects; looking for garbage among them at
    # Python's usual rate takes 0.7 s of the 10 s before the first step.
    gc.set_threshold(100_000, 50, 100)
    # A hang is told by the stacks of all threads, asked for by this signal.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    plan_file = Path(sys.argv[1]).resolve()
    attempt = AttemptDir(plan_file.parent)
    plan = json.loads(plan_file.read_text())
    os.chdir(attempt.path)  # where MindSpore leaves what it has to say of a failed compilation
    heartbeat = Heartbeat.of_this_rank()
    mpi = None
    if plan["comm"] == "mpi" and plan["target"] == "CPU":
        from unet_dist.comm.mpi_comm import MpiCommunicator

        mpi = MpiCommunicator(heartbeat)
    rank = mpi.rank if mpi else int(os.environ["RANK_ID"])
    stop = StopRequest(attempt)
    try:
        slot = plan["ranks"][rank]
        with _few_threads(slot["cores"] or cores_of_simulated_rank(plan, slot)):
            _start_device(plan["target"], slot["device_id"])
        comm = mpi or _mindspore_communicator(heartbeat)
        if (comm.rank, comm.world) != (rank, plan["world"]):
            raise RuntimeError(
                f"rank {rank} of {plan['world']} was planned, but the communicator says "
                f"{comm.rank} of {comm.world}"
            )
        from unet_dist.train.jobs import run_job

        run_job(plan["job"], attempt, comm, stop_requested=stop.requested)
        heartbeat.beat("done")
    except BaseException as error:  # noqa: BLE001 - told to the supervisor, which tells the user
        known = isinstance(error, UserError | TrainingDiverged)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        end_by_error(error, message=message, user_error=known, code=EXIT_JOB_FAILED)


class StopRequest:
    """A wish to stop: a SIGTERM to this rank, or the file that the supervisor leaves."""

    def __init__(self, attempt: AttemptDir) -> None:
        self._file = attempt.stop_request
        self._signalled = threading.Event()
        signal.signal(signal.SIGTERM, self._on_term)
        # Ctrl-C reaches every process of the terminal; the supervisor speaks for it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        self._signalled.set()

    def requested(self) -> bool:
        return self._signalled.is_set() or self._file.exists()


@contextlib.contextmanager
def _few_threads(cores: Sequence[int]) -> Iterator[None]:
    """MindSpore sizes its thread pools once, by the cores it may use when it starts; no setting
    of its own holds them back. Later all cores are free to it again: confined to one core, its
    threads wait for each other in busy loops (a small step took 101 ms instead of 21)."""
    allowed = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def cores_of_simulated_rank(plan: Mapping[str, Any], slot: Mapping[str, Any]) -> tuple[int, ...]:
    """This rank's share of the cores of its host, which the launcher elsewhere doesn't know."""
    if plan["target"] != "CPU":
        return ()
    here = [other["rank"] for other in plan["ranks"] if other["server"] == slot["server"]]
    return share_cores(usable_cores(), len(here))[here.index(slot["rank"])]


def _start_device(target: str, device_id: int) -> None:
    from unet_dist.train.device import start_mindspore

    start_mindspore(target, device_id)


def _mindspore_communicator(heartbeat: Heartbeat) -> Communicator:
    from unet_dist.comm.mindspore_comm import MindsporeCommunicator

    return MindsporeCommunicator(heartbeat)


if __name__ == "__main__":
    main()
