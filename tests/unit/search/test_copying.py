import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet_dist.errors import RunBusy
from unet_dist.runs import RunDir
from unet_dist.search import copying
from unet_dist.search.copying import checkpoint_of, checkpoints_kept, copy_checkpoint
from unet_dist.search.spec import AlgorithmSpec
from unet_dist.train.checkpoint import (
    Checkpoint,
    TrainState,
    load_best,
    load_latest,
    read_pointer,
    save_checkpoint,
    steps_kept,
)

EPOCHS = (1, 2)


def add(run: RunDir, step: int, weight: float, *, best: bool = False, keep: int = 9) -> None:
    arrays = {"w": np.array([weight])}
    state = TrainState(step=step)
    checkpoint = Checkpoint(state=state, weights=arrays, optimizer={}, average={})
    save_checkpoint(run.checkpoints, checkpoint, keep=keep, best=best)


def run_at(path: Path, *, steps_per_epoch: int, weight: float) -> RunDir:
    """With a checkpoint after each epoch, whose weight is that of the run and the epoch."""
    run = RunDir(path)
    run.records(0).parent.mkdir(parents=True)
    started(run, steps_per_epoch)
    for epoch in EPOCHS:
        add(run, epoch * steps_per_epoch, weight + epoch, best=True)
    return run


def started(run: RunDir, steps_per_epoch: int) -> None:
    with run.records(0).open("a") as records:
        records.write(f'{{"kind": "start", "steps_per_epoch": {steps_per_epoch}}}\n')


def weight_of(run: RunDir) -> float:
    checkpoint, _ = load_latest(run.checkpoints)
    assert checkpoint is not None
    return float(checkpoint.weights["w"][0])


@pytest.mark.parametrize("steps_per_epoch", [2, 4, 8])
def test_a_member_goes_on_with_anothers_checkpoint_whatever_its_own_steps_were(
    tmp_path: Path, steps_per_epoch: int
) -> None:
    better = run_at(tmp_path / "better", steps_per_epoch=4, weight=10.0)
    worse = run_at(tmp_path / "worse", steps_per_epoch=steps_per_epoch, weight=20.0)
    copy_checkpoint(better, worse, epoch=1, mark="1 1")
    assert weight_of(worse) == 11.0
    assert [path.name for path in steps_kept(worse.checkpoints)] == ["step_000004"]
    assert read_pointer(worse.checkpoints, "LATEST") == worse.checkpoints / "step_000004"
    best, _ = load_best(worse.checkpoints)
    assert best.weights["w"][0] == 11.0


def test_a_checkpoint_is_copied_once(tmp_path: Path) -> None:
    better = run_at(tmp_path / "better", steps_per_epoch=4, weight=10.0)
    worse = run_at(tmp_path / "worse", steps_per_epoch=4, weight=20.0)
    copy_checkpoint(better, worse, epoch=1, mark="1 1")
    add(worse, 8, 33.0)
    copy_checkpoint(better, worse, epoch=1, mark="1 1")
    assert weight_of(worse) == 33.0


class Killed(BaseException):
    pass


def dying_before(function: Callable[..., Any]) -> Callable[..., Any]:
    def die(*arguments: Any, **named: Any) -> None:
        raise Killed

    return die


@pytest.mark.parametrize(
    "moment", ["shutil.copytree", "_set_aside", "shutil.copyfile", "Path.rename",
               "write_text_atomically", "second rename"],
)  # fmt: skip
def test_a_kill_at_any_moment_leaves_what_the_next_start_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    better = run_at(tmp_path / "better", steps_per_epoch=4, weight=10.0)
    worse = run_at(tmp_path / "worse", steps_per_epoch=8, weight=20.0)
    with monkeypatch.context() as patched:
        kill_at(moment, patched)
        with pytest.raises(Killed):
            copy_checkpoint(better, worse, epoch=2, mark="1 2")
    copy_checkpoint(better, worse, epoch=2, mark="1 2")
    assert weight_of(worse) == 12.0
    # What it had is still to be had.
    assert checkpoint_of(worse, 1).name == "step_000008"
    assert sorted(path.name for path in worse.path.iterdir()) == [
        "checkpoints", "checkpoints_until_0002", "copied_from", "records",
    ]  # fmt: skip


def kill_at(moment: str, patched: pytest.MonkeyPatch) -> None:
    rename, renamed = Path.rename, []

    def die_at_second(self: Path, target: Path) -> Path:
        renamed.append(self)
        if len(renamed) == 2:
            raise Killed
        return rename(self, target)

    if moment == "second rename":
        patched.setattr(Path, "rename", die_at_second)
    elif moment == "Path.rename":
        patched.setattr(Path, "rename", dying_before(rename))
    elif moment.startswith("shutil."):
        name = moment.removeprefix("shutil.")
        patched.setattr(shutil, name, dying_before(getattr(shutil, name)))
    else:
        patched.setattr(copying, moment, dying_before(getattr(copying, moment)))


def test_what_a_member_had_before_it_copied_can_be_copied_from_it(tmp_path: Path) -> None:
    """The third compared itself with the second after epoch 1, but is late."""
    first = run_at(tmp_path / "first", steps_per_epoch=4, weight=10.0)
    second = run_at(tmp_path / "second", steps_per_epoch=2, weight=20.0)
    third = run_at(tmp_path / "third", steps_per_epoch=4, weight=30.0)
    copy_checkpoint(first, second, epoch=2, mark="0 2")
    started(second, 4)
    add(second, 12, 23.0)
    # Step 2 is its own epoch 1, step 8 another's epoch 2, step 12 its own epoch 3 from there.
    copy_checkpoint(second, third, epoch=1, mark="1 1")
    assert weight_of(third) == 21.0
    fourth = run_at(tmp_path / "fourth", steps_per_epoch=4, weight=40.0)
    copy_checkpoint(second, fourth, epoch=3, mark="1 3")
    assert weight_of(fourth) == 23.0


def test_a_checkpoint_that_is_not_there_yet_changes_nothing(tmp_path: Path) -> None:
    better = run_at(tmp_path / "better", steps_per_epoch=4, weight=10.0)
    worse = run_at(tmp_path / "worse", steps_per_epoch=4, weight=20.0)
    with pytest.raises(RunBusy, match="of epoch 3 is not there"):
        copy_checkpoint(better, worse, epoch=3, mark="1 3")
    assert weight_of(worse) == 22.0
    with pytest.raises(RunBusy, match="of epoch 3 is not there"):
        copy_checkpoint(RunDir(tmp_path / "not_begun"), worse, epoch=3, mark="2 3")


def test_what_is_set_aside_while_it_is_copied_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = run_at(tmp_path / "better", steps_per_epoch=4, weight=10.0)
    worse = run_at(tmp_path / "worse", steps_per_epoch=4, weight=20.0)
    copytree = shutil.copytree

    def slowly(found: Path, target: Path) -> None:
        copytree(found, target)
        better.checkpoints.rename(better.path / "checkpoints_until_0002")
        shutil.copyfile(better.records(0), better.path / "checkpoints_until_0002/records.jsonl")

    monkeypatch.setattr(shutil, "copytree", slowly)
    with pytest.raises(RunBusy, match="while it was copied"):
        copy_checkpoint(better, worse, epoch=1, mark="1 1")
    assert weight_of(worse) == 22.0


def test_of_a_population_every_checkpoint_stays(tmp_path: Path) -> None:
    kept = {
        schedule: checkpoints_kept(AlgorithmSpec.model_validate({"schedule": schedule}))
        for schedule in ("halving", "population")
    }
    assert kept["halving"] == 0
    run = RunDir(tmp_path)
    for step in range(1, 9):
        add(run, step, 1.0, keep=kept["population"])
    assert len(steps_kept(run.checkpoints)) == 8
