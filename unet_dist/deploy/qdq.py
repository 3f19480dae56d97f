"""Weights and activations of 8 bits, told to runtimes by pairs of QuantizeLinear (Q) and
DequantizeLinear (DQ).

    before    ReLU ---------------> Concat ----------> Conv
                \\--> MaxPool -> Conv
    after     ReLU -> Q -> DQ ----> Concat -> Q -> DQ -> Conv
                            \\--> MaxPool -> Conv

Weights are int8, one scale for each output channel, without offset. An activation has one scale
and offset, which it shares with what pooling and resizing make of it, so that these need no
arithmetic; a concatenation shares those of its part that has negative values. Biases stay float32:
runtimes scale them themselves. An attention gate's convolutions are layers like all others; its
sigmoid and its product stay float32, of a skip that is rounded and to be rounded again.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unet_dist.deploy.ranges import Range

LAYERS = ("Conv", "ConvTranspose")
PASSING = ("MaxPool", "Concat", "Resize")
"""Operators that make no new values."""
GATING = ("Mul",)
"""Of gates; other products read nothing that is rounded."""

LEAST_SCALE = 2.0**-24
"""Of weights: float16's least number."""

Activations = Literal["u8", "s8"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution, by the name of its weights in the run."""

    name: str
    input: str
    """The tensor that it reads."""
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    output_axis: int
    """Of the weight's output channels."""
    stride: int
    """1 unless it is transposed."""

    @property
    def quantised(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """The weights in 8 bits, and the scale of each output channel."""
        others = tuple(axis for axis in range(4) if axis != self.output_axis)
        scale = _of_float16(np.abs(self.weight).max(axis=others) / 127)
        shaped = scale.reshape([-1 if axis == self.output_axis else 1 for axis in range(4)])
        whole = np.rint(self.weight / shaped)
        return np.clip(whole, -127, 127).astype(np.int8), scale

    def shift(self, channel_means: NDArray[np.float64]) -> NDArray[np.float32]:
        """By how much rounding the weights moves the mean of each output channel, away from
        borders (Nagel et al., arXiv:1906.04721, section 4.2).

        Args:
            channel_means: of the layer's input.
        """
        rounded, scale = self.quantised
        shape = [-1 if axis == self.output_axis else 1 for axis in range(4)]
        error = (rounded * scale.reshape(shape) - self.weight).sum(axis=(2, 3), dtype=np.float64)
        by_output = error if self.output_axis == 0 else error.T
        # Of a transposed kernel as large as its stride, each output pixel sees one weight.
        return np.asarray(by_output @ channel_means / self.stride**2, np.float32)


def _of_float16(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """The next larger numbers that float16 holds, as ``functions`` stores them."""
    near = np.maximum(scale, LEAST_SCALE).astype(np.float16)
    above = np.where(near < scale, np.nextafter(near, np.float16(np.inf)), near)
    return above.astype(np.float32)


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """In the order of the graph."""
    constants = {one.name: one for one in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type in LAYERS:
            is_transposed = node.op_type == "ConvTranspose"
            strides = next((a.ints[0] for a in node.attribute if a.name == "strides"), 1)
            bias = numpy_helper.to_array(constants[node.input[2]]) if node.input[2:] else None
            found.append(
                Layer(
                    name=node.name,
                    input=node.input[0],
                    weight=numpy_helper.to_array(constants[node.input[1]]),
                    bias=bias,
                    output_axis=1 if is_transposed else 0,
                    stride=strides if is_transposed else 1,
                )
            )
    return found


def groups_of(model: onnx.ModelProto, inputs: Sequence[str]) -> list[list[str]]:
    """The tensors that are to be of 8 bits so that these inputs of layers are, divided into groups
    of one scale."""
    makers = {name: node for node in model.graph.node for name in node.output}
    group_of: dict[str, list[str]] = {}

    def join(one: str, other: str) -> None:
        first, second = (group_of.setdefault(name, [name]) for name in (one, other))
        if first is not second:
            first.extend(second)
            group_of.update(dict.fromkeys(second, first))

    open_ends = list(dict.fromkeys(inputs))
    seen = set(open_ends)
    while open_ends:
        tensor = open_ends.pop()
        group_of.setdefault(tensor, [tensor])
        for source in _passed(makers.get(tensor)):
            group_of.setdefault(source, [source])
            if not _is_skip(makers.get(tensor), makers.get(source)):
                join(tensor, source)
            if source not in seen:
                seen.add(source)
                open_ends.append(source)
    distinct = {id(group): group for group in group_of.values()}
    return [sorted(group) for group in distinct.values()]


def joint_ranges(groups: Sequence[Sequence[str]], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Of each tensor that of its group: of those of its members whose range is known."""
    joint = {}
    for group in groups:
        known = [ranges[tensor] for tensor in group if tensor in ranges]
        joint.update(dict.fromkeys(group, reduce(Range.joined, known)))
    return joint


def has_signed_activations(model: onnx.ModelProto) -> bool:
    """Whether a tensor is rounded to 8 bits with a sign; functions must be written out."""
    types = {one.name: one.data_type for one in model.graph.initializer}
    return any(
        node.op_type == "QuantizeLinear"
        and len(node.input) > 2
        and types.get(node.input[2]) == TensorProto.INT8
        for node in model.graph.node
    )


def _is_skip(node: onnx.NodeProto | None, maker: onnx.NodeProto | None) -> bool:
    """Whether a concatenation reads what a ReLU made. Without negative values it has no offset, so
    that runtimes can let the cutting off at 0 do the ReLU's work; the other part has negative ones.
    """
    return (
        node is not None
        and node.op_type == "Concat"
        and maker is not None
        and (maker.op_type == "Relu")
    )


def _passed(node: onnx.NodeProto | None) -> list[str]:
    """What a passing operator hands on."""
    if node is None or node.op_type not in PASSING:
        return []
    return list(node.input) if node.op_type == "Concat" else [node.input[0]]


def quantise(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    activations: Activations,
    float_layers: Set[str] = frozenset(),
    corrections: Mapping[str, NDArray[np.float32]] | None = None,
) -> onnx.ModelProto:
    """
    Args:
        ranges: of every tensor that a layer reads or that is passed on to one.
        float_layers: that stay as they are.
        corrections: what to subtract from the biases of quantised layers.
    """
    layers = {one.name: one for one in layers_of(model) if one.name not in float_layers}
    groups = groups_of(model, [layer.input for layer in layers.values()])
    pairs = _Pairs(groups, ranges, activations)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        layer = layers.get(node.name)
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        if layer is not None:
            changed.input[0] = pairs.read(node.input[0])
            changed.input[1] = pairs.weight(layer, nodes)
        elif node.op_type in GATING or (
            node.op_type in PASSING and node.output[0] in pairs.members
        ):
            # Else the skip would be kept as floats too, and its ReLU in 8 bits have two readers.
            changed.input[:] = [pairs.read(name) for name in node.input]
        nodes.append(changed)
        for output in node.output:
            # Runtimes move a DQ beyond a MaxPool on their own.
            if output in pairs.members and node.op_type != "MaxPool":
                pairs.add(output, nodes)
    done = onnx.ModelProto()
    done.CopyFrom(model)
    del done.graph.node[:], done.graph.initializer[:]
    done.graph.node.extend(nodes)
    kept = {name for node in nodes for name in node.input}
    for constant in model.graph.initializer:
        if constant.name in kept:
            done.graph.initializer.append(constant)
    for name, layer in layers.items():
        if layer.bias is not None and corrections and name in corrections:
            _replace(done, f"{name}.bias", layer.bias - corrections[name])
    done.graph.initializer.extend(pairs.constants.values())
    return done


def _replace(model: onnx.ModelProto, name: str, value: NDArray[Any]) -> None:
    (constant,) = (one for one in model.graph.initializer if one.name == name)
    constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


class _Pairs:
    """Q and DQ nodes, and their constants."""

    def __init__(
        self, groups: Sequence[Sequence[str]], ranges: Mapping[str, Range], activations: Activations
    ) -> None:
        self.constants: dict[str, onnx.TensorProto] = {}
        self.members = {tensor for group in groups for tensor in group}
        self._split: set[str] = set()
        self._parameters: dict[str, list[str]] = {}
        dtype = np.uint8 if activations == "u8" else np.int8
        joint = joint_ranges(groups, ranges)
        for number, group in enumerate(groups):
            scale, offset = joint[group[0]].scale_and_offset(activations)
            names = [
                self._constant(f"scale.{number}", np.array(scale, np.float32)),
                self._constant(f"offset.{offset}", np.array(offset, dtype)),
            ]
            self._parameters.update(dict.fromkeys(group, names))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def read(self, tensor: str) -> str:
        """The name under which a quantised layer reads it."""
        return f"{tensor}.dq" if tensor in self._split else tensor

    def add(self, tensor: str, nodes: list[onnx.NodeProto]) -> None:
        self._split.add(tensor)
        small, wide, parameters = f"{tensor}.q", f"{tensor}.dq", self._parameters[tensor]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *parameters], [small], name=small))
        nodes.append(helper.make_node("DequantizeLinear", [small, *parameters], [wide], name=wide))

    def weight(self, layer: Layer, nodes: list[onnx.NodeProto]) -> str:
        rounded, scale = layer.quantised
        small, wide = f"{layer.name}.weight.q", f"{layer.name}.weight.dq"
        inputs = [self._constant(small, rounded), self._constant(f"{layer.name}.scale", scale)]
        # The axis is 1 unless told.
        axis = {} if layer.output_axis == 1 else {"axis": layer.output_axis}
        nodes.append(helper.make_node("DequantizeLinear", inputs, [wide], name=wide, **axis))
        return wide
