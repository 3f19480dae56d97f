"""One guard by itself, where what it stands on fails: kernel calls, the disk, its rights."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.light import SLEEPS, is_alive, light_plan, processes_of, wait_until
from unet_dist.cluster import guard
from unet_dist.runs import AttemptDir, read_json, write_json

NO_PIDFD = """
import errno, os, runpy, sys
def pidfd_open(pid, flags=0):
    raise OSError({number}, os.strerror({number}))
os.pidfd_open = pidfd_open
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptDir:
    attempt = AttemptDir(tmp_path / "attempts" / "0")
    attempt.processes.mkdir(parents=True)
    return attempt


def start_guard(
    attempt: AttemptDir,
    code: str,
    *before: str,
    launcher: int | None = None,
    kind: str = "launch",
    **how: Any,
) -> "subprocess.Popen[bytes]":
    plan = {**light_plan(attempt, code).to_json(), "job": {"kind": kind}}
    write_json(attempt.plan, plan)
    host, pid = os.uname().nodename, str(launcher or os.getpid())
    program = [sys.executable, "-S", "-E", *before, guard.__file__]
    return subprocess.Popen([*program, str(attempt.plan), "rank_000", host, pid], **how)


def exit_of(attempt: AttemptDir) -> tuple[int, int, str]:
    seen = read_json(attempt.processes / "rank_000.exit.json")
    return seen["code"], seen["signal"], seen["by"]


@pytest.mark.parametrize("number", ["errno.ENOSYS", "errno.EPERM"])
def test_a_kernel_without_pidfd_does_not_keep_the_rank_from_its_work(
    attempt: AttemptDir, number: str
) -> None:
    started = start_guard(attempt, "print('works')", "-c", NO_PIDFD.format(number=number))
    assert started.wait(10) == 0
    assert attempt.rank_log(0).read_text() == "works\n"
    assert exit_of(attempt) == (0, 0, "itself")


def test_without_pidfd_the_end_of_the_launcher_is_still_seen(attempt: AttemptDir) -> None:
    launcher = subprocess.Popen(["sleep", "60"])
    program = NO_PIDFD.format(number="errno.ENOSYS")
    started = start_guard(attempt, SLEEPS, "-c", program, launcher=launcher.pid)
    wait_until(lambda: len(attempt.starts()) == 1)
    launcher.kill()  # not reaped: its entry in /proc stays
    assert started.wait(30) == 128 + signal.SIGKILL
    launcher.wait()
    assert not processes_of(attempt)


def test_nothing_is_started_for_a_launcher_that_has_ended(attempt: AttemptDir) -> None:
    launcher = subprocess.Popen(["true"])
    launcher.wait()
    assert start_guard(attempt, SLEEPS, launcher=launcher.pid).wait(10) == 0
    assert not attempt.starts()


def test_a_full_disk_hides_neither_the_code_of_the_rank_nor_its_leftovers(
    attempt: AttemptDir,
) -> None:
    attempt.processes.rmdir()
    attempt.processes.touch()  # no report finds a place
    child = attempt.path / "child"
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        f"print(child.pid, file=open({str(child)!r}, 'w'))\n"
        "sys.exit(3)\n"
    )
    with open("/dev/full", "w") as full:
        assert start_guard(attempt, code, stderr=full).wait(10) == 3
    assert not is_alive(int(child.read_text()))


def stops(attempt: AttemptDir) -> str:
    """A rank that goes on after SIGTERM until the file of the supervisor is there."""
    return (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        f"while not os.path.exists({str(attempt.stop_request)!r}): time.sleep(0.02)\n"
    )


def test_a_training_outlives_the_first_sigterm_to_its_guard(attempt: AttemptDir) -> None:
    started = start_guard(attempt, stops(attempt), kind="train")
    wait_until(lambda: attempt.rank_log(0).exists() and attempt.rank_log(0).read_text() != "")
    started.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(2)  # the grace period of these plans is 1 s
    attempt.stop_request.touch()
    assert started.wait(10) == 0
    assert exit_of(attempt) == (0, 0, "itself")


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("train", [signal.SIGTERM, signal.SIGTERM]),
        ("train", [guard.END_SIGNAL]),
        ("launch", [signal.SIGTERM]),
    ],
)
def test_what_ends_a_rank_after_the_grace_period(
    attempt: AttemptDir, kind: str, numbers: list[int]
) -> None:
    started = start_guard(attempt, stops(attempt), kind=kind)
    wait_until(lambda: attempt.rank_log(0).exists() and attempt.rank_log(0).read_text() != "")
    for number in numbers:
        started.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(0.3)
    assert started.wait(5) == 128 + signal.SIGKILL
    assert exit_of(attempt) == (0, signal.SIGKILL, "launcher")


def test_who_was_killed_while_the_launcher_asks_for_the_end_was_not_ended_by_it(
    attempt: AttemptDir,
) -> None:
    """A killed rank makes others fail, and their failure may be heard of before its death."""
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('on', flush=True); time.sleep(60)"
    )
    started = start_guard(attempt, code)
    wait_until(lambda: attempt.rank_log(0).exists() and "on" in attempt.rank_log(0).read_text())
    [start] = attempt.starts()
    os.kill(started.pid, signal.SIGSTOP)
    (attempt.path / guard.END_REQUEST).touch()
    os.kill(start["pid"], signal.SIGKILL)
    os.kill(started.pid, signal.SIGCONT)
    assert started.wait(10) == 128 + signal.SIGKILL
    assert exit_of(attempt) == (0, signal.SIGKILL, "itself")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user as well")
def test_leftovers_of_another_user_are_spared_and_the_others_ended() -> None:
    code = (
        "import json, os, subprocess\n"
        "from unet_dist.cluster import guard\n"
        "spared, other = [subprocess.Popen(['sleep', '60'], user=u).pid for u in (0, 65534)]\n"
        "os.setuid(65534)\n"
        "guard.kill_descendants()\n"
        "print(json.dumps([spared, other]))\n"
    )
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    program = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert program.stdout is not None
    spared, other = json.loads(program.stdout.readline())
    try:
        assert (is_alive(spared), is_alive(other)) == (True, False)
    finally:
        os.kill(spared, signal.SIGKILL)
    assert program.wait(10) == 0
