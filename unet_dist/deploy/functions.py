"""The same small network in a smaller file: what its layers have in common is said once.

Of a network of 240,000 parameters in 8 bits 7 % would be nodes, scales and biases. As functions of
the ONNX file (from opset 15 on) a layer is one node, and its scales and biases are float16. ONNX
Runtime reads such a file as it is; for OpenVINO, ``inlined`` writes the functions out.

    before    DequantizeLinear(w, s) -> Conv(x, ., b) -> Relu -> QuantizeLinear -> DequantizeLinear
    after     C(x, w, s, b, scale, offset)
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "q"


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each layer of 8 bits as one node. Its scales must be numbers of float16 (``qdq.Layer``); its
    bias is rounded to one."""
    chains = _Chains(model)
    done = onnx.ModelProto()
    done.CopyFrom(model)
    del done.graph.node[:]
    halves: set[str] = set()
    replaced: dict[str, onnx.NodeProto] = {}
    dropped: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "MaxPool":
            replaced[node.output[0]] = _call("M", node.input, node.output[0])
        elif node.op_type in ("Conv", "ConvTranspose") and (chain := chains.of(node)):
            *inner, last = chain
            weight = inner[0]
            halves.update((weight.input[1], node.input[2]))
            names = [node.input[0], *weight.input, node.input[2], *chain[-2].input[1:]]
            replaced[last.output[0]] = _call(_letter(node), names, last.output[0])
            dropped.update(one.output[0] for one in inner)
    for first, second in chains.pairs():
        if second.output[0] not in replaced:
            replaced[second.output[0]] = _call("P", first.input, second.output[0])
            dropped.add(first.output[0])
    for node in model.graph.node:
        if node.output[0] in replaced:
            done.graph.node.append(replaced[node.output[0]])
        elif node.output[0] not in dropped:
            done.graph.node.append(node)
    _halve(done, halves)
    opsets = [one for one in model.opset_import if one.domain == ""]
    used = {node.op_type for node in replaced.values()}
    done.functions.extend(_function(letter, opsets) for letter in sorted(used))
    done.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return done


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """With functions written out, for programs that know none."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


class _Chains:
    """Which nodes follow each other and are of no other use."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def pairs(self) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
        """All of Q and DQ."""
        for node in self._makers.values():
            if node.op_type == "QuantizeLinear":
                (reader,) = self._readers[node.output[0]]
                yield node, reader

    def of(self, layer: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """DQ of the weights, the layer, its ReLU if it is no transposed one, Q, DQ; None where
        there is anything else."""
        weight = self._makers.get(layer.input[1])
        if weight is None or len(layer.input) < 3 or not _is_usual(layer):
            return None
        chain = [weight, layer]
        kinds = ["QuantizeLinear", "DequantizeLinear"]
        for kind in kinds if layer.op_type == "ConvTranspose" else ["Relu", *kinds]:
            readers = self._readers.get(chain[-1].output[0], [])
            if len(readers) != 1 or readers[0].op_type != kind:
                return None
            chain.append(readers[0])
        return chain


def _is_usual(layer: onnx.NodeProto) -> bool:
    """Whether it is of those that nearly all layers are of."""
    attributes = {one.name: list(one.ints) for one in layer.attribute}
    usual = {"strides": [2, 2]} if layer.op_type == "ConvTranspose" else {"pads": [1, 1, 1, 1]}
    return attributes == usual


def _letter(layer: onnx.NodeProto) -> str:
    return "T" if layer.op_type == "ConvTranspose" else "C"


def _call(letter: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
    node: onnx.NodeProto = helper.make_node(letter, inputs, [output], domain=DOMAIN)
    return node


def _halve(model: onnx.ModelProto, names: set[str]) -> None:
    for constant in model.graph.initializer:
        if constant.name in names:
            value = numpy_helper.to_array(constant).astype(np.float16)
            constant.CopyFrom(numpy_helper.from_array(value, constant.name))


def _function(letter: str, opsets: Sequence[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    if letter == "M":
        pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
        return helper.make_function(DOMAIN, letter, ["x"], ["y"], [pool], opsets)
    if letter == "P":
        return helper.make_function(DOMAIN, letter, ["x", "t", "o"], ["y"], _pair("x"), opsets)
    nodes = [
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["b"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("DequantizeLinear", ["w", "c"], ["v"], axis=int(letter == "T")),
    ]
    if letter == "T":
        nodes.append(helper.make_node("ConvTranspose", ["x", "v", "d"], ["e"], strides=[2, 2]))
        nodes += _pair("e")
    else:
        nodes.append(helper.make_node("Conv", ["x", "v", "d"], ["e"], pads=[1, 1, 1, 1]))
        nodes += [helper.make_node("Relu", ["e"], ["f"]), *_pair("f")]
    inputs = ["x", "w", "s", "b", "t", "o"]
    return helper.make_function(DOMAIN, letter, inputs, ["y"], nodes, opsets)


def _pair(tensor: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [tensor, "t", "o"], ["g"]),
        helper.make_node("DequantizeLinear", ["g", "t", "o"], ["y"]),
    ]
