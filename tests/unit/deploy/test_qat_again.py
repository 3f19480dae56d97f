"""``quantize --method qat``, the same command again after it was killed; no rank is started."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.deployed import untrained_run
from unet_dist.cli import qat
from unet_dist.cli.qat import train_for_8_bits
from unet_dist.errors import UserError
from unet_dist.launching.job import Job
from unet_dist.launching.placement import Placement
from unet_dist.runs import RunDir, write_json

GO_ON = "unet-dist quantize run --method qat -o deployed"


class Killed(Exception):
    """In place of the end of the launcher."""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return untrained_run(tmp_path, "augment.crop=32", "train.batch=2")[0]


def train(run: RunDir, folder: RunDir, *, epochs: int = 2) -> None:
    train_for_8_bits(
        run,
        folder,
        epochs=epochs,
        calibrate=2,
        placement=Placement(simulate=1),
        go_on=GO_ON,
        console=Console(quiet=True),
        as_json=False,
    )


def test_the_same_command_goes_on_with_what_was_begun(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunDir(tmp_path / "deployed" / "qat")
    led: list[Any] = []

    def killed(job: Job) -> None:
        assert job.what["go_on"] == GO_ON
        led.append(job.what["resume"])
        write_json(folder.status, {"state": "running"})
        raise Killed

    monkeypatch.setattr(Job, "lead", killed)
    with pytest.raises(Killed):
        train(run, folder)
    [start] = folder.path.parent.glob("qat_start_*.safetensors")
    before = {path: path.stat().st_mtime_ns for path in (start, folder.config, folder.dataset)}
    with pytest.raises(Killed):
        train(run, folder)
    assert led == [False, True]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(UserError, match="holds a training with other settings"):
        train(run, folder, epochs=3)
    write_json(folder.status, {"state": "done"})
    train(run, folder)
    assert len(led) == 2


def test_what_was_killed_before_it_began_is_begun_again(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunDir(tmp_path / "deployed" / "qat")

    def killed(*anything: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(qat, "dump_config", killed)
        with pytest.raises(Killed):
            train(run, folder)
    assert folder.dataset.exists()
    assert not folder.config.exists()
    monkeypatch.setattr(Job, "lead", killed)
    with pytest.raises(Killed):
        train(run, folder)
    assert folder.config.exists()
