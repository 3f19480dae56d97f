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

from tests.conftest import json_of, processes_naming, run_program, steps_of, train, wait_for_step
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

    # Out of fold: each image as the one member sees it that was not trained on it. The AUC, as the
    # threshold is that of all members.
    together = {
        row["id"]: row["auc"] for row in read_json(RunDir(run).evaluation("val"))["per_image"]
    }
    alone = {}
    for number, name in enumerate(states):
        done = run_program("eval", run / name, "--split", "val", "--json")
        rows = json_of(done)["per_image"]
        assert {row["id"] for row in rows} == ids[number]
        alone |= {row["id"]: row["auc"] for row in rows}
    assert together == alone

    again = json_of(run_program("eval", run, "--json"))
    assert again["dice"] == answer["test"]["dice"]
    assert again["threshold"] == json.loads(RunDir(run).threshold.read_text())["threshold"]

    out = tmp_path / "out"
    by_id = {image.stem: image for image in (vessels / "images").iterdir()}
    [new, *_] = [by_id[sample["id"]] for sample in manifests[0]["test"]]
    left_out = by_id[min(ids[1])]
    std = ["--uncertainty", "std"]
    refused = run_program("predict", run, new, left_out, "--out", out, *std)
    assert refused.returncode == 2
    assert "1 of 2 are predicted by the one fold alone that left them out" in refused.stderr
    done = run_program("predict", run, left_out, "--out", tmp_path / "alone", "--json")
    assert json_of(done)["written"][0]["left_out_by"] == "fold_1"
    member = run_program("predict", run / "fold_1", left_out, "--out", tmp_path / "fold_1")
    assert member.returncode == 0, member.stderr
    name = f"{left_out.stem}_probability.png"
    same = [(tmp_path / folder / name).read_bytes() for folder in ("alone", "fold_1")]
    assert same[0] == same[1]
    predicted = run_program("predict", run, new, "--out", out, *std)
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
    with Image.open(RunDir(run).picture("test")) as picture:  # the curve of the second of them
        assert (np.asarray(picture.convert("RGB")) == (0xD5, 0x5E, 0)).all(axis=2).any()
    assert np.isclose(answer["over_members"]["test"]["dice"]["std"], np.std(dice, ddof=1))


def test_ctrl_c_stops_all_folds_with_a_checkpoint_and_starts_no_more(
    tmp_path: Path, tiny: list[str]
) -> None:
    run = tmp_path / "cv"
    command = ["train", *tiny, "train.epochs=400", "--folds", "3", "--parallel", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "unet_dist", *command, "--run", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for name in ("fold_0", "fold_1"):
        wait_for_step(run / name)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert f"go on with: unet-dist train {run} --resume" in output
    assert not processes_naming(run)
    for name in ("fold_0", "fold_1"):
        member = RunDir(run).member(name)
        last = steps_of(member.path, "step")[-1]
        assert (member.checkpoints / f"step_{last:06d}").is_dir()
        assert f"{name}: stopped after step {last}" in output
    states = [RunDir(run).member(f"fold_{number}").state() for number in range(3)]
    assert states == ["stopped", "stopped", "not started"]
    assert RunDir(run).state() == "stopped"
    early = run_program("eval", run)
    assert early.returncode == 2
    assert "fold_0 is not finished (stopped)" in early.stderr
    assert "fold_2 is not finished (not started)" in early.stderr


def test_folds_on_cards_get_a_rank_table_each_and_fail_by_name(
    tmp_path: Path, tiny: list[str]
) -> None:
    """No card here: what each fold was given is in its plan, and each fails for itself."""
    run = tmp_path / "cv"
    table = Path(__file__).parents[2] / "rank_tables" / "1x4.json"
    where = ["--rank-table", table, "--folds", "2", "--parallel", "2", "--run", run]
    planned = json_of(train(*tiny, *where, "--dry-run", "--json"))["members"]
    assert not run.exists()
    done = train(*tiny, *where, "--json", code=1)
    report = json_of(done)
    assert [row["state"] for row in report["members"]] == ["failed", "failed"]
    assert report["failure"]["member"] in ("fold_0", "fold_1")
    cards = []
    for number, name in enumerate(("fold_0", "fold_1")):
        plan = read_json(RunDir(run).member(name).attempt(0).plan)
        for each in (plan, planned[f"fold_{number}"]):
            assert [rank["rank"] for rank in each["ranks"]] == [0, 1]
            assert {p["env"]["RANK_SIZE"] for p in each["processes"]} == {"2"}
        cards += [process["env"]["DEVICE_ID"] for process in plan["processes"]]
        tables = {process["env"]["RANK_TABLE_FILE"] for process in planned[name]["processes"]}
        assert tables == {str(run.resolve() / f"rank_table_{number}.json")}
    assert sorted(cards) == ["0", "1", "2", "3"]
