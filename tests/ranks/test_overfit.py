"""``train --overfit``: a sound set can be learnt by heart, contradictory masks cannot."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import json_of, steps_of, train
from unet_dist.runs import RunDir, read_json

SMALL = ["augment.crop=32", "model.width=4", "model.depth=2", "train.lr=0.02", "evaluate.tile=64"]


def test_a_sound_image_is_learnt_by_heart_on_two_ranks(vessels: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    check = [vessels / "config.yaml", *SMALL, "--overfit", 1, "--simulate", 2, "--run", run]
    done = train(*check)
    assert "1 of the ranks' places hold no image and count nothing" in done.stdout
    assert "overfit check passed" in done.stdout
    folder = RunDir(run)
    config = folder.load_config()
    assert config.augment.rotate == config.augment.noise == config.model.dropout == 0
    assert config.train.batch == 2
    result = read_json(folder.evaluation("train"))
    assert result["dice"] > 0.95
    assert result["images"] == 1
    assert len(steps_of(run, "step")) == result["checkpoint_step"] < config.train.epochs
    assert (folder.path / "report.png").exists()
    [image] = (folder.overfit / "images").iterdir()
    assert Image.open(image).size == (32, 32)
    assert "--resume" in train(*check, code=2).stderr


def test_one_picture_with_different_masks_fails_and_says_what_to_look_at(
    vessels: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(vessels, data)
    for folder in ("images", "fov"):
        first, *others = sorted((data / folder).iterdir())
        for other in others:
            shutil.copy(first, other)
    done = train(
        data / "config.yaml", f"data.root={data}", *SMALL, "--overfit", 3,
        "--run", tmp_path / "run", "--json", code=1,
    )  # fmt: skip
    assert "are the same picture with different masks" in done.stderr
    verdict = json_of(done)["overfit"]
    assert not verdict["passed"]
    assert verdict["dice"] < 0.8
    assert "are the same picture with different masks" in verdict["advice"][0]
    assert any("report.png" in advice for advice in verdict["advice"])


def test_mixed_up_masks_fail_even_where_they_can_be_learnt_by_heart(
    vessels: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(vessels, data)
    for folder in ("masks", "fov"):
        first, *others = sorted((data / folder).iterdir())
        first.rename(data / "first.png")
        for before, mask in pairwise([first, *others]):
            mask.rename(before)
        (data / "first.png").rename(others[-1])
    done = train(
        data / "config.yaml", f"data.root={data}", *SMALL, "--overfit", 1, "--run",
        tmp_path / "run", code=1,
    )  # fmt: skip
    assert "overfit check FAILED" in done.stdout
    assert "masks look mixed up: only" in done.stdout


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (99, "", "99 images are asked for, but only"),
        (1, "empty", "masks has any foreground"),
    ],
)
def test_what_cannot_be_checked_is_refused_and_leaves_nothing(
    vessels: Path, tmp_path: Path, number: int, change: str, message: str
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(vessels, data)
    if change == "empty":
        for index, mask in enumerate(sorted((data / "masks").iterdir())):
            # One pixel outside of the view: foreground that no training sees.
            pixels = np.zeros((64, 64), np.uint8)
            pixels[0, 0] = 255 if index == 0 else 0
            Image.fromarray(pixels).save(mask)
    done = train(
        data / "config.yaml", f"data.root={data}", *SMALL, "--overfit", number, "--run", run,
        code=2,
    )  # fmt: skip
    assert message in done.stderr
    assert not run.exists()
