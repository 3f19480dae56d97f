"""Two launchers of one job that meet in a shared folder."""

import threading
import time
from pathlib import Path

import pytest

from tests.light import SLEEPS, UNWATCHED, light_plan, processes_of, wait_until
from unet_dist.cluster import guard
from unet_dist.cluster.interruptions import Interruptions
from unet_dist.cluster.limits import Limits
from unet_dist.cluster.parts import Parts, wait_for_attempt
from unet_dist.cluster.supervisor import LaunchResult, run_plan
from unet_dist.cluster.topology import Part
from unet_dist.errors import UserError
from unet_dist.runs import AttemptDir, RunDir, read_json, write_json


class Launcher(threading.Thread):
    """One of two launchers; the leader writes the verdict, as a job does."""

    def __init__(self, run: Path, index: int, *codes: str, limits: Limits = UNWATCHED) -> None:
        super().__init__()
        self.attempt = AttemptDir(run / "attempts" / "0")
        self.part = Part(index, 2)
        self.plan = light_plan(self.attempt, *codes, limits=limits, part=self.part)
        self.interruptions = Interruptions()
        self.results: list[LaunchResult] = []

    def run(self) -> None:
        result = run_plan(
            self.plan, self.attempt, interruptions=self.interruptions, on_poll=lambda: None
        )
        self.results.append(result)
        if self.part.index == 0:
            write_json(self.attempt.ended, {"state": "done", "again": False, "failure": None})


def run_both(run: Path, *codes: str, limits: Limits = UNWATCHED) -> list[Launcher]:
    both = [Launcher(run, index, *codes, limits=limits) for index in (0, 1)]
    for launcher in both:
        launcher.start()
    return both


def test_both_parts_run_to_their_end(tmp_path: Path) -> None:
    leader, follower = run_both(tmp_path, "print('a')", "print('b')")
    leader.join(20)
    follower.join(20)
    assert leader.results[0].failure is None
    assert [e["code"] for e in leader.attempt.exits()] == [0, 0]


def test_a_failure_in_the_other_part_ends_both_and_is_named(tmp_path: Path) -> None:
    leader, follower = run_both(tmp_path, SLEEPS, "import sys; sys.exit(3)")
    leader.join(20)
    follower.join(20)
    failure = leader.results[0].failure
    assert failure is not None
    assert failure.rank == 1
    assert not processes_of(leader.attempt)


def test_a_killed_guard_in_the_other_part_ends_both_and_is_named(tmp_path: Path) -> None:
    kills = "import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
    leader, follower = run_both(tmp_path, SLEEPS, kills)
    leader.join(20)
    follower.join(20)
    failure = leader.results[0].failure
    assert failure is not None
    assert failure.rank == 1
    report = read_json(leader.attempt.processes / "rank_001.exit.json")
    assert report["reason"].startswith("its guard ended by SIGKILL")
    assert not processes_of(leader.attempt)


def test_a_job_is_not_done_while_a_rank_of_another_part_has_not_ended_well(tmp_path: Path) -> None:
    """Its guard ended it, though nobody has asked for that, and its launcher still beats."""
    leader = Launcher(tmp_path, 0, SLEEPS, SLEEPS)
    leader.attempt.processes.mkdir(parents=True)
    ending = {"code": 0, "signal": 9, "by": "launcher"}
    guard.report(leader.attempt.path, "rank_001", "exit", **ending, host="here")
    leader.start()
    leader.join(20)
    failure = leader.results[0].failure
    assert failure is not None
    assert failure.reason.endswith("rank_001 ended well")


def test_a_part_that_dies_is_missed(tmp_path: Path) -> None:
    """The follower beats a few times, and then no more."""
    limits = Limits(start_is_watched=False, chosen={"host": 2.5})
    leader = Launcher(tmp_path, 0, SLEEPS, SLEEPS, limits=limits)
    leader.start()
    wait_until(lambda: leader.attempt.part_beat(0).exists())
    other = Parts(leader.attempt, Part(1, 2), lost_after_s=2.5)
    for _ in range(3):
        other.beat(time.monotonic())
        time.sleep(0.6)
    leader.join(20)
    failure = leader.results[0].failure
    assert failure is not None
    assert failure.kind == "host"
    assert "part 1 has not been heard of for 2.5 s" in failure.reason
    assert not processes_of(leader.attempt)


def test_a_wish_to_stop_at_one_part_ends_both(tmp_path: Path) -> None:
    leader, follower = run_both(tmp_path, SLEEPS, SLEEPS)
    wait_until(lambda: len(processes_of(leader.attempt)) == 2)
    follower.interruptions.received.append(15)
    leader.join(20)
    follower.join(20)
    assert leader.results[0].interrupted
    assert leader.results[0].failure is None


def test_the_attempt_of_a_launcher_that_was_killed_is_not_taken_for_a_living_one(
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    old = run.attempt(0)
    write_json(old.plan, {"part": {"count": 2}})
    old.part_beat(0).parent.mkdir()
    old.part_beat(0).write_text("17\n")
    waits = {"after": -1, "given_up": lambda: False}
    with pytest.raises(UserError, match="part 0 has not started a job here within 1 s"):
        wait_for_attempt(run, Part(1, 2), limit_s=1, **waits)  # type: ignore[arg-type]


def test_a_living_attempt_is_joined_if_it_has_as_many_parts(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    attempt = run.attempt(0)
    write_json(attempt.plan, {"part": {"count": 2}})
    leader = Parts(attempt, Part(0, 2), lost_after_s=9)
    beats = iter(range(1000))

    def beat() -> bool:
        leader.beat(float(next(beats) * 10))
        return False

    found = wait_for_attempt(run, Part(1, 2), after=-1, limit_s=5, given_up=beat)
    assert found == attempt
    with pytest.raises(UserError, match="one of 3 parts, but part 0 is one of 2"):
        wait_for_attempt(run, Part(1, 3), after=-1, limit_s=5, given_up=beat)
    assert wait_for_attempt(run, Part(1, 2), after=0, limit_s=5, given_up=lambda: True) is None


def test_a_part_that_a_launcher_has_had_is_not_joined_by_another(tmp_path: Path) -> None:
    """If the first one lives the second is too many, else it waits for the next attempt."""
    run = RunDir(tmp_path)
    attempt = run.attempt(0)
    write_json(attempt.plan, {"part": {"count": 2}})
    leader = Parts(attempt, Part(0, 2), lost_after_s=9)
    first = Parts(attempt, Part(1, 2), lost_after_s=9)
    moments = iter(range(0, 10_000, 10))

    def leader_beats() -> bool:
        leader.beat(float(next(moments)))
        return False

    def both_beat() -> bool:
        first.beat(float(next(moments)))
        return leader_beats()

    part = Part(1, 2)
    assert wait_for_attempt(run, part, after=-1, limit_s=5, given_up=leader_beats) == attempt
    with pytest.raises(UserError, match="part 0 has not started a job"):
        wait_for_attempt(run, part, after=-1, limit_s=1, given_up=leader_beats)
    with pytest.raises(UserError, match="another launcher of part 1 works in"):
        wait_for_attempt(run, part, after=-1, limit_s=5, given_up=both_beat)
