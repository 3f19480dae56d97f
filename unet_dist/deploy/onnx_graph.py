"""The trained U-Net (``model.unet``) as an ONNX graph, written down operator by operator.

MindSpore's own exporter writes transposed convolutions that other programs refuse or compute
wrongly, and fixes batch and size. Here batch, height and width are free: the graph pads its input
to the network's multiple and crops its output back, as ``UNet`` does.

Batch norms become part of the convolutions before them. Nodes and tensors have readable names,
those of the run's weights; ``compact.shorten`` takes them away in the file.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unet_dist.config import ModelConfig
from unet_dist.deploy.folding import fold_batch_norms
from unet_dist.deploy.model_file import INPUT, INPUT_AXES, MASK, Metadata
from unet_dist.model.norm_rules import EPSILON, groups_of

IR_VERSIONS = {13: 7, 15: 8, 17: 8}
"""The oldest that holds each opset, for old readers."""

Weights = Mapping[str, NDArray[np.float32]]


def build_model(weights: Weights, model: ModelConfig, metadata: Metadata) -> onnx.ModelProto:
    """The network with these weights (parameters by name, running statistics among them)."""
    graph = _Graph(fold_batch_norms(weights))
    x = INPUT
    if metadata.normalises:
        factor = 1 / np.array(metadata.std, np.float32)[:, None, None]
        shift = np.array(metadata.mean, np.float32)[:, None, None] * factor
        x = graph.add("Mul", [x, graph.constant("factor", factor)], "scaled")
        x = graph.add("Sub", [x, graph.constant("shift", shift)], "normalised")
    outputs = 1 if metadata.classes == 2 else metadata.classes
    is_last = model.passes == 1
    wanted = metadata.output
    y = _one_pass(graph, x, model, "", outputs, wanted if is_last else "draft_logits")
    if not is_last or wanted == "probability":
        y = _probabilities(graph, y, outputs, wanted if is_last else "draft")
    if not is_last:
        x = graph.add("Concat", [x, y], "image_and_draft", axis=1)
        y = _one_pass(graph, x, model, "refine.", outputs, wanted)
        if wanted == "probability":
            y = _probabilities(graph, y, outputs, wanted)
    if metadata.has_mask:
        _add_mask(graph, y, metadata)
    return graph.to_model(metadata, outputs)


def layer_names(model: ModelConfig) -> list[str]:
    """Of all convolutions, in the order of the graph, which ``compact.shorten`` keeps: whose layer
    a node of a file is."""
    return [
        f"{prefix}{name}"
        for prefix in ("", "refine.")[: model.passes]
        for name in _one_pass_of(model)
    ]


def _one_pass_of(model: ModelConfig) -> list[str]:
    blocks = [f"encoder.{level}" for level in range(model.depth + 1)]
    up = "" if model.upsample == "transpose" else ".conv"
    names = ["stem"] if model.stride > 1 else []
    names += [f"{block}.body.{number}" for block in blocks for number in (0, 3)]
    for level in range(model.depth - 1, -1, -1):
        gated = ["attention"] if model.attention == "gate" else []
        names.append(f"upsampling.{level}{up}")
        names += [f"{p}.{level}.body.{number}" for p in [*gated, "decoder"] for number in (0, 3)]
    return [*names, "head"]


class _Graph:
    """Nodes and constants so far."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """A node of one output, which is called as the node is."""
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def integers(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))

    def to_model(self, metadata: Metadata, outputs: int) -> onnx.ModelProto:
        batch, height, width = INPUT_AXES
        image = helper.make_tensor_value_info(
            INPUT, TensorProto.FLOAT, [batch, metadata.in_channels, height, width]
        )
        first = helper.make_tensor_value_info(
            metadata.output, TensorProto.FLOAT, [batch, outputs, height, width]
        )
        mask = helper.make_tensor_value_info(MASK, TensorProto.UINT8, [batch, height, width])
        graph = helper.make_graph(
            self._nodes,
            "unet",
            [image],
            [first, mask] if metadata.has_mask else [first],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            producer_name="unet_dist",
            ir_version=IR_VERSIONS[metadata.opset],
            opset_imports=[helper.make_opsetid("", metadata.opset)],
        )
        helper.set_model_props(model, metadata.to_props())
        return model


def _one_pass(
    graph: _Graph, x: str, model: ModelConfig, prefix: str, outputs: int, logits: str
) -> str:
    """As ``UNet._one_pass``; ``logits`` names the result unless it becomes a probability."""
    size = graph.add("Shape", [x], f"{prefix}shape")
    limits = [graph.integers("2", 2), graph.integers("4", 4)]
    size = graph.add("Slice", [size, *limits], f"{prefix}size")
    x = _padded(graph, x, size, model.stride * 2**model.depth, prefix)
    if model.stride > 1:
        x = _conv(graph, x, f"{prefix}stem", strides=[model.stride] * 2)
    skips = []
    for level in range(model.depth):
        x = _block(graph, x, f"{prefix}encoder.{level}.body", model.norm)
        skips.append(x)
        name = f"{prefix}pool.{level}"
        x = graph.add("MaxPool", [x], name, kernel_shape=[2, 2], strides=[2, 2])
    x = _block(graph, x, f"{prefix}encoder.{model.depth}.body", model.norm)
    for level in range(model.depth - 1, -1, -1):
        up = _upsampled(graph, x, f"{prefix}upsampling.{level}", model.upsample)
        skip = skips[level]
        if model.attention == "gate":
            skip = _gated(graph, skip, up, f"{prefix}attention.{level}", model.norm)
        x = graph.add("Concat", [skip, up], f"{prefix}concat.{level}", axis=1)
        x = _block(graph, x, f"{prefix}decoder.{level}.body", model.norm)
    head = f"{prefix}head"
    x = _conv(graph, x, head) if model.stride == 1 else _transposed(graph, x, head, model.stride)
    starts, axes = graph.integers("0_0", 0, 0), graph.integers("2_3", 2, 3)
    cropped = logits if logits == "logits" else f"{prefix}cropped"
    return graph.add("Slice", [x, starts, size, axes], cropped)


def _padded(graph: _Graph, x: str, size: str, multiple: int, prefix: str) -> str:
    """The last row and column repeated up to a multiple: size * (multiple - 1) is equal to -size,
    modulo the multiple."""
    modulus = graph.integers("multiple", multiple)
    less_one = graph.integers("multiple-1", multiple - 1)
    negative = graph.add("Mul", [size, less_one], f"{prefix}negative_size")
    missing = graph.add("Mod", [negative, modulus], f"{prefix}missing")
    zeros = graph.integers("0x6", *[0] * 6)
    pads = graph.add("Concat", [zeros, missing], f"{prefix}pads", axis=0)
    return graph.add("Pad", [x, pads], f"{prefix}padded", mode="edge")


def _block(graph: _Graph, x: str, name: str, norm: str) -> str:
    """Two times convolution, norm, ReLU: numbers 0, 1, 2 and 3, 4, 5 of the sequence."""
    for number in (0, 3):
        x = _conv_norm_relu(graph, x, name, number, norm)
    return x


def _conv_norm_relu(graph: _Graph, x: str, name: str, number: int, norm: str) -> str:
    x = _conv(graph, x, f"{name}.{number}")
    if norm in ("group", "instance"):
        x = _group_norm(graph, x, f"{name}.{number + 1}", each_channel=norm == "instance")
    return graph.add("Relu", [x], f"{name}.{number + 2}")


def _gated(graph: _Graph, skip: str, up: str, name: str, norm: str) -> str:
    """As ``AttentionGate``."""
    x = graph.add("Concat", [skip, up], f"{name}.joined", axis=1)
    x = _conv_norm_relu(graph, x, f"{name}.body", 0, norm)
    x = graph.add("Sigmoid", [_conv(graph, x, f"{name}.body.3")], f"{name}.body.4")
    return graph.add("Mul", [skip, x], name)


def _conv(graph: _Graph, x: str, name: str, *, strides: list[int] | None = None) -> str:
    weight, bias = graph.weights[f"{name}.weight"], graph.weights.get(f"{name}.bias")
    inputs = [x, graph.constant(f"{name}.weight", weight)]
    if bias is not None:
        inputs.append(graph.constant(f"{name}.bias", bias))
    attributes: dict[str, Any] = {}
    if strides is not None:
        attributes["strides"] = strides
    elif (side := weight.shape[2] // 2) > 0:
        attributes["pads"] = [side] * 4
    return graph.add("Conv", inputs, name, **attributes)


def _transposed(graph: _Graph, x: str, name: str, factor: int) -> str:
    parameters = [
        graph.constant(f"{name}.{part}", graph.weights[f"{name}.{part}"])
        for part in ("weight", "bias")
    ]
    return graph.add("ConvTranspose", [x, *parameters], name, strides=[factor] * 2)


def _upsampled(graph: _Graph, x: str, name: str, kind: str) -> str:
    if kind == "transpose":
        return _transposed(graph, x, name, 2)
    scales = graph.constant("twice", np.array([1, 1, 2, 2], np.float32))
    x = graph.add(
        "Resize",
        [x, "", scales],
        f"{name}.resize",
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return _conv(graph, x, f"{name}.conv")


def _group_norm(graph: _Graph, x: str, name: str, *, each_channel: bool) -> str:
    """ONNX has an operator for groups from opset 18 on only: instance norm of what is reshaped to
    one channel a group."""
    gamma, beta = (graph.weights[f"{name}.{part}"] for part in ("gamma", "beta"))
    if each_channel:
        scale, shift = (
            graph.constant(f"{name}.{part}", graph.weights[f"{name}.{part}"])
            for part in ("gamma", "beta")
        )
        return graph.add("InstanceNormalization", [x, scale, shift], name, epsilon=EPSILON)
    groups = groups_of(len(gamma))
    shape = graph.add("Shape", [x], f"{name}.shape")
    grouped = graph.integers(f"0_{groups}_-1", 0, groups, -1)
    y = graph.add("Reshape", [x, grouped], f"{name}.grouped")
    ones = graph.constant(f"ones.{groups}", np.ones(groups, np.float32))
    zeros = graph.constant(f"zeros.{groups}", np.zeros(groups, np.float32))
    normed = f"{name}.normed"
    y = graph.add("InstanceNormalization", [y, ones, zeros], normed, epsilon=EPSILON)
    y = graph.add("Reshape", [y, shape], f"{name}.ungrouped")
    y = graph.add("Mul", [y, graph.constant(f"{name}.gamma", gamma[:, None, None])], f"{name}.mul")
    return graph.add("Add", [y, graph.constant(f"{name}.beta", beta[:, None, None])], name)


def _probabilities(graph: _Graph, logits: str, outputs: int, name: str) -> str:
    if outputs == 1:
        return graph.add("Sigmoid", [logits], name)
    return graph.add("Softmax", [logits], name, axis=1)


def _add_mask(graph: _Graph, y: str, metadata: Metadata) -> None:
    """As ``hard_prediction``; logits are as good as probabilities but for the threshold."""
    if metadata.threshold is None:
        hard = graph.add("ArgMax", [y], "hard", axis=1, keepdims=0)
    else:
        threshold = metadata.threshold
        if metadata.output == "logits":
            threshold = float(np.log(threshold / (1 - threshold)))
        value = graph.constant("threshold", np.array(threshold, np.float32))
        over = graph.add("GreaterOrEqual", [y, value], "over")
        hard = graph.add("Squeeze", [over, graph.integers("1", 1)], "hard")
    graph.add("Cast", [hard], MASK, to=TensorProto.UINT8)
