"""Masks to Labelme and back."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from annotated import png, run
from PIL import Image
from scipy import ndimage

from unet_dist.data.convert.to_labelme import Drawing, draw_shapes
from unet_dist.data.images import read_image
from unet_dist.data.sample import IGNORE, ImageRef
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError

NAMES = ("_background_", "x", "y")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))


def blobs(seed: int, *, classes: int, side: int = 96) -> np.ndarray:
    """Nested and touching blobs of several classes, with holes, and specks of one pixel."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), 3)
    levels = np.quantile(smooth, np.linspace(0, 1, classes + 1)[1:-1])
    mask = np.digitize(smooth, levels).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.01] = rng.integers(0, classes)
    return mask


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four images with masks of 4 classes, one of them with pixels that are left out."""
    for seed in range(4):
        mask = blobs(seed, classes=4)
        if seed == 0:
            mask[:9] = IGNORE
        save(tmp_path / "data" / "masks" / f"{seed}.png", mask)
        image = np.random.default_rng(seed).integers(0, 255, (*mask.shape, 3), np.uint8)
        save(tmp_path / "data" / "images" / f"{seed}.png", image)
    section = {"root": str(tmp_path / "data"), "mask": "labels", "classes": 4, "ignore": IGNORE}
    section["class_names"] = ["_background_", "b", "a", "c"]
    path = tmp_path / "data" / "data.yaml"
    path.write_text(yaml.safe_dump({"data": section}))
    return path


def masks_of(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted((folder / "masks").glob("*.png"))]


@pytest.mark.parametrize(
    "options",
    [["--shape", "mask"], ["--tolerance", "0"], ["--shape", "polygon", "--tolerance", "0"]],
)
def test_folder_to_labelme_and_back_keeps_every_pixel(
    dataset: Path, tmp_path: Path, options: list[str]
) -> None:
    run(dataset, tmp_path / "labelme", "--to", "labelme", *options)
    run(tmp_path / "labelme", tmp_path / "back", "--labels", "b,a,c")
    for before, after in zip(masks_of(dataset.parent), masks_of(tmp_path / "back"), strict=True):
        np.testing.assert_array_equal(after, before)
    for path in sorted((dataset.parent / "images").iterdir()):
        assert (tmp_path / "back" / "images" / path.name).read_bytes() == path.read_bytes()
    data = yaml.safe_load((tmp_path / "back" / "data.yaml").read_text())["data"]
    assert data["class_names"] == ["_background_", "b", "a", "c"]
    assert data["ignore"] == IGNORE


def test_simplified_polygons_come_back_within_the_tolerance(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "labelme", "--to", "labelme", "--tolerance", "1")
    run(tmp_path / "labelme", tmp_path / "back", "--labels", "b,a,c")
    for before, after in zip(masks_of(dataset.parent), masks_of(tmp_path / "back"), strict=True):
        changed = before != after
        assert 0 < changed.mean() < 0.1
        # A changed pixel's centre is within the tolerance of the border, and that within half a
        # diagonal of the centre of a pixel that has a neighbour of another class.
        edges = np.zeros(before.shape, bool)
        down, right = before[1:] != before[:-1], before[:, 1:] != before[:, :-1]
        for part, differs in ((edges[1:], down), (edges[:-1], down)):
            part |= differs
        for part, differs in ((edges[:, 1:], right), (edges[:, :-1], right)):
            part |= differs
        assert ndimage.distance_transform_edt(~edges)[changed].max() <= 1 + np.sqrt(0.5)


def test_simplification_saves_points(dataset: Path, tmp_path: Path) -> None:
    points = []
    for tolerance in (0, 1, 3):
        out = tmp_path / str(tolerance)
        run(dataset, out, "--to", "labelme", "--tolerance", tolerance)
        shapes = [s for f in out.glob("*.json") for s in json.loads(f.read_text())["shapes"]]
        points.append(sum(len(shape["points"]) for shape in shapes))
    assert points[0] > points[1] > points[2]


def test_classes_keep_their_numbers_on_the_way_back_without_a_list(tmp_path: Path) -> None:
    predictions(tmp_path, {"a": ["background", "z-inside", "border"]})
    to_labelme(tmp_path)
    run(tmp_path / "out", tmp_path / "back")
    (before,) = [np.asarray(Image.open(tmp_path / "m" / "a_mask.png"))]
    (after,) = masks_of(tmp_path / "back")
    assert np.array_equal(before, after)
    file = tmp_path / "out" / "a.json"
    tree = json.loads(file.read_text())
    tree["shapes"][0]["label"] = "a new one"
    file.write_text(json.dumps(tree))
    told = run(tmp_path / "out", tmp_path / "more").stdout
    assert [line.split(": ")[0].split() for line in told.splitlines()[1:4]] == [
        ["1", "z-inside"],
        ["2", "border"],
        ["3", "a", "new", "one"],
    ]


def test_instances_survive_the_round_trip(tmp_path: Path) -> None:
    write_synthetic("nuclei", tmp_path / "data", count=2, size=64, seed=0)
    run(tmp_path / "data" / "config.yaml", tmp_path / "l", "--to", "labelme", "--tolerance", "0")
    told = run(tmp_path / "l", tmp_path / "back").stdout  # the record says that they are objects
    assert f"configs/dsb2018.yaml data.root={tmp_path / 'back'} data.masks=masks" in told
    assert "dsb2018" not in run(tmp_path / "l", tmp_path / "merged", "--classes").stdout
    assert {*np.unique(masks_of(tmp_path / "merged")).tolist()} == {0, 1}
    for before, after in zip(masks_of(tmp_path / "data"), masks_of(tmp_path / "back"), strict=True):
        pairs = {*zip(before.ravel().tolist(), after.ravel().tolist(), strict=True)}
        assert len(pairs) == len(np.unique(before)) == len(np.unique(after))
        assert (0, 0) in pairs


def drawn(mask: np.ndarray, **changes: Any) -> list[dict[str, Any]]:
    asked = {"kind": "polygon", "tolerance": 0, "names": NAMES, "instances": False}
    shapes, _ = draw_shapes(mask, Drawing(**(asked | changes)))
    return shapes


def test_a_hole_follows_its_piece_and_shares_its_group() -> None:
    mask = np.zeros((5, 5), np.uint8)
    mask[:] = 1
    mask[1:4, 1:4] = 0
    mask[2, 2] = 2
    shapes = drawn(mask)
    assert [shape["label"] for shape in shapes] == ["x", "_background_", "y"]
    assert [shape["group_id"] for shape in shapes] == [1, 1, None]
    assert {*map(tuple, shapes[1]["points"])} == {(1, 1), (4, 1), (4, 4), (1, 4)}
    mask[1:4, 1:4] = 2  # fills the hole exactly
    assert [shape["label"] for shape in drawn(mask)] == ["x", "_background_", "y"]


def test_who_paints_polygons_in_order_gets_the_same_mask() -> None:
    """As programs do that know nothing of groups; OpenCV's fill draws the outline too, so shapes
    are drawn 16 times as large."""
    mask = blobs(5, classes=3, side=40)
    canvas = np.zeros((640, 640), np.uint8)
    for shape in drawn(mask):
        points = np.array(shape["points"], np.int32) * 16
        value = {"_background_": 0, "x": 1, "y": 2}[shape["label"]]
        cv2.fillPoly(canvas, [points], value)
    np.testing.assert_array_equal(canvas[8::16, 8::16], mask)


def test_a_mask_shape_has_both_corners_inside() -> None:
    mask = np.zeros((6, 7), np.uint8)
    mask[2:4, 3:6] = 1
    (shape,) = drawn(mask, kind="mask")
    assert shape["points"] == [[3, 2], [5, 3]]
    assert (shape["shape_type"], shape["label"], shape["group_id"]) == ("mask", "x", None)


def test_predictions_are_paired_with_their_images_and_stacks_with_their_pages(
    tmp_path: Path,
) -> None:
    """The folder is as `unet-dist predict` leaves it."""
    rng = np.random.default_rng(0)
    pages = [rng.integers(0, 65535, (8, 9)).astype(np.uint16) for _ in range(2)]
    (tmp_path / "images").mkdir()
    first, second = map(Image.fromarray, pages)
    first.save(tmp_path / "images" / "s.tif", save_all=True, append_images=[second])
    save(tmp_path / "images" / "p.png", pages[0])
    mask = np.zeros((8, 9), np.uint8)
    mask[2:4, 3:6] = 255
    for stem in ("p", "s_0", "s_1"):
        for kind in ("mask", "overlay", "probability"):
            save(tmp_path / "predictions" / f"{stem}_{kind}.png", mask)
    out = tmp_path / "out"
    result = run(tmp_path / "predictions", out, "--to", "labelme", "--images", tmp_path / "images")
    assert "--labels 'foreground'" in result.output
    names = sorted(path.name for path in out.glob("*.*") if path.suffix in (".png", ".json"))
    assert names == ["p.json", "p.png", "s_0.json", "s_0.png", "s_1.json", "s_1.png"]
    np.testing.assert_array_equal(read_image(ImageRef(path=out / "s_1.png")), pages[1])
    tree = json.loads((out / "s_1.json").read_text())
    assert (tree["imagePath"], tree["imageHeight"], tree["imageWidth"]) == ("s_1.png", 8, 9)
    assert tree["imageData"] is None
    (shape,) = tree["shapes"]
    assert shape["label"] == "foreground"
    assert {*map(tuple, shape["points"])} == {(3, 2), (6, 2), (6, 4), (3, 4)}
    assert (out / "labels.txt").read_text().split() == ["__ignore__", "_background_", "foreground"]


def to_labelme(tmp_path: Path, *options: object) -> Any:
    arguments = [tmp_path / "m", tmp_path / "out", "--to", "labelme", "--images", tmp_path / "i"]
    return run(*arguments, *options)


def predictions(tmp_path: Path, names: dict[str, list[str]]) -> None:
    """Of two foreground classes, with the records of ``unet-dist predict``."""
    for stem, classes in names.items():
        mask = np.zeros((10, 10), np.uint8)
        mask[1:5, 1:4], mask[5:9, 5:8] = 1, 2
        save(tmp_path / "i" / f"{stem}.png", np.zeros((10, 10), np.uint8))
        save(tmp_path / "m" / f"{stem}_mask.png", mask)
        record = {"schema": 1, "made_by": {}, "class_names": classes}
        (tmp_path / "m" / f"{stem}_prediction.json").write_text(json.dumps(record))


def test_predictions_tell_the_names_of_their_classes(tmp_path: Path) -> None:
    predictions(tmp_path, {"a": ["background", "disc", "cup"]})
    to_labelme(tmp_path)
    shapes = json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]
    label_at = {tuple(shape["points"][0]): shape["label"] for shape in shapes}
    assert sorted(label_at.values()) == ["cup", "disc"]
    assert min(label_at) < (4, 4)
    assert label_at[min(label_at)] == "disc"
    assert (tmp_path / "out" / "labels.txt").read_text().split()[2:] == ["disc", "cup"]
    # Records of earlier versions, which had them among the settings.
    older = {"schema": 1, "made_by": {"data.class_names": ["background", "x", "y"]}}
    (tmp_path / "m" / "a_prediction.json").write_text(json.dumps(older))
    to_labelme(tmp_path, "--force")
    assert (tmp_path / "out" / "labels.txt").read_text().split()[2:] == ["x", "y"]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("disc", ["disc: 1 where the predictions have 2: disc, cup"]),
        (
            "cup,disc",
            [
                "cup is listed as class 1, but is class 2 of the predictions: disc, cup",
                "disc is listed as class 2, but is class 1 of the predictions: disc, cup",
            ],
        ),
        ("papilla,excavation", None),  # other names for the same classes
    ],
)
def test_listed_names_that_contradict_the_predictions_are_refused(
    tmp_path: Path, labels: str, told: list[str] | None
) -> None:
    predictions(tmp_path, {"a": ["background", "disc", "cup"]})
    if told is None:
        to_labelme(tmp_path, "--labels", labels)
        return
    with pytest.raises(UserError) as caught:
        to_labelme(tmp_path, "--labels", labels)
    assert list(caught.value.faults) == told
    assert not (tmp_path / "out").exists()


def predicted_specks(tmp_path: Path) -> np.ndarray:
    """Discs of 75 (a ring; its hole has 6), 9 and 1 pixels, cups of 10 and 1."""
    predictions(tmp_path, {"a": ["background", "disc", "cup"]})
    mask = np.zeros((20, 20), np.uint8)
    mask[1:10, 1:10], mask[4:6, 4:7] = 1, 0
    mask[12:15, 1:4], mask[18, 1] = 1, 1
    mask[12:17, 10:12], mask[18, 18] = 2, 2
    save(tmp_path / "i" / "a.png", mask)
    save(tmp_path / "m" / "a_mask.png", mask)
    return mask


@pytest.mark.parametrize(
    ("options", "labels", "told"),
    [
        ([], "disc cup", "4 pieces or holes of fewer than 10 pixels left out"),
        (["--shape", "mask"], "disc cup", "4 pieces or holes of fewer than 10 pixels left out"),
        (["--min-area", 7], "disc cup disc", "3 pieces or holes of fewer than 7 pixels left out"),
        (["--min-area", 2], "disc cup disc _background_", "2 pieces or holes of fewer than 2"),
        (["--min-area", 0], "disc cup disc _background_ disc cup", None),
    ],
)
def test_specks_of_predictions_become_no_shapes_and_are_counted(
    tmp_path: Path, options: list[object], labels: str, told: str | None
) -> None:
    predicted_specks(tmp_path)
    output = to_labelme(tmp_path, *options).output
    shapes = json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]
    assert sorted(shape["label"] for shape in shapes) == sorted(labels.split())
    assert told in output if told else "left out" not in output


def test_pieces_left_out_come_back_as_background_and_holes_as_filled(tmp_path: Path) -> None:
    expected = predicted_specks(tmp_path)
    expected[4:6, 4:7] = 1
    expected[12:15, 1:4] = expected[18] = 0
    to_labelme(tmp_path, "--tolerance", "0")
    run(tmp_path / "out", tmp_path / "back", "--labels", "disc,cup")
    np.testing.assert_array_equal(masks_of(tmp_path / "back")[0], expected)


def test_specks_that_somebody_drew_are_kept(tmp_path: Path) -> None:
    predicted_specks(tmp_path)
    (tmp_path / "m" / "a_prediction.json").unlink()
    to_labelme(tmp_path, "--labels", "disc,cup")
    assert len(json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]) == 6


def test_predictions_of_different_classes_need_names(tmp_path: Path) -> None:
    predictions(tmp_path, {"a": ["background", "disc", "cup"], "b": ["background", "x", "y"]})
    with pytest.raises(UserError, match=r"different classes \(disc, cup; x, y\): list the names"):
        to_labelme(tmp_path)
    to_labelme(tmp_path, "--labels", "one,two")


def test_every_fault_of_masks_is_told_at_once(tmp_path: Path) -> None:
    for name, shape in {"a": (8, 8), "b": (8, 8), "c": (8, 8), "d": (4, 8)}.items():
        save(tmp_path / "i" / f"{name}.png", np.zeros(shape, np.uint8))
        save(tmp_path / "m" / f"{name}.png", np.full((8, 8), 1, np.uint8))
    save(tmp_path / "m" / "b.png", np.full((8, 8), 3, np.uint8))
    (tmp_path / "m" / "c.png").write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        to_labelme(tmp_path, "--labels", "x,y")
    told = caught.value.faults
    assert len(told) == 3
    assert "b.png has the value 3, but names are there for 1 to 2" in told[0]
    assert "c.png" in told[1]
    assert "d.png is 8 x 8, but its image d.png is 4 x 8" in told[2]
    assert not (tmp_path / "out").exists()


def test_a_mask_needs_its_image_but_an_image_no_mask(tmp_path: Path) -> None:
    for name in ("a", "alone"):
        save(tmp_path / "i" / f"{name}.png", np.zeros((8, 8), np.uint8))
    save(tmp_path / "m" / "a.png", np.full((8, 8), 1, np.uint8))
    to_labelme(tmp_path)
    assert [path.name for path in (tmp_path / "out").glob("*.json")] == ["a.json"]
    for name in ("alonf", "zzz"):
        save(tmp_path / "m" / f"{name}.png", np.full((8, 8), 1, np.uint8))
    with pytest.raises(UserError) as caught:
        to_labelme(tmp_path, "--force")
    first, second = caught.value.faults
    assert "alonf.png belongs to no image" in first
    assert "closest name is alone" in first
    assert "zzz.png" in second


def test_masks_that_number_objects_are_told_by_the_option(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint16)
    mask[1:3, 1:3], mask[5:7, 1:3], mask[5:7, 5:7] = 300, 2, 2
    save(tmp_path / "m" / "a.png", mask)
    save(tmp_path / "i" / "a.png", np.zeros((8, 8), np.uint8))
    to_labelme(tmp_path, "--instances", "--labels", "cell")
    shapes = json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]
    assert sorted(shape["group_id"] for shape in shapes) == [2, 2, 300]
    assert {shape["label"] for shape in shapes} == {"cell"}


def test_an_image_whose_objects_were_not_numbered_is_not_lost(tmp_path: Path) -> None:
    numbers = np.zeros((8, 8), np.uint16)
    numbers[1:6, 1:6] = 1
    for name in ("a", "b"):
        save(tmp_path / "i" / f"{name}.png", np.zeros((8, 8), np.uint8))
        save(tmp_path / "m" / f"{name}_mask.png", np.where(numbers > 0, 255, 0).astype(np.uint8))
        (tmp_path / "m" / f"{name}_prediction.json").write_text('{"schema": 1}')
    save(tmp_path / "m" / "a_objects.png", numbers)
    with pytest.raises(UserError, match=r"b: its objects are not numbered.*--classes draws"):
        to_labelme(tmp_path)
    assert to_labelme(tmp_path, "--classes").stdout.startswith("2 images with 2 shapes")


def test_labelme_files_may_be_called_as_records_are(tmp_path: Path) -> None:
    predictions(tmp_path, {"a_prediction": ["background", "cup", "disc"]})
    to_labelme(tmp_path)
    assert (tmp_path / "out" / "a_prediction.json").is_file()
    assert run(tmp_path / "out", tmp_path / "back").stdout.startswith("1 image with 2 objects")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["background", "a", "a"], "names a label twice"),
        (["background", ""], "must be a list of labels"),
        ("background", "must be a list of labels"),
        (["background", True], "must be a list of labels"),
    ],
)
def test_a_record_that_was_changed_is_named(tmp_path: Path, names: object, told: str) -> None:
    predictions(tmp_path, {"a": ["background", "cup", "disc"]})
    to_labelme(tmp_path)
    record = tmp_path / "out" / "converted.yaml"
    record.write_text(yaml.safe_dump({**yaml.safe_load(record.read_text()), "names": names}))
    with pytest.raises(UserError, match=rf"converted\.yaml: .*{told}"):
        run(tmp_path / "out", tmp_path / "back")


@pytest.mark.parametrize("ending", ["objects", "cells"])
def test_objects_of_predictions_are_in_files_of_their_own(tmp_path: Path, ending: str) -> None:
    numbers = np.zeros((8, 8), np.uint16)
    numbers[1:3, 1:3], numbers[5:7, 5:7] = 1, 2
    save(tmp_path / "i" / "a.png", np.zeros((8, 8), np.uint8))
    save(tmp_path / "m" / "a_mask.png", np.where(numbers > 0, 255, 0).astype(np.uint8))
    with pytest.raises(UserError, match="number no objects"):
        to_labelme(tmp_path, "--instances", "--labels", "cell")
    save(tmp_path / "m" / f"a_{ending}.png", numbers)
    (tmp_path / "m" / f"a_{ending}.csv").write_text("number\n1\n2\n")
    record = {"schema": 1, "class_names": ["background", "cell"]}
    (tmp_path / "m" / "a_prediction.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="holds predictions: add --to labelme --images IMAGES"):
        run(tmp_path / "m", tmp_path / "new")

    def groups(*options: str) -> list[int | None]:
        to_labelme(tmp_path, "--force", *options)
        shapes = json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]
        return [shape["group_id"] for shape in shapes]

    assert sorted(groups("--instances")) == [1, 2]
    classes = groups("--classes", "--min-area", "0")
    assert classes != sorted(groups("--instances"))
    # Objects are what one corrects of nuclei; of membranes it is these, not the cells.
    usual = groups() if ending == "objects" else groups("--min-area", "0")
    assert (sorted(usual) == [1, 2]) if ending == "objects" else (usual == classes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "mask"], "--shape has no effect with --to folder"),
        (["--tolerance", "0"], "--tolerance has no effect with --to folder"),
        (["--min-area", "0"], "--min-area has no effect with --to folder"),
        (["--to", "labelme", "--line-width", "2"], "--line-width has no effect"),
        (["--to", "labelme", "--others", "ignore"], "--others has no effect"),
        (["--to", "labelme", "--shape", "mask", "--tolerance", "1"], "which is exact"),
        (["--others", "ignore"], "--others has no effect without"),
        (["--labels", "a", "--label-map", "b"], "exclude each other"),
        (["--images", "nowhere"], "is no folder"),
        (["--to", "labelme"], "pass --images"),
        (["--labels", "a,,a"], "'a' is named twice"),
        ([], "no JSON file is in it"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, tmp_path / "out" / "deeper", *options)
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        run(tmp_path / "nothing", tmp_path / "out")
