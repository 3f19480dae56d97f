import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from unet_dist.data.colours import class_colours
from unet_dist.data.sample import IGNORE
from unet_dist.errors import UserError
from unet_dist.evaluate.objects import object_errors
from unet_dist.report.curves import curves_png, draw_curves
from unet_dist.report.page import new_figure
from unet_dist.report.panels import (
    BLUE,
    GREY,
    MEANINGS_OF_SEVERAL,
    ORANGE,
    RIGHT,
    WHITE,
    ObjectsShown,
    PictureRow,
    panels,
)
from unet_dist.report.pictures import (
    Heading,
    report_picture,
)


def picture_row(*, size=(40, 60), classes=1, name="eye", dice=0.8):
    generator = np.random.default_rng(0)
    shape = (*size, classes)
    prob = generator.random(shape) if classes == 1 else generator.dirichlet(np.ones(classes), size)
    return PictureRow(
        id=name,
        image_hwc=generator.random((*size, 3)).astype(np.float32),
        truth_hw=generator.integers(0, max(classes, 2), size).astype(np.uint8),
        prob_hwk=prob.astype(np.float32),
        threshold=0.5 if classes == 1 else None,
        fov_hw=np.ones(size, bool),
        dice=dice,
    )


def step_records(count):
    return [
        {
            "step": step,
            "epoch": step // 5,
            "loss": 1 / step,
            "dice": 1 - 1 / step,
            "lr": 1e-3,
            "images_per_s": 12.0,
            "data_wait_s": 0.002,
        }
        for step in range(1, count + 1)
    ]


EVALS = [
    {"step": step, "epoch": step, "split": "val", "dice": 0.7, "iou": 0.5, "threshold": 0.4}
    for step in (10, 20, 30)
]
HEADING = Heading(
    run="night-3",
    ranks=8,
    simulated=True,
    split="test",
    images=20,
    dice=0.8123,
    interval=(0.8, 0.82),
    threshold=0.43,
)


def page_of(rows, path, name="eyes", heading=HEADING):
    """Without curves, which other tests look at and which take the longest to draw."""
    report_picture(rows, [], [], path, heading=replace(heading, run=name))


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def has_colour(pixels, colour):
    return bool((pixels == np.array(colour)).all(axis=2).any())


def test_each_kind_of_error_has_its_colour():
    row = PictureRow(
        id="eye",
        image_hwc=np.zeros((1, 6, 1), np.float32),
        truth_hw=np.array([[1, 0, 1, 0, IGNORE, 1]], np.uint8),
        prob_hwk=np.array([0.9, 0.9, 0.1, 0.1, 0.9, 0.9], np.float32).reshape(1, 6, 1),
        threshold=0.5,
        fov_hw=np.array([[1, 1, 1, 1, 1, 0]], bool),
        dice=0.5,
    )

    image, truth, prediction, errors = (tuple(map(tuple, one[0])) for one in panels(row))

    assert errors == (WHITE, ORANGE, BLUE, (0, 0, 0), GREY, GREY)
    assert truth == (WHITE, (0, 0, 0), WHITE, (0, 0, 0), GREY, GREY)
    assert prediction[:2] == ((230, 230, 230), (230, 230, 230))
    assert prediction[5] == GREY
    assert image[0] == (0, 0, 0)


def test_of_several_classes_an_error_has_the_colour_of_what_was_predicted():
    row = PictureRow(
        id="cell",
        image_hwc=np.zeros((1, 3, 3), np.float32),
        truth_hw=np.array([[2, 1, 2]], np.uint8),
        prob_hwk=np.array([[[0, 0, 1], [0, 0, 1], [1, 0, 0]]], np.float32),
        threshold=None,
        fov_hw=np.ones((1, 3), bool),
        dice=0.5,
    )
    _, truth, prediction, errors = panels(row)
    assert tuple(map(tuple, errors[0])) == (RIGHT, class_colours(3)[2], WHITE)
    assert not {colour for colour, _ in MEANINGS_OF_SEVERAL} & set(class_colours(60))
    assert np.array_equal(truth[0, 0], prediction[0, 0])
    assert not np.array_equal(truth[0, 1], prediction[0, 1])


def test_panels_leave_the_row_as_it_was():
    row = picture_row()
    before = row.image_hwc.copy(), row.truth_hw.copy(), row.prob_hwk.copy()
    panels(row)
    for old, new in zip(before, (row.image_hwc, row.truth_hw, row.prob_hwk), strict=True):
        assert np.array_equal(old, new)


def test_the_comparison_shows_errors_and_grows_by_the_row(tmp_path):
    page_of([picture_row()], tmp_path / "one.png", "one")
    page_of([picture_row(), picture_row()], tmp_path / "two.png", "two")

    one, two = pixels_of(tmp_path / "one.png"), pixels_of(tmp_path / "two.png")
    assert one.shape[1] == two.shape[1] == 1800
    assert two.shape[0] > one.shape[0] + 200
    assert has_colour(one, ORANGE)
    assert has_colour(one, BLUE)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "one.png", tmp_path / "two.png"]


def test_images_of_any_shape_can_be_compared(tmp_path):
    rows = [picture_row(size=size) for size in [(1, 1), (3, 400), (700, 5)]]
    page_of(rows, tmp_path / "a.png", "odd")
    assert pixels_of(tmp_path / "a.png").shape[1] == 1800


@pytest.mark.filterwarnings("error")
def test_any_file_name_can_be_a_title(tmp_path):
    names = ["cost $5 and $6_x$", "a" * 300, "\u773c\u5e95-1", "line\nbreak"]
    rows = [picture_row(name=name, dice=math.nan) for name in names]
    page_of(rows, tmp_path / "a.png", "cost $5 and $6_x$ \u773c\u5e95-1 line\nbreak")
    page_of([], tmp_path / "long.png", "a" * 300)
    assert (tmp_path / "a.png").exists()
    assert (tmp_path / "long.png").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("steps", "evals"),
    [
        ([], []),
        (step_records(1), []),
        (step_records(30), EVALS),
        ([{"step": 1, "loss": None, "dice": math.nan}, {"step": 2, "loss": math.inf}], []),
        ([{"step": 1}, {"epoch": 3}], [{"step": 1, "split": "val", "dice": None}, {"step": 2}]),
        ([], [{"step": number, "split": f"s{number}", "dice": 0.5} for number in range(9)]),
    ],
)
def test_curves_are_drawn_from_whatever_records_there_are(tmp_path, steps, evals):
    (tmp_path / "curves.png").write_bytes(curves_png(steps, evals))
    assert pixels_of(tmp_path / "curves.png").shape[1] == 1800


@pytest.mark.parametrize("count", [1, 6])
def test_short_runs_have_whole_steps_and_a_legend_beside_their_curves(count):
    figure = new_figure(4)
    evals = [{"step": step, "split": "val", "dice": 0.1} for step in range(1, count + 1)]
    draw_curves(figure, step_records(count), evals, top=1)
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown == list(range(1, count + 1))
    legend = figure.axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["training, pooled", "val"]
    box, curves = legend.get_window_extent(), figure.axes[1].bbox
    assert box.y0 >= curves.y1 - 0.5
    assert curves.x0 + 40 < box.x0  # behind the title
    assert box.x1 <= curves.x1 + 0.5


def test_steps_repeated_after_a_resumption_are_drawn_once(tmp_path):
    once = step_records(20)
    stale = [{**record, "loss": 50.0} for record in once[10:15]]

    (tmp_path / "once.png").write_bytes(curves_png(once, EVALS))
    (tmp_path / "resumed.png").write_bytes(curves_png(once[:10] + stale + once[10:], EVALS))

    assert np.array_equal(pixels_of(tmp_path / "once.png"), pixels_of(tmp_path / "resumed.png"))


def test_the_report_says_the_result_in_its_heading():
    assert HEADING.result() == (
        "Dice 0.8123  (95 %: 0.8000 to 0.8200)   |   20 images of test   |   threshold 0.43"
    )
    assert "   |   1 image of test   |   " in replace(HEADING, images=1).result()


def test_the_report_holds_curves_and_examples(tmp_path):
    report_picture([picture_row()], step_records(30), EVALS, tmp_path / "r.png", heading=HEADING)
    pixels = pixels_of(tmp_path / "r.png")
    assert has_colour(pixels, (0, 0x72, 0xB2))  # a curve
    assert has_colour(pixels, ORANGE)  # an error


def test_the_report_of_folds_holds_the_curve_of_each(tmp_path):
    later = [{**record, "dice": 0.8} for record in EVALS]
    for name, members in (("folds", {"fold_0": EVALS, "fold_1": later}), ("none", {"fold_0": []})):
        path = tmp_path / f"{name}.png"
        report_picture([], [], [], path, heading=HEADING, of_members=members)
    for colour in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):
        assert has_colour(pixels_of(tmp_path / "folds.png"), colour)
        assert not has_colour(pixels_of(tmp_path / "none.png"), colour)


def test_single_objects_have_colours_and_are_right_or_wrong_as_a_whole(tmp_path):
    true, found = np.zeros((2, 12, 20), np.int64)
    true[2:6, 1:5], true[2:6, 5:9], true[8:11, 1:5] = 1, 8, 3  # 8 has the colour of 1
    found[2:6, 1:4], found[8:11, 10:14] = 4, 2
    errors = object_errors(true, found)
    row = replace(
        picture_row(size=(12, 20), classes=3),
        truth_hw=np.zeros((12, 20), np.uint8),
        fov_hw=np.arange(20)[None] < np.full((12, 1), 19),
        objects=ObjectsShown(true_hw=true, found_hw=found, errors_hw=errors),
    )
    _, truth, shown, wrong = panels(row)
    assert truth[3, 2].tolist() == truth[3, 7].tolist() == [86, 180, 233]
    assert truth[3, 4].tolist() == [0, 0, 0], "a line between two that touch"
    assert truth[9, 2].tolist() == [0, 158, 115]
    assert shown[3, 2].tolist() == [240, 228, 66]
    assert wrong[3, 2].tolist() == [255, 255, 255]
    assert wrong[3, 4].tolist() == [0, 0, 0], "of a true object that was found"
    assert wrong[9, 12].tolist() == [230, 159, 0]
    assert wrong[3, 6].tolist() == wrong[9, 2].tolist() == [0, 114, 178]
    assert wrong[0, 19].tolist() == truth[0, 19].tolist() == [70, 74, 82]
    page_of([row], tmp_path / "objects.png")
    pixels = pixels_of(tmp_path / "objects.png")
    assert has_colour(pixels, (230, 159, 0))
    assert has_colour(pixels, (0, 158, 115))


def test_a_report_can_be_made_before_there_is_anything_to_report(tmp_path):
    heading = Heading(
        run="new",
        ranks=1,
        simulated=False,
        split="val",
        images=0,
        dice=math.nan,
        interval=None,
        threshold=None,
        note="Some words. " * 60,
    )
    report_picture([], [], [], tmp_path / "r.png", heading=heading)
    assert heading.result() == "not evaluated yet"
    assert (tmp_path / "r.png").exists()


def test_pictures_can_be_drawn_in_several_threads(tmp_path):
    def draw(number):
        path = tmp_path / f"{number}.png"
        path.write_bytes(curves_png(step_records(10 + number), EVALS))
        return pixels_of(path)

    alone = [draw(number) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(draw, range(2)))

    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_folder_that_cannot_be_made_is_a_fault_of_the_user(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"rows.png: cannot be written"):
        page_of([picture_row()], tmp_path / "file" / "rows.png", "rows")


def test_page_of_several_classes_has_their_matrix_bars_and_legend(tmp_path):
    rows = [picture_row(classes=4)]
    names = ("background", "liver", "kidney", "a very long name of a lesion")
    matrix = np.array([[90, 10, 0, 0], [0, 50, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    several = replace(
        HEADING, threshold=None, confusion_kk=matrix, dice_of_class=(0.9, math.nan, 0.1),
        class_names=names,
    )  # fmt: skip
    plain = replace(HEADING, threshold=None)
    for shown, heading in (("several", several), ("plain", plain)):
        page_of([], tmp_path / f"{shown}.png", heading=heading)
    page, before = pixels_of(tmp_path / "several.png"), pixels_of(tmp_path / "plain.png")
    assert page.shape[0] > before.shape[0] + 300
    areas = [(page == np.array(colour)).all(axis=2).sum() for colour in class_colours(4)]
    assert areas[1] == pytest.approx(9 * areas[3], rel=0.1)  # bars of 0.9 and 0.1
    assert areas[2] < 100  # a class in no image has none
    page_of(rows, tmp_path / "rows.png", heading=several)
    for colour in class_colours(4)[1:]:
        assert has_colour(pixels_of(tmp_path / "rows.png")[-120:], colour)


def test_many_classes_fill_several_lines_of_the_legend(tmp_path):
    classes = 20
    page_of([picture_row(classes=classes)], tmp_path / "many.png", "many")
    page_of([picture_row(classes=4)], tmp_path / "few.png", "few")
    many, few = pixels_of(tmp_path / "many.png"), pixels_of(tmp_path / "few.png")
    assert many.shape[0] - few.shape[0] == pytest.approx(2 * 0.4 * 150, abs=2)
    assert has_colour(many[-240:], class_colours(classes)[-1])
