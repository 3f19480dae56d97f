import base64
import json
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from annotated import SIZE, base64_png, png, run, shape
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unet_dist.config_file import load_config
from unet_dist.data.check import check_dataset
from unet_dist.data.convert import labelme
from unet_dist.data.convert.labelme import Pen, open_labelme
from unet_dist.data.convert.labels import list_labels
from unet_dist.data.convert.paint import paint_numbers
from unet_dist.errors import UserError

EMPTY = "0000000000"


def rows(*filled: tuple[int, str]) -> list[str]:
    """An empty mask but for the given rows."""
    return [dict(filled).get(row, EMPTY) for row in range(SIZE[0])]


def faults(convert, *options: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        convert(*options)
    return list(caught.value.faults)


def test_each_shape_has_the_pixels_whose_centres_are_in_it(project, convert, mask):
    drawn = {
        "polygon": (
            shape("x", [[1, 1], [4, 1], [4, 3], [1, 3]]),
            [(1, "0111000000"), (2, "0111000000")],
        ),
        # Two opposite corners, in whichever order.
        "rectangle": (
            shape("x", [[4, 3], [1, 1]], "rectangle"),
            [(1, "0111000000"), (2, "0111000000")],
        ),
        # Centre, and a point at the distance 1.
        "circle": (
            shape("x", [[2.5, 2.5], [2.5, 3.5]], "circle"),
            [(1, "0010000000"), (2, "0111000000"), (3, "0010000000")],
        ),
        "line": (shape("x", [[1.5, 2.5], [4.5, 2.5]], "line"), [(2, "0111100000")]),
        "linestrip": (
            shape("x", [[1.5, 1.5], [3.5, 1.5], [3.5, 3.5]], "linestrip"),
            [(1, "0111000000"), (2, "0001000000"), (3, "0001000000")],
        ),
        "point": (
            shape("x", [[5.5, 5.5]], "point"),
            [(4, "0000010000"), (5, "0000111000"), (6, "0000010000")],
        ),
        # Two corners, both included.
        "mask": (
            shape("x", [[2, 1], [4, 2]], "mask", mask=base64_png(np.uint8([[1, 0, 1], [0, 1, 0]]))),
            [(1, "0010100000"), (2, "0001000000")],
        ),
        "first_of_version_1": (
            {"label": "x", "points": [[1, 1], [4, 1], [4, 3], [1, 3]], "line_color": None},
            [(1, "0111000000"), (2, "0111000000")],
        ),
        "flat": (shape("x", [1, 1, 4, 1, 4, 3, 1, 3]), [(1, "0111000000"), (2, "0111000000")]),
    }
    for name, (item, _) in drawn.items():
        project.image(f"{name}.png")
        project.json(item, name=name)
    (project.root / "a.png").unlink()
    answer = convert("--line-width", 1, "--point-radius", 1)
    assert answer["images"] == len(drawn)
    for name, (_, filled) in drawn.items():
        assert mask(name) == rows(*filled), name


def test_a_turned_rectangle_is_its_four_corners(project, convert, mask):
    project.json(shape("x", [[2.5, 0.4], [4.6, 2.5], [2.5, 4.6], [0.4, 2.5]], "oriented_rectangle"))
    convert()
    # |x - 2.5| + |y - 2.5| < 2.1 at the centres.
    diamond = ["0010000000", "0111000000", "1111100000", "0111000000", "0010000000"]
    assert mask() == rows(*enumerate(diamond))


def test_lines_and_points_are_as_wide_as_asked(project, convert, mask):
    project.json(shape("x", [[0.5, 3.5], [9.5, 3.5]], "line"))
    convert("--line-width", 2)
    assert [row.count("1") for row in mask()] == [0, 0, 10, 10, 10, 0, 0, 0]
    convert("--force")
    assert all(row.count("1") == 10 for row in mask()[:7])  # 5 to either side
    project.json(shape("x", [[5.5, 3.5]], "point"))
    convert("--force", "--point-radius", 2)
    assert [row.count("1") for row in mask()] == [0, 1, 3, 5, 3, 1, 0, 0]


def test_later_shapes_paint_over_earlier_ones_and_labels_are_in_natural_order(
    project, convert, mask, tmp_path
):
    project.json(
        shape("cell 10", [[0, 0], [4, 0], [4, 1], [0, 1]]),
        shape("cell 9", [[2, 0], [6, 0], [6, 1], [2, 1]]),
        shape("__ignore__", [[5, 0], [8, 0], [8, 1], [5, 1]]),
        shape("_background_", [[0, 0], [1, 0], [1, 1], [0, 1]]),
    )
    answer = convert()
    assert mask() == rows((0, "0211" + "1###00"))
    assert answer["names"] == ["_background_", "cell 9", "cell 10"]
    data = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())["data"]
    assert (data["classes"], data["ignore"], data["mask"]) == (3, 255, "labels")
    assert data["class_names"] == answer["names"]


def test_a_group_is_one_object_and_its_background_shapes_are_its_holes(project, convert, mask):
    project.json(
        shape("x", [[0, 0], [10, 0], [10, 2], [0, 2]]),
        shape("y", [[1, 0], [4, 0], [4, 2], [1, 2]], group_id=3),
        shape("y", [[6, 0], [9, 0], [9, 2], [6, 2]], group_id=3),
        # Cuts the group, not what lies below.
        shape("_background_", [[2, 0], [3, 0], [3, 2], [2, 2]], group_id=3),
    )
    convert()
    assert mask()[:2] == ["1212112221"] * 2
    answer = convert("--instances", "--force")
    assert mask()[:2] == ["1212112221"] * 2
    assert answer["objects"] == 2
    project.json(shape("_background_", [[2, 0], [3, 0], [3, 2], [2, 2]], group_id=3))
    assert (
        "a.json shape 1: a hole of the group 3, which has no object"
        in faults(convert, "--force")[0]
    )


def test_instances_are_numbered_whatever_their_label(project, convert, mask, tmp_path):
    square = [[0, 0], [2, 0], [2, 1], [0, 1]]
    project.json(
        *(shape(label, np.add(square, [3 * i, 0]).tolist()) for i, label in enumerate("yxy")),
        shape("__ignore__", [[1, 0], [4, 0], [4, 1], [1, 1]]),
    )
    answer = convert("--instances")
    assert mask()[0] == "1000203300"[:4] + "2033" + "00"
    assert Image.open(tmp_path / "out" / "masks" / "a.png").mode == "I;16"
    assert answer["objects"] == 3
    assert any("became background" in note for note in answer["notes"])
    config = load_config(tmp_path / "out" / "data.yaml").data
    assert (config.format, config.mask) == ("labelmap", "instances")
    assert not check_dataset(config, seed=0).facts.coding.startswith("labels")


def test_a_converted_folder_passes_the_check_of_the_data_set(project, convert, tmp_path):
    for index in range(5):
        project.image(f"{index}.png")
        image = np.random.default_rng(index).integers(0, 255, (*SIZE, 3), np.uint8)
        (project.root / f"{index}.png").write_bytes(png(image))
        project.json(shape("x", [[1, 1], [4, 1], [4, 3], [1, index + 3]]), name=str(index))
    convert()
    report = check_dataset(load_config(tmp_path / "out" / "data.yaml").data, seed=0)
    assert not report.faults
    assert report.facts.samples == 5
    assert report.facts.coding.startswith("labels: class numbers 0 to 1")


def test_an_embedded_image_is_kept_as_it_is(project, convert, tmp_path):
    content = png(np.random.default_rng(1).integers(0, 65535, SIZE).astype(np.uint16))
    (project.root / "a.png").unlink()
    encoded = base64.b64encode(content).decode()
    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]), imageData=encoded, imagePath="C:\\gone.png")
    convert()
    assert (tmp_path / "out" / "images" / "a.png").read_bytes() == content


def test_an_external_image_is_copied_from_another_folder_of_the_project(project, convert, tmp_path):
    image = project.image("images/b.png")
    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]), name="json/b", imagePath="..\\images\\b.png")
    convert()
    assert (tmp_path / "out" / "images" / "b.png").read_bytes() == image.read_bytes()


def test_images_named_by_the_option_are_found_by_their_file_name(project, convert, tmp_path):
    (project.root / "a.png").rename(tmp_path / "a.png")
    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]), imagePath="/somewhere/else/a.png")
    convert("--images", tmp_path)
    assert (tmp_path / "out" / "images" / "a.png").is_file()


def test_files_of_one_name_in_two_folders_keep_their_folders(project, convert, tmp_path):
    for folder in ("p1", "p2"):
        project.image(f"{folder}/s.png")
        project.json(shape("x", [[1, 1], [4, 1], [4, 3]]), name=f"{folder}/s", imagePath="s.png")
    convert()
    found = sorted(path.name for path in (tmp_path / "out" / "masks").iterdir())
    assert found == ["p1_s.png", "p2_s.png"]


def test_names_that_the_layout_would_mix_up_are_refused(project, convert):
    for name in ("p/s", "q/s", "p_s"):
        project.json(shape("x", [[1, 1], [4, 1], [4, 3]]), name=name)
        project.image(f"{name}.png")
        project.json(shape("x", [[1, 1], [4, 1], [4, 3]]), name=name, imagePath=f"{name[-1]}.png")
    project.image("s.png")
    assert faults(convert) == ["two images would be called p_s: rename one"]


def test_all_faults_are_told_at_once_and_nothing_is_written(project, convert, tmp_path):
    good = [[1, 1], [4, 1], [4, 3]]
    project.json(
        shape("x", good),
        shape("x", [[1, 1], [4, 1]]),
        shape("x", [[0, 0], [1, 1], [3, 3]]),
        shape("x", [[1, 1], [float("nan"), 1], [4, 3]]),
        shape("x", [[1, 1], [float("inf"), 1], [4, 3]]),
        shape("x", [[1, 1], [1e300, 1], [4, 3]]),
        shape("x", good, "circle"),
        shape("x", [[1, 1], [1, 1]], "circle"),
        shape("x", good, "polgon"),
        shape("x", "abc"),
        shape("x", [[1, "2"], [3, 4], [5, 6]]),
        shape("", good),
        shape("x", good, group_id=[1]),
        7,
        shape("x", [], "polygon"),
        imageHeight=9,
    )
    project.json(shape("x", good), name="b")
    project.json(shape("x", good), name="c", imagePath="../outside.png")
    project.json(shape("x", good), name="d", imagePath="/etc/passwd")
    (project.root / "e.json").write_text('{"shapes": [')
    project.json(shape("x", good), name="f", shapes=None, imagePath="a.png")
    told = faults(convert)
    expected = [
        ("a.json: ", "image of height 9, but a.png is 8 x 10"),
        ("a.json shape 2: ", "a polygon of 2 different points"),
        ("a.json shape 3: ", "lie on one line"),
        ("a.json shape 4: ", "not a finite number"),
        ("a.json shape 5: ", "not a finite number"),
        ("a.json shape 6: ", "beyond 1000000 pixels"),
        ("a.json shape 7: ", "a circle has 2 points, not 3"),
        ("a.json shape 8: ", "centre is on its edge"),
        ("a.json shape 9: ", "shape_type 'polgon' is unknown; the closest name is polygon"),
        ("a.json shape 10: ", "has no points"),
        ("a.json shape 11: ", "not pairs of numbers"),
        ("a.json shape 12: ", "has no label"),
        ("a.json shape 13: ", "group_id [1]"),
        ("a.json shape 14: ", "is no JSON object"),
        ("a.json shape 15: ", "has no points"),
        ("b.json: ", "no image"),
        ("c.json: ", "../outside.png is outside"),
        ("d.json: ", "/etc/passwd is an absolute path"),
        ("e.json: ", "not valid JSON"),
        ("f.json: ", "no list `shapes`"),
    ]
    assert len(told) == len(expected)
    for (place, what), fault in zip(expected, told, strict=True):
        assert place in fault
        assert what in fault, fault
    assert "closest name is a.png" in told[15] or "b.png" in told[15]
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_a_link_that_leads_out_of_the_project_is_refused(project, convert, tmp_path):
    (project.root / "a.png").rename(tmp_path / "outside.png")
    (project.root / "a.png").symlink_to(tmp_path / "outside.png")
    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]))
    assert "a.png is outside" in faults(convert)[0]


def test_labels_that_are_not_listed_are_told_with_their_number_and_the_closest(project, convert):
    square = [[1, 1], [4, 1], [4, 3]]
    project.json(shape("vesel", square), shape("disc", square), shape("vesel", square))
    told = faults(convert, "--labels", "vessel,disc")
    assert told == [
        "a.json shape 1: the label 'vesel' is not listed; the closest name is vessel (2 shapes "
        "have it): list it, or add --others background (or ignore)"
    ]


@pytest.mark.parametrize(
    ("others", "row"), [("background", "0001000000"), ("ignore", "0##1000000")]
)
def test_labels_that_are_not_listed_become_what_is_asked(project, convert, mask, others, row):
    project.json(
        shape("y", [[1, 1], [3, 1], [3, 2], [1, 2]]), shape("x", [[3, 1], [4, 1], [4, 2], [3, 2]])
    )
    answer = convert("--labels", "x", "--others", others)
    assert mask()[1] == row
    assert answer["names"] == ["_background_", "x"]
    assert any(f"not listed, so {others}: y" in note for note in answer["notes"])


def test_a_label_map_joins_labels_and_leaves_out(project, convert, mask, tmp_path):
    (tmp_path / "map.yaml").write_text("artery: 1\nvein: 1\ndisc: 2\nblur: ignore\ntext: 0\n")
    names = ["artery", "vein", "disc", "blur", "text"]
    project.json(*(shape(n, [[i, 0], [i + 1, 0], [i + 1, 1], [i, 1]]) for i, n in enumerate(names)))
    answer = convert("--label-map", tmp_path / "map.yaml")
    assert mask()[0] == "112#000000"
    assert answer["names"] == ["_background_", "artery", "disc"]


def test_faults_of_a_label_map_are_told_at_once(project, convert, tmp_path):
    (tmp_path / "map.yaml").write_text("a: 1\nb: 3\nc: x\nd: 64\n_background_: 2\ne: true\n")
    project.json(shape("a", [[1, 1], [4, 1], [4, 3]]))
    told = " | ".join(faults(convert, "--label-map", tmp_path / "map.yaml"))
    for part in ("c: 'x'", "d: 64 is not", "_background_ has a fixed", "e: True"):
        assert part in told
    (tmp_path / "map.yaml").write_text("a: 1\nb: 3\n")
    assert "no label has the number 2" in faults(convert, "--label-map", tmp_path / "map.yaml")[0]


def test_shapes_that_cover_no_pixel_are_noted(project, convert):
    project.json(
        shape("x", [[1, 1], [4, 1], [4, 3]]),
        shape("x", [[1.6, 1.6], [1.9, 1.6], [1.9, 1.9]]),
        shape("x", [[50, 50], [60, 50], [60, 60]]),
    )
    note = next(note for note in convert()["notes"] if "centre" in note)
    assert "2 shapes" in note
    assert "a.json shape 2, a.json shape 3" in note


def test_a_mask_of_another_size_than_its_corners_is_refused_before_it_is_unpacked(project, convert):
    encoded = base64_png(np.ones((4000, 5000), np.uint8))  # 20 kB of PNG, 20 MB of pixels
    project.json(
        shape("x", [[2, 1], [4, 2]], "mask", mask=encoded),
        shape("x", [[2, 1], [4, 2]], "mask", mask="no base64!"),
        shape("x", [[2, 1], [4, 2]], "mask"),
        shape("x", [[2, 1], [4, 2]], "mask", mask=base64.b64encode(b"GIF89a no png").decode()),
        shape("x", [[2, 1], [4, 2]], "mask", mask=base64_png(np.zeros((2, 3, 3), np.uint8))),
    )
    told = faults(convert)
    assert (
        "its mask is 5000 x 4000 pixels (width x height), but its points enclose 3 x 2" in told[0]
    )
    assert "base64" in told[1]
    assert "base64" in told[2]
    assert "not a whole PNG" in told[3]
    assert "kind RGB" in told[4]


def test_a_mask_larger_than_its_image_is_refused_before_it_is_unpacked(project, convert):
    encoded = base64_png(np.ones((4000, 5000), np.uint8))
    project.json(shape("x", [[0, 0], [4999, 3999]], "mask", mask=encoded))
    tracemalloc.start()
    told = faults(convert)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        "its mask is 5000 x 4000 pixels (width x height), larger than its image of 10 x 8" in told
    )
    assert peak < 10_000_000


def test_masks_are_unpacked_one_at_a_time(project):
    size = (1000, 1000)
    project.image("large.png", size)
    encoded = base64_png(np.ones(size, np.uint8))
    masks = [shape("x", [[0, 0], [999, 999]], "mask", mask=encoded) for _ in range(30)]
    project.json(
        *masks, name="large", imageHeight=size[0], imageWidth=size[1], imagePath="large.png"
    )
    source = open_labelme(project.root / "large.json", Pen(line_width=1, point_radius=1), None)
    tracemalloc.start()
    picture = source.read(0)
    assert sum(int(shape.draw(size).mask_hw.sum()) for shape in picture.shapes) == 30 * 1000**2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000  # 30 masks of 1 MB each


def test_a_truncated_mask_is_a_fault(project, convert):
    content = png(np.random.default_rng(0).integers(0, 2, (300, 300)).astype(np.uint8))
    cut = base64.b64encode(content[: len(content) // 2]).decode()
    project.image(size=(300, 300))
    cut_mask = shape("x", [[0, 0], [299, 299]], "mask", mask=cut)
    project.json(cut_mask, imageHeight=300, imageWidth=300)
    assert "not a whole PNG" in faults(convert)[0]


def test_an_embedded_image_of_too_many_pixels_is_a_fault(project, convert):
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return len(content).to_bytes(4, "big") + kind + content + crc.to_bytes(4, "big")

    header = (60000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))
    project.json(imageData=base64.b64encode(bomb + chunk(b"IEND", b"")).decode())
    assert "too many pixels" in faults(convert)[0]
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n"
    project.json(imageData=base64.b64encode(postscript).decode())
    assert "imageData is no image" in faults(convert)[0]
    project.json(imageData=base64.b64encode(b"hello").decode())
    assert "imageData is no image" in faults(convert)[0]


def test_a_json_that_is_too_big_is_a_fault(project, convert, monkeypatch):
    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]))
    monkeypatch.setattr(labelme, "MOST_JSON_BYTES", 100)
    assert "larger than 100 bytes" in faults(convert)[0]


def test_a_stack_of_pages_is_refused(project, convert):
    page = Image.fromarray(np.zeros(SIZE, np.uint8))
    page.save(project.root / "a.tif", save_all=True, append_images=[page])
    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]), imagePath="a.tif")
    assert "a stack of 2 pages" in faults(convert)[0]


def test_an_existing_folder_is_replaced_only_by_force_and_only_if_it_was_converted(
    project, convert, mask, tmp_path
):
    project.json(shape("x", [[1, 1], [4, 1], [4, 2], [1, 2]]))
    convert()
    project.json(shape("x", [[1, 1], [9, 1], [9, 2], [1, 2]]))
    assert "--force" in faults(convert)[0]
    assert mask()[1] == "0111000000"
    convert("--force")
    assert mask()[1] == "0111111110"
    (tmp_path / "out" / "converted.yaml").unlink()
    assert "was not written by" in faults(convert, "--force")[0]
    assert mask()[1] == "0111111110"


def test_the_source_is_never_replaced(project, tmp_path):
    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]))
    (project.root / "converted.yaml").touch()
    for out in (project.root, tmp_path):
        with pytest.raises(UserError, match="which is to be read"):
            run(project.root, out, "--force")
    assert (project.root / "a.png").is_file()


def test_a_failure_while_writing_leaves_nothing_behind(project, convert, tmp_path, monkeypatch):
    from unet_dist.data.convert import folder

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "a.png")

    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]))
    monkeypatch.setattr(folder.shutil, "copyfile", full)
    assert "No space left" in faults(convert)[0]
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_the_record_says_what_was_converted_and_how(project, convert, tmp_path):
    project.json(shape("x", [[1, 1], [4, 1], [4, 3]]))
    convert("--line-width", 3)
    record = yaml.safe_load((tmp_path / "out" / "converted.yaml").read_text())
    assert record["source"] == str(project.root)
    assert (record["format"], record["line_width"], record["point_radius"]) == ("labelme", 3, 5)
    assert (record["labels"], record["shapes"]) == ({"x": 1}, {"x": 1})


def test_one_json_file_is_a_project_too(project, tmp_path):
    path = project.json(shape("x", [[1, 1], [4, 1], [4, 3]]))
    project.json(7, name="broken")
    answer = json.loads(run(path, tmp_path / "out", "--json").stdout)
    assert answer["images"] == 1
    assert Path(answer["config"]).is_file()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
KINDS = ["polygon", "rectangle", "circle", "line", "linestrip", "point", "points", "mask", None, 3]
NUMBERS = st.floats(-20, 20) | st.sampled_from([1e5, -1e5, 1e300, float("nan")])
POINTS = st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=5)
SHAPE = st.fixed_dictionaries(
    {"label": st.just("x") | ANYTHING, "points": POINTS | ANYTHING},
    optional={
        "shape_type": st.sampled_from(KINDS),
        "group_id": st.integers(0, 2) | ANYTHING,
        "mask": st.just("iVBORw0KGgo=") | ANYTHING,
    },
)


@given(st.lists(SHAPE | ANYTHING, max_size=3), ANYTHING, ANYTHING)
def test_any_json_gives_a_picture_that_can_be_painted_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, shapes: list, height: object, image: object
) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "a.png").write_bytes(png(np.zeros(SIZE, np.uint8)))
    tree = {"imagePath": "a.png", "shapes": shapes, "imageHeight": height, "imageData": image}
    for changes in ({}, {"imageHeight": None, "imageData": None}):
        (root / "a.json").write_text(json.dumps(tree | changes))
        source = open_labelme(root, Pen(line_width=3, point_radius=2), None)
        try:
            picture = source.read(0)
        except UserError:
            continue
        assert paint_numbers(picture, list_labels(["x"], "ignore")).mask_hw.shape == SIZE
