"""What commands refuse before anything is started or written, and the way out that they name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.cli.run_config import config_of_run
from unet_dist.config_file import dump_config, load_config
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.runs import RunDir

TUBULAR = "evaluate.structure=tubular"
ONE_CLASS = "evaluate.structure: tubular is for one foreground class, but data.classes is 4"


def refusal(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


@pytest.fixture
def organs(tmp_path: Path) -> Path:
    """A data set of three organs; its configuration."""
    write_synthetic("organs", tmp_path / "organs", count=4, size=32, seed=0)
    return tmp_path / "organs" / "config.yaml"


@pytest.mark.parametrize("options", [["--dry-run"], [], ["--folds", "2", "--dry-run"]])
def test_a_structure_that_the_masks_lack_is_refused_before_a_run_begins(
    organs: Path, tmp_path: Path, options: list[str]
) -> None:
    folder = tmp_path / "run"
    told = refusal("train", organs, TUBULAR, "--simulate", 1, "--run", folder, *options)
    assert told == f"{ONE_CLASS}: set region"
    assert not folder.exists()
    dry = ["train", str(organs), "evaluate.structure=region", "--simulate", "1", "--dry-run"]
    assert CliRunner().invoke(app, dry).exit_code == 0


@pytest.mark.parametrize("mask", ["auto", "labels"])
def test_masks_of_classes_number_no_objects_whoever_says_that_they_are_classes(
    organs: Path, mask: str
) -> None:
    objects = ["evaluate.structure=objects", f"data.mask={mask}"]
    told = refusal("train", organs, *objects, "--dry-run")
    assert "objects needs masks that number the objects" in told


def test_the_check_of_a_data_set_finds_the_structure_that_its_training_would_refuse(
    organs: Path,
) -> None:
    faulty = CliRunner().invoke(app, ["data", "check", str(organs), TUBULAR])
    assert faulty.exit_code == 1
    assert f"fault: {ONE_CLASS}: set region" in faulty.output
    assert CliRunner().invoke(app, ["data", "check", str(organs)]).exit_code == 0


def test_a_run_does_not_keep_a_structure_that_it_cannot_have(organs: Path, tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    folder.config.write_text(dump_config(load_config(organs)))
    before = folder.config.read_text()

    assert refusal("train", folder.path, "--resume", TUBULAR).startswith(ONE_CLASS)
    assert folder.config.read_text() == before
    # One that a run kept all the same can be taken back.
    folder.config.write_text(dump_config(load_config(organs, [TUBULAR])))
    assert refusal("eval", folder.path).startswith(ONE_CLASS)
    mended = config_of_run(folder, ["evaluate.structure=region"])
    assert mended.evaluate.structure == "region"


def test_going_on_is_advised_with_the_folder_of_the_run(organs: Path, tmp_path: Path) -> None:
    run = tmp_path / "cv"
    run.mkdir()
    told = refusal("train", organs, "--run", run, "--resume")
    assert told.endswith(f"the run's folder alone: unet-dist train {run} --resume")
    assert refusal("train", run, "--run", run, "--resume").endswith("leave --run out")


def test_a_folder_in_place_of_a_configuration_is_answered_with_the_file(organs: Path) -> None:
    told = refusal("data", "check", organs.parent)
    assert (
        told == f"{organs.parent}: is a folder, not a configuration file: its configuration "
        f"is {organs}"
    )
    images = organs.parent / "images"
    assert refusal("data", "check", images).endswith("is a folder, not a configuration file")


@pytest.mark.parametrize(
    ("option", "key"),
    [("--epochs", "train.epochs"), ("--lr=3", "train.lr"), ("--data.root=x", "data.root")],
)
def test_an_option_that_is_a_key_is_told_as_one(organs: Path, option: str, key: str) -> None:
    told = refusal("train", organs, option, 3)
    assert told == f"{option.partition('=')[0]}: is no option: it is set by {key}=VALUE"


def test_an_option_that_is_neither_is_left_to_the_parser(organs: Path) -> None:
    assert "No such option: --epoch" in CliRunner().invoke(app, ["train", "x", "--epoch"]).output
    dry = ["train", str(organs), "--simulate=1", "--dry-run"]
    assert CliRunner().invoke(app, dry).exit_code == 0
