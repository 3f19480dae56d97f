"""What is left of a search that cannot begin, or that nobody leads."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement
from unet_dist.runs import RunDir
from unet_dist.search.folder import StudyDir
from unet_dist.search.site import Site
from unet_dist.search.spec import load_spec
from unet_dist.search.study_files import begin_study


@pytest.mark.parametrize("there_before", [False, True])
def test_a_damaged_image_is_told_and_leaves_no_study(tmp_path: Path, there_before: bool) -> None:
    write_synthetic("vessels", tmp_path / "set", count=6, size=32, seed=0)
    image = tmp_path / "set" / "images" / "vessels-0003.png"
    image.write_bytes(image.read_bytes()[:300])
    search = {
        "base": "set/config.yaml", "set": ["data.split.val=0.3"],
        "space": {"train.lr": {"float": [1e-3, 1e-2]}},
        "algorithm": {"min_epochs": 1},
    }  # fmt: skip
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search))
    study = tmp_path / "study"
    if there_before:
        study.mkdir()
    command = ["search", str(tmp_path / "search.yaml"), "--simulate", "2", "--run", str(study)]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UserError), done.output
    assert "vessels-0003.png" in str(done.exception)
    assert not study.exists()


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
