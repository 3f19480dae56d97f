"""A capture is checked against the steps that the training has, before any rank starts."""

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.config_file import load_config
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.launching.datasets import begin_run, check_capture
from unet_dist.profiling.capture import CapturePlan
from unet_dist.runs import RunDir

# 4 of 8 images to train in 3 crops each: 12 in steps of 5 are 3 steps an epoch, 6 in 2 epochs.
SETTINGS = [
    "data.split.val=0.25", "data.split.test=0.25", "augment.crop=16", "augment.crops_per_image=3",
    "train.batch=5", "train.epochs=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "vessels"
    write_synthetic("vessels", folder, count=8, size=32, seed=0)
    return folder


def test_steps_that_the_training_does_not_have_are_refused_and_leave_no_run(images, tmp_path):
    run = tmp_path / "run"
    command = ["train", str(images / "config.yaml"), *SETTINGS, "--run", str(run), "--profile"]
    done = CliRunner().invoke(app, [*command, "steps=7:9"])
    assert str(done.exception) == "--profile: asks for steps 7 to 9, but the training has 6"
    assert not run.exists()
    done = CliRunner().invoke(app, [*command, "steps=7:9", "--dry-run"])
    assert done.exit_code == 0
    assert "is checked once its images are read" in done.output


def test_what_is_cut_off_is_told(images, tmp_path):
    run = RunDir(tmp_path)
    config = load_config(images / "config.yaml", SETTINGS)
    begin_run(run, config, Console(quiet=True))

    def told(steps):
        file = io.StringIO()
        plan = CapturePlan.parse(steps, "all")
        check_capture(run, config, plan, Console(file=file, width=200))
        return file.getvalue().strip()

    assert told("steps=5:6") == ""
    assert told("steps=6:8") == "warning: --profile asks for steps 6 to 8, but the training has 6"
    assert told("steps=2:3,every=3,repeat=4").startswith("warning: 2 of the 4 captures")
    with pytest.raises(UserError, match="asks for steps 7 to 7"):
        told("steps=7:7")
