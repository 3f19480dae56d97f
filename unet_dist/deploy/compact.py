"""Small files: short names, and constants without a header each.

What a file costs beside its weights matters for small networks: of one of 240,000 parameters in 8
bits, 7 % would be names, headers, scales and biases.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count, product
from string import ascii_letters, digits

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_LETTERS = ascii_letters + digits
LEAST = np.float32(2.0**-14)
"""The least positive scale: smaller ones lose digits in float16."""


def shorten(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with inner tensors called ``a``, ``b``, .., the most used by the shortest
    names, and nodes by none; inputs and outputs keep theirs."""
    short = onnx.ModelProto()
    short.CopyFrom(model)
    graph = short.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    uses = Counter[str]()
    for node in graph.node:
        uses.update(name for name in (*node.input, *node.output) if name and name not in kept)
    new = _names(kept)
    names = {name: next(new) for name, _ in uses.most_common()}
    for node in graph.node:
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for constant in graph.initializer:
        constant.name = names[constant.name]
    return short


def _names(taken: set[str]) -> Iterator[str]:
    for length in count(1):
        for letters in product(_LETTERS, repeat=length):
            name = "".join(letters)
            if name not in taken:
                yield name


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with what vectors of float32 it has (biases and scales of channels) rounded
    to float16, to be packed: what rounds the weights must know these scales already."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for constant in rounded.graph.initializer:
        if _is_packed(constant):
            value = numpy_helper.to_array(constant).astype(np.float16).astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(value, constant.name))
    return rounded


def pack(model: onnx.ModelProto) -> onnx.ModelProto:
    """All vectors of float32 as one constant of float16, which a Cast and a Split divide again.
    Runtimes do that once, when they load the file."""
    packed = onnx.ModelProto()
    packed.CopyFrom(model)
    vectors = [one for one in model.graph.initializer if _is_packed(one)]
    if len(vectors) < 2:
        return packed
    others = [one for one in model.graph.initializer if not _is_packed(one)]
    whole = np.concatenate([numpy_helper.to_array(one) for one in vectors])
    # As varints: a byte each, where raw ones would take 8.
    sizes = [one.dims[0] for one in vectors]
    lengths = helper.make_tensor("packed.sizes", TensorProto.INT64, [len(sizes)], sizes)
    del packed.graph.initializer[:]
    packed.graph.initializer.extend(others)
    packed.graph.initializer.append(numpy_helper.from_array(whole.astype(np.float16), "packed"))
    packed.graph.initializer.append(lengths)
    nodes = [
        helper.make_node("Cast", ["packed"], ["unpacked"], to=TensorProto.FLOAT),
        helper.make_node("Split", ["unpacked", "packed.sizes"], [one.name for one in vectors]),
        *packed.graph.node,
    ]
    del packed.graph.node[:]
    packed.graph.node.extend(nodes)
    return packed


def _is_packed(constant: onnx.TensorProto) -> bool:
    return constant.data_type == TensorProto.FLOAT and len(constant.dims) == 1
