"""The supervisor with light processes in place of ranks."""

import sys
import time
from pathlib import Path

import pytest

from unet_dist.cluster.plan import LaunchPlan, ProcessSpec
from unet_dist.cluster.supervisor import LaunchResult, run_plan
from unet_dist.cluster.topology import simulated
from unet_dist.runs import AttemptDir

WRITE_ERROR = """
import json, sys, time
folder, rank, moment = sys.argv[1:]
report = {"rank": int(rank), "time": float(moment), "message": "disk full", "user_error": True}
open(f"{folder}/rank_{int(rank):03d}.error.json", "w").write(json.dumps(report))
sys.exit(1)
"""


def run(tmp_path: Path, *codes: str) -> tuple[LaunchResult, AttemptDir]:
    """Starts a Python process for each piece of code, as ranks 0, 1, ..."""
    attempt = AttemptDir(tmp_path / "attempt")
    processes = [
        ProcessSpec(
            name=f"worker_{rank:03d}",
            ranks=(rank,),
            argv=(sys.executable, "-c", code, str(attempt.path), str(rank), str(100 - rank)),
            env={"RANK_ID": str(rank)},
        )
        for rank, code in enumerate(codes)
    ]
    plan = LaunchPlan(
        topology=simulated(len(codes), [0]), comm="mpi", processes=tuple(processes), job={}
    )
    return run_plan(plan, attempt, on_poll=lambda: None), attempt


def test_all_done_is_no_failure(tmp_path: Path) -> None:
    result, attempt = run(tmp_path, "print('one')", "print('two')")
    assert result.failure is None
    assert not result.interrupted
    assert attempt.log("worker_001").read_text() == "two\n"


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_the_first_process_to_fail_is_named_and_the_others_are_ended(
    tmp_path: Path, culprit: int
) -> None:
    codes = ["import time; time.sleep(60)"] * 3
    codes[culprit] = "import sys; print('out of cards'); sys.exit(3)"
    started = time.monotonic()
    result, _ = run(tmp_path, *codes)
    assert time.monotonic() - started < 10
    assert result.failure is not None
    assert result.failure.rank == culprit
    assert "exit code 3" in result.failure.reason
    assert result.failure.last_lines == ("out of cards",)


def test_of_several_written_errors_the_earliest_is_the_cause(tmp_path: Path) -> None:
    """Rank 1 writes last but noted the earlier moment; rank 0 is ended before by its failure."""
    first = str(tmp_path / "attempt" / "rank_000.error.json")
    waits = f"import os, time\nwhile not os.path.exists({first!r}): time.sleep(0.02)\n"
    lingers = WRITE_ERROR.replace("sys.exit(1)", "time.sleep(1); sys.exit(1)")
    result, _ = run(tmp_path, lingers, waits + WRITE_ERROR)
    assert result.failure is not None
    assert (result.failure.rank, result.failure.reason) == (1, "disk full")
    assert result.failure.user_error


def test_a_signal_is_named(tmp_path: Path) -> None:
    result, _ = run(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert result.failure is not None
    assert "SIGSEGV" in result.failure.reason


def test_a_process_that_ignores_sigterm_and_its_child_are_ended_too(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    fails = (
        "import os, sys, time\n"
        f"while not os.path.exists({str(tmp_path / 'child')!r}): time.sleep(0.05)\n"
        "time.sleep(0.2); sys.exit(1)\n"
    )
    started = time.monotonic()
    run(tmp_path, stubborn, fails)
    assert time.monotonic() - started < 15
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 2
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    """A zombie, which only waits to be reaped, is not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_stray_parent_rank_is_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK_TABLE_FILE", "/stray.json")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "5")
    monkeypatch.setenv("RANK_ID", "5")
    show = (
        "import os; print(os.environ.get('RANK_TABLE_FILE'), os.environ['RANK_ID'], "
        "'OMPI_COMM_WORLD_RANK' in os.environ)"
    )
    _, attempt = run(tmp_path, show)
    assert attempt.log("worker_000").read_text() == "None 0 False\n"
