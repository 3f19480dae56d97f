"""``unet-dist predict`` as a user calls it: again, otherwise, interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import json_of, run_program, train
from unet_dist.records import read_records
from unet_dist.runs import RunDir, read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    train(*tiny, "--run", run)
    return run


def predict(*arguments: object, code: int = 0) -> dict[str, Any]:
    done = run_program("predict", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json_of(done)


def stems(answer: dict[str, Any]) -> list[str]:
    return [one["stem"] for one in answer["written"]]


def test_a_second_call_goes_on_with_what_is_missing(
    run: Path, vessels: Path, tmp_path: Path
) -> None:
    images = sorted((vessels / "images").iterdir())[:4]
    out = tmp_path / "out"
    first = predict(run, *images[:3], "--out", out, "--simulate", 2)
    assert stems(first) == [image.stem for image in images[:3]]
    assert first["skipped"] == 0
    trained_on = {sample["id"] for sample in read_json(RunDir(run).dataset)["splits"]["train"]}
    known = [one["sample"] in trained_on for one in first["written"]]
    assert [one["trained_on"] for one in first["written"]] == known
    assert first["trained_on"] == sum(known)
    assert first["written"][0]["pixels"].keys() == {"correct (TP)", "false (FP)", "missed (FN)"}
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}

    second = predict(run, *images, "--out", out)
    assert (stems(second), second["skipped"]) == ([images[3].stem], 3)
    assert all(path.stat().st_mtime_ns == mtime for path, mtime in before.items())

    started = len(list((run / "attempts").iterdir()))
    third = predict(run, *images, "--out", out)
    assert (third["state"], third["written"], third["skipped"]) == ("done", [], 4)
    assert len(list((run / "attempts").iterdir())) == started  # no rank had to start


def test_other_views_change_the_result_and_do_not_replace_the_first_unasked(
    run: Path, vessels: Path, tmp_path: Path
) -> None:
    image = sorted((vessels / "images").iterdir())[0]
    out = tmp_path / "out"
    masks = tmp_path / "masks"
    masks.mkdir()
    copy = tmp_path / "mine.png"  # no image of the data set, so it has the truth that is given
    shutil.copy(image, copy)
    shutil.copy(next((vessels / "masks").glob(f"{image.stem}.*")), masks / "mine.png")
    predict(run, copy, "--out", out)
    plain = np.asarray(Image.open(out / "mine_probability.png")).astype(int)
    assert not (out / "mine_errors.png").exists()

    wanted = ["--tta", "d4", "--uncertainty", "std", "--truth", masks]
    refused = run_program("predict", run, copy, "--out", out, *wanted)
    assert refused.returncode == 2
    assert "evaluate.tta was none, now d4" in refused.stderr
    assert "add --force" in refused.stderr
    assert np.array_equal(np.asarray(Image.open(out / "mine_probability.png")), plain)

    answer = predict(run, copy, "--out", out, *wanted, "--force")
    mean = np.asarray(Image.open(out / "mine_probability.png")).astype(int)
    spread = np.asarray(Image.open(out / "mine_uncertainty.png"))
    assert (mean != plain).mean() > 0.5
    assert spread.dtype == np.uint16
    assert 0 < spread.max() <= 65535 // 2 + 1
    assert (out / "mine_errors.png").exists()
    assert answer["written"][0]["pixels"]["missed (FN)"] >= 0


def test_eval_with_other_views_has_another_result(run: Path) -> None:
    plain = read_json(RunDir(run).evaluation("test"))["dice"]
    done = run_program("eval", run, "--tta", "d4", "--json")
    assert done.returncode == 0, done.stderr
    assert json_of(done)["dice"] != plain
    # Of validation images seen in the same way.
    assert json_of(done)["threshold_source"] == "validation"
    phases = [r["phase"] for r in read_records(RunDir(run).records(0)) if r["kind"] == "progress"]
    assert "choosing the threshold" in phases


def test_wrong_choices_are_refused_before_a_rank_starts(
    run: Path, vessels: Path, tmp_path: Path
) -> None:
    image = sorted((vessels / "images").iterdir())[0]
    for options, message in (
        (["--tta", "all"], "--tta: is 'all', but must be none or flip or d4"),
        (["--uncertainty", "std"], "add --tta flip or d4"),
        (["--uncertainty", "much"], "must be none or entropy or std"),
        (["--truth", tmp_path / "nowhere"], "there is no such folder"),
    ):
        done = run_program("predict", run, image, "--out", tmp_path / "out", *options)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr


def test_ctrl_c_drops_the_image_at_hand_and_the_same_call_goes_on(
    run: Path, vessels: Path, tmp_path: Path
) -> None:
    small = sorted((vessels / "images").iterdir())[0]
    large = tmp_path / "large.tif"
    tile = np.tile(np.asarray(Image.open(small).convert("RGB")), (4, 4, 1))
    tifffile.imwrite(
        large, (tile for _ in range(30)), shape=(7680, 256, 3), dtype=np.uint8, tile=(256, 256)
    )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "unet_dist", "predict", run, small, large, "--out", out]
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    records = RunDir(run).records(0)
    deadline = time.monotonic() + 120
    while not any(
        "% of large.tif" in line and "(0 %" not in line for line in records.read_text().splitlines()
    ):
        assert time.monotonic() < deadline, process.poll()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "stopping: finished images stay" in output
    assert "1 prediction in" in output
    assert "1 of 2 images are done: stopped; the same command goes on" in output
    names = {path.name for path in out.iterdir()}
    assert f"{small.stem}_prediction.json" in names
    assert not [name for name in names if "large" in name]

    answer = predict(run, small, large, "--out", out)
    assert (stems(answer), answer["skipped"]) == (["large"], 1)
    record = json.loads((out / "large_prediction.json").read_text())
    assert (record["height"], record["width"]) == (7680, 256)
    assert Image.open(out / "large_mask.png").size == (256, 7680)
