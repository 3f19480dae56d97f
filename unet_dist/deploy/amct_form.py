"""A quantised ONNX file in the form that AMCT adapts to Ascend cards.

"QAT Model Adaptation to CANN Format" (AMCT, atlasamct_16_0148 of CANN 8.0 and 8.5): pairs of
QuantizeLinear and DequantizeLinear of equal factors, before Conv, ConvTranspose, Gemm and MatMul
alone; weights per channel or per tensor (of Gemm and MatMul per tensor), activations per tensor;
float32 between. CPUs like other forms: integers in place of weights, pairs before pooling and
concatenation too.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PER_CHANNEL = ("Conv", "ConvTranspose")
DATA, WEIGHT = 0, 1
"""Inputs of a layer that may be quantised; biases are floats."""


class _Rewriting:
    """A copy of a model on its way."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.constants = {
            one.name: numpy_helper.to_array(one) for one in self.model.graph.initializer
        }
        self.producers = {name: node for node in model.graph.node for name in node.output}

    def dequantised(self, node: onnx.NodeProto) -> NDArray[np.float32]:
        """The floats of a constant that is stored as integers."""
        scale = self.constants[node.input[1]]
        zero = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale)
        whole = self.constants[node.input[0]].astype(np.float64)
        if scale.ndim:
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            shape = [-1 if index == axis else 1 for index in range(whole.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        floats: NDArray[np.float32] = ((whole - zero) * scale).astype(np.float32)
        return floats


def to_amct_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network: integer weights become floats behind a pair that gives the same integers
    again, biases become floats, and pairs that no such layer reads are taken out, so that more is
    computed in floats than before. Where such a pair cut off at 0, a ReLU takes its place:
    quantisers leave out the network's own before it."""
    work = _Rewriting(model)
    nodes: list[onnx.NodeProto] = []
    bypassed: dict[str, str] = {}
    """What a pair gives, and what is read in its place."""
    for node in work.model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in work.constants:
            _write_constant(work, node)
            if work.constants[node.input[0]].dtype != np.int32:
                nodes += _pair_of_weight(node)
        else:
            nodes.append(node)
            if (pair := _pair_of_activation(work, node)) is not None:
                into = bypassed.get(pair.input[0], pair.input[0])
                if _cuts_at_zero(work, pair):
                    nodes.append(helper.make_node("Relu", [into], [f"{node.output[0]}_relu"]))
                    into = f"{node.output[0]}_relu"
                bypassed[node.output[0]] = into
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in bypassed and not (node.op_type in LAYERS and index == DATA):
                node.input[index] = bypassed[name]
    outputs = {value.name for value in work.model.graph.output}
    for name in outputs & set(bypassed):
        nodes = [node for node in nodes if name not in node.output]
        nodes.append(helper.make_node("Identity", [bypassed[name]], [name]))
    del work.model.graph.node[:]
    work.model.graph.node.extend(_used(nodes, outputs))
    _drop_unused_constants(work.model)
    return work.model


def _write_constant(work: _Rewriting, node: onnx.NodeProto) -> None:
    """Of a weight under the integers' own name, of a bias under that of what it was made into."""
    is_bias = work.constants[node.input[0]].dtype == np.int32
    name = node.output[0] if is_bias else f"{node.input[0]}_float"
    work.model.graph.initializer.append(numpy_helper.from_array(work.dequantised(node), name))


def _pair_of_weight(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    quantised = f"{node.output[0]}_quantised"
    pair = helper.make_node(
        "QuantizeLinear", [f"{node.input[0]}_float", *node.input[1:]], [quantised]
    )
    pair.attribute.extend(node.attribute)
    after = onnx.NodeProto()
    after.CopyFrom(node)
    after.input[0] = quantised
    return [pair, after]


def _pair_of_activation(work: _Rewriting, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The QuantizeLinear before a DequantizeLinear, unless it quantises a constant."""
    before = work.producers.get(node.input[0]) if node.input else None
    if (
        node.op_type == "DequantizeLinear"
        and before is not None
        and before.op_type == "QuantizeLinear"
        and before.input[0] not in work.constants
    ):
        return before
    return None


def _cuts_at_zero(work: _Rewriting, pair: onnx.NodeProto) -> bool:
    """Whether 0 is the least that its integers can say, and ReLU did not see to it before."""
    before = work.producers.get(pair.input[0])
    if before is not None and before.op_type == "Relu":
        return False
    # Without a zero point they are uint8, and it is 0.
    zero = work.constants[pair.input[2]] if len(pair.input) > 2 else np.zeros((), np.uint8)
    return bool((zero == np.iinfo(zero.dtype).min).all())


def _used(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """In the same order, without what nobody reads."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def _drop_unused_constants(model: onnx.ModelProto) -> None:
    read = {name for node in model.graph.node for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def amct_faults(model: onnx.ModelProto) -> list[str]:
    """Where a quantised model contradicts the document."""
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    faults = []
    for layer, index, node in _read_pairs(model, producers):
        where = f"{layer.op_type} {layer.output[0]}, input {index}"
        before = producers.get(node.input[0])
        if before is None or before.op_type != "QuantizeLinear":
            faults.append(f"{where}: a DequantizeLinear without its QuantizeLinear")
            continue
        if layer.op_type not in LAYERS:
            faults.append(f"{where}: only {', '.join(LAYERS)} may read a quantised tensor")
        equal = all(
            np.array_equal(constants[one], constants[other])
            for one, other in zip(before.input[1:], node.input[1:], strict=True)
        )
        if not equal:
            faults.append(f"{where}: its pair has two scales or zero points")
        is_weight = before.input[0] in constants
        if constants[node.input[1]].size > 1 and not (is_weight and layer.op_type in PER_CHANNEL):
            what = "weight" if is_weight else "activation"
            faults.append(f"{where}: the {what} is quantised per channel, but may be per tensor")
    return faults


def _read_pairs(
    model: onnx.ModelProto, producers: dict[str, onnx.NodeProto]
) -> Iterator[tuple[onnx.NodeProto, int, onnx.NodeProto]]:
    """Each reading of a DequantizeLinear: who reads, by which input, what."""
    for layer in model.graph.node:
        for index, name in enumerate(layer.input):
            node = producers.get(name)
            if node is not None and node.op_type == "DequantizeLinear":
                yield layer, index, node
