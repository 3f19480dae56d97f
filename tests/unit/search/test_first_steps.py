"""What a newcomer is told: where a study lies, how one goes on, what a search file lacks."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.cli.search_start import place_of_new
from unet_dist.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("train: {epochs: 27}\n")
    return tmp_path


def file_of(**settings: object) -> Path:
    path = Path("rates.yaml")
    space = {"train.lr": {"float": [0.001, 0.1]}}
    path.write_text(yaml.safe_dump({"base": "base.yaml", "space": space, **settings}))
    return path


def told(*words: str) -> str:
    """What a refused search says."""
    done = CliRunner().invoke(app, ["search", *words])
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


def begun(name: str) -> Path:
    study = Path("searches") / name
    study.mkdir(parents=True)
    (study / "search.yaml").touch()
    return study


def test_a_second_study_of_a_file_is_told_with_the_command_that_resumes_the_first() -> None:
    file = Path("rates.yaml")
    assert place_of_new(file, None) == (Path("searches/rates"), "")
    begun("rates")
    begun("rates_of_others")
    assert place_of_new(file, None) == (
        Path("searches/rates-2"),
        "note: searches/rates exists, so this is a second study; to go on with the other: "
        "unet-dist search searches/rates --resume",
    )
    assert place_of_new(file, Path("elsewhere")) == (Path("elsewhere"), "")


def test_the_command_that_began_a_study_with_resume_is_told_the_right_one() -> None:
    file_of()
    words = ["rates.yaml", "data.root=.", "--simulate", "2", "--resume"]
    assert "there is none in searches/rates yet: leave --resume out" in told(*words)
    begun("rates")
    assert told(*words).endswith(": unet-dist search searches/rates --resume")
    begun("own")
    own = told(*words, "--run", "searches/own")
    assert own.endswith(": unet-dist search searches/own --resume")


def test_a_training_configuration_is_told_apart_from_a_search_file() -> None:
    text = told("base.yaml", "--simulate", "2")
    assert text.startswith("base.yaml: this is a training configuration, not a search file")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"float": [0.03]}, "space.train.lr: float takes two ends, [lowest, highest], not [0.03]"),
        ({"int": [1, 2, 3]}, "space.train.lr: int takes two ends, [lowest, highest]"),
        ({"float": 0.03}, "space.train.lr: float takes two ends, [lowest, highest], not 0.03"),
        ({"float": [0.01, 0.01]}, "space.train.lr: the ends are equal, 0.01"),
        ({"float": ["a", 0.01]}, "space.train.lr.float.0: "),
    ],
)
def test_a_range_without_two_ends_is_told(values: dict[str, object], words: str) -> None:
    text = told(str(file_of(space={"train.lr": values})), "--simulate", "2")
    assert words in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(("trials", "warned"), [(4, True), (5, False)])
def test_a_dry_run_names_its_folder_its_rungs_and_trials_that_are_too_few(
    trials: int, warned: bool
) -> None:
    file = str(file_of(budget={"trials": trials}, retrain={"top": 2}))
    done = CliRunner().invoke(app, ["search", file, "--simulate", "2", "--dry-run"])
    lines = done.output.splitlines()
    assert lines[0] == "search in searches/rates"
    assert not Path("searches").exists()
    assert "rungs after 3, 9 of 27 epochs: from each the best 1 in 3 goes on" in lines
    assert "then the best 2 are trained again with seeds 1, 2, 3" in done.output
    assert ("none can come to the last of 3 rungs, 27 epochs" in done.output) == warned
