"""Networks of 8 bits: where pairs stand, how weights are rounded, what is computed."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.deployed import metadata_for, random_weights
from unet_dist.config import ModelConfig
from unet_dist.deploy.amct_form import amct_faults, to_amct_form
from unet_dist.deploy.bench import Form, computed_rightly
from unet_dist.deploy.compact import shorten
from unet_dist.deploy.functions import folded, inlined
from unet_dist.deploy.model_file import content_of
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.onnx_tensors import OnnxTensors
from unet_dist.deploy.parting import find_parting
from unet_dist.deploy.qdq import Layer, groups_of, layers_of, quantise
from unet_dist.deploy.ranges import Range
from unet_dist.deploy.runtime import OpenVinoSession, open_network
from unet_dist.errors import UserError

MODEL = ModelConfig(width=4, depth=1, norm="batch")
IMAGE = np.random.default_rng(0).normal(size=(1, 1, 16, 16)).astype(np.float32)


def plain(model: ModelConfig = MODEL) -> onnx.ModelProto:
    weights = random_weights(model, in_channels=1, outputs=1)
    return build_model(weights, model, metadata_for(model))


def observed(model: onnx.ModelProto) -> dict[str, Range]:
    """Ranges on the one image, by the reference implementation of ONNX."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    groups = groups_of(model, [layer.input for layer in layers_of(model)])
    names = [name for group in groups for name in group]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    values = onnxruntime.InferenceSession(watched.SerializeToString()).run(names, {"image": IMAGE})
    return {
        name: Range.of(float(value.min()), float(value.max()))
        for name, value in zip(names, values, strict=True)
    }


def test_pooling_shares_a_scale_and_a_concatenation_that_of_its_signed_part() -> None:
    groups = groups_of(plain(), [layer.input for layer in layers_of(plain())])
    assert ["encoder.0.body.5", "pool.0"] in groups
    assert ["concat.0", "upsampling.0"] in groups
    # The padded image, 7 of convolutions' outputs with ReLU (one of them with its pool), concat.
    assert sorted(map(len, groups)) == [1] * 6 + [2, 2]


GATED = ModelConfig(width=4, depth=1, norm="batch", attention="gate")


def test_a_gate_reads_the_rounded_skip_and_its_convolutions_are_of_8_bits() -> None:
    model = plain(GATED)
    groups = groups_of(model, [layer.input for layer in layers_of(model)])
    # The gate's own convolution and the decoder's read the upsampled features at one scale.
    assert ["attention.0", "attention.0.joined", "concat.0", "upsampling.0"] in groups
    small = quantise(model, observed(model), activations="u8")
    onnx.checker.check_model(small, full_check=True)
    [product] = [node for node in small.graph.node if node.name == "attention.0"]
    assert list(product.input) == ["encoder.0.body.5.dq", "attention.0.body.4"]
    content = shorten(folded(small)).SerializeToString()
    before, after = (
        onnxruntime.InferenceSession(one).run(None, {"image": IMAGE})[0]
        for one in (model.SerializeToString(), content)
    )
    assert before.std() > 0.05
    assert 0 < np.abs(before - after).max() < 0.05
    by_openvino = OpenVinoSession(content, threads=1)
    np.testing.assert_allclose(by_openvino.run(IMAGE), after, atol=0.03)
    assert by_openvino.executed_precisions() == {"u8": 10}
    assert amct_faults(to_amct_form(small)) == []


@pytest.mark.parametrize("activations", ["u8", "s8"])
@pytest.mark.parametrize("opset", [13, 17])
def test_eight_bits_are_nearly_the_network(activations: str, opset: int) -> None:
    weights = random_weights(MODEL, in_channels=1, outputs=1)
    model = build_model(weights, MODEL, metadata_for(MODEL, opset=opset))
    small = quantise(model, observed(model), activations=activations)  # type: ignore[arg-type]
    onnx.checker.check_model(small, full_check=True)
    kinds = Counter(node.op_type for node in small.graph.node)
    assert kinds["QuantizeLinear"] == 9  # each tensor but the pool's
    assert kinds["DequantizeLinear"] == 9 + len(layers_of(model))
    before, after = (
        onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"image": IMAGE})[0]
        for one in (model, small)
    )
    assert before.std() > 0.05
    assert 0 < np.abs(before - after).max() < 0.05
    kept = {one.name: one for one in small.graph.initializer}
    assert kept["encoder.0.body.0.weight.q"].data_type == onnx.TensorProto.INT8
    assert "encoder.0.body.0.weight" not in kept


def test_a_layer_in_float_reads_and_keeps_what_it_did() -> None:
    model = plain()
    names = [layer.name for layer in layers_of(model)]
    small = quantise(model, observed(model), activations="u8", float_layers=set(names))
    assert small.graph.SerializeToString() == model.graph.SerializeToString()
    alone = quantise(model, observed(model), activations="u8", float_layers={*names} - {"head"})
    assert Counter(node.op_type for node in alone.graph.node)["QuantizeLinear"] == 1


def layer(weight: np.ndarray, *, transposed: bool) -> Layer:
    return Layer(
        name="x",
        input="y",
        weight=weight.astype(np.float32),
        bias=np.zeros(2, np.float32),
        output_axis=1 if transposed else 0,
        stride=2 if transposed else 1,
    )


def test_weights_have_a_scale_for_each_output_channel() -> None:
    weight = np.zeros((2, 1, 1, 1))
    weight[:, 0, 0, 0] = 1.27, -0.0127
    rounded, scale = layer(weight, transposed=False).quantised
    # Rounded up to what float16 holds, so that the largest weight is not cut off.
    np.testing.assert_allclose(scale, [0.01, 0.0001], rtol=1e-3)
    assert (scale >= np.float32([0.01, 0.0001])).all()
    np.testing.assert_array_equal(scale, scale.astype(np.float16))
    np.testing.assert_array_equal(rounded.ravel(), [127, -127])


def test_functions_compute_the_same_in_fewer_bytes() -> None:
    model = plain()
    small = quantise(model, observed(model), activations="u8")
    compact = shorten(folded(small))
    onnx.checker.check_model(compact, full_check=True)
    content = compact.SerializeToString()
    before, after, written_out = (
        onnxruntime.InferenceSession(one).run(None, {"image": IMAGE})[0]
        for one in (
            small.SerializeToString(),
            content,
            inlined(compact).SerializeToString(),
        )
    )
    # Biases have the 11 digits of float16; a step of an activation may turn over.
    np.testing.assert_allclose(after, before, atol=0.01)
    np.testing.assert_array_equal(written_out, after)
    by_openvino = OpenVinoSession(content, threads=1)
    np.testing.assert_allclose(by_openvino.run(IMAGE), after, atol=0.03)
    assert by_openvino.executed_precisions() == {"u8": len(layers_of(model))}
    # 8 layers of 8 bits: a node, two names and two bytes a channel less for each.
    assert len(content) < len(shorten(small).SerializeToString())
    assert Counter(node.op_type for node in compact.graph.node)["C"] == 6


@pytest.mark.parametrize("compact", [False, True])
def test_openvino_is_not_given_activations_with_a_sign(compact: bool, tmp_path: Path) -> None:
    model = plain()
    for activations in ("u8", "s8"):
        small = quantise(model, observed(model), activations=activations)
        path = tmp_path / f"{activations}.onnx"
        path.write_bytes(content_of(folded(small) if compact else small))
    forms = [
        Form(name=f"{runtime} {file}", form="onnx", file=str(tmp_path / file), runtime=runtime)
        for runtime in ("onnxruntime", "openvino")
        for file in ("u8.onnx", "s8.onnx")
    ]
    kept, notes = computed_rightly(forms)
    assert [one.name for one in kept] == [one.name for one in forms[:3]]
    assert len(notes) == 1
    assert notes[0].startswith("openvino s8.onnx is left out: ")
    open_network(tmp_path / "u8.onnx", metadata_for(MODEL), "openvino", threads=1)
    open_network(tmp_path / "s8.onnx", metadata_for(MODEL), "onnxruntime", threads=1)
    with pytest.raises(UserError, match=r"s8\.onnx: has activations of 8 bits with a sign"):
        open_network(tmp_path / "s8.onnx", metadata_for(MODEL), "openvino")


@pytest.mark.parametrize("faulty", ["decoder.0.body.3", "upsampling.0"])
def test_the_layer_where_a_compact_file_parts_is_named(faulty: str, tmp_path: Path) -> None:
    model = plain()
    ranges = observed(model)
    content = shorten(folded(quantise(model, ranges, activations="u8"))).SerializeToString()
    [weight] = [one for one in model.graph.initializer if one.name == f"{faulty}.weight"]
    wrong = onnx.numpy_helper.to_array(weight) * np.float32(-1)
    weight.CopyFrom(onnx.numpy_helper.from_array(wrong, weight.name))
    other = shorten(folded(quantise(model, ranges, activations="u8"))).SerializeToString()
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for file, one in zip(files, (content, other), strict=True):
        file.write_bytes(one)
    found = find_parting(OnnxTensors(files[0]), OnnxTensors(files[1]), (IMAGE, IMAGE))
    first = found.first_beyond(0.3)
    # Of the convolutions two are of the encoder, two below it, and two of the decoder.
    expected = {"decoder.0.body.3": ("Conv", 5), "upsampling.0": ("ConvTranspose", 0)}
    assert first is not None
    assert (first.op, first.number) == expected[faulty]


@pytest.mark.parametrize("transposed", [False, True])
def test_the_shift_is_what_rounding_does_to_a_constant_image(transposed: bool) -> None:
    draw = np.random.default_rng(1)
    side = 2 if transposed else 3
    one = layer(draw.normal(size=(2, 2, side, side)), transposed=transposed)
    means = np.array([0.7, -0.4])
    rounded, scale = one.quantised
    shape = (1, 2, 1, 1) if transposed else (2, 1, 1, 1)
    error = rounded * scale.reshape(shape) - one.weight
    # By hand: every pixel sees all taps of a convolution, and one tap of the transposed one.
    expected = np.zeros(2)
    for out in range(2):
        for into in range(2):
            taps = error[into, out] if transposed else error[out, into]
            expected[out] += means[into] * (taps.mean() if transposed else taps.sum())
    np.testing.assert_allclose(one.shift(means), expected, atol=1e-6)
