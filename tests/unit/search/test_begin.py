"""What is left of a search that cannot begin, or that nobody leads."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.config_file import load_config
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement
from unet_dist.runs import RunDir, write_json, write_text_atomically
from unet_dist.search import signs
from unet_dist.search.folder import StudyDir
from unet_dist.search.site import Site
from unet_dist.search.spec import load_spec
from unet_dist.search.study_files import begin_study
from unet_dist.search.trial_data import DataSets


@pytest.mark.parametrize("there_before", [False, True])
def test_a_damaged_image_is_told_and_leaves_no_study(tmp_path: Path, there_before: bool) -> None:
    command = ["search", *search_of(tmp_path), "--run", str(tmp_path / "study")]
    image = tmp_path / "set" / "images" / "vessels-0003.png"
    image.write_bytes(image.read_bytes()[:300])
    study = tmp_path / "study"
    if there_before:
        study.mkdir()
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UserError), done.output
    assert "vessels-0003.png" in str(done.exception)
    assert not study.exists()


def search_of(folder: Path, **base: object) -> list[str]:
    """The command of a search over six images."""
    write_synthetic("vessels", folder / "set", count=6, size=32, seed=0)
    search = {
        "base": "set/config.yaml",
        "set": ["data.split.val=0.3", *(f"{key}={value}" for key, value in base.items())],
        "space": {"train.lr": {"float": [1e-3, 1e-2]}},
        "algorithm": {"min_epochs": 1},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(search))
    return [str(folder / "search.yaml"), "--simulate", "2", "--cards-per-trial", "2"]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "base",
    [
        {"data.root": "nowhere"},
        {"data.classes": 3},
        {"train.batch": 1},
        {"train.start_from": "nowhere"},
        {"evaluate.structure": "objects"},
        {"data.split.val": 0.9},
    ],
)
def test_an_impossible_base_is_refused_as_train_refuses_it_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: dict[str, object], shared: bool
) -> None:
    monkeypatch.setattr("unet_dist.search.storage.check_shared", lambda url: None)
    command = search_of(tmp_path, **base)
    storage = ["--storage", "postgresql+psycopg://anna@127.0.0.1:1/x"] if shared else []
    monkeypatch.setattr("unet_dist.search.study_files.write_text_atomically", pytest.fail)
    study = ["--run", str(tmp_path / "study")]
    searched = CliRunner().invoke(app, ["search", *command, *storage, *study])
    assert isinstance(searched.exception, UserError), searched.output
    assert not (tmp_path / "study").exists()
    config = ["data.split.val=0.3", *(f"{key}={value}" for key, value in base.items())]
    where = ["--simulate", "2", "--run", str(tmp_path / "run")]
    trained = CliRunner().invoke(app, ["train", str(tmp_path / "set/config.yaml"), *config, *where])
    assert str(searched.exception) == str(trained.exception)


def test_a_study_whose_images_are_gone_is_not_resumed(tmp_path: Path) -> None:
    """Trial after trial would be refused, and count."""
    file = written(tmp_path)
    study = StudyDir(tmp_path / "study")
    study.path.mkdir()
    site = Site(placement=Placement(simulate=1))
    write_synthetic("vessels", tmp_path / "set", count=6, size=32, seed=0)
    (tmp_path / "base.yaml").write_text(
        f"data: {{root: {tmp_path}/set, format: folder, split: {{val: 0.3}}}}\n"
    )
    data = DataSets(folder=study, console=Console(quiet=True))
    spec = begin_study(study, load_spec(file), file, site, check=data.check)
    data.check(load_config(study.base))
    write_text_atomically(study.stop_request, "")
    (tmp_path / "set").rename(tmp_path / "away")
    command = ["search", str(study.path), "--resume", "--trials", "60"]
    done = CliRunner().invoke(app, command)
    assert "set: no such directory" in str(done.exception)
    assert study.stop_request.exists()
    assert load_spec(study.spec) == spec


def written(folder: Path) -> Path:
    (folder / "base.yaml").write_text(f"data: {{root: {folder}}}\n")
    file = folder / "search.yaml"
    file.write_text("base: base.yaml\nspace: {train.lr: {float: [1e-3, 1e-2]}}\n")
    return file


def test_a_database_that_cannot_be_reached_leaves_no_study_that_names_it(tmp_path: Path) -> None:
    """The address is mended on the command line, and all later starts read it from the folder."""
    study = tmp_path / "study"
    command = ["search", str(written(tmp_path)), "--run", str(study)]
    away = "postgresql+psycopg://anna@127.0.0.1:1/x"
    done = CliRunner().invoke(app, [*command, "--storage", away])
    assert isinstance(done.exception, UserError), done.output
    assert "refused" in str(done.exception)
    assert not study.exists()


def test_a_stop_of_what_nobody_leads_is_told(tmp_path: Path) -> None:
    study, file = StudyDir(tmp_path / "study"), written(tmp_path)
    study.path.mkdir()
    begin_study(study, load_spec(file), file, Site(placement=Placement(simulate=1)))
    command = ["search", "stop", str(study.path)]
    done = CliRunner().invoke(app, command)
    assert "nothing to stop: nobody leads it, and it is not started" in str(done.exception)
    assert not study.stop_request.exists()
    with RunDir(study.path).locked():
        assert CliRunner().invoke(app, command).exit_code == 0
    assert study.stop_request.exists()


def test_a_stop_of_a_shared_study_whose_controllers_are_dead_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, file = StudyDir(tmp_path / "study"), written(tmp_path)
    study.path.mkdir()
    shared = Site(placement=Placement(simulate=1), storage=f"sqlite:///{tmp_path}/study.db")
    begin_study(study, load_spec(file), file, shared)
    write_json(study.status, {"state": "running"})
    command = ["search", "stop", str(study.path)]
    assert CliRunner().invoke(app, command).exit_code == 0
    study.stop_request.unlink()
    os.utime(study.status, (0, 0))
    done = CliRunner().invoke(app, command)
    assert "nothing to stop: nobody leads it, and it is killed" in str(done.exception)
    assert not study.stop_request.exists()
    # One of several has failed and said so; another one has just given a sign of life.
    write_json(study.status, {"state": "failed", "reason": "disk full"})
    monkeypatch.setattr(signs, "silence_s", lambda url, names: 5.0)
    assert CliRunner().invoke(app, command).exit_code == 0
    study.stop_request.unlink()
    monkeypatch.setattr(signs, "silence_s", lambda url, names: 600.0)
    done = CliRunner().invoke(app, command)
    assert "nothing to stop: nobody leads it, and it is failed" in str(done.exception)
    monkeypatch.undo()
    # Who leads it may reach a database that is not to be reached from here.
    away = replace(shared, storage="postgresql+psycopg://anna@127.0.0.1:1/x")
    write_json(study.place, away.to_json())
    assert CliRunner().invoke(app, command).exit_code == 0
    assert study.stop_request.exists()
