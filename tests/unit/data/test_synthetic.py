from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_dist.config_file import load_config
from unet_dist.data.check import check_dataset
from unet_dist.data.dataset import open_dataset
from unet_dist.data.images import read_image, read_indices
from unet_dist.data.sample import ImageRef
from unet_dist.data.sources import list_samples
from unet_dist.data.synthetic import KINDS, draw, write_synthetic
from unet_dist.errors import UserError
from unet_dist.evaluate.structure import structure_of

ALL = sorted(KINDS)
CONFIGS = Path(__file__).parents[3] / "configs"


def entries(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


@pytest.mark.parametrize("kind", ALL)
def test_what_is_written_passes_the_check_and_can_be_read(tmp_path, kind):
    directory = tmp_path / "new" / kind
    write_synthetic(kind, directory, count=6, size=64, seed=1)
    config = load_config(directory / "config.yaml")
    report = check_dataset(config.data, seed=0)
    assert report.faults == ()
    assert report.warnings == ()
    assert report.facts.sizes == {"64 x 64": 6}
    dataset = open_dataset(config.data, seed=0)
    example = dataset.read(dataset.splits.train[0])
    assert example.image_hwc.shape == (64, 64, 3 if kind == "vessels" else 1)
    assert 0 < example.target_hw.mean() < 0.6


@pytest.mark.parametrize(
    ("kind", "structure"),
    [
        ("vessels", "tubular"),
        ("membranes", "partition"),
        ("nuclei", "objects"),
        ("organs", "region"),
    ],
)
def test_structure_of_each_kind_is_measured_with_its_own_and_the_given_config(
    tmp_path, kind, structure
):
    write_synthetic(kind, tmp_path / kind, count=6, size=64, seed=1)
    own = load_config(tmp_path / kind / "config.yaml")
    coding = open_dataset(own.data, seed=0).coding
    assert structure_of(own, coding) == structure
    if (given := CONFIGS / f"{kind}.yaml").exists():
        assert structure_of(load_config(given), coding) == structure


@pytest.mark.parametrize("kind", ALL)
def test_files_hold_exactly_what_was_drawn(tmp_path, kind):
    write_synthetic(kind, tmp_path / "set", count=2, size=48, seed=3)
    config = load_config(tmp_path / "set" / "config.yaml").data
    for index, sample in enumerate(list_samples(config)):
        picture = draw(kind, index, size=48, seed=3)
        np.testing.assert_array_equal(read_image(sample.image), picture.image)
        np.testing.assert_array_equal(read_indices(sample.mask), picture.mask)
        if picture.fov is not None:
            np.testing.assert_array_equal(read_image(sample.fov), picture.fov)


@pytest.mark.parametrize("kind", ALL)
def test_picture_depends_on_kind_index_size_and_seed_alone(tmp_path, kind):
    write_synthetic(kind, tmp_path / "few", count=1, size=40, seed=5)
    write_synthetic(kind, tmp_path / "more", count=3, size=40, seed=5)
    name = f"{kind}-0000.png"
    for folder in ("images", "masks"):
        few, more = (tmp_path / d / folder / name for d in ("few", "more"))
        assert few.read_bytes() == more.read_bytes()
    pictures = [draw(kind, i, size=40, seed=s).image for i, s in ((0, 5), (1, 5), (0, 6))]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize("size", [32, 64, 129, 256])
def test_vessels_cover_8_to_15_percent_of_the_view(size):
    for index in range(4):
        picture = draw("vessels", index, size=size, seed=0)
        vessels, view = picture.mask > 0, picture.fov > 0
        assert not (vessels & ~view).any()
        assert 0.08 <= vessels.sum() / view.sum() <= 0.15
        assert picture.image.shape == (size, size, 3)


def test_vessels_are_darker_than_what_is_beside_them():
    for index in range(3):
        picture = draw("vessels", index, size=256, seed=0)
        vessels, green = picture.mask > 0, picture.image[..., 1].astype(float)
        near = cv2.dilate(picture.mask, np.ones((9, 9), np.uint8)) > 0
        # 5 by 5 pixels of margin keep the blurred edges out.
        clear = cv2.dilate(picture.mask, np.ones((3, 3), np.uint8)) == 0
        beside = near & clear & (picture.fov > 0)
        assert green[vessels].mean() < 0.8 * green[beside].mean()


def test_vessels_form_few_connected_trees():
    mask = draw("vessels", 0, size=256, seed=0).mask
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = sorted(statistics[1:, cv2.CC_STAT_AREA])
    assert areas[-1] > 0.7 * sum(areas)


def test_membranes_are_thin_dark_and_part_the_cells():
    picture = draw("membranes", 0, size=256, seed=0)
    membrane = picture.mask > 0
    assert 0.1 < membrane.mean() < 0.3
    assert picture.image[membrane].mean() < 0.75 * picture.image[~membrane].mean()
    cells, _ = cv2.connectedComponents((~membrane).astype(np.uint8), connectivity=4)
    assert cells > 20
    assert cv2.distanceTransform(picture.mask, cv2.DIST_L2, 5).max() < 10


def test_nuclei_are_bright_and_each_number_is_one_piece():
    picture = draw("nuclei", 0, size=256, seed=0)
    numbers = picture.mask
    assert picture.image[numbers > 0].mean() > 3 * picture.image[numbers == 0].mean()
    present = np.unique(numbers)
    np.testing.assert_array_equal(present, np.arange(len(present)))
    assert len(present) > 10
    for number in present[1:]:
        pieces, _ = cv2.connectedComponents((numbers == number).astype(np.uint8), connectivity=4)
        assert pieces == 2  # the background is one


def test_masks_have_two_values():
    for kind in ("vessels", "membranes"):
        assert np.unique(draw(kind, 0, size=64, seed=0).mask).tolist() == [0, 255]


def test_progress_counts_to_the_end(tmp_path):
    steps = []
    write_synthetic(
        "nuclei",
        tmp_path / "set",
        count=3,
        size=32,
        seed=0,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_nothing_half_written_is_left(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic("nuclei", tmp_path / "set", count=3, size=32, seed=0, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_full_directory_is_refused_and_an_empty_one_filled(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    write_synthetic("nuclei", empty, count=1, size=32, seed=0)
    before = entries(empty)
    assert before == ["config.yaml", "images/nuclei-0000.png", "masks/nuclei-0000.png"]
    with pytest.raises(UserError, match="is not empty"):
        write_synthetic("nuclei", empty, count=1, size=32, seed=1)
    assert entries(empty) == before


def test_wrong_values_are_told_at_once(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError) as caught:
        write_synthetic("eyes", file, count=0, size=31, seed=-1)
    assert len(caught.value.faults) == 5
    assert "choose one of vessels, membranes, nuclei" in caught.value.faults[0]


def test_configuration_works_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_synthetic("nuclei", Path("set"), count=1, size=32, seed=0)
    config = load_config(tmp_path / "set" / "config.yaml")
    monkeypatch.chdir("/")
    sample = list_samples(config.data)[0]
    assert sample.image == ImageRef(path=tmp_path / "set/images/nuclei-0000.png")


def test_organs_are_nested_touch_and_differ_in_size():
    for index in range(4):
        mask = draw("organs", index, size=128, seed=0).mask
        pixels = np.bincount(mask.ravel(), minlength=4)
        assert len(pixels) == 4
        background, liver, kidney, lesion = pixels / mask.size
        assert background > 0.75
        assert liver > 3 * kidney > 3 * lesion > 0
        around = cv2.dilate((mask == 2).view(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (mask[around] == 1).any()  # kidney and liver touch
        lesions, places = cv2.connectedComponents((mask == 3).view(np.uint8))
        for number in range(1, lesions):
            grown = cv2.dilate((places == number).view(np.uint8), np.ones((3, 3), np.uint8)) > 0
            assert (mask[grown & (mask != 3)] == 1).mean() > 0.5  # most of its rim is liver


def test_a_lesion_is_not_known_by_its_grey_alone():
    picture = draw("organs", 0, size=256, seed=0)
    image, mask = picture.image.astype(float), picture.mask
    lesion = image[mask == 3].mean()
    assert lesion < image[mask == 1].mean() - 15
    darker = (image < lesion + 5) & (image > lesion - 5) & (mask == 0)
    assert darker.sum() > (mask == 3).sum()
