from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unet_dist.config_data import DataConfig
from unet_dist.data.dataset import (
    ImageCache,
    normalisation,
    open_dataset,
    resize_example,
)
from unet_dist.data.images import to_unit_range
from unet_dist.data.sample import IGNORE, Example
from unet_dist.errors import UserError


def opened(root, **keys):
    return open_dataset(DataConfig(root=str(root), **keys), seed=0)


def everyone(dataset):
    return [sample for part in dataset.splits.parts().values() for sample in part]


def example_of(side: int = 4, value: float = 0.5) -> Example:
    image = np.full((side, side, 1), value, np.float32)
    return Example(image, np.zeros((side, side), np.uint8), np.ones((side, side), np.bool_))


def test_read_gives_image_target_and_view(write_folder):
    dataset = opened(write_folder(5))
    assert dataset.coding.kind == "binary"
    assert len(everyone(dataset)) == 5
    example = dataset.read(dataset.splits.train[0])
    assert example.image_hwc.shape == (16, 16, 3)
    assert 0 <= example.image_hwc.min() < example.image_hwc.max() <= 1
    assert example.target_hw.sum() == 64
    assert set(np.unique(example.target_hw)) == {0, 1}
    assert example.fov_hw.all()


@pytest.mark.parametrize("channels", ["grey", "green"])
def test_channels_are_obeyed(write_folder, channels):
    dataset = opened(write_folder(5), channels=channels)
    sample = dataset.splits.train[0]
    whole = opened(dataset.config.root).read(sample).image_hwc
    expected = whole[..., 1] if channels == "green" else whole @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(dataset.read(sample).image_hwc[..., 0], expected, atol=1e-6)


def test_resize_changes_what_the_network_sees_but_not_the_truth(write_folder):
    dataset = opened(write_folder(5), resize=0.5)
    sample = dataset.splits.train[0]
    small, native = dataset.read(sample), dataset.read_native(sample)
    assert small.image_hwc.shape == (8, 8, 3)
    assert native.target_hw.shape == (16, 16)
    # Half the size by area is the mean of 2 x 2 pixels.
    blocks = native.image_hwc.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small.image_hwc, blocks, atol=1e-6)
    expected = np.zeros((8, 8))
    expected[2:6, 2:6] = 1
    np.testing.assert_array_equal(small.target_hw, expected)
    assert dataset.largest_size() == (8, 8)


def test_enlarged_masks_keep_their_classes():
    target = np.array([[0, 1], [2, IGNORE]], np.uint8)
    fov = np.array([[True, False], [True, True]])
    example = Example(np.zeros((2, 2, 1), np.float32), target, fov)
    larger = resize_example(example, 2)
    np.testing.assert_array_equal(larger.target_hw, np.kron(target, np.ones((2, 2))))
    np.testing.assert_array_equal(larger.fov_hw, np.kron(fov, np.ones((2, 2))))
    assert larger.image_hwc.shape == (4, 4, 1)
    assert resize_example(example, 1) is example


def test_view_is_read_estimated_or_everything(write_folder, write):
    root = write_folder(5, side=40)
    y, x = np.mgrid[:40, :40] - 19.5
    inside = np.hypot(x, y) < 17
    for index in range(5):
        write(f"images/{index:02d}.png", np.where(inside, 150 + index, 0).astype(np.uint8))
        write(f"view/{index:02d}.png", inside)
    for keys in ({"fov": "file", "fov_masks": "view"}, {"fov": "estimate"}):
        dataset = opened(root, **keys)
        found = dataset.read(dataset.splits.train[0]).fov_hw
        assert (found != inside).mean() < 0.02
    assert opened(root).read(dataset.splits.train[0]).fov_hw.all()


def test_normalisation_is_that_of_the_training_pixels_inside_the_view(write_folder, write):
    root = write_folder(6)
    inside = np.zeros((16, 16), np.bool_)
    inside[2:9] = True
    for index in range(6):
        write(f"view/{index:02d}.png", inside)
    dataset = opened(root, fov="file", fov_masks="view")
    pixels = np.concatenate([dataset.read(s).image_hwc[inside] for s in dataset.splits.train])
    mean, std = normalisation(dataset)
    np.testing.assert_allclose(mean, pixels.astype(float).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std, pixels.astype(float).std(axis=0), rtol=1e-6)
    assert normalisation(dataset) == (mean, std)


def test_empty_colour_channel_gets_deviation_one(write_folder, write):
    root = write_folder(5)
    for index in range(5):
        image = np.zeros((16, 16, 3), np.uint8)
        image[..., 0] = np.arange(16)
        write(f"images/{index:02d}.png", image)
    mean, std = normalisation(opened(root))
    assert mean[1:] == (0, 0)
    assert std[1:] == (1, 1)
    assert std[0] < 1


def test_examples_cannot_be_written_to(write_folder):
    dataset = opened(write_folder(5))
    example = dataset.read(dataset.splits.train[0])
    with pytest.raises(ValueError, match="read-only"):
        example.image_hwc[0, 0] = 0


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_cache_changes_speed_only(write_folder, cache_mb):
    dataset = opened(write_folder(5), cache_mb=cache_mb)
    sample = dataset.splits.train[0]
    first, second = dataset.read(sample), dataset.read(sample)
    assert (first.image_hwc is second.image_hwc) == bool(cache_mb)
    np.testing.assert_array_equal(first.image_hwc, second.image_hwc)
    assert bool(dataset.cache.used_bytes) == bool(cache_mb)


def test_cache_keeps_what_came_first_within_its_limit():
    size = sum(array.nbytes for array in example_of())
    cache = ImageCache(2 * size + size // 2)
    for name in "abcab":
        cache.put((name, True), example_of())
    assert [cache.get((name, True)) is not None for name in "abc"] == [True, True, False]
    assert cache.get(("a", False)) is None
    assert cache.used_bytes == 2 * size


def test_threads_read_the_same(write_folder):
    dataset = opened(write_folder(5))
    samples = everyone(dataset) * 8
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda sample: dataset.read(sample).image_hwc.sum(), samples))
    assert images == [dataset.read(sample).image_hwc.sum() for sample in samples]
    one = sum(array.nbytes for array in dataset.read(samples[0]))
    assert dataset.cache.used_bytes == 5 * one


def test_sizes_that_differ_are_a_fault_when_read(write_folder, write):
    root = write_folder(5)
    for index in range(5):
        write(f"masks/{index:02d}.png", np.eye(20, dtype=np.uint8))
    dataset = opened(root)
    with pytest.raises(UserError, match="16 x 16 pixels but its mask 20 x 20"):
        dataset.read(dataset.splits.train[0])


def test_all_unreadable_masks_are_told_at_once(write_folder):
    root = write_folder(5)
    (root / "masks/01.png").write_bytes(b"")
    (root / "masks/03.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError) as caught:
        opened(root)
    assert len(caught.value.faults) == 2
    assert "empty" in caught.value.faults[0]
    assert "git lfs pull" in caught.value.faults[1]


def test_sixteen_bit_image_uses_the_full_range_of_its_type(write_folder, write):
    root = write_folder(5)
    write("images/00.png", np.full((16, 16), 4095, np.uint16))
    dataset = opened(root, channels="grey")
    samples = [sample for part in dataset.splits.parts().values() for sample in part]
    [deep] = [sample for sample in samples if sample.image.path.stem == "00"]
    image = dataset.read(deep).image_hwc
    assert image.max() == pytest.approx(4095 / 65535)
    assert to_unit_range(np.array([[4095]], np.uint16), "grey").max() == image.max()
