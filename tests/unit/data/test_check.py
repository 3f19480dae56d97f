import json

import numpy as np
import pytest

from unet_dist.config_data import DataConfig
from unet_dist.data.check import check_dataset
from unet_dist.data.facts import ClassBalance, of_patients


def report_of(root, **keys):
    return check_dataset(DataConfig(root=str(root), **keys), seed=0)


def test_sound_data_set_has_facts_only(write_folder):
    report = report_of(write_folder(10))
    assert report.faults == ()
    assert report.warnings == ()
    facts = report.facts
    assert facts.samples == 10
    assert facts.counts == facts.patients == {"train": 6, "val": 2, "test": 2}
    assert facts.sizes == {"16 x 16": 10}
    assert facts.kinds == {"uint8 rgb": 10}
    assert facts.coding == "binary: 0 is background, 255 is foreground (25.0 % of pixels)"
    assert facts.class_shares == {"0": 0.75, "1": 0.25}
    assert facts.mean == pytest.approx((0.5, 0.5, 0.5), abs=0.05)
    assert facts.fov_share == 1


def test_json_and_text_tell_the_same(write_folder):
    report = report_of(write_folder(10))
    tree = json.loads(report.to_json())
    assert tree["schema"] == 1
    assert tree["facts"]["counts"] == report.facts.counts
    assert tree["faults"] == []
    text = report.to_text()
    assert "split: 6 train, 2 val, 2 test" in text
    assert "0 faults, 0 warnings" in text


def test_how_large_numbered_objects_are_is_told_with_the_resize(write_folder, write):
    root = write_folder(10)
    small = np.zeros((16, 16), np.uint16)
    small[1:3, 1:3], small[1:3, 8:10], small[9:15, 9:15] = 300, 2, 7  # median: 4 pixels
    write("masks/03.png", small)
    write("masks/04.png", np.zeros((16, 16), np.uint16))
    keys = {"mask": "instances", "object_size": 6.0}
    report = report_of(root, **keys)
    assert report.facts.objects.number == 8 + 3
    of_64, of_4 = 2 * (64 / np.pi) ** 0.5, 2 * (4 / np.pi) ** 0.5
    assert report.facts.objects.diameters == pytest.approx((of_4, of_64, of_64))
    line = "objects: 11; their median diameter is 2.26 to 9.03 pixels by image, 9.03 in the middle"
    assert f"{line}; data.object_size=6 resizes images by 0.665 to 2.5 (at " in report.to_text()
    assert json.loads(report.to_json())["facts"]["objects"]["size"] == 6
    assert f"{line}\n" in report_of(root, mask="instances").to_text()
    assert report_of(write_folder(10)).facts.objects is None


def test_objects_outside_the_field_of_view_are_not_told(write_folder, write):
    root = write_folder(10)
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12], mask[14:, 14:], mask[14:, :2] = 1, 2, 3
    view = np.zeros((16, 16), np.uint8)
    view[2:14, 2:14] = 255
    for index in range(10):
        write(f"masks/{index:02d}.png", mask)
        write(f"fov/{index:02d}.png", view)
    objects = report_of(root, mask="instances", fov="file", fov_masks="fov").facts.objects
    assert objects.number == 10
    assert objects.diameters == pytest.approx((2 * (64 / np.pi) ** 0.5,) * 3)


def test_progress_counts_to_the_end(write_folder):
    steps = []
    config = DataConfig(root=str(write_folder(5)))
    check_dataset(config, seed=0, on_progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_every_fault_of_the_data_set_is_told_at_once(write_folder, write):
    root = write_folder(10)
    (root / "masks/00.png").unlink()  # missing
    write("masks/01.png", np.eye(20, dtype=np.uint8) * 255)  # another size
    write("masks/02.png", np.full((16, 16), 128, np.uint8))  # another value
    (root / "images/03.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    content = (root / "images/04.png").read_bytes()
    (root / "images/04.png").write_bytes(content[:200])  # truncated
    faults = "\n".join(report_of(root).faults)
    for words in (
        "00.png has no mask",
        "01: the image has 16 x 16 pixels but its mask 20 x 20 (height x width)",
        "the values are 0, 128, 255",
        "03.png: a Git LFS pointer",
        "04.png: cannot be decoded, truncated or damaged",
    ):
        assert words in faults
    assert len(report_of(root).faults) == 5


def test_fault_that_many_images_have_is_told_once(write_folder):
    root = write_folder(10)
    for index in range(1, 10):
        (root / f"images/{index:02d}.png").write_bytes(b"version https://git-lfs\n" * 9)
    [fault] = report_of(root).faults
    assert fault.startswith(str(root / "images/01.png"))
    assert " and 6 more: " in fault


def test_same_picture_in_training_and_test_is_a_fault(write_folder):
    root = write_folder(10)
    parts = {}
    listed = root / "split.yaml"
    names = [f"{index:02d}" for index in range(10)]
    parts = {"train": names[:6], "val": names[6:8], "test": names[8:]}
    listed.write_text(json.dumps(parts))
    keys = {"split": {"by": "list", "file": str(listed)}}
    (root / "images/09.png").write_bytes((root / "images/00.png").read_bytes())
    (root / "images/02.png").write_bytes((root / "images/01.png").read_bytes())
    report = report_of(root, **keys)
    assert len(report.faults) == 1
    assert "the same picture is in test and train: 00 (train), 09 (test)" in report.faults[0]
    assert report.warnings == ("the same picture 2 times: 01 (train), 02 (train)",)


def test_same_picture_with_different_masks_is_told(write_folder, write):
    root = write_folder(10)
    (root / "images/02.png").write_bytes((root / "images/01.png").read_bytes())
    write("masks/02.png", np.eye(16, dtype=np.uint8) * 255)
    told = report_of(root).faults + report_of(root).warnings
    assert any("with different masks, so that nobody can learn it" in line for line in told)


def lists(root, **parts):
    listed = root / "split.yaml"
    listed.write_text(json.dumps({"train": [], "val": [], "test": [], **parts}))
    return {"by": "list", "file": str(listed)}


def test_balance_of_classes_is_counted_for_each_part(write_folder, write):
    root = write_folder(4, value=1)  # 64 of 256 pixels
    mask = np.zeros((16, 16), np.uint8)
    mask[:2], mask[2:4] = 1, 255  # 32 pixels of 224 that count
    write("masks/02.png", mask)
    split = lists(root, train=["00", "01"], val=["02"], test=["03"])
    report = report_of(root, mask="labels", ignore=255, split=split, class_names=["no", "cell"])
    balance = report.facts.class_balance
    assert balance["train"]["cell"] == ClassBalance(share=128 / 512, images=2)
    assert balance["val"]["cell"] == ClassBalance(share=32 / 224, images=1)
    assert balance["val"]["no"] == ClassBalance(share=192 / 224, images=1)
    assert "cell    25.00% in   2 of   2    14.29% in   1 of   1" in report.to_text()
    tree = json.loads(report.to_json())["facts"]["class_balance"]
    assert tree["train"]["cell"] == {"share": 0.25, "images": 2}


def test_class_that_one_part_lacks_is_a_warning(write_folder, write):
    root = write_folder(4)
    for name in ("02", "03"):
        write(f"masks/{name}.png", np.zeros((16, 16), np.uint8))
    split = lists(root, train=["00", "02"], val=["03"], test=["01"])
    [warning] = [line for line in report_of(root, split=split).warnings if "no pixel" in line]
    assert warning.startswith("val has no pixel of foreground: the best epoch is chosen without it")


def test_intensities_are_counted_for_each_channel(write_folder, write):
    root = write_folder(5)
    image = np.full((16, 16, 3), (51, 0, 255), np.uint8)
    image[:4] = (102, 0, 0)  # a quarter
    for index in range(5):
        write(f"images/{index:02d}.png", image)
    red, green, blue = report_of(root).facts.intensity
    assert (red.channel, green.channel, blue.channel) == ("red", "green", "blue")
    assert red.percentiles["1"] == red.percentiles["75"] == pytest.approx(0.2, abs=1e-3)
    assert red.percentiles["99"] == pytest.approx(0.4, abs=1e-3)
    assert (red.black, red.saturated) == (0, 0)
    assert (green.black, green.saturated) == (1, 0)
    assert (blue.black, blue.saturated) == (0.25, 0.75)
    assert "blue: percentiles" in report_of(root).to_text()
    assert "25.0% black, 75.0% saturated" in report_of(root).to_text()


def test_equal_channels_of_grey_images_are_told_once(write_folder, write):
    root = write_folder(5)
    for index in range(5):
        write(f"images/{index:02d}.png", np.full((16, 16), 51 + index, np.uint8))
    report = report_of(root)
    lines = [line.strip() for line in report.to_text().splitlines()]
    assert len([line for line in lines if "percentiles" in line]) == 1
    assert any(line.startswith("red = green = blue: percentiles 1 % 0.2") for line in lines)
    assert "intensity, of 1: 0.208 +- 0.006" in lines
    assert len(report.facts.intensity) == 3
    colours = report_of(write_folder(5)).to_text()
    assert colours.count("percentiles") == 3


def test_almost_saturated_16_bits_are_not_saturated(write_folder, write):
    root = write_folder(5)
    image = np.full((16, 16), 65534, np.uint16)
    image[:8] = 65535
    image[0] = 1
    for index in range(5):
        write(f"images/{index:02d}.png", image)
    [grey] = report_of(root, channels="grey").facts.intensity
    assert (grey.black, grey.saturated) == (0, 7 / 16)


def test_same_pixels_in_another_file_format_are_the_same_picture(write_folder, write):
    from PIL import Image

    root = write_folder(10)
    pixels = np.asarray(Image.open(root / "images/00.png"))
    (root / "images/09.png").unlink()
    write("images/09.bmp", pixels)
    report = report_of(root)
    assert any("same picture" in line for line in report.faults + report.warnings)


def test_patient_on_both_sides_is_a_fault(write_folder):
    root = write_folder(4)
    listed = root / "split.yaml"
    listed.write_text("train: ['00', '01']\nval: ['02']\ntest: ['03']\n")
    keys = {"split": {"by": "list", "file": str(listed), "group": "^(0)"}}
    assert "patient 0 is in test and in train and in val" in report_of(root, **keys).faults[0]


def test_empty_and_full_masks_are_warnings(write_folder, write):
    root = write_folder(10)
    write("masks/03.png", np.zeros((16, 16), np.uint8))
    write("masks/05.png", np.full((16, 16), 255, np.uint8))
    assert report_of(root).warnings == (
        "1 masks have no foreground: 03",
        "1 masks have no background: 05",
    )


def test_class_in_no_mask_is_a_warning(write_folder):
    report = report_of(write_folder(10, value=1), classes=3)
    assert "no mask has class 2" in report.warnings


def test_mixed_kinds_sizes_and_dark_16_bits_are_told(write_folder, write):
    root = write_folder(10)
    write("images/01.png", np.full((16, 16), 4000, np.uint16))
    write("images/02.png", np.arange(480, dtype=np.uint16).reshape(20, 24))
    write("masks/02.png", np.arange(480).reshape(20, 24) % 2 * 255 > 0)
    warnings = "\n".join(report_of(root, mask="binary").warnings)
    assert "the 16-bit images use 0..4000 only" in warnings
    assert "images of several kinds: 8 uint8 rgb, 2 uint16 grey" in warnings
    assert report_of(root, mask="binary").facts.sizes == {"16 x 16": 9, "20 x 24": 1}


def test_small_view_is_a_warning(write_folder, write):
    root = write_folder(10)
    for index in range(10):
        view = np.zeros((16, 16), np.bool_)
        view[:2] = True
        write(f"view/{index:02d}.png", view)
    report = report_of(root, fov="file", fov_masks="view")
    assert report.facts.fov_share == 0.125
    assert "less than 20% of the image" in report.warnings[0]


def test_wrong_view_is_a_fault(write_folder, write):
    root = write_folder(5)
    for index in range(5):
        write(f"view/{index:02d}.png", np.ones((9, 16), np.bool_))
    report = report_of(root, fov="file", fov_masks="view")
    assert (
        "00: the image has 16 x 16 pixels but its field of view 9 x 16 (height x width)"
        in report.faults[0]
    )


def test_shares_of_borders_and_ignored_pixels_are_those_of_the_decoded_masks(write_folder, write):
    root = write_folder(5)
    facts = report_of(root, format="labelmap", classes=3).facts
    # A square of 8 x 8 has a border of 28 pixels.
    assert facts.class_shares == {"0": 192 / 256, "1": 36 / 256, "2": 28 / 256}
    for index in range(5):
        mask = np.zeros((16, 16), np.uint8)
        mask[0] = 255
        mask[1] = 1
        write(f"masks/{index:02d}.png", mask)
    facts = report_of(root, mask="labels", ignore=255).facts
    assert facts.class_shares == {"0": 14 / 16, "1": 1 / 16, "ignored": 1 / 16}


def test_no_data_set_is_a_report_too(tmp_path):
    report = report_of(tmp_path / "none")
    assert f"data.root={tmp_path / 'none'}: no such directory" in report.faults[0]
    assert report.facts.samples == 0
    assert report.to_text().splitlines()[-1].startswith("1 fault, ")


def test_too_few_patients_are_a_fault_beside_the_others(write_folder):
    root = write_folder(2)
    assert any("too few" in fault for fault in report_of(root).faults)


def test_patients_are_counted_only_where_somebody_named_them() -> None:
    assert of_patients(8, 8) == ""
    assert of_patients(4, 8) == " (of 4 patients or volumes)"
    assert of_patients(1, 2) == " (of 1 patient or volume)"
