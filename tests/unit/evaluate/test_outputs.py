import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.data.colours import class_colours
from unet_dist.errors import UserError
from unet_dist.evaluate.outputs import unique_stems, write_files


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
