"""Short names, so that a small network's file is not mostly names."""

from collections import Counter
from collections.abc import Iterator
from itertools import count, product
from string import ascii_letters, digits

import onnx

_LETTERS = ascii_letters + digits


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
