"""Quantised models as AMCT reads them."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from unet_dist.deploy.amct_form import amct_faults, to_amct_form


def quantised_model(*, concat_reads_pair: bool = True) -> onnx.ModelProto:
    """As CPUs like it: image, pair, Conv (int8 weight per channel, int32 bias), pair, Concat with
    itself and Conv again, pair at the end."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "w": rng.integers(-127, 128, (2, 1, 3, 3)).astype(np.int8),
        "w_scale": np.array([0.01, 0.03], np.float32),
        "w_zero": np.zeros(2, np.int8),
        "bias": np.array([40, -70], np.int32),
        "bias_scale": np.array([0.0005, 0.0015], np.float32),
        "head": rng.normal(size=(1, 4, 1, 1)).astype(np.float32),
        "scale": np.array(0.05, np.float32),
        "zero": np.array(128, np.uint8),
    }
    q, dq = "QuantizeLinear", "DequantizeLinear"
    joined = "y_dq" if concat_reads_pair else "y"
    nodes = [
        helper.make_node(q, ["image", "scale", "zero"], ["x_q"]),
        helper.make_node(dq, ["x_q", "scale", "zero"], ["x"]),
        helper.make_node(dq, ["w", "w_scale", "w_zero"], ["w_dq"], axis=0),
        helper.make_node(dq, ["bias", "bias_scale"], ["b_dq"], axis=0),
        helper.make_node("Conv", ["x", "w_dq", "b_dq"], ["y"], pads=[1] * 4),
        helper.make_node(q, ["y", "scale", "zero"], ["y_q"]),
        helper.make_node(dq, ["y_q", "scale", "zero"], ["y_dq"]),
        helper.make_node("Concat", [joined, joined], ["z"], axis=1),
        helper.make_node("Conv", ["z", "head"], ["out"]),
        helper.make_node(q, ["out", "scale", "zero"], ["out_q"]),
        helper.make_node(dq, ["out_q", "scale", "zero"], ["probability"]),
    ]
    sizes = ["batch", 1, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, sizes)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 15)])


def run(model: onnx.ModelProto, x_nchw: np.ndarray[Any, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    # As written: merged integer kernels round elsewhere.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"image": x_nchw})[0]


def test_the_form_has_no_fault_where_the_other_has_several() -> None:
    model = quantised_model()
    told = "\n".join(amct_faults(model))
    assert "Conv y, input 1: a DequantizeLinear without its QuantizeLinear" in told
    assert "Concat z, input 0: only Conv, ConvTranspose, Gemm, MatMul may read" in told
    form = to_amct_form(model)
    onnx.checker.check_model(form, full_check=True)
    assert amct_faults(form) == []
    ops = [node.op_type for node in form.graph.node]
    # Pairs for the image and the weight alone.
    assert ops.count("QuantizeLinear") == ops.count("DequantizeLinear") == 2
    types = {one.data_type for one in form.graph.initializer if one.name not in ("zero", "w_zero")}
    assert types == {TensorProto.FLOAT}
    assert [node.op_type for node in model.graph.node].count("DequantizeLinear") == 5


def test_weights_and_biases_are_the_same_numbers() -> None:
    """All that differs is that the concatenation and the end read what no pair has rounded."""
    model = quantised_model()
    x_nchw = np.random.default_rng(1).uniform(-3, 3, (2, 1, 8, 8)).astype(np.float32)
    plain = quantised_model(concat_reads_pair=False)
    del plain.graph.node[-2:]
    plain.graph.node[-1].output[0] = "probability"
    np.testing.assert_allclose(
        run(to_amct_form(model), x_nchw), run(plain, x_nchw), rtol=0, atol=1e-5
    )


def test_a_pair_that_cuts_off_at_zero_leaves_a_relu_behind() -> None:
    """Quantisers drop the ReLU before a pair whose least value is 0."""
    model = quantised_model()
    for number, constant in enumerate(model.graph.initializer):
        if constant.name == "zero":
            model.graph.initializer[number].CopyFrom(
                numpy_helper.from_array(np.array(0, np.uint8), "zero")
            )
    form = to_amct_form(model)
    assert [node.op_type for node in form.graph.node].count("Relu") == 2
    # From 0 to 2.55, so that nothing is cut off above.
    x_nchw = np.random.default_rng(1).uniform(0, 2.5, (1, 1, 8, 8)).astype(np.float32)
    found, wanted = run(form, x_nchw), run(model, x_nchw)
    assert wanted.min() == 0
    # Half a step at the end, and half of each of four channels before the last convolution.
    head = numpy_helper.to_array(next(c for c in form.graph.initializer if c.name == "head"))
    limit = 0.025 * (1 + np.abs(head).sum())
    inside = wanted < 12.7  # the end has no more steps
    assert np.abs(found - wanted)[inside].max() <= limit


def test_faults_that_no_form_mends_are_told() -> None:
    model = to_amct_form(quantised_model())
    pair = [node for node in model.graph.node if node.output[0] in ("x_q", "x")]
    other = numpy_helper.from_array(np.array(0.06, np.float32), "other")
    model.graph.initializer.append(other)
    pair[1].input[1] = "other"
    assert amct_faults(model) == ["Conv y, input 0: its pair has two scales or zero points"]
    pair[0].input[1] = pair[1].input[1] = "w_scale"
    assert amct_faults(model) == [
        "Conv y, input 0: the activation is quantised per channel, but may be per tensor"
    ]
