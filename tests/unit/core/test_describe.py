from typing import Any

from unet_dist.evaluate.names import interval_text, numbered, title_in_class
from unet_dist.launching.describe import _class_table, describe_classes


def one(dice: float | None) -> dict[str, Any]:
    return {"dice": dice, "iou": 0.25, "sensitivity": 0.75, "auc": None}


def test_each_of_several_classes_has_its_line() -> None:
    names = ["background", "liver", "small lesion"]
    table = _class_table({"per_class": [one(0.5), one(None)], "class_names": names})
    assert [line.split() for line in table] == [
        ["Dice", "IoU", "sensitiv.", "AUC"],
        ["liver", "0.5000", "0.2500", "0.7500", "undefined"],
        ["small", "lesion", "undefined", "0.2500", "0.7500", "undefined"],
    ]
    assert len({len(line) for line in table}) == 1
    assert _class_table({"per_class": [one(0.5)], "class_names": names[:2]}) == []


def test_the_colours_of_predicted_masks_are_told() -> None:
    told = describe_classes(["background", "liver"])
    assert told == "classes: 0 background (rgb 0 0 0), 1 liver (rgb 86 180 233)"


def test_why_there_is_no_interval_and_one_is_no_plural() -> None:
    values = {"dice": 0.5, "iou": 0.4, "auc": None, "assd": 1.0}
    answer = {**values, "intervals": {"dice": None, "iou": [0.3, 0.5], "auc": None}}
    found = [interval_text(answer, name, unit="patient") for name in values]
    assert found == ["needs 3 patients", "0.3000 to 0.5000", "", ""]
    assert [numbered(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [title_in_class(name) for name in ("dice", "auc")] == [
        "Dice",
        "area under the ROC curve",
    ]
