"""One rank: ``python -m unet_dist.train.worker PLAN``. Started by the supervisor or by mpirun.

A rank reads its environment here and hands down what it learnt.
"""

import contextlib
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from unet_dist.cluster.supervisor import die_with_parent
from unet_dist.comm import Communicator
from unet_dist.errors import EXIT_JOB_FAILED, TrainingDiverged, UserError
from unet_dist.runs import AttemptDir, write_json


def main() -> None:
    # Graphs are compiled from millions of small Python objects; looking for garbage among them at
    # Python's usual rate takes 0.7 s of the 10 s before the first step.
    gc.set_threshold(100_000, 50, 100)
    # A rank that outlives its launcher would hold a card and wait for its peers for ever.
    die_with_parent(signal.SIGKILL)
    attempt = AttemptDir(Path(sys.argv[1]).resolve().parent)
    plan = json.loads(attempt.plan.read_text())
    os.chdir(attempt.path)  # where MindSpore leaves what it has to say of a failed compilation
    if os.environ.get("MS_ROLE") == "MS_SCHED":
        _be_scheduler()
        return
    mpi = None
    if plan["comm"] == "mpi" and plan["target"] == "CPU":
        from unet_dist.comm.mpi_comm import MpiCommunicator

        mpi = MpiCommunicator()
    rank = mpi.rank if mpi else int(os.environ["RANK_ID"])
    _write_to(attempt.rank_log(rank))
    stop = StopRequest(attempt)
    try:
        slot = next(slot for slot in plan["ranks"] if slot["rank"] == rank)
        with _few_threads(slot["cores"]):
            _start_device(plan["target"], slot["device_id"])
        comm = mpi or _mindspore_communicator()
        if (comm.rank, comm.world) != (rank, plan["world"]):
            raise RuntimeError(
                f"rank {rank} of {plan['world']} was planned, but the communicator says "
                f"{comm.rank} of {comm.world}"
            )
        from unet_dist.train.jobs import run_job

        run_job(plan["job"], attempt, comm, stop_requested=stop.requested)
    except BaseException as error:  # noqa: BLE001 - told to the supervisor, which tells the user
        # Not sys.exit: leaving MPI or MindSpore in good order would wait for the other ranks,
        # and they wait for this one. The same if the disk is too full to write the error.
        try:
            _tell(attempt, rank, error)
        finally:
            os._exit(EXIT_JOB_FAILED)


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


def _write_to(log: Path) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _start_device(target: str, device_id: int) -> None:
    from unet_dist.train.device import start_mindspore

    start_mindspore(target, device_id)


def _mindspore_communicator() -> Communicator:
    from unet_dist.comm.mindspore_comm import MindsporeCommunicator

    return MindsporeCommunicator()


def _be_scheduler() -> None:
    """MindSpore's own process for CPU collectives: it returns when all workers have left."""
    _start_device("CPU", 0)
    from mindspore import communication

    communication.init()


def _tell(attempt: AttemptDir, rank: int, error: BaseException) -> None:
    traceback.print_exc()
    known = isinstance(error, UserError | TrainingDiverged)
    message = str(error) if known else f"{type(error).__name__}: {error}"
    report: dict[str, Any] = {
        "rank": rank,
        "time": time.time(),
        "kind": type(error).__name__,
        "message": message,
        "user_error": known,
    }
    write_json(attempt.error(rank), report)
    sys.stderr.flush()


if __name__ == "__main__":
    main()
