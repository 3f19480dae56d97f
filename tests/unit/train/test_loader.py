"""The loader on generated images, without a network."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.data.dataset import open_dataset
from unet_dist.data.loader import Batch, TrainLoader
from unet_dist.data.skeletons import skeletons
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loader") / "vessels"
    write_synthetic("vessels", folder, count=5, size=48, seed=0)
    return folder


def config_of(folder: Path, *overrides: str) -> Config:
    base = ["data.split.val=0", "data.split.test=0", "augment.crop=32", "train.batch=4"]
    return load_config(folder / "config.yaml", [*base, *overrides])


def loader_of(folder: Path, *overrides: str, rank: int = 0, world: int = 1) -> TrainLoader:
    config = config_of(folder, *overrides)
    return TrainLoader(
        open_dataset(config.data, seed=0),
        config,
        rank=rank,
        world=world,
        mean=np.zeros(3, np.float32),
        std=np.ones(3, np.float32),
        dropout_channels=6,
    )


def images(batches: list[Batch]) -> set[bytes]:
    return {
        x.tobytes()
        for batch in batches
        for x, weight in zip(batch.x_nchw, batch.weight_n, strict=True)
        if weight
    }


def test_shapes_and_types(folder: Path) -> None:
    [batch] = loader_of(folder).make_step(0)
    assert (batch.x_nchw.shape, batch.x_nchw.dtype) == ((4, 3, 32, 32), np.float32)
    assert (batch.target_nhw.shape, batch.target_nhw.dtype) == ((4, 32, 32), np.int32)
    assert set(np.unique(batch.valid_nhw)) <= {0.0, 1.0}
    assert batch.step_images == 4


def test_skeletons_are_made_only_for_a_loss_that_asks_for_them(folder: Path) -> None:
    [without] = loader_of(folder).make_step(0)
    assert without.skeleton_nhw.shape == (4, 1, 1)
    [batch] = loader_of(folder, "loss.skeleton_recall=1").make_step(0)
    for skeleton, target in zip(batch.skeleton_nhw, batch.target_nhw, strict=True):
        assert np.array_equal(skeleton, skeletons(target.astype(np.uint8)))
    assert 0 < (batch.skeleton_nhw > 0).sum() < (batch.target_nhw > 0).sum()


def test_two_ranks_load_what_one_would(folder: Path) -> None:
    alone = loader_of(folder, "model.dropout=0.5")
    shared = [loader_of(folder, "model.dropout=0.5", rank=rank, world=2) for rank in (0, 1)]
    for step in range(alone.steps_per_epoch * 2):
        parts = [loader.make_step(step) for loader in shared]
        assert images(alone.make_step(step)) == images(parts[0]) | images(parts[1])
        whole = {row.tobytes() for row in alone.make_step(step)[0].keep_nc}
        assert whole == {row.tobytes() for part in parts for row in part[0].keep_nc}


def test_the_last_step_is_padded_with_weight_zero(folder: Path) -> None:
    [batch] = loader_of(folder).make_step(1)
    assert batch.weight_n.tolist() == [1, 0, 0, 0]
    assert batch.step_images == 1


def test_crops_of_an_image_differ_and_change_with_the_epoch(folder: Path) -> None:
    loader = loader_of(folder, "augment.crops_per_image=2")
    assert loader.num_crops == 10
    epochs = [
        images([b for s in range(3) for b in loader.make_step(3 * epoch + s)]) for epoch in (0, 1)
    ]
    assert len(epochs[0] | epochs[1]) == 20


def test_dropout_drops_its_share_and_keeps_the_mean(folder: Path) -> None:
    loader = loader_of(folder, "model.dropout=0.5", "augment.crops_per_image=20")
    keep = np.concatenate([loader.make_step(step)[0].keep_nc for step in range(20)])
    assert set(np.unique(keep)) == {0.0, 2.0}
    assert 0.8 < keep.mean() < 1.2


def test_background_batches_are_the_same_and_in_order(folder: Path) -> None:
    loader = loader_of(folder)
    for number, batches in enumerate(loader.steps(1, 6), start=1):
        assert images(batches) == images(loader.make_step(number))


def test_at_most_prefetch_steps_are_made_ahead(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = loader_of(folder, "train.prefetch=3")
    made: list[int] = []
    monkeypatch.setattr(loader, "make_step", lambda step: made.append(step) or [])
    steps = loader.steps(0, 100)
    next(steps)
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # One was taken, three wait, and one more is in the hand of the thread.
    assert made == [0, 1, 2, 3, 4]
    steps.close()
    assert not any(thread.name == "loader" for thread in threading.enumerate())


def test_an_error_of_the_background_reaches_the_reader(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = loader_of(folder)

    def unreadable(step: int) -> list[Batch]:
        raise UserError("a.png", "is truncated")

    monkeypatch.setattr(loader, "make_step", unreadable)
    with pytest.raises(UserError, match=r"a\.png"):
        next(loader.steps(0, 3))


def test_crop_0_takes_whole_images(folder: Path) -> None:
    assert loader_of(folder, "augment.crop=0").make_step(0)[0].x_nchw.shape == (4, 3, 48, 48)
