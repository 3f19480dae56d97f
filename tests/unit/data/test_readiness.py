import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from rich.console import Console
from scipy.ndimage import label

from unet_dist.config import AugmentConfig, Config
from unet_dist.config_data import SplitConfig
from unet_dist.config_file import load_config
from unet_dist.data.balance import half_width, interval_warnings
from unet_dist.data.readiness import LEAST_KEPT, check_for_training
from unet_dist.data.sample import ImageRef, Sample
from unet_dist.data.splits import Splits
from unet_dist.data.synthetic import write_synthetic
from unet_dist.data.thin import centre_lines, kept_centre_lines
from unet_dist.launching.datasets import begin_run
from unet_dist.runs import RunDir, read_json

STILL = {"flip": False, "rotate": 0, "scale": 0, "elastic": 0, "crop": 0}


def warnings_of(root, *, data=None, augment=None):
    config = Config(
        data={"root": str(root), **(data or {})}, augment={"crop": 16, **(augment or {})}
    )
    report, dataset = check_for_training(config)
    assert (dataset is None) == bool(report.faults)
    return report.warnings


def lines(width):
    """Slanted lines of a width in pixels, far from each other."""
    mask = np.zeros((128, 128), np.uint8)
    for start in (10, 50, 90):
        cv2.line(mask, (5, start), (120, start + 31), 1, width)
    return mask


def kept(width, *, resize, **augment):
    config = AugmentConfig(**{**STILL, **augment})
    return kept_centre_lines([lines(width)], 1, resize=resize, config=config, seed=0)


def test_centre_lines_are_whole_thin_lines_and_ridges_of_thick_ones():
    line = np.zeros((9, 30), np.bool_)
    line[4] = True
    assert np.array_equal(centre_lines(line), line)
    band = np.zeros((15, 30), np.bool_)
    band[3:10] = True
    assert np.flatnonzero(centre_lines(band)[:, 15]).tolist() == [6]
    assert not centre_lines(np.zeros((5, 5), np.bool_)).any()


def test_nothing_is_lost_where_nothing_is_changed():
    for width in (1, 2, 5):
        assert kept(width, resize=1) == (1, 1)
    assert kept_centre_lines([lines(1)], 2, resize=1, config=AugmentConfig(**STILL), seed=0) is None


@pytest.mark.parametrize("change", ["brightness", "contrast", "gamma", "invert", "noise"])
def test_changes_of_colour_leave_the_lines_where_they_are(change):
    assert kept(2, resize=1, **{change: 0.9}) == (1, 1)


def test_lines_thinner_than_a_pixel_of_the_smaller_size_become_dots():
    # A line of one pixel has a chance of 1 in 2, or 1 in 4, to lie where a pixel is taken.
    assert kept(1, resize=0.5).resized == pytest.approx(0.5, abs=0.1)
    assert kept(1, resize=0.25).resized == pytest.approx(0.25, abs=0.1)
    assert kept(3, resize=0.5).resized > 0.95
    assert kept(5, resize=0.25).resized > 0.9


def test_augmentation_that_shrinks_thin_lines_is_seen():
    turned = kept(1, resize=1, rotate=180)
    assert turned.resized == 1
    assert 0.8 < turned.augmented < 0.99
    assert kept(4, resize=1, rotate=180, elastic=4).augmented > 0.97
    # Zooms of 0.1 to 1.9 take every tenth pixel, or all.
    assert kept(1, resize=1, scale=0.9).augmented < turned.augmented - 0.1


def thin_folder(write_folder, write, width):
    root = write_folder(5, side=128)
    for index in range(5):
        write(f"masks/{index:02d}.png", lines(width) * 255)
    return root


def test_resize_that_breaks_thin_structures_is_a_warning(write_folder, write):
    root = thin_folder(write_folder, write, 1)
    broken = [w for w in warnings_of(root, data={"resize": 0.5}) if "break" in w]
    assert len(broken) == 1
    assert broken[0].startswith("thin structures of foreground break: data.resize=0.5 leaves")
    assert "thinner than 2 pixels is lost, so set data.resize nearer to 1" in broken[0]
    assert not [w for w in warnings_of(root, augment=STILL) if "break" in w]
    root = thin_folder(write_folder, write, 4)
    assert not [w for w in warnings_of(root, data={"resize": 0.5}) if "break" in w]


def test_augmentation_that_breaks_thin_structures_is_a_warning_that_names_it(write_folder, write):
    root = thin_folder(write_folder, write, 1)
    strong = {"crop": 64, "scale": 0.9, "rotate": 180, "elastic": 0}
    [broken] = [w for w in warnings_of(root, augment=strong) if "break" in w]
    assert "the augmentation leaves" in broken
    assert "set augment.rotate=0 augment.scale=0" in broken
    assert "elastic" not in broken
    assert "make them wider by data.resize=2" in broken
    assert LEAST_KEPT < 1
    for index in range(5):
        write(f"masks/{index:02d}.png", label(lines(1))[0].astype(np.uint8))
    sized = {"mask": "instances", "object_size": 12}
    [broken] = [w for w in warnings_of(root, data=sized, augment=strong) if "break" in w]
    assert "make them wider by data.object_size=24" in broken


def test_crop_larger_than_images_is_a_warning(write_folder):
    root = write_folder(5)
    [warning] = [w for w in warnings_of(root, augment={"crop": 24}) if "augment.crop" in w]
    assert (
        "augment.crop=24 is larger than 3 of 3 training images (the smallest: 16 x 16)" in warning
    )
    small = warnings_of(root, data={"resize": 0.5})
    assert any("8 x 8 after data.resize=0.5" in w and "set augment.crop=8" in w for w in small)
    assert not [w for w in warnings_of(root) if "augment.crop" in w]
    assert not [w for w in warnings_of(root, augment={"crop": 0}) if "augment.crop" in w]


def test_parts_too_small_for_an_interval_are_warnings(write_folder):
    few = warnings_of(write_folder(10))
    assert few[0].startswith(
        "val has 2 of the 3 images that an interval of the Dice needs at least"
    )
    assert few[1].startswith("test has 2 of the 3 images")
    some = warnings_of(write_folder(20))
    # t(3) * 0.05 / sqrt(4)
    assert "test has 4 images" in some[1]
    assert "will reach about 0.08 to either side" in some[1]
    assert warnings_of(write_folder(90)) == ()
    assert warnings_of(write_folder(90), data={"split": {"val": 0, "test": 0.2}}) == (
        "the part val is empty",
    )
    assert half_width(100, 0.1) == pytest.approx(0.0198, abs=1e-4)


def test_many_images_of_few_patients_are_few(write_folder):
    # 20 images of 10 patients: 2 of them test, 2 of the other 8 validate.
    few = warnings_of(write_folder(20), data={"split": {"group": ".(.)$"}})
    two = "has 2 of the 3 patients that an interval of the Dice needs at least"
    assert [w.partition("; raise")[0] for w in few[:2]] == [f"val {two}", f"test {two}"]


def test_slices_that_count_by_themselves_are_a_warning_with_their_neighbours(tmp_path):
    rng = np.random.default_rng(0)
    for name, high in (("volume", 256), ("labels", 2)):
        slices = rng.integers(0, high, (25, 16, 16)).astype(np.uint8) * (1 if high > 2 else 255)
        tifffile.imwrite(tmp_path / f"train-{name}.tif", slices, photometric="minisblack")
    isbi = {"format": "isbi2012"}

    def beside(**split):
        found = warnings_of(tmp_path, data={**isbi, "split": split})
        [warning] = [w for w in found if "one specimen" in w]
        assert warning.startswith("the slices of train-volume.tif are of one specimen")
        return warning.rpartition("; ")[2]

    # 17 to 19 validate: 17 is beside 16. Folds 2 of 4: 10 to 14, beside 9 and 15.
    assert beside(by="official", val=0.15).startswith("1 of 8 slices")
    assert beside(by="fold", folds=4, fold=2).startswith("3 of 10 slices")
    mixed = tmp_path / "split.yaml"
    parts = {"train": range(0, 24, 2), "val": range(1, 24, 2), "test": ()}
    lists = {part: [f"slice-{page:02d}" for page in pages] for part, pages in parts.items()}
    mixed.write_text(json.dumps(lists))
    assert beside(by="list", file=str(mixed)).startswith("12 of 12 slices")
    whole = warnings_of(tmp_path, data={**isbi, "split": {"group": "(slice)"}})
    assert not [w for w in whole if "one specimen" in w]


def _sample(name, subset):
    return Sample(id=name, group=name, image=ImageRef(path=Path(name)), mask=None, subset=subset)


CROSS = "train with --folds 5"
OWN = "these are all of the data set's own test"


@pytest.mark.parametrize(
    ("split", "folds", "val", "test"),
    [
        ({}, False, f"raise data.split.val, or {CROSS}", "raise data.split.test"),
        ({"by": "order"}, False, f"raise data.split.val, or {CROSS}", "raise data.split.test"),
        (
            {"by": "official"},
            False,
            f"raise data.split.val, or {CROSS}",
            f"{OWN}, so {CROSS} to measure on the others too",
        ),
        ({"by": "fold", "test_by": "official"}, True, "", OWN),
        ({"by": "fold", "test_by": "ratio"}, True, "", "raise data.split.test"),
        (
            {"by": "fold", "folds": 4},
            False,
            "train all folds with --folds 4",
            f"{OWN}, so {CROSS} to measure on the others too",
        ),
        (
            {"by": "list", "file": "s.yaml"},
            False,
            f"list more images under val in s.yaml, or {CROSS}",
            "list more images under test in s.yaml",
        ),
    ],
)
def test_small_parts_are_enlarged_only_by_what_has_a_say_in_them(split, folds, val, test):
    parts = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
    splits = Splits(
        **{
            part: tuple(_sample(f"{n:02}", "test" if n >= 9 else "train") for n in numbers)
            for part, numbers in parts.items()
        }
    )
    if folds:
        splits = replace(splits, val=())
    warnings = interval_warnings(splits, SplitConfig(**split), folds=folds)
    assert [w.rpartition("; ")[2] for w in warnings] == [cure for cure in (val, test) if cure]


FEW = "the 2 beside the test are too few for it in all, so add images"


@pytest.mark.parametrize(
    ("split", "counts", "val", "test"),
    [
        # Of 3 images no division has 3 to validate, or 3 to test.
        ({}, (1, 1, 1), f"{FEW}, or lower data.split.test and train with --folds", "add images"),
        ({"by": "official"}, (1, 1, 1), FEW, OWN),
        # 3 beside the test: all of them validate in folds, 2 of them otherwise.
        ({}, (2, 1, 1), "train with --folds 3", "add images"),
        ({}, (2, 1, 2), "train with --folds 3", "raise data.split.test"),
        ({}, (3, 1, 1), "raise data.split.val, or train with --folds 4", "raise data.split.test"),
    ],
)
def test_what_cannot_give_a_part_enough_images_is_not_advised(split, counts, val, test):
    names = iter("abcdefgh")
    parts = {
        part: tuple(_sample(next(names), "test" if part == "test" else "train") for _ in range(n))
        for part, n in zip(("train", "val", "test"), counts, strict=True)
    }
    warnings = interval_warnings(Splits(**parts), SplitConfig(**split), folds=False)
    assert [w.rpartition("; ")[2] for w in warnings] == [val, test]


def test_faults_come_without_warnings_that_need_a_sound_set(write_folder, write):
    root = write_folder(10)
    (root / "masks/00.png").unlink()
    config = Config(data={"root": str(root)})
    report, dataset = check_for_training(config)
    assert report.faults
    assert dataset is None
    assert not [w for w in report.warnings if "augment.crop" in w]


def test_warnings_stay_with_the_run_for_who_reads_it_later(tmp_path):
    write_synthetic("vessels", tmp_path / "data", count=6, size=32, seed=0)
    config = load_config(tmp_path / "data" / "config.yaml", ["augment.crop=64"])
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    console = Console(file=io.StringIO(), width=1000)
    begin_run(folder, config, console)
    stored = read_json(folder.dataset)["warnings"]
    assert any("augment.crop=64 is larger than" in warning for warning in stored)
    printed = console.file.getvalue().splitlines()
    assert stored == [line.removeprefix("warning: ") for line in printed if "warning: " in line]
