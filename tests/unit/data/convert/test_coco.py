import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import SIZE, Project, png, run
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_dist.data.convert import open as opening
from unet_dist.data.convert.coco import decode_counts, open_coco
from unet_dist.data.convert.labels import all_labels
from unet_dist.data.convert.paint import paint_numbers
from unet_dist.errors import UserError

HEIGHT, WIDTH = SIZE
Coco = Callable[..., dict[str, Any]]


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"category_id": category, "segmentation": segmentation, "image_id": 7, **more}


@pytest.fixture
def coco(project: Project, tmp_path: Path) -> Coco:
    """Writes instances of a.png with the categories 1 dog and 5 cat, and converts them."""

    def convert_coco(*annotations: Any, options: tuple[object, ...] = (), **changes: Any) -> Any:
        tree = {
            "images": [{"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
            "annotations": [{"id": 100 + i} | a for i, a in enumerate(annotations)],
            "categories": [{"id": 1, "name": "dog"}, {"id": 5, "name": "cat"}],
        }
        path = project.root / "instances.json"
        path.write_text(json.dumps(tree | changes))
        return json.loads(run(path, tmp_path / "out", "--json", *options).stdout)

    return convert_coco


def faults(coco: Coco, *annotations: Any, **changes: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        coco(*annotations, **changes)
    return list(caught.value.faults)


def test_polygons_become_classes_in_natural_order_of_all_categories(coco: Coco, mask) -> None:
    answer = coco(annotation(1, [box(1, 1, 3, 2), box(5, 1, 6, 2)]))
    assert mask() == ["0" * 10, "0220020000"] + ["0" * 10] * 6
    assert answer["names"] == ["_background_", "cat", "dog"]
    assert answer["notes"] == ["no shape has the label cat"]


def test_small_objects_lie_over_large_ones_and_crowds_below_all(coco: Coco, mask) -> None:
    coco(
        annotation(5, [box(2, 0, 4, 1)]),
        annotation(1, [box(0, 0, 6, 1)]),
        annotation(1, [box(5, 0, 8, 1)], iscrowd=1),
    )
    assert mask()[0] == "221122##00"


def test_runs_go_down_the_columns(coco: Coco, mask) -> None:
    # Column 0 has 8 pixels, so 9 zeros end at row 0 of column 1: the runs begin at its row 1.
    coco(annotation(1, {"size": [8, 10], "counts": [9, 2, 6, 1, 62]}))
    expected = [list("0" * 10) for _ in range(8)]
    expected[1][1] = expected[2][1] = expected[1][2] = "2"
    assert mask() == ["".join(row) for row in expected]


def test_compressed_runs_are_the_same_runs(coco: Coco, mask) -> None:
    # 9, 2, 6, then the differences 1 - 2 = -1 and 62 - 6 = 56 = 24 + 32 x 1.
    # 5 bits each, plus 48: 9; 2; 6; 31 (-1) = "O"; 24 | 32 = 56 and then 1: "h1".
    coco(annotation(1, {"size": [8, 10], "counts": "926Oh1"}, iscrowd=0))
    assert [row[1:3] for row in mask()[:3]] == ["00", "22", "20"]


def test_a_text_that_pycocotools_wrote_is_read() -> None:
    # pycocotools 2.0.11 wrote this text for this mask.
    mask = np.array([[0, 1, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 1, 1]])
    runs = decode_counts("321O0020N12O")
    np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2, runs).reshape(5, 4).T, mask)


def test_instances_are_numbered(coco: Coco, mask) -> None:
    answer = coco(
        annotation(1, [box(0, 0, 2, 1)]),
        annotation(5, [box(3, 0, 6, 1)]),
        annotation(1, {"size": [8, 10], "counts": [72, 1, 7]}, iscrowd=1),
        options=("--instances",),
    )
    assert mask()[0] == "2201110000"  # the larger first
    assert answer["objects"] == 2
    assert answer["notes"] == [
        "1 shapes to be left out (crowds, __ignore__) became background: a mask of object numbers "
        "has no value for pixels that don't count",
        "object numbers tell no labels apart: cat, dog are all foreground; without --instances "
        "each is a class",
    ]


def test_labels_have_class_numbers_only_where_masks_have(
    coco: Coco, project: Project, tmp_path: Path
) -> None:
    coco(annotation(1, [box(0, 0, 2, 1)]))
    source = project.root / "instances.json"
    assert "\n    2 dog: 1 shape\n" in run(source, tmp_path / "classes").stdout
    assert "\n  dog: 1 shape\n" in run(source, tmp_path / "numbers", "--instances").stdout


def test_images_are_found_in_another_folder(coco: Coco, mask, project: Project, tmp_path) -> None:
    (tmp_path / "pictures").mkdir()
    (project.root / "a.png").rename(tmp_path / "pictures" / "a.png")
    square = annotation(1, [box(1, 1, 3, 2)])
    assert "no image" in faults(coco, square)[0]
    coco(square, options=("--images", tmp_path / "pictures"))
    assert mask()[1] == "0220000000"


def test_all_faults_of_the_shapes_are_told_at_once(coco: Coco, tmp_path: Path) -> None:
    told = faults(
        coco,
        annotation(1, [box(0, 0, 2, 1)]),
        annotation(3, [box(0, 0, 2, 1)]),
        annotation(1, [[1, 1, 2, 2, 3]]),
        annotation(1, [[1, 1, 2, 2]]),
        annotation(1, [[1, 1, 2, 2, 3, 3]]),
        annotation(1, [[1, 1, float("nan"), 2, 3, 3]]),
        annotation(1, []),
        annotation(1, {"size": [10, 8], "counts": [80]}),
        annotation(1, {"size": [8, 10], "counts": [79]}),
        annotation(1, {"size": [8, 10], "counts": [90, -10]}),
        annotation(1, {"size": [8, 10], "counts": "ab\n"}),
        annotation(1, {"size": [8, 10], "counts": "X"}),
        annotation(1, {"size": [8, 10], "counts": {"a": 1}}),
        annotation(1, {"size": [8, 10], "counts": [10**30, 1]}),
    )
    expected = [
        "category_id 3 is in no category",
        "not pairs of numbers",
        "2 different points",
        "lie on one line",
        "not a finite number",
        "no segmentation",
        "size [10, 8], but its image [8, 10]",
        "cover 79 pixels, but its image has 80",
        "negative",
        "not COCO's compressed text",
        "end in the middle",
        "neither whole numbers nor",
        "neither whole numbers nor",
    ]
    for number, (what, fault) in enumerate(zip(expected, told, strict=True), 101):
        assert fault.startswith(f"annotation {number} of a.png: ")
        assert what in fault
    assert not (tmp_path / "out").exists()


def test_all_faults_of_the_tables_are_told_at_once(coco: Coco) -> None:
    told = faults(
        coco,
        annotation(1, [box(0, 0, 2, 1)], image_id=8),
        images=[
            {"id": 7, "file_name": "a.png"},
            {"id": 7, "file_name": "b.png"},
            {"id": "8", "file_name": "b.png"},
        ],
        categories=[{"id": 1, "name": "dog"}, {"id": 1, "name": "cat"}, {"id": 2}],
    )
    assert [fault.partition(":")[0] for fault in told] == [
        "category 2",
        "category 3",
        "image number 2",
        "image number 3",
        "annotation number 1",
    ]
    assert (
        "no list of objects named images and categories" in faults(coco, images={}, categories=0)[0]
    )


def test_faults_of_images_are_told(coco: Coco) -> None:
    told = faults(
        coco,
        images=[
            {"id": 1, "file_name": "a.png", "height": 10, "width": 8},
            {"id": 2, "file_name": "../c.png"},
            {"id": 3, "file_name": "b.png"},
            {"id": 4, "file_name": "instances.json"},
        ],
    )
    for what, fault in zip(
        ["image of height 10, but a.png is 8 x 10", "outside", "no image", "not read"],
        told,
        strict=True,
    ):
        assert what in fault


def test_two_images_of_one_name_keep_their_folders(coco: Coco, project: Project, tmp_path) -> None:
    project.image("p1/a.png")
    project.image("p2/a.png")
    coco(
        images=[{"id": 1, "file_name": "p1/a.png"}, {"id": 2, "file_name": "p2/a.png"}],
        annotations=[annotation(1, [box(0, 0, 2, 1)], image_id=2)],
    )
    found = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert found == ["p1_a.png", "p2_a.png"]


def test_more_categories_than_classes_ask_for_a_choice(coco: Coco) -> None:
    square = annotation(1, [box(1, 1, 3, 2)])
    many = [{"id": i, "name": f"c{i}"} for i in range(80)]
    assert "80 labels, but 63 are the most" in faults(coco, square, categories=many)[0]
    answer = coco(square, categories=many, options=("--labels", "c1", "--others", "background"))
    assert answer["names"] == ["_background_", "c1"]


def test_a_json_that_is_too_big_is_refused(coco: Coco, monkeypatch) -> None:
    monkeypatch.setattr(opening, "MOST_JSON_BYTES", 10)
    assert "larger than 10 bytes" in faults(coco)[0]


def test_widths_of_lines_are_refused_where_there_are_none(coco: Coco) -> None:
    assert "COCO has no lines" in faults(coco, options=("--line-width", "3"))[0]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
RUNS = st.fixed_dictionaries(
    {
        "size": st.just([8, 10]) | ANYTHING,
        "counts": st.lists(st.integers(-5, 90)) | st.text("0123OXh`o") | ANYTHING,
    }
)


@settings(max_examples=40)
@given(st.lists(ANYTHING | RUNS, max_size=3), ANYTHING)
def test_any_json_gives_a_picture_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, segmentations: list, category: Any
) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "a.png").write_bytes(png(np.zeros(SIZE, np.uint8)))
    tree = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "annotations": [annotation(1, item) for item in segmentations],
        "categories": [{"id": 1, "name": "dog"}],
    }
    for changes in ({}, {"categories": [category]}, {"annotations": [category]}):
        with contextlib.suppress(UserError):
            picture = open_coco(root / "i.json", tree | changes, None).read(0)
            assert paint_numbers(picture, all_labels(["dog"])).mask_hw.shape == SIZE
