"""Two forms of a network, compared image by image and layer by layer."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.deployed import metadata_for, random_weights
from tests.unit.deploy.ascend.made_runtimes import MadeAcl
from tests.unit.deploy.ascend.small_models import METADATA, REQUEST, weights, write_model
from unet_dist.config import ModelConfig
from unet_dist.deploy.ascend_commands import plan_conversion
from unet_dist.deploy.compact import shorten
from unet_dist.deploy.comparison import compare_forms, comparison_text, difference_of
from unet_dist.deploy.model_file import content_of
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.onnx_tensors import OnnxTensors
from unet_dist.deploy.parting import OPS, find_parting, match_layers
from unet_dist.errors import UserError


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(2)
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path, size in zip(paths, ((64, 64), (80, 100)), strict=True):
        cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3), np.uint8))
    return paths


def test_a_fault_planted_in_one_layer_is_found_there(tmp_path: Path, pictures: list[Path]) -> None:
    a = write_model(tmp_path / "a.onnx")
    for layer, told in (("deep", "Conv 1"), ("up", "ConvTranspose 0"), ("head", "Conv 2")):
        values = weights()
        values[layer][0, 0, 0, 0] += 0.5
        b = write_model(tmp_path / f"{layer}.onnx", values=values, prefix="other_")
        found = compare_forms(a, b, images=pictures, tolerance=1e-3)
        assert found.parting is not None
        assert str(found.parting).startswith(told)
        assert found.matched_by == "order"
        assert not found.agrees
        before = found.layers[: found.layers.index(found.parting)]
        assert all(one.difference < 1e-6 for one in before)
        assert f"they part at {told}" in comparison_text(found)


def test_layers_are_compared_where_the_outputs_differ_most(
    tmp_path: Path, pictures: list[Path]
) -> None:
    """Without a mean a black image is 0 in the network, and hides a fault of its first layer."""
    black = tmp_path / "black.png"
    cv2.imwrite(str(black), np.zeros((64, 64, 3), np.uint8))
    metadata = replace(METADATA, mean=(0.0, 0.0, 0.0))
    values = weights()
    values["first"] *= 1.1
    a = write_model(tmp_path / "a.onnx", metadata)
    b = write_model(tmp_path / "b.onnx", metadata, values=values)
    found = compare_forms(a, b, images=[black, *pictures], tolerance=1e-3)
    assert found.images[0].largest_error == 0
    assert str(found.parting).startswith("Conv 0")


def test_equal_forms_agree_in_all_layers(tmp_path: Path, pictures: list[Path]) -> None:
    a = write_model(tmp_path / "a.onnx")
    b = write_model(tmp_path / "b.onnx")
    found = compare_forms(a, b, images=pictures, tolerance=1e-6)
    assert found.agrees
    assert found.parting is None
    assert found.matched_by == "names"
    # Conv 3, ConvTranspose, MaxPool, Concat, Sigmoid.
    assert len(found.layers) == 7
    assert [one.image for one in found.images] == ["one", "two"]
    assert all(one.dice == 1 and one.cosine == pytest.approx(1) for one in found.images)


def test_normalisation_inside_or_outside_is_the_same(tmp_path: Path, pictures: list[Path]) -> None:
    """The second takes 0..1 and divides its first weights by std; the mean is 0 in both."""
    outside = replace(METADATA, mean=(0.0, 0.0, 0.0))
    inside = replace(outside, normalises=True)
    values = weights()
    values["first"] /= np.array(METADATA.std, np.float32)[None, :, None, None]
    a = write_model(tmp_path / "a.onnx", outside)
    b = write_model(tmp_path / "b.onnx", inside, values=values)
    assert compare_forms(a, b, images=pictures, tolerance=1e-4).agrees


def test_quantised_layers_are_matched_with_those_of_the_float_model(tmp_path: Path) -> None:
    a = OnnxTensors(write_model(tmp_path / "a.onnx"))
    b = OnnxTensors(write_model(tmp_path / "b.onnx", prefix="x", quantised=True))
    x_nchw = np.random.default_rng(3).normal(size=(1, 3, 32, 32)).astype(np.float32)
    found = find_parting(a, b, (x_nchw, x_nchw))
    first = found.first_beyond(1e-4)
    # QuantizeLinear stands before the last convolution.
    assert first is not None
    assert (first.op, first.number) == ("Conv", 2)
    assert (first.tensor_a, first.tensor_b) == ("g", "xg")


def test_layers_are_told_by_the_names_of_the_network(tmp_path: Path, pictures: list[Path]) -> None:
    """Of depth 1: convolutions 0 to 3, the transposed one, 4 and 5, and the head."""
    model = ModelConfig(width=4, depth=1, norm="batch")
    metadata = replace(
        metadata_for(model, in_channels=3),
        config={
            "model": {"width": 4, "depth": 1, "norm": "batch"},
            "evaluate": {"tile": 32, "batch": 1},
        },
    )
    values = random_weights(model, in_channels=3, outputs=1)
    a = tmp_path / "a.onnx"
    a.write_bytes(content_of(shorten(build_model(values, model, metadata))))
    for layer, told in (
        ("encoder.1.body.0", "encoder.1.body.0 (Conv 2, tensor"),
        ("upsampling.0", "upsampling.0 (ConvTranspose 0, tensor"),
        ("decoder.0.body.3", "decoder.0.body.3 (Conv 5, tensor"),
    ):
        faulty = {**values, f"{layer}.weight": 3 * values[f"{layer}.weight"]}
        b = tmp_path / "b.onnx"
        b.write_bytes(content_of(shorten(build_model(faulty, model, metadata))))
        found = compare_forms(a, b, images=pictures)
        assert str(found.parting).startswith(told)
        pooled = next(one for one in found.layers if one.op == "MaxPool")
        assert str(pooled).startswith("MaxPool 0 after encoder.0.body.3 (")


def test_the_usual_tolerance_is_that_of_the_two_precisions(
    tmp_path: Path, pictures: list[Path]
) -> None:
    a = write_model(tmp_path / "a.onnx")
    small = write_model(tmp_path / "b.onnx", replace(METADATA, precision="int8"), quantised=True)
    found = compare_forms(a, small, images=pictures)
    # Rounded by 0.05 on the way, so more than 0.001 apart.
    assert max(one.relative_error for one in found.images) > 1e-3
    assert found.tolerance == 0.9
    assert found.agrees
    text = comparison_text(found)
    assert "the Dice tells more" in text
    assert "no layer of 7 differs by more than 0.9 of its largest value; the most does" in text
    asked = compare_forms(a, small, images=pictures, tolerance=1e-3)
    assert not asked.agrees
    assert "the Dice tells more" not in comparison_text(asked)
    assert compare_forms(small, small, images=pictures).tolerance == 1e-3
    assert compare_forms(a, a, images=pictures).tolerance == 1e-3


def test_single_equal_names_are_not_trusted(tmp_path: Path) -> None:
    a = OnnxTensors(write_model(tmp_path / "a.onnx")).layers(OPS)
    # The first convolution of the other is called as the second of this one.
    b = [replace(layer, tensor={"a": "d", "d": "z"}.get(layer.tensor, layer.tensor)) for layer in a]
    pairs, matched_by = match_layers(a, b)
    assert matched_by == "order"
    assert [other.tensor for _, other in pairs] == ["d", "c", "z", "e", "f", "g", "probability"]


def test_numbers_of_one_image_by_hand() -> None:
    a = np.array([[[0.9, 0.8, 0.1, 0.0]]], np.float32)
    b = np.array([[[0.9, 0.3, 0.6, 0.0]]], np.float32)
    found = difference_of("i", a, b, threshold=0.5)
    assert found.largest_error == pytest.approx(0.5)
    assert found.relative_error == pytest.approx(0.5 / 0.9)
    # 0.81 + 0.24 + 0.06 over the roots of 1.46 and 1.26.
    assert found.cosine == pytest.approx(1.11 / math.sqrt(1.46 * 1.26))
    assert found.dice == pytest.approx(2 * 1 / (2 + 2))
    # Logits are foreground from 0 on: both pixels of A, one of B.
    logits = difference_of(
        "i", np.array([[[0.3, 2.0]]], "f4"), np.array([[[0.3, -2.0]]], "f4"), threshold=0.5
    )
    assert logits.dice == pytest.approx(2 / 3)
    # Classes 1, 2, 0 and 1, 1, 0: Dice of class 1 is 2/3, of class 2 is 0.
    classes = [np.eye(3, dtype=np.float32)[order].T[:, None] for order in ([1, 2, 0], [1, 1, 0])]
    several = difference_of("i", classes[0], classes[1], threshold=None)
    assert several.dice == pytest.approx((2 / 3 + 0) / 2)
    empty = difference_of("i", np.zeros((1, 1, 2), "f4"), np.zeros((1, 1, 2), "f4"), threshold=0.5)
    assert math.isnan(empty.dice)
    assert empty.relative_error == 0


def test_dumps_are_matched_by_the_names_of_images(tmp_path: Path) -> None:
    first, second = np.full((1, 2, 2), 0.7, "f4"), np.full((1, 2, 2), 0.2, "f4")
    np.savez(tmp_path / "a.npz", one=first, two=second)
    np.savez(tmp_path / "b.npz", two=second, one=first + np.float32(0.07))
    found = compare_forms(tmp_path / "a.npz", tmp_path / "b.npz", images=[], tolerance=0.09)
    assert [round(one.relative_error, 4) for one in found.images] == [0.1, 0.0]
    assert not found.agrees
    assert found.to_json()["images"][1]["dice"] is None
    np.save(tmp_path / "c.npy", first)
    with pytest.raises(UserError, match="two is in"):
        compare_forms(tmp_path / "a.npz", tmp_path / "c.npy", images=[], tolerance=0.1)
    np.save(tmp_path / "d.npy", first)
    assert compare_forms(tmp_path / "c.npy", tmp_path / "d.npy", images=[], tolerance=0).agrees
    (tmp_path / "e.npy").write_text("no array")
    with pytest.raises(UserError, match="no arrays"):
        compare_forms(tmp_path / "e.npy", tmp_path / "d.npy", images=[], tolerance=0)


def test_a_model_on_a_card_is_compared_with_the_onnx_file(
    tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = write_model(tmp_path / "a.onnx")
    plan = plan_conversion(replace(REQUEST, shapes=((2, 3, 64, 64),)), model="../a.onnx")
    card = tmp_path / plan.atc[0].makes
    (tmp_path / f"{card.name}.json").write_text(plan.files[f"{card.name}.json"])
    card.write_bytes(b"")
    acl = MadeAcl(shape=(2, 3, 64, 64), is_pixelwise=False, dtype=np.float32)
    monkeypatch.setitem(sys.modules, "acl", acl)
    found = compare_forms(a, card, images=pictures, tolerance=1e-3)
    # The made card adds the channels up, which is no segmentation.
    assert not found.agrees
    assert found.layers == ()
    assert acl.taken == {}
