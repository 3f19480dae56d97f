from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unet_dist.errors import UserError
from unet_dist.train.checkpoint import (
    Checkpoint,
    TrainState,
    load_best,
    load_checkpoint,
    load_latest,
    save_checkpoint,
    step_dir,
    weights_digest,
)


def checkpoint(step: int) -> Checkpoint:
    values = np.random.default_rng(step).standard_normal(50).astype(np.float32)
    return Checkpoint(
        state=TrainState(step=step, updates=step, loss_scale=8.0, best_dice=0.5),
        weights={"a": values, "b": values.reshape(5, 10)},
        optimizer={"moment1": values * 2},
        average={"a": values + 1},
    )


def save(folder: Path, step: int, *, keep: int = 2, best: bool = False) -> None:
    save_checkpoint(folder, checkpoint(step), keep=keep, best=best)


def test_of_equally_good_validations_the_later_is_the_best() -> None:
    first = TrainState(step=10).judged(0.0, 0.5)
    assert (first.best_step, first.best_dice, first.threshold) == (10, 0.0, 0.5)
    later = replace(first, step=20)
    assert later.judged(0.0, 0.3).best_step == 20
    assert later.judged(0.0, 0.3).threshold == 0.3
    best = later.judged(0.7, 0.4)
    for worse in (0.6, float("nan")):
        assert replace(best, step=30).judged(worse, 0.9).best_step == 20
        assert replace(best, step=30).judged(worse, 0.9).threshold == 0.4


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path, 7)
    loaded, warnings = load_latest(tmp_path)
    assert loaded is not None
    assert not warnings
    assert loaded.state == checkpoint(7).state
    for part in ("weights", "optimizer", "average"):
        stored, wanted = getattr(loaded, part), getattr(checkpoint(7), part)
        assert stored.keys() == wanted.keys()
        assert all(np.array_equal(stored[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    "file", ["weights.safetensors", "optimizer.safetensors", "average.safetensors", "state.json"]
)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_used(
    tmp_path: Path, file: str, damage: str
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = step_dir(tmp_path, 2) / file
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        middle = len(content) // 2 if file != "state.json" else content.index(b'"sha256"') + 40
        flipped = bytes([content[middle] ^ 1])
        path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
    else:
        path.unlink()
    loaded, [warning] = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.state.step == 1
    assert "step_000002" in warning


def test_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, step, keep=2, best=step == 2)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == [
        "step_000002",
        "step_000004",
        "step_000005",
    ]
    assert load_best(tmp_path)[0].state.step == 2


def test_a_full_disk_leaves_the_older_checkpoint_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def full(arrays: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unet_dist.train.checkpoint.save_file", full)
    with pytest.raises(UserError, match=r"No space left on device; free some space"):
        save(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "step_000001"]
    loaded, _ = load_latest(tmp_path)
    assert loaded is not None


def test_a_pickle_in_place_of_weights_is_not_executed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "touched").encode() + b"'\ntR."
    (step_dir(tmp_path, 1) / "weights.safetensors").write_bytes(bomb)
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(step_dir(tmp_path, 1))
    assert not (tmp_path / "touched").exists()


def test_no_checkpoint_yet_is_said_so(tmp_path: Path) -> None:
    assert load_latest(tmp_path) == (None, [])
    with pytest.raises(UserError, match="train the run first"):
        load_best(tmp_path)


def test_digest_sees_values_names_and_shapes() -> None:
    base = {"a": np.arange(4.0, dtype=np.float32)}
    others = [
        {"a": np.arange(4.0, dtype=np.float32) + np.float32(1e-7)},
        {"b": base["a"]},
        {"a": base["a"].reshape(2, 2)},
    ]
    assert len({weights_digest(arrays) for arrays in (base, *others)}) == 4


def test_a_damaged_best_checkpoint_gives_way_to_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 1, best=True)
    save(tmp_path, 2)
    (step_dir(tmp_path, 1) / "weights.safetensors").write_bytes(b"")
    loaded, [warning] = load_best(tmp_path)
    assert loaded.state.step == 2
    assert "the best checkpoint is damaged" in warning


def test_checkpoints_are_ordered_by_number_beyond_six_digits(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        save(tmp_path, step, keep=2)
    loaded, _ = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.state.step == 1_000_000


def test_checkpoints_damaged_later_do_not_push_out_whole_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=5)
    (step_dir(tmp_path, 3) / "weights.safetensors").write_bytes(b"")
    save_checkpoint(tmp_path, checkpoint(2), keep=1, best=False)
    loaded, _ = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.state.step == 2
