"""The supervisor and its guards with light processes in place of ranks."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.light import (
    SLEEPS,
    UNWATCHED,
    is_alive,
    light_plan,
    processes_of,
    run_light,
    wait_until,
)
from unet_dist.cluster import children, guard
from unet_dist.cluster.interruptions import Interruptions
from unet_dist.cluster.limits import Limits
from unet_dist.cluster.plan import SCHEDULER, ProcessSpec, Starter
from unet_dist.cluster.supervisor import run_plan
from unet_dist.cluster.watch import name_ranks
from unet_dist.runs import AttemptDir, rank_name, read_json

TELLS = (
    "from unet_dist.rank_error import end_by_error\n"
    "end_by_error(OSError('x'), message='disk full', user_error=True, code=1)\n"
)


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptDir:
    return AttemptDir(tmp_path / "attempts" / "0")


def test_all_done_is_no_failure(attempt: AttemptDir) -> None:
    result = run_light(attempt, "print('one')", "print('two')")
    assert result.failure is None
    assert not result.interrupted
    assert attempt.rank_log(1).read_text() == "two\n"
    assert [(e["name"], e["code"], e["by"]) for e in attempt.exits()].count(
        ("rank_000", 0, "itself")
    ) == 1


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_the_first_process_to_fail_is_named_and_the_others_are_its_victims(
    attempt: AttemptDir, culprit: int
) -> None:
    others = [rank for rank in range(3) if rank != culprit]
    started_files = [str(attempt.processes / f"{rank_name(rank)}.start.json") for rank in others]
    codes = [SLEEPS] * 3
    codes[culprit] = (
        "import os, sys, time\n"
        f"while not all(map(os.path.exists, {started_files})): time.sleep(0.01)\n"
        "print('out of cards'); sys.exit(3)"
    )
    started = time.monotonic()
    failure = run_light(attempt, *codes).failure
    assert time.monotonic() - started < 30
    assert failure is not None
    assert (failure.rank, failure.kind) == (culprit, "exit")
    assert "exit code 3" in failure.reason
    assert failure.last_lines == ("out of cards",)
    assert failure.victims == (f"{name_ranks(others)}: ended by the launcher",)
    assert not processes_of(attempt)


def test_of_several_failures_the_earliest_moment_is_the_cause(attempt: AttemptDir) -> None:
    """Rank 1 writes its error down first, but its process ends after that of rank 0."""
    lingers = (
        "import os, time\n"
        "from unet_dist import rank_error\n"
        "os._exit, leave = lambda code: (time.sleep(1), leave(code)), os._exit\n" + TELLS
    )
    error = str(attempt.error(1))
    follows = f"import os, time, sys\nwhile not os.path.exists({error!r}): time.sleep(0.02)\n"
    failure = run_light(attempt, follows + "sys.exit(5)", lingers).failure
    assert failure is not None
    assert (failure.rank, failure.reason, failure.user_error) == (1, "disk full", True)
    assert failure.victims[0].startswith("rank 0: ended with exit code 5, ")


@pytest.mark.parametrize(
    ("number", "hint"),
    [(signal.SIGSEGV, "a crash in native code"), (signal.SIGKILL, "from outside")],
)
def test_a_signal_is_named(attempt: AttemptDir, number: signal.Signals, hint: str) -> None:
    failure = run_light(attempt, f"import os; os.kill(os.getpid(), {int(number)})").failure
    assert failure is not None
    assert failure.kind == "signal"
    assert f"ended by {number.name}" in failure.reason
    assert hint in failure.reason


def test_the_exception_of_a_program_that_writes_no_error_file_is_read_from_its_log(
    attempt: AttemptDir,
) -> None:
    failure = run_light(attempt, "raise KeyError('no such key')").failure
    assert failure is not None
    assert (failure.reason, failure.repeats) == ("KeyError: 'no such key'", True)


def test_a_program_that_cannot_be_started_is_not_worth_a_restart(attempt: AttemptDir) -> None:
    failure = run_light(attempt, "import os; os.execv('/bin/sh', ['sh', '-c', 'nowhere'])").failure
    assert failure is not None
    assert failure.repeats
    assert "could not be started" in failure.reason


def test_codes_of_hccl_are_explained_and_tell_what_would_repeat(attempt: AttemptDir) -> None:
    says = "import sys; print('EI0014: Value 9 for ranktable is invalid'); sys.exit(1)"
    failure = run_light(attempt, says).failure
    assert failure is not None
    assert failure.explained[0].startswith("EI0014: a value of the rank table is refused")
    assert failure.repeats


def test_a_process_that_ignores_sigterm_is_ended_after_the_grace_period_with_its_children(
    attempt: AttemptDir, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    stubborn = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        f"open({str(child)!r} + '.part', 'w').write(str(child.pid))\n"
        f"import os; os.rename({str(child)!r} + '.part', {str(child)!r})\n"
        "time.sleep(60)\n"
    )
    fails = (
        "import os, sys, time\n"
        f"while not os.path.exists({str(child)!r}): time.sleep(0.02)\n"
        "sys.exit(1)\n"
    )
    started = time.monotonic()
    failure = run_light(
        attempt, stubborn, fails, limits=Limits(grace_s=0.5, start_is_watched=False)
    ).failure
    assert time.monotonic() - started < 30
    assert failure is not None
    assert failure.rank == 1
    assert not is_alive(int(child.read_text()))
    assert not processes_of(attempt)


def test_a_grandchild_of_a_rank_that_ended_well_is_ended_too(attempt: AttemptDir) -> None:
    leaves = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)"
    assert run_light(attempt, leaves).failure is None
    assert not processes_of(attempt)


def test_the_grandchildren_of_a_rank_whose_guard_was_killed_are_ended_too(
    attempt: AttemptDir,
) -> None:
    code = (
        "import os, signal, subprocess, time\n"
        "subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "os.kill(os.getppid(), signal.SIGKILL)\n"
        "time.sleep(60)\n"
    )
    failure = run_light(attempt, SLEEPS, code).failure
    assert failure is not None
    assert failure.rank == 1
    assert "its guard ended by SIGKILL" in failure.reason
    wait_until(lambda: not processes_of(attempt))


def test_a_rank_that_stalls_is_named_with_its_stacks_and_not_those_that_wait(
    attempt: AttemptDir,
) -> None:
    begin = (
        "import faulthandler, signal, time\n"
        "faulthandler.register(signal.SIGUSR1, all_threads=True)\n"
        "from unet_dist.heartbeat import Heartbeat\n"
        "heartbeat = Heartbeat.of_this_rank()\n"
        "heartbeat.beat('step', step=7)\n"
    )
    waits = begin + "with heartbeat.waiting('all-reduce'): time.sleep(60)"
    stalls = begin + "def reads_a_dead_disk(): time.sleep(60)\nreads_a_dead_disk()"
    limits = Limits(chosen={"step": 1.0}, grace_s=0.2)
    started = time.monotonic()
    failure = run_light(attempt, waits, stalls, waits, limits=limits).failure
    assert time.monotonic() - started < 30
    assert failure is not None
    assert (failure.rank, failure.kind, failure.at) == (1, "hang", "in step 7")
    assert "ranks 0, 2 wait for it" in failure.reason
    assert any("reads_a_dead_disk" in line for line in failure.last_lines)


def test_an_interruption_ends_all_and_is_no_failure(attempt: AttemptDir) -> None:
    interruptions = Interruptions()
    polls: list[float] = []

    def on_poll() -> None:
        polls.append(time.monotonic())
        if len(polls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with interruptions.counted():
        result = run_light(attempt, SLEEPS, SLEEPS, interruptions=interruptions, on_poll=on_poll)
    assert result.interrupted
    assert result.failure is None
    assert {e["by"] for e in attempt.exits()} == {"launcher"}


def test_the_first_wish_to_stop_only_asks_and_the_second_ends(attempt: AttemptDir) -> None:
    asked: list[float] = []
    interruptions = Interruptions()
    interruptions.received.append(2)

    def on_poll() -> None:
        if asked and time.monotonic() > asked[0] + 1:
            interruptions.received.append(2)

    started = time.monotonic()
    result = run_plan(
        light_plan(attempt, SLEEPS),
        attempt,
        interruptions=interruptions,
        on_poll=on_poll,
        on_asked=lambda: asked.append(time.monotonic()),
    )
    assert attempt.stop_request.exists()
    assert 1 < time.monotonic() - started < 30
    assert result.interrupted
    assert not processes_of(attempt)


def test_ranks_that_do_not_answer_a_wish_to_stop_are_ended_after_its_limit(
    attempt: AttemptDir,
) -> None:
    interruptions = Interruptions()
    interruptions.received.append(2)
    limits = Limits(start_is_watched=False, chosen={"stop": 0.5}, grace_s=0.1)
    result = run_plan(
        light_plan(attempt, SLEEPS, limits=limits),
        attempt,
        interruptions=interruptions,
        on_poll=lambda: None,
        on_asked=lambda: None,
    )
    assert result.interrupted
    assert not processes_of(attempt)


def test_a_signal_that_nohup_had_ignored_stays_ignored() -> None:
    interruptions = Interruptions()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptions.counted():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert interruptions.received == [signal.SIGTERM]


def test_the_end_of_mpirun_after_a_wish_to_stop_is_no_failure(attempt: AttemptDir) -> None:
    ends = f"while [ ! -e {attempt.stop_request} ]; do sleep 0.1; done; exit 3"
    plan = replace(light_plan(attempt, SLEEPS), starter=Starter(argv=("sh", "-c", ends), env={}))
    interruptions = Interruptions()
    interruptions.received.append(15)
    result = run_plan(
        plan, attempt, interruptions=interruptions, on_poll=lambda: None, on_asked=lambda: None
    )
    assert (result.failure, result.interrupted) == (None, True)


@pytest.mark.parametrize("asked", [True, False])
def test_the_end_of_the_scheduler_is_a_failure_unless_it_was_asked_for(
    attempt: AttemptDir, asked: bool
) -> None:
    ends = f"while [ ! -e {attempt.stop_request} ]; do sleep 0.1; done; exit 3"
    scheduler = ProcessSpec(name=SCHEDULER, ranks=(), argv=("sh", "-c", ends), env={})
    plan = light_plan(attempt, SLEEPS)
    plan = replace(plan, processes=(scheduler, *plan.processes))
    interruptions = Interruptions()
    if asked:
        interruptions.received.append(15)
    else:
        attempt.stop_request.parent.mkdir(parents=True)
        attempt.stop_request.touch()
    result = run_plan(
        plan, attempt, interruptions=interruptions, on_poll=lambda: None, on_asked=lambda: None
    )
    assert (result.failure is None, result.interrupted) == (asked, asked)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "all processes ended, but nothing tells that rank_000 ended well"),
        (3, "ended with exit code 3"),
        (137, "ended by SIGKILL (from outside, not for lack of memory)"),
    ],
)
def test_without_a_report_of_the_guard_nothing_is_done(
    attempt: AttemptDir, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    monkeypatch.setattr(children, "_guard_argv", lambda *_: ("sh", "-c", f"exit {code}"))
    failure = run_light(attempt, "").failure
    assert failure is not None
    assert failure.reason == reason


def test_a_report_within_one_tick_of_another_is_not_missed(attempt: AttemptDir) -> None:
    """The folder's time of change is the same then."""
    moments: list[int] = []

    def on_poll() -> None:
        folder = attempt.processes
        if not moments:
            wait_until(lambda: len(attempt.starts()) == 1)
            os.utime(folder, ns=(0, 0))
            moments.append(0)
        elif len(moments) == 1:
            moments.append(1)
            ending = {"code": 3, "signal": 0, "by": "itself"}
            guard.report(attempt.path, "rank_000", "exit", **ending, host="here")
        os.utime(folder, ns=(0, 0))

    started = time.monotonic()
    failure = run_light(attempt, SLEEPS, on_poll=on_poll).failure
    assert time.monotonic() - started < 30
    assert failure is not None


def test_a_rank_that_ended_well_is_not_missed_by_the_watch(attempt: AttemptDir) -> None:
    begin = (
        "import time\n"
        "from unet_dist.heartbeat import Heartbeat\n"
        "heartbeat = Heartbeat.of_this_rank()\n"
        "heartbeat.beat('step', step=1)\n"
    )
    works = "for step in range(2, 10):\n    time.sleep(0.3); heartbeat.beat('step', step=step)\n"
    limits = Limits(chosen={"step": 1.0})
    assert run_light(attempt, begin, begin + works, limits=limits).failure is None


def test_a_rank_is_held_to_its_cores(attempt: AttemptDir) -> None:
    core = max(os.sched_getaffinity(0))
    plan = light_plan(attempt, "import os; print(os.sched_getaffinity(0))")
    [process] = plan.processes
    plan = replace(plan, processes=(replace(process, cores=(core,)),))
    run_plan(plan, attempt, interruptions=Interruptions(), on_poll=lambda: None)
    assert attempt.rank_log(0).read_text() == f"{{{core}}}\n"


def test_a_killed_launcher_takes_all_ranks_and_their_children_along(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.light import run_light; "
        "from unet_dist.runs import AttemptDir; "
        "run_light(AttemptDir(Path(sys.argv[1])), *sys.argv[2:])"
    )
    child = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    attempt = AttemptDir(tmp_path / "attempts" / "0")
    launcher = subprocess.Popen([sys.executable, "-c", code, str(attempt.path), child, SLEEPS])
    wait_until(lambda: len(processes_of(attempt)) == 3)
    launcher.kill()
    launcher.wait()
    wait_until(lambda: not processes_of(attempt), seconds=2)


def test_a_stray_parent_rank_is_not_inherited(
    attempt: AttemptDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK_TABLE_FILE", "/stray.json")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "5")
    monkeypatch.setenv("RANK_ID", "5")
    monkeypatch.setenv("OMPI_MCA_btl_tcp_if_include", "eth7")
    show = (
        "import os; print(os.environ.get('RANK_TABLE_FILE'), os.environ['RANK_ID'], "
        "'OMPI_COMM_WORLD_RANK' in os.environ, os.environ['OMPI_MCA_btl_tcp_if_include'])"
    )
    run_light(attempt, show, limits=UNWATCHED)
    assert attempt.rank_log(0).read_text() == "None 0 False eth7\n"


def test_what_guards_write_down_holds_host_and_process(attempt: AttemptDir) -> None:
    run_light(attempt, "import os; print(os.getpid())")
    started = read_json(attempt.processes / "rank_000.start.json")
    assert started["pid"] == int(attempt.rank_log(0).read_text())
    assert started["host"] == os.uname().nodename
