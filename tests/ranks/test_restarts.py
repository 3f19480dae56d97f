"""Jobs that fail and start again, by the commands that a user types."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import json_of, run_program, start_training, train, wait_for_step
from unet_dist.records import read_records
from unet_dist.runs import RunDir, read_json

FAILS_TWICE = """
import os, pathlib, sys, time
folder = pathlib.Path(os.environ["UNET_DIST_ATTEMPT"])
print("attempt", folder.name, flush=True)
if os.environ["OMPI_COMM_WORLD_RANK"] == "0":
    (folder / "said").touch()
elif folder.name != "2":
    while not (folder / "said").exists():  # or rank 0 would be ended before it speaks
        time.sleep(0.01)
    sys.exit(3)
"""


def test_killed_ranks_start_again_from_the_last_checkpoint_and_nothing_is_lost() -> None:
    """Two kills, one at a random moment and one while a checkpoint is written."""
    tool = Path(__file__).parents[2] / "tools" / "kills.py"
    done = subprocess.run(
        [sys.executable, tool, "--kills", "2", "--epochs", "36", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["equal"]
    assert report["kills"][1]["when"] == "checkpoint"


def test_a_script_of_ones_own_starts_again_as_often_as_allowed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FAILS_TWICE)
    for allowed, code in ((2, 0), (1, 1)):
        run = RunDir(tmp_path / f"run{allowed}")
        done = run_program(
            "launch", "--simulate", 2, "--max-restarts", allowed, "--run", run.path, "--", script
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "rank 1 failed first: ended with exit code 3" in done.stdout
        assert "restart 1 of" in done.stdout
        logs = [run.attempt(number).rank_log(0).read_text() for number in range(allowed + 1)]
        assert logs == [f"attempt {number}\n" for number in range(allowed + 1)]
        ends = [r for r in read_records(run.timeline) if r["kind"] == "end"]
        assert [end["state"] for end in ends] == ["failed"] * 2 + ["done"] * (allowed - 1)
    assert "not restarted: --max-restarts is 1" in done.stdout


def test_what_would_only_repeat_is_not_started_again(tmp_path: Path, tiny: list[str]) -> None:
    settings = ["train.lr=1e18", "train.clip_norm=0", "train.warmup=0", "train.optimizer=sgd"]
    run = RunDir(tmp_path / "run")
    done = train(*tiny, *settings, "--simulate", 2, "--run", run.path, code=1)
    assert "the loss is" in done.stdout
    assert "would only repeat it" in done.stdout
    assert run.next_attempt() == 1


def test_a_rank_that_stalls_is_named_with_its_stacks(tmp_path: Path, tiny: list[str]) -> None:
    run = RunDir(tmp_path / "run")
    process = start_training(
        run.path, *tiny, "train.epochs=500", "--hang-limit", "step=4", "--max-restarts", 0
    )
    wait_for_step(run.path, 3)
    stalled = pid_of(run, 1)
    os.kill(stalled, signal.SIGSTOP)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "rank 1 failed first: " in output
    assert "is stopped (SIGSTOP, or a debugger)" in output
    # The other rank could write its stacks.
    assert "host_sum" in run.attempt(0).rank_log(0).read_text()


MPI_RANK_KILLED = """
import os, signal, time
from mpi4py import MPI
signal.signal(signal.SIGTERM, lambda number, frame: None)
world = MPI.COMM_WORLD
for step in range(1000):
    if world.rank == 1 and step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    world.allreduce(1)
"""


def test_the_victims_of_a_rank_that_has_called_mpi_init_get_their_grace_and_a_report(
    tmp_path: Path,
) -> None:
    """mpirun kills all when a guard ends whose rank called MPI_Init and not MPI_Finalize."""
    script = tmp_path / "script.py"
    script.write_text(MPI_RANK_KILLED)
    run = RunDir(tmp_path / "run")
    done = run_program("launch", "--simulate", 2, "--grace", 1, "--run", run.path, "--", script)
    assert done.returncode == 1
    assert "rank 1 failed first: ended by SIGKILL" in done.stdout
    assert "rank 0: ended by the launcher" in done.stdout
    moments = {seen["name"]: seen["time"] for seen in run.attempt(0).exits()}
    assert moments["rank_000"] - moments["rank_001"] >= 1


def pid_of(run: RunDir, rank: int, *, attempt: int = 0) -> int:
    return int(read_json(run.attempt(attempt).processes / f"rank_{rank:03d}.start.json")["pid"])


def test_a_simulated_card_that_fails_twice_is_left_out_at_the_same_images_per_step(
    tmp_path: Path, tiny: list[str]
) -> None:
    settings = [*tiny, "train.epochs=400", "augment.crops_per_image=2", "train.optimizer=sgd"]
    run = RunDir(tmp_path / "run")
    process = start_training(run.path, *settings, "--min-ranks", 1)
    for attempt in range(2):
        wait_for_more_steps(run, attempt)
        os.kill(pid_of(run, 1, attempt=attempt), signal.SIGKILL)
    wait_for_more_steps(run, 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "failed twice and is left out: 1 of 2 ranks go on" in output
    starts = [r for r in read_records(run.records(0)) if r["kind"] == "start"]
    assert [(start["ranks"], start["batch"]) for start in starts] == [(2, 4), (2, 4), (1, 4)]


def wait_for_more_steps(run: RunDir, attempt: int) -> None:
    """Until the attempt has done a step beyond a checkpoint of its own."""
    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline
        records = list(read_records(run.records(0)))
        starts = [index for index, r in enumerate(records) if r["kind"] == "start"]
        if len(starts) > attempt:
            later = [r["kind"] for r in records[starts[-1] :]]
            if "checkpoint" in later and later[-1] == "step":
                return
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--simulate", 2, "--hosts", "a:1"], "slots are 1, but --simulate asks for 2"),
        (["--part", "0/2", "--server-id", "x"], "there is none"),
        (["--hang-limit", "step"], "PHASE=SECONDS"),
        (["--tee", "x"], "range of ranks"),
        (["--simulate", 2, "--part", "0/2"], "--hosts"),
        (["--comm", "mindspore", "--simulate", 2, "--part", "0/2", "--run", "r"], "--master"),
    ],
)
def test_bad_placements_are_told_before_anything_starts(
    tmp_path: Path, arguments: list[object], message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unet_dist", "launch", *map(str, arguments), "--", "true"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_launch_answers_with_one_json_object(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise OSError('no such card')")
    run = tmp_path / "run"
    done = run_program("launch", "--simulate", 2, "--run", run, "--json", "--", script)
    assert done.returncode == 1
    answer = json_of(done)
    assert answer["state"] == "failed"
    assert answer["failure"]["reason"] == "OSError: no such card"
    assert "no such card" in done.stderr
