"""Which of several failures at almost the same moment is the cause, and which rank of a hang."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.light import SLEEPS, light_plan, run_light
from unet_dist.cluster import guard
from unet_dist.cluster.failure import RACE_S, Failure, first_failure
from unet_dist.cluster.interruptions import Interruptions
from unet_dist.cluster.limits import Limits
from unet_dist.cluster.supervisor import run_plan
from unet_dist.heartbeat import Heartbeat
from unet_dist.runs import AttemptDir, rank_name


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptDir:
    attempt = AttemptDir(tmp_path / "attempts" / "0")
    attempt.processes.mkdir(parents=True)
    return attempt


def fails(attempt: AttemptDir, rank: int, moment: float, message: str = "reset by peer") -> None:
    told = {"time": moment, "kind": "OSError", "message": message, "user_error": False}
    attempt.error(rank).write_text(json.dumps(told))


def dies(attempt: AttemptDir, rank: int, moment: float, number: int = signal.SIGKILL) -> None:
    ending = {"code": 0, "signal": int(number), "by": "itself"}
    guard.report(attempt.path, rank_name(rank), "exit", **ending, host="here")
    path = attempt.processes / f"{rank_name(rank)}.exit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "time": moment}))


def works(attempt: AttemptDir, rank: int, *, waiting: bool) -> None:
    heartbeat = Heartbeat(attempt.heartbeat(rank))
    heartbeat.beat("step", step=3)
    if waiting:
        heartbeat.waiting("all-reduce").__enter__()


def judged(attempt: AttemptDir) -> Failure:
    failure = first_failure(light_plan(attempt, "", "", ""), attempt)
    assert failure is not None
    return failure


def test_a_killed_rank_is_the_cause_though_its_peers_told_of_it_earlier(
    attempt: AttemptDir,
) -> None:
    fails(attempt, 0, 3.01)
    dies(attempt, 1, 3.02)
    fails(attempt, 2, 3.015)
    failure = judged(attempt)
    assert (failure.rank, failure.kind) == (1, "signal")
    assert failure.victims == (
        "rank 0: reset by peer, 0.0 s later",
        "rank 2: reset by peer, 0.0 s later",
    )


def test_who_failed_outside_a_collective_is_the_cause_of_who_failed_inside(
    attempt: AttemptDir,
) -> None:
    works(attempt, 0, waiting=True)
    dies(attempt, 0, 3.01)
    works(attempt, 1, waiting=False)
    fails(attempt, 1, 3.02, "planted")
    assert judged(attempt).reason == "planted"


def test_an_abort_may_follow_from_a_failure_and_does_not_go_before_it(attempt: AttemptDir) -> None:
    fails(attempt, 0, 3.01, "planted")
    dies(attempt, 1, 3.02, signal.SIGABRT)
    assert judged(attempt).rank == 0


def test_of_moments_far_from_each_other_the_earlier_is_the_cause(attempt: AttemptDir) -> None:
    fails(attempt, 0, 3.0, "planted")
    dies(attempt, 1, 3.1 + RACE_S)
    assert judged(attempt).rank == 0


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_a_rank_that_was_stopped_inside_a_collective_is_the_cause_of_a_hang(
    attempt: AttemptDir, culprit: int
) -> None:
    """To the others it is one that waits like them."""
    waits = (
        "import os, signal, time\n"
        "from unet_dist.heartbeat import Heartbeat\n"
        "heartbeat = Heartbeat.of_this_rank()\n"
        "heartbeat.beat('step', step=7)\n"
        "with heartbeat.waiting('all-reduce'):\n"
        f"    os.kill(os.getpid(), signal.SIGSTOP if os.environ['RANK_ID'] == '{culprit}' else 0)\n"
        "    time.sleep(60)\n"
    )
    limits = Limits(chosen={"step": 1.0}, grace_s=0.2)
    failure = run_light(attempt, waits, waits, waits, limits=limits).failure
    assert failure is not None
    assert (failure.rank, failure.kind) == (culprit, "hang")
    assert failure.reason.startswith(f"rank {culprit} is stopped (SIGSTOP, or a debugger): ")


def test_a_crash_after_the_wish_to_stop_is_told(attempt: AttemptDir) -> None:
    crashes = (
        "import os, signal, time\n"
        f"while not os.path.exists({str(attempt.stop_request)!r}): time.sleep(0.02)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    interruptions = Interruptions()

    def wish() -> None:
        if not interruptions.received:
            os.kill(os.getpid(), signal.SIGTERM)

    limits = Limits(start_is_watched=False, grace_s=0.2)
    with interruptions.counted():
        result = run_plan(
            light_plan(attempt, SLEEPS, crashes, limits=limits),
            attempt,
            interruptions=interruptions,
            on_poll=wish,
            on_asked=lambda: None,
        )
    assert result.failure is not None
    assert (result.failure.rank, result.interrupted) == (1, True)
