import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unet_dist.data.colours import class_colours
from unet_dist.errors import UserError
from unet_dist.evaluate.outputs import unique_stems, write_files, write_prediction

GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.random((24, 32, 3)).astype(np.float32)
BINARY = GENERATOR.random((24, 32, 1)).astype(np.float32)
SEVERAL = GENERATOR.dirichlet(np.ones(4), (24, 32)).astype(np.float32)


def test_a_binary_mask_is_0_and_255_from_the_threshold_on(tmp_path):
    mask, _, _ = write_prediction(
        tmp_path, "eye", image_rgb_hwc=IMAGE, prob_hwk=BINARY, threshold=0.3
    )

    assert mask == tmp_path / "eye_mask.png"
    with Image.open(mask) as picture:
        assert picture.mode == "L"
        expected = np.where(BINARY[:, :, 0] >= np.float32(0.3), 255, 0)
        assert np.array_equal(np.asarray(picture), expected)


def test_a_mask_of_several_classes_holds_their_numbers_and_a_palette(tmp_path):
    palette = [(0, 0, 0), (10, 20, 30), (40, 50, 60), (70, 80, 90)]

    mask, _, _ = write_prediction(
        tmp_path, "eye", image_rgb_hwc=IMAGE, prob_hwk=SEVERAL, threshold=None, palette=palette
    )

    with Image.open(mask) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), SEVERAL.argmax(axis=2))
        assert picture.getpalette()[:12] == [value for colour in palette for value in colour]


@pytest.mark.parametrize(
    ("prob", "threshold", "foreground"),
    [(BINARY, 0.5, BINARY[:, :, 0]), (SEVERAL, None, SEVERAL[:, :, 1:].max(axis=2))],
)
def test_the_probability_has_16_bits(tmp_path, prob, threshold, foreground):
    _, probability, _ = write_prediction(
        tmp_path, "eye", image_rgb_hwc=IMAGE, prob_hwk=prob, threshold=threshold
    )

    with Image.open(probability) as picture:
        written = np.asarray(picture)
    assert written.max() > 255
    np.testing.assert_allclose(written / 65535, foreground, atol=0.5 / 65535 + 1e-9)


def test_the_overlay_leaves_the_background_as_it_was_and_outlines_the_rest(tmp_path):
    prob = np.zeros((24, 32, 1), np.float32)
    prob[5:15, 5:15] = 1

    _, _, overlay = write_prediction(
        tmp_path, "eye", image_rgb_hwc=IMAGE, prob_hwk=prob, threshold=0.5
    )

    with Image.open(overlay) as picture:
        got = np.asarray(picture).astype(int)
    original = np.rint(IMAGE * 255).astype(int)
    assert np.array_equal(got[:5], original[:5])
    assert (got[5, 5:15] == [0, 229, 255]).all()
    assert (got[5:15, 14] == [0, 229, 255]).all()
    assert (got[6:14, 6:14] != original[6:14, 6:14]).any()
    assert (got[8, 8] != [0, 229, 255]).any()


def test_a_grey_image_has_an_overlay_too(tmp_path):
    write_prediction(
        tmp_path, "cell", image_rgb_hwc=IMAGE[:, :, :1], prob_hwk=SEVERAL, threshold=None
    )
    with Image.open(tmp_path / "cell_overlay.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (32, 24))


def test_only_the_three_files_are_left(tmp_path):
    folder = tmp_path / "new" / "folder"
    paths = write_prediction(folder, "eye", image_rgb_hwc=IMAGE, prob_hwk=BINARY, threshold=0.5)
    assert sorted(folder.iterdir()) == sorted(paths)


def test_a_directory_that_is_a_file_is_a_fault_of_the_user(tmp_path):
    (tmp_path / "taken").write_text("not a folder")
    with pytest.raises(UserError, match=r"taken.*cannot be written: "):
        write_prediction(
            tmp_path / "taken", "eye", image_rgb_hwc=IMAGE, prob_hwk=BINARY, threshold=0.5
        )
    assert (tmp_path / "taken").read_text() == "not a folder"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_leaves_nothing_half_written_and_keeps_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"old")
    write_bytes = Path.write_bytes

    def second_does_not_fit(path, content):
        if "b.png" in path.name:
            write_bytes(path, content[:1])
            return write_bytes(Path("/dev/full"), content)
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", second_does_not_fit)
    with pytest.raises(UserError, match=r"b.png: cannot be written: No space left"):
        write_files({tmp_path / "a.png": b"new", tmp_path / "b.png": b"new"})

    assert os.listdir(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_colours_of_64_classes_differ():
    colours = class_colours(64)
    assert len(set(colours)) == 64
    assert all(0 <= value <= 255 for colour in colours for value in colour)


@pytest.mark.parametrize(
    ("paths", "stems"),
    [
        (["a/01.png", "b/02.png"], ["01", "02"]),
        (["a/01.png", "b/01.png", "b/02.png"], ["a_01", "b_01", "02"]),
        (["x/a/1.png", "y/a/1.png"], ["x_a_1", "y_a_1"]),
        (["a/1.png", "a/1.jpg"], ["a_1_png", "a_1_jpg"]),
        (["/d/s.tif", "/d/s.tif", "/d/s_2.tif"], ["s", "s_3", "s_2"]),
        (["a/Eye.png", "b/eye.png"], ["a_Eye", "b_eye"]),
        (["../1.png", "1.png"], ["1_png", "1_png_2"]),
    ],
)
def test_stems_say_no_more_than_tells_them_apart(paths, stems):
    assert unique_stems([Path(path) for path in paths]) == stems


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "a_b", "1_2"]), max_size=3),
            st.sampled_from(["1", "2", "1_2", "b_1", "1_png", "1_png_2", "A"]),
            st.sampled_from([".png", ".jpg", ""]),
        )
    )
)
def test_stems_are_always_unique_file_names(parts):
    paths = [Path(*folders, stem + suffix) for folders, stem, suffix in parts]

    stems = unique_stems(paths)

    assert len({stem.casefold() for stem in stems}) == len(paths)
    assert all(Path(stem).name == stem for stem in stems)
