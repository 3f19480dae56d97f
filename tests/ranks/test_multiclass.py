"""Several classes from the images to the predicted masks, on two ranks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import json_of, run_program, train
from unet_dist.data.colours import class_colours
from unet_dist.data.synthetic import write_synthetic
from unet_dist.records import read_records
from unet_dist.runs import RunDir

NAMES = ["background", "liver", "kidney", "lesion"]


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "organs"
    write_synthetic("organs", folder, count=24, size=64, seed=0)
    return folder


def test_every_class_is_learnt_named_and_predicted(organs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train(
        organs / "config.yaml", "augment.crop=64", "augment.elastic=0", "augment.noise=0",
        "model.width=8", "model.depth=3", "model.norm=batch", "train.epochs=32", "train.batch=4",
        "train.lr=0.01", "loss.class_weights=[1, 1, 1, 10]", "evaluate.tile=64",
        "evaluate.every_epochs=40", "--simulate", 2, "--run", run, "--json",
    )  # fmt: skip
    result = json_of(done)
    assert result["class_names"] == NAMES
    dice = {NAMES[one["class"]]: one["dice"] for one in result["per_class"]}
    # A mask full of one class has the Dice 2 p / (p + 1): 0.23, 0.05 and 0.02 for their shares.
    assert dice["liver"] > 0.7, dice
    assert dice["kidney"] > 0.4, dice
    assert dice["lesion"] > 0.1, dice
    [validation] = [r for r in read_records(RunDir(run).records(0)) if r["kind"] == "eval"]
    assert list(validation["dice_of_class"]) == NAMES[1:]
    assert "of liver 0." in done.stderr
    # The truth, the prediction and the legend are drawn in the colours of the masks.
    report = np.asarray(Image.open(RunDir(run).picture("test")).convert("RGB")).reshape(-1, 3)
    for colour in class_colours(4)[1:]:
        assert (report == np.array(colour)).all(axis=1).sum() > 100

    images = sorted((organs / "images").iterdir())[:4]
    predicted = run_program("predict", run, *images, "--out", tmp_path / "out")
    assert predicted.returncode == 0, predicted.stdout + predicted.stderr
    assert "1 liver (rgb 86 180 233)" in predicted.stdout
    found: set[int] = set()
    for image in images:
        mask = Image.open(tmp_path / "out" / f"{image.stem}_mask.png")
        assert mask.mode == "P"
        palette = np.array(mask.getpalette("RGB")).reshape(-1, 3)
        assert palette[:4].tolist() == [list(colour) for colour in class_colours(4)]
        found |= set(np.unique(np.asarray(mask)).tolist())
    assert found == {0, 1, 2, 3}
