"""How large the files of a model of 8 bits are, and whether that can be known before a training."""

import math
from dataclasses import dataclass, replace
from typing import Self

import onnx
from onnx import helper

from unet_dist.deploy.export import onnx_bytes
from unet_dist.deploy.model_file import Metadata
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.parity import Refused
from unet_dist.deploy.ptq import Options, file_of
from unet_dist.deploy.qdq import groups_of, layers_of, quantise
from unet_dist.deploy.ranges import LEVELS, Range
from unet_dist.deploy.source import Source

DIGITS = 64
"""Bytes by which texts of the metadata may differ, such as that of another threshold."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of the files of one model, in bytes."""

    float32: int
    plain: int
    """Of 8 bits in that layout; compact likewise."""
    compact: int
    """That of plain where the opset knows no functions."""
    written: int

    @classmethod
    def of(cls, model: onnx.ModelProto, *, float32: int, written: int) -> Self:
        return cls(
            float32=float32,
            plain=len(file_of(model, "plain", largest=0)),
            compact=len(file_of(model, "compact", largest=0)),
            written=written,
        )

    def remedies(self, options: Options) -> str:
        """Options by which the file would be within its limit."""
        # Rounded up, or the advice would be refused.
        found = [f"--max-size {math.ceil(1000 * self.written / self.float32) / 1000:g}"]
        if options.layout == "plain" and self.compact <= options.max_size * self.float32:
            found.append("--layout compact")
        return " or ".join(found)


def described(model: onnx.ModelProto, metadata: Metadata) -> onnx.ModelProto:
    """The model with these metadata, found valid."""
    done = onnx.ModelProto()
    done.CopyFrom(model)
    del done.metadata_props[:]
    helper.set_model_props(done, metadata.to_props())
    onnx.checker.check_model(done, full_check=True)
    return done


def check_size(source: Source, options: Options) -> None:
    """Before a training that would be for nothing: its weights change the file by few bytes.

    Raises:
        Refused: the file would be larger than it may be.
    """
    least, most = size_bounds(source, options)
    if least.written <= options.max_size * least.float32:
        return
    raise Refused(
        "refused before its training (--force trains and writes it): the file of 8 bits would be "
        f"{least.written / least.float32:.1%} of the float32 one ({least.written:,} of "
        f"{least.float32:,} bytes) or more, which is above --max-size {options.max_size:g}; "
        f"{most.remedies(options)} would do, if no layer must stay in float32"
    )


def size_bounds(source: Source, options: Options) -> tuple[Sizes, Sizes]:
    """The least and the most that the files can have, all layers being of 8 bits, whatever is
    learnt: tensors with the same offset share one constant."""
    model = build_model(source.weights, source.config.model, source.metadata)
    groups = groups_of(model, [layer.input for layer in layers_of(model)])
    origin = source.metadata.checkpoint_sha256
    metadata = replace(source.metadata, precision="int8", derived_from_sha256=origin)
    # Runs may lack it, as those do that were not evaluated.
    bare = replace(metadata, numbering=None)
    float32 = len(onnx_bytes(source))

    def sizes(offsets: list[int], told: Metadata, slack: int) -> Sizes:
        ranges = {
            tensor: Range(low=-offset, high=LEVELS - 1 - offset)
            for offset, group in zip(offsets, groups, strict=True)
            for tensor in group
        }
        small = described(quantise(model, ranges, activations="u8"), told)
        written = len(file_of(small, options.layout, largest=options.max_size * float32))
        found = Sizes.of(small, float32=float32, written=written)
        return replace(
            found,
            plain=found.plain + slack,
            compact=found.compact + slack,
            written=found.written + slack,
        )

    offsets = [number % LEVELS for number in range(len(groups))]
    return sizes([0] * len(groups), bare, -DIGITS), sizes(offsets, metadata, DIGITS)
