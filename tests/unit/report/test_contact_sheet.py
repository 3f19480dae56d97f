from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFont

from unet_dist.config_data import DataConfig
from unet_dist.data.colours import OVERLAY_COLOUR, class_colours, mask_colours
from unet_dist.data.dataset import open_dataset
from unet_dist.data.sample import IGNORE, Example
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.report.contact_sheet import (
    COLUMNS,
    MOST_OF_A_PART,
    SIDE,
    caption,
    false_colours,
    thumbnail,
    write_contact_sheet,
)


def example(*, size=(100, 200), value=0.1):
    target = np.zeros(size, np.uint8)
    target[20:60, 50:150] = 1
    view = np.ones(size, np.bool_)
    return Example(np.full((*size, 1), value, np.float32), target, view)


def nuclei(folder, count):
    write_synthetic("nuclei", folder, count=count, size=32, seed=0)
    return open_dataset(DataConfig(root=str(folder), format="labelmap"), seed=0)


def has(picture, colour):
    return (picture == np.array(colour)).all(axis=2)


def test_outline_follows_the_mask_and_dark_images_are_brightened():
    picture = thumbnail(example(), mask_colours(2))
    assert picture.shape == (SIDE // 2, SIDE, 3)
    rows, columns = np.nonzero(has(picture, OVERLAY_COLOUR))
    factor = SIDE / 200
    assert (rows.min(), rows.max()) == pytest.approx((20 * factor, 60 * factor), abs=1.5)
    assert (columns.min(), columns.max()) == pytest.approx((50 * factor, 150 * factor), abs=1.5)
    assert has(picture, (255, 255, 255)).mean() > 0.5


def test_thin_lines_stay_seen_and_left_out_pixels_are_not_drawn():
    one = example(size=(600, 600))
    one.target_hw[:] = 0
    one.target_hw[:, 300] = 2
    one.target_hw[400:] = IGNORE
    picture = thumbnail(one, mask_colours(3))
    drawn = has(picture, class_colours(3)[2])
    assert drawn[:155].any(axis=1).all()
    assert not drawn[165:].any()


def test_pixels_outside_of_the_view_are_dimmed():
    one = example(size=(240, 240))
    one.fov_hw[:, :120] = False
    picture = thumbnail(one, mask_colours(2))
    assert picture[200, 10, 0] == pytest.approx(0.4 * 255, abs=2)
    assert picture[200, 230, 0] == 255


def test_sheet_shows_some_of_each_part_and_keeps_nothing_in_memory(tmp_path):
    dataset = nuclei(tmp_path / "set", 60)
    write_contact_sheet(dataset, tmp_path / "new" / "sheet.png", title="sheet.yaml")
    assert dataset.cache.used_bytes == 0
    picture = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    lines = sum(
        -(-min(len(samples), MOST_OF_A_PART) // COLUMNS)
        for samples in dataset.splits.parts().values()
    )
    assert lines == 3 + 2 + 2
    assert SIDE * lines < picture.shape[0] < (SIDE + 60) * (lines + 1)
    assert has(picture, OVERLAY_COLOUR).any()


def test_captions_are_no_wider_than_a_thumbnail():
    font = ImageFont.load_default(13)
    digest = "003cee89357d9fe13516167fd67b609a164651b21934585648c740d2c3d86dc1"
    assert font.getlength(digest) > SIDE
    assert caption(digest, font) == "003cee89357d...40d2c3d86dc1"
    for id_ in (digest, "0" * 31, "patient_with_a_long_name_0012-slice_007"):
        assert font.getlength(caption(id_, font)) <= SIDE
    for whole in ("0" * 30, "patient_0012-slice_007"):
        assert caption(whole, font) == whole


def test_evened_light_is_noted_on_the_sheet(tmp_path):
    dataset = nuclei(tmp_path / "set", 6)
    even = replace(dataset, config=DataConfig(**{**dataset.config.model_dump(), "even_light": 8}))
    lines = []
    for name, one in (("plain", dataset), ("even", even)):
        write_contact_sheet(one, tmp_path / f"{name}.png", title="t")
        picture = np.asarray(Image.open(tmp_path / f"{name}.png"))
        lines.append((picture[34:68] < 128).all(axis=2).sum())
    assert lines[1] > lines[0] + 100
    assert "in each channel by itself: false colours" in false_colours(even.config)
    grey = DataConfig(channels="grey", even_light=40)
    assert false_colours(grey).endswith("light is evened (data.even_light=40)")


def test_picture_that_cannot_be_written_is_told(tmp_path):
    dataset = nuclei(tmp_path / "set", 5)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        write_contact_sheet(dataset, tmp_path / "file" / "sheet.png", title="sheet")
