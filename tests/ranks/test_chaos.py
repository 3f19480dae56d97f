"""Faults on purpose under the real launcher, by ``tools/chaos.py`` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import json_of, run_program

CHAOS = Path(__file__).parents[2] / "tools" / "chaos.py"
SAVES_ON_SIGTERM = """
import os, signal, sys, time
rank, folder = int(os.environ["OMPI_COMM_WORLD_RANK"]), sys.argv[1]
def save(number, frame):
    time.sleep(1)
    open(f"{folder}/saved_{rank}", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, save)
open(f"{folder}/ready_{rank}", "w").close()
while not all(os.path.exists(f"{folder}/ready_{other}") for other in range(3)):
    time.sleep(0.02)
time.sleep(60 if rank != 1 else os._exit(3))
"""


def chaos(out: Path, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(CHAOS), "--quick", "--json", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes: list[dict[str, Any]] = json.loads(out.read_text())
    return outcomes


@pytest.mark.parametrize(
    ("engine", "peers", "faults", "number"),
    [
        ("mpirun", "notice", "raise,exit,kill,segv,stall,ignore-term,grandchild,oom,launcher", 9),
        ("local", "wait", "kill,stall,ignore-term,grandchild,launcher", 5),
    ],
)
def test_every_fault_is_told_of_the_right_rank_and_leaves_no_process(
    tmp_path: Path, engine: str, peers: str, faults: str, number: int
) -> None:
    outcomes = chaos(
        tmp_path / "chaos.json", "--engines", engine, "--peers", peers, "--faults", faults
    )
    assert len(outcomes) == number
    for outcome in outcomes:
        assert outcome["survivors"] == 0
        assert outcome["teardown_s"] is not None
        if outcome["case"]["fault"] != "launcher":
            assert (outcome["blamed"], outcome["right"]) == (2, True)


def test_ranks_under_mpirun_have_their_grace_period(tmp_path: Path) -> None:
    script = tmp_path / "saves.py"
    script.write_text(SAVES_ON_SIGTERM)
    done = run_program(
        "launch", "--simulate", 3, "--run", tmp_path / "run", "--grace", 5, "--json",
        "--", "python", script, tmp_path,
    )  # fmt: skip
    assert json_of(done)["failure"]["rank"] == 1
    assert sorted(path.name for path in tmp_path.glob("saved_*")) == ["saved_0", "saved_2"]
