"""Cross-validation as a user calls it: beside each other, one killed, resumed, used."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import json_of, run_program, train
from unet_dist.runs import RunDir, read_json


def test_folds_beside_each_other_survive_the_loss_of_one(
    tmp_path: Path, tiny: list[str], vessels: Path
) -> None:
    run = tmp_path / "cv"
    longer = ["train.epochs=8", "checkpoint.every_epochs=1"]
    command = ["train", *tiny, *longer, "--folds", "2", "--parallel", "2", "--run", str(run)]
    process = subprocess.Popen(
        [sys.executable, "-m", "unet_dist", *command, "--max-restarts", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    victim = RunDir(run).member("fold_1")
    deadline = time.monotonic() + 90
    while not list(victim.checkpoints.glob("step_*/state.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    [start] = victim.attempt(0).starts()
    os.kill(start["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "fold_1 failed" in output
    assert "SIGKILL" in output
    assert f"unet-dist train {run} --resume" in output
    states = {name: RunDir(run).member(name).state() for name in ("fold_0", "fold_1")}
    assert states == {"fold_0": "done", "fold_1": "failed"}
    before = RunDir(run).member("fold_0").path.joinpath("status.json").stat().st_mtime_ns

    answer = json_of(train(run, "--resume", "--json"))
    assert RunDir(run).member("fold_0").path.joinpath("status.json").stat().st_mtime_ns == before
    assert answer["state"] == "done"
    assert [row["state"] for row in answer["members"]] == ["done", "done"]
    manifests = [read_json(RunDir(run).member(n).dataset)["splits"] for n in states]
    ids = [{sample["id"] for sample in splits["val"]} for splits in manifests]
    assert not ids[0] & ids[1]
    assert answer["val"]["images"] == len(ids[0] | ids[1])
    assert manifests[0]["test"] == manifests[1]["test"]
    dice = [row["test"]["dice"] for row in answer["members"]]
    over = answer["over_members"]["test"]["dice"]
    assert np.isclose(over["mean"], np.mean(dice))
    assert np.isclose(over["std"], np.std(dice, ddof=1))
    left_out = [row["left_out"]["dice"] for row in answer["members"]]
    weights = [len(part) for part in ids]
    assert np.isclose(answer["val"]["dice"], np.average(left_out, weights=weights))

    again = json_of(run_program("eval", run, "--json"))
    assert again["dice"] == answer["test"]["dice"]
    assert again["threshold"] == json.loads(RunDir(run).threshold.read_text())["threshold"]

    out = tmp_path / "out"
    image = sorted((vessels / "images").iterdir())[0]
    predicted = run_program("predict", run, image, "--out", out, "--uncertainty", "std")
    assert predicted.returncode == 0, predicted.stderr
    with Image.open(next(out.glob("*uncertainty*"))) as picture:
        assert np.asarray(picture).max() > 0  # the two members differ


def test_seeds_share_the_split_and_are_summed_up(tmp_path: Path, tiny: list[str]) -> None:
    run = tmp_path / "seeds"
    answer = json_of(train(*tiny, "--seeds", "3,5", "--run", run, "--json"))
    assert [row["seed"] for row in answer["members"]] == [3, 5]
    names = ("seed_3", "seed_5")
    splits = [read_json(RunDir(run).member(name).dataset)["splits"] for name in names]
    assert splits[0] == splits[1]
    dice = [row["test"]["dice"] for row in answer["members"]]
    assert dice[0] != dice[1]
    assert np.isclose(answer["over_members"]["test"]["dice"]["std"], np.std(dice, ddof=1))
