"""What the report of a network in 8 bits shows of its predictions and layers."""

import math
from typing import Any

import numpy as np
import pytest

from unet_dist.report.panels import BLACK, BLUE, GREY, ORANGE, STRIP_GAP, PictureRow
from unet_dist.report.quantised import difference_picture, pair_strips, quantised_html


def row(prob: list[list[float]], threshold: float | None = 0.5) -> PictureRow:
    """One row of pixels, the last outside the field of view."""
    prob_hwk = np.array([prob], np.float32)
    width = prob_hwk.shape[1]
    fov_hw = np.ones((1, width), bool)
    fov_hw[0, -1] = False
    return PictureRow(
        id="eye",
        image_hwc=np.zeros((1, width, 3), np.float32),
        truth_hw=np.zeros((1, width), np.uint8),
        prob_hwk=prob_hwk,
        threshold=threshold,
        fov_hw=fov_hw,
        dice=math.nan,
    )


def test_the_difference_is_ten_times_as_strong_and_its_colour_tells_the_sign() -> None:
    before = row([[0.5], [0.5], [0.75], [0.25], [0.0]])
    after = row([[0.5], [0.55], [0.5], [0.75], [0.0]])
    found = difference_picture(before, after)[0].tolist()
    half = [round(channel * 0.5) for channel in ORANGE]
    np.testing.assert_allclose(found[1], half, atol=1)
    assert [tuple(found[n]) for n in (0, 2, 3, 4)] == [BLACK, BLUE, ORANGE, GREY]


def test_of_several_classes_the_one_that_differs_most_is_shown() -> None:
    before = row([[0.2, 0.5, 0.3], [1, 0, 0], [1, 0, 0]], threshold=None)
    after = row([[0.2, 0.3, 0.5], [1, 0, 0], [1, 0, 0]], threshold=None)
    found = difference_picture(before, after)[0].tolist()
    assert [tuple(one) for one in found] == [ORANGE, BLACK, GREY]


def test_both_predictions_stand_beside_their_difference() -> None:
    before, after = row([[0.5], [0.9], [0.0]]), row([[0.5], [0.2], [0.0]])
    strips = pair_strips(before, after)
    assert [strip.shape for strip in strips] == [(1, 3 * 3 + 2 * STRIP_GAP, 3)] * 2
    np.testing.assert_array_equal(strips[1][:, -3:], difference_picture(before, after))
    # 0.9 and 0.2 of 255, in grey.
    assert strips[1][0, 1].tolist() == pytest.approx([230] * 3, abs=1)
    assert strips[1][0, 3 + STRIP_GAP + 1].tolist() == pytest.approx([51] * 3, abs=1)


def record(layers: int) -> dict[str, Any]:
    return {
        "options": {
            "runtime": "openvino",
            "calibration": "minmax",
            "activations": "u8",
            "calibrate": 6,
            "method": "ptq",
        },
        "run": "/runs/eyes",
        "checkpoint_sha256": "0123456789abcdef" * 4,
        "epochs": None,
        "threshold": 0.5,
        "threshold_float32": 0.5,
        "faults": [],
        "drop": 0.001,
        "size": 0.25,
        "speedup": 3.0,
        "layers": layers,
        "float_layers": [],
        "dice_float32": 0.8,
        "dice": {"openvino": 0.799},
        "bytes_float32": 1000,
        "bytes": 250,
        "seconds_float32": 0.3,
        "seconds": 0.1,
        "calibrated_on": 6,
        "training_images": 6,
        "validation": {"images": 4, "views": 8, "units": 4, "unit": "image"},
        "layout": "plain",
        "agreement": None,
        "sensitivities": {f"layer.{number}": 0.1 for number in range(layers)},
    }


def test_the_page_says_what_its_columns_and_rows_leave_unsaid() -> None:
    evened = quantised_html(record(36), [], classes=2, even_light=True)
    assert "20 of 36 layers shown" in evened
    assert "in full colour from 0.1 on" in evened
    assert "less probable in 8 bits" in evened
    whole = quantised_html(record(20), [("eye", [PNG, PNG])], classes=2, even_light=False)
    assert "layers shown" not in whole
    assert "<span>image</span>" in whole
    pictured = quantised_html(record(20), [("eye", [PNG, PNG])], classes=2, even_light=True)
    assert "<span>input, light evened</span>" in pictured
    assert "<span>8 bits - float32</span>" in pictured


def test_the_page_of_a_training_says_what_it_learnt_and_from_what() -> None:
    trained = {**record(1), "epochs": 6, "calibrated_on": 4, "threshold": 0.45, "agreement": 0.9998}
    trained["options"] = {**trained["options"], "method": "qat"}
    page = quantised_html(trained, [], classes=2, even_light=False)
    for told in (
        "run eyes, weights 0123456789abcdef",
        "method qat, 6 epochs of training that saw 8 bits",
        "ranges learnt in that training, begun from those of 4 of 6 training images (minmax)",
        "threshold 0.45",
        "99.98% of the pixels of validation images have the class that the training gave them",
        "0.45, where the run has 0.5",
    ):
        assert told in page
    assert "ranges by" not in page


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (10).to_bytes(4, "big") + (10).to_bytes(4, "big")
