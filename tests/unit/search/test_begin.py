"""What is left of a search that cannot begin."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError


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
