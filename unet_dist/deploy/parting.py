"""The first layer where two ONNX files of one network part."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_dist.deploy.onnx_tensors import Layer, OnnxTensors

OPS = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "InstanceNormalization",
    "MaxPool",
    "Resize",
    "Concat",
    "Pad",
    "Sigmoid",
    "Softmax",
)
"""What a U-Net is made of. ReLU is not among them: quantisation merges it with what is before."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, kw_only=True)
class LayerDifference:
    """How far the two forms are apart after one layer."""

    op: str
    number: int
    """Among the layers of this operator, from 0 on."""
    name: str = ""
    """Of the network's convolution, as its weights are called; of another operator, of the last
    convolution before it. Empty if the file's layers are not those of its metadata."""
    tensor_a: str
    tensor_b: str
    difference: float
    """The largest, as a part of the largest value of A."""

    def __str__(self) -> str:
        tensors = f"tensor {self.tensor_a}, in B {self.tensor_b}"
        if not self.name:
            return f"{self.op} {self.number} ({tensors})"
        if self.op in WEIGHTED:
            return f"{self.name} ({self.op} {self.number}, {tensors})"
        return f"{self.op} {self.number} after {self.name} ({tensors})"


@dataclass(frozen=True, kw_only=True)
class Parting:
    layers: tuple[LayerDifference, ...]
    """That could be matched, in the order of A."""
    matched_by: str
    """names, or order."""

    def first_beyond(self, tolerance: float) -> LayerDifference | None:
        """Not a number counts as beyond."""
        return next((one for one in self.layers if not one.difference <= tolerance), None)


def find_parting(
    a: OnnxTensors,
    b: OnnxTensors,
    inputs: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    names: Sequence[str] = (),
) -> Parting:
    """Runs both on the same image, as each wants it normalised, and compares layer by layer.

    Args:
        names: of the network's convolutions, in the order of the graph.
    """
    layers_a, layers_b = a.layers(OPS), b.layers(OPS)
    name_of = _names_of(layers_a, names)
    pairs, matched_by = match_layers(layers_a, layers_b)
    if not pairs:
        return Parting(layers=(), matched_by=matched_by)
    values_a = a.run(inputs[0], [one.tensor for one, _ in pairs])
    values_b = b.run(inputs[1], [other.tensor for _, other in pairs])
    counts = Counter[str]()
    found = []
    for one, other in pairs:
        found.append(
            LayerDifference(
                op=one.op,
                number=counts[one.op],
                name=name_of.get(one.tensor, ""),
                tensor_a=one.tensor,
                tensor_b=other.tensor,
                difference=relative_difference(values_a[one.tensor], values_b[other.tensor]),
            )
        )
        counts[one.op] += 1
    return Parting(layers=tuple(found), matched_by=matched_by)


def _names_of(layers: Sequence[Layer], names: Sequence[str]) -> dict[str, str]:
    """By the tensors that the layers give: the name of each convolution, and of other layers that
    of the convolution before. None if there are more or fewer convolutions than names."""
    weighted = [layer for layer in layers if layer.op in WEIGHTED]
    if len(weighted) != len(names):
        return {}
    known = dict(zip((layer.tensor for layer in weighted), names, strict=True))
    found, last = dict[str, str](), ""
    for layer in layers:
        last = known.get(layer.tensor, last)
        found[layer.tensor] = last
    return found


def match_layers(a: Sequence[Layer], b: Sequence[Layer]) -> tuple[list[tuple[Layer, Layer]], str]:
    """Layers of both, in the order of A.

    By the names of their tensors, if every layer with weights has the same name and operator in
    both; chance makes single names equal, where names are short. Else the n-th layer of an
    operator belongs to the n-th, for operators of which both have as many.
    """
    by_name = {layer.tensor: layer for layer in b}
    shared = [(one, by_name[one.tensor]) for one in a if by_name.get(one.tensor) == one]
    weighted = [[layer for layer in layers if layer.op in WEIGHTED] for layers in (a, b)]
    if shared and weighted[0] == weighted[1] == [x for x, _ in shared if x.op in WEIGHTED]:
        return shared, "names"
    counts_a, counts_b = (Counter(layer.op for layer in layers) for layers in (a, b))
    of_op = {op: iter([layer for layer in b if layer.op == op]) for op in OPS}
    return [
        (layer, next(of_op[layer.op])) for layer in a if counts_a[layer.op] == counts_b[layer.op]
    ], "order"


def relative_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The largest difference, as a part of the largest value of A; infinite between shapes."""
    if a.shape != b.shape:
        return float("inf")
    largest = float(np.abs(a).max(initial=0.0))
    difference = float(np.abs(a - b).max(initial=0.0))
    if largest == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / largest
