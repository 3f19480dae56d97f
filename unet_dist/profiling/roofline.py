"""Whether memory or arithmetic bounds kernels: the roofline of Williams et al. (CACM 2009).

A kernel takes at least ``flop / peak`` and at least ``bytes / bandwidth``: the longer bounds it.
Both are counted from the shapes that the profiler writes: each tensor is moved once, and padding of
the device's own layouts counts, since it is moved and multiplied too.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_dist.profiling.tables import Kernels

SIGNATURE = ("Input Shapes", "Input Data Types", "Input Formats",
             "Output Shapes", "Output Data Types", "Output Formats")  # fmt: skip
"""Columns that ``Kernels.signature`` holds, in this order, separated by ``|``."""
BYTES: Mapping[str, int] = {
    "double": 8, "int64": 8, "uint64": 8, "float": 4, "float32": 4, "hf32": 4, "int32": 4,
    "uint32": 4, "float16": 2, "bf16": 2, "bfloat16": 2, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1,
}  # fmt: skip
CONVOLUTION = re.compile(r"Conv[23]D", re.IGNORECASE)
MATRIX_PRODUCT = re.compile(r"MatMul|Gemm", re.IGNORECASE)
CHANNELS: Mapping[str, tuple[int, ...]] = {
    "NCHW": (1,), "NHWC": (3,), "NC1HWC0": (1, 4), "NCDHW": (1,), "NDHWC": (4,),
    "NDC1HWC0": (2, 5),
}  # fmt: skip
"""Dimensions that are no place in an image, by layout."""


@dataclass(frozen=True, kw_only=True)
class Chip:
    """Nominal peaks, which measured ones do not reach: they tell what bounds a kernel."""

    name: str
    cube_flops: float
    """A second, of float16 and bfloat16."""
    cube_float32: float
    """Of that, in float32."""
    vector_flops: float
    """A second, of float16; half of it in float32."""
    bytes_per_s: float


CHIPS: Mapping[str, Chip] = {
    # 32 cores x 1 GHz x (16^3 multiply-adds; 128 of the vector unit), HBM of 1.2 TB/s: Liao et al.,
    # Hot Chips 31 (2019) and HPCA 2021. Its cube unit has no float32: CANN converts to float16.
    "910A": Chip(
        name="910A", cube_flops=256e12, cube_float32=1.0, vector_flops=8.2e12, bytes_per_s=1.2e12
    ),
    # 910B3 as in the data sheet of Atlas 800T A2: 313 TFLOPS of float16, 75 of float32, 64 GB of
    # 1.6 TB/s. Its 40 vector cores are counted with 128 multiply-adds a cycle at 1.9 GHz.
    "910B": Chip(
        name="910B", cube_flops=313e12, cube_float32=0.24, vector_flops=19e12, bytes_per_s=1.6e12
    ),
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of one kernel."""

    flop: float
    moved_bytes: float
    cube: bool
    """Whether the cube unit does it, or the vector unit."""
    float32: bool

    def seconds(self, chip: Chip) -> tuple[float, float]:
        """That arithmetic and memory take at the least."""
        if self.cube:
            peak = chip.cube_flops * (chip.cube_float32 if self.float32 else 1)
        else:
            peak = chip.vector_flops / (2 if self.float32 else 1)
        return self.flop / peak, self.moved_bytes / chip.bytes_per_s


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    shape: tuple[int, ...]
    dtype: str
    layout: str

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    @property
    def pixels(self) -> int:
        """Places over all images, whatever the number of channels."""
        usual = "NC1HWC0" if len(self.shape) == 5 else "NCHW"
        layout = self.layout if len(self.layout) >= len(self.shape) else usual
        channels = CHANNELS.get(layout, CHANNELS[usual])
        return math.prod(size for place, size in enumerate(self.shape) if place not in channels)


def work_of(kind: str, signature: str) -> Work | None:
    """None if the shapes or number formats are not known."""
    columns = [column.split(";") for column in signature.split("|")]
    if len(columns) != len(SIGNATURE):
        return None
    try:
        inputs, outputs = _tensors(*columns[:3]), _tensors(*columns[3:])
        moved = sum(t.values * BYTES[t.dtype] for t in (*inputs, *outputs))
    except (ValueError, KeyError):
        return None
    if not inputs or not outputs:
        return None
    cube = True
    if CONVOLUTION.search(kind):
        flop = _convolution(kind, inputs, outputs)
    elif MATRIX_PRODUCT.search(kind):
        flop = _product(inputs, outputs)
    else:
        # One operation for each value is the least; such kernels are bound by memory all the same.
        flop, cube = float(max(t.values for t in (*inputs, *outputs))), False
    if math.isnan(flop):
        return None
    single = BYTES[max(inputs, key=lambda tensor: tensor.values).dtype] == 4
    return Work(flop=flop, moved_bytes=float(moved), cube=cube, float32=single)


def _tensors(shapes: Sequence[str], dtypes: Sequence[str], layouts: Sequence[str]) -> list[_Tensor]:
    """Those with values: a missing optional input has no shape, nor has a scalar."""
    found = []
    for place, text in enumerate(shapes):
        shape = tuple(int(size) for size in text.strip("() ").split(",") if size.strip())
        if not shape or not all(shape):
            continue
        dtype = dtypes[place] if place < len(dtypes) else ""
        layout = layouts[place] if place < len(layouts) else ""
        found.append(
            _Tensor(shape=shape, dtype=dtype.strip().lower().removeprefix("dt_"), layout=layout)
        )
    return found


def _convolution(kind: str, inputs: Sequence[_Tensor], outputs: Sequence[_Tensor]) -> float:
    """Each weight meets each place of the smaller side once: of the output, or of the gradient of
    the output, or of the input of a transposed convolution. Of a weight's layout only its size
    counts, so packed ones need no care."""
    large = [tensor for tensor in inputs if len(tensor.shape) >= 4]
    if re.search(r"Backprop_?Filter", kind, re.IGNORECASE):
        return 2.0 * outputs[0].values * large[-1].pixels if large else math.nan
    if len(large) < 2:
        return math.nan
    if re.search(r"Backprop_?Input", kind, re.IGNORECASE):  # filter, gradient
        return 2.0 * large[0].values * large[1].pixels
    if re.search(r"Transpose", kind, re.IGNORECASE):  # input, filter
        return 2.0 * large[1].values * large[0].pixels
    return 2.0 * large[1].values * outputs[0].pixels


def _product(inputs: Sequence[_Tensor], outputs: Sequence[_Tensor]) -> float:
    """``[.., m, k] x [.., k, n]``, however each is transposed: the product of the three sizes is
    ``b^3 (m k n)^2``."""
    if len(inputs) < 2:
        return math.nan
    out = outputs[0]
    inner = 4 if "NZ" in out.layout else 2
    batch = math.prod(out.shape[:-inner])
    product = inputs[0].values * inputs[1].values * out.values
    return 2.0 * math.sqrt(product / batch)


@dataclass(frozen=True, kw_only=True, eq=False)
class LeastSeconds:
    """Flop, bytes, and the seconds that each take at the least, of kernels."""

    table: NDArray[np.float64]
    """A row for each kind of work, NaN where shapes are not known."""
    row: NDArray[np.intp]
    """Of each kernel."""

    def of(self, kernels: NDArray[np.intp]) -> NDArray[np.float64]:
        return self.table[self.row[kernels]]


def least_seconds(kernels: Kernels, chip: Chip) -> LeastSeconds:
    unknown = np.full((1, 4), math.nan)
    if kernels.signature is None or not len(kernels):
        row = np.broadcast_to(np.zeros((), np.intp), (len(kernels),))
        return LeastSeconds(table=unknown, row=row)
    # As one number: a million pairs are sorted faster so than by rows.
    pairs = kernels.type.astype(np.int64) * len(kernels.texts) + kernels.signature
    unique, places = np.unique(pairs, return_inverse=True)
    table = np.repeat(unknown, len(unique), axis=0)
    for number, pair in enumerate(unique.tolist()):
        kind, signature = divmod(pair, len(kernels.texts))
        work = work_of(kernels.texts[kind], kernels.texts[signature])
        if work is not None:
            table[number] = (work.flop, work.moved_bytes, *work.seconds(chip))
    return LeastSeconds(table=table, row=places)
