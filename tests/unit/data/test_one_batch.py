import numpy as np
import pytest

from unet_dist.config_data import DataConfig
from unet_dist.data.dataset import open_dataset
from unet_dist.data.one_batch import write_one_batch
from unet_dist.data.sample import IGNORE
from unet_dist.data.windows import busiest_window
from unet_dist.errors import UserError

NO_TEST = {"val": 0, "test": 0}


def test_busiest_window_holds_the_structures():
    target = np.zeros((20, 30), np.uint8)
    target[12:16, 20:25] = 1
    rows, columns = busiest_window(target, 6)
    assert target[rows, columns].shape == (6, 6)
    assert target[rows, columns].sum() == 20
    assert busiest_window(target, 99) == (slice(0, 20), slice(0, 30))
    assert busiest_window(np.zeros((9, 9), np.uint8), 4) == (slice(0, 4), slice(0, 4))


def test_busiest_window_counts_a_small_class_as_much_as_a_large_one():
    target = np.zeros((20, 40), np.uint8)
    target[:, :10] = 1  # of which a window of 8 holds a third
    target[10:12, 30:32] = 2
    target[:, 20:28] = IGNORE
    rows, columns = busiest_window(target, 8)
    assert (target[rows, columns] == 2).sum() == 4


def test_written_parts_are_what_the_network_would_see(write, write_folder):
    root = write_folder(5)
    mask = np.zeros((16, 16), np.uint8)
    mask[8:, 8:], mask[8] = 2, 255
    write("masks/03.png", mask)
    config = DataConfig(
        root=str(root), mask="labels", classes=3, ignore=255, channels="grey", resize=0.5,
        even_light=3, split=NO_TEST,
    )  # fmt: skip
    for index in (0, 1, 2, 4):
        write(f"masks/{index:02d}.png", (mask == 255).astype(np.uint8))
    whole = open_dataset(config, seed=0)
    batch = write_one_batch(whole, 2, root / "small", crop=4)
    assert batch.contradictions == ()
    assert len(batch.ids) == 2
    small = open_dataset(batch.config, seed=0)
    assert len(small.splits.train) == 2
    for id_, sample in zip(batch.ids, small.splits.train, strict=True):
        [original] = [one for one in whole.splits.train if one.id == id_]
        before, after = whole.read(original), small.read(sample)
        window = busiest_window(before.target_hw, 4)
        np.testing.assert_allclose(after.image_hwc, before.image_hwc[window], atol=1e-5)
        np.testing.assert_array_equal(after.target_hw, before.target_hw[window])
        assert after.target_hw.shape == (4, 4)


def test_field_of_view_and_colours_are_kept(write, write_folder):
    root = write_folder(3)
    view = np.zeros((16, 16), np.uint8)
    view[:, 6:] = 255
    for index in range(3):
        write(f"view/{index:02d}.png", view)
    config = DataConfig(root=str(root), fov="file", fov_masks="view", split=NO_TEST)
    whole = open_dataset(config, seed=0)
    batch = write_one_batch(whole, 1, root / "small", crop=0)
    small = open_dataset(batch.config, seed=0)
    before, after = whole.read(whole.splits.train[0]), small.read(small.splits.train[0])
    np.testing.assert_allclose(after.image_hwc, before.image_hwc, atol=1e-5)
    np.testing.assert_array_equal(after.fov_hw, before.fov_hw)
    assert not after.fov_hw.all()


def test_images_with_the_most_classes_are_taken(write, write_folder):
    root = write_folder(5, value=1)
    mask = np.zeros((16, 16), np.uint8)
    mask[:4], mask[4:8] = 1, 2
    write("masks/03.png", mask)
    config = DataConfig(root=str(root), classes=3, split=NO_TEST)
    whole = open_dataset(config, seed=0)
    assert write_one_batch(whole, 1, root / "a", crop=0).ids == ("03",)
    assert write_one_batch(whole, 3, root / "b", crop=0).ids == ("00", "01", "03")


def test_one_picture_with_two_masks_is_a_contradiction_at_one_place(write, write_folder):
    root = write_folder(2)
    (root / "images/01.png").write_bytes((root / "images/00.png").read_bytes())
    mask = np.zeros((16, 16), np.uint8)
    mask[12:, 12:] = 255
    write("masks/01.png", mask)
    whole = open_dataset(DataConfig(root=str(root), split=NO_TEST), seed=0)
    batch = write_one_batch(whole, 2, root / "small", crop=8)
    assert batch.contradictions == ("00 and 01 are the same picture with different masks",)
    images = sorted((root / "small/images").iterdir())
    assert images[0].read_bytes() == images[1].read_bytes()


def test_more_images_than_train_and_no_foreground_are_refused(write, write_folder):
    root = write_folder(4)
    whole = open_dataset(DataConfig(root=str(root), split=NO_TEST), seed=0)
    with pytest.raises(UserError, match="5 images are asked for, but only 4 train"):
        write_one_batch(whole, 5, root / "small", crop=0)
    assert not (root / "small").exists()
