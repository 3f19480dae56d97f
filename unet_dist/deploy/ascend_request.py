"""What a conversion for Ascend cards is asked for, as it stands on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet_dist.config_file import build_config
from unet_dist.deploy.aipp import Aipp
from unet_dist.deploy.model_file import Metadata
from unet_dist.errors import UserError

Shape = tuple[int, int, int, int]
"""Batch, channels, height, width; -1 where profiles give the size."""
Size = tuple[int, int]
"""Height, width."""
InputType = Literal["float32", "float16", "uint8"]
Tool = Literal["auto", "atc", "lite", "both"]
"""auto: atc, and MindSpore Lite where it supports the card and the request."""


@dataclass(frozen=True, kw_only=True)
class SourceModel:
    """A model file, and what must be known of it before any converter sees it."""

    path: Path
    sha256: str
    metadata: Metadata
    opset: int = 0
    """Of an ONNX file; 0 otherwise."""
    input_type: str = "float32"
    """Of the graph's input."""
    fixed_shape: Shape | None = None
    """Of a MindIR file, which is exported for one."""
    is_quantised: bool = False
    """Whether the graph holds QuantizeLinear."""
    amct_faults: tuple[str, ...] = ()
    """Why AMCT would refuse it, also in AMCT's form."""

    @property
    def kind(self) -> str:
        return self.path.suffix.lower()


@dataclass(frozen=True, kw_only=True)
class AscendRequest:
    """One conversion; ``violations`` tells what is wrong with it."""

    model: SourceModel
    soc: str
    cann: str
    shapes: tuple[Shape, ...]
    precisions: tuple[str, ...] = ()
    """Values of --precision_mode_v2, or of --precision_mode; empty: the vendor's default."""
    int8: bool = False
    dynamic_batch: tuple[int, ...] = ()
    dynamic_sizes: tuple[Size, ...] = ()
    input_type: InputType = "float32"
    """Of the images that the converted model gets."""
    aipp: bool = False
    own_aipp: Aipp | None = None
    """In place of the one that is made."""
    tool: Tool = "auto"


def parse_shape(text: str) -> Shape:
    """``1,3,256,256``; -1 for what profiles give."""
    numbers = _numbers(text)
    if len(numbers) != 4 or any(n < 1 and n != -1 for n in numbers):
        raise UserError(
            "--shape",
            f"is {text!r}, but must be N,C,H,W like 1,3,256,256, with -1 for a size that "
            "--dynamic-batch or --dynamic-size gives",
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def parse_batches(text: str) -> tuple[int, ...]:
    """``1,2,4``."""
    numbers = _numbers(text)
    if not numbers:
        raise UserError("--dynamic-batch", f"is {text!r}, but must be numbers like 1,2,4")
    return tuple(numbers)


def parse_sizes(text: str) -> tuple[Size, ...]:
    """``256,256;512,512``, heights first."""
    pairs = [_numbers(part) for part in text.split(";")]
    if any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise UserError("--dynamic-size", f"is {text!r}, but must be H,W;H,W like 256,256;512,512")
    return tuple((pair[0], pair[1]) for pair in pairs)


def default_shape(model: SourceModel, *, dynamic_batch: bool, dynamic_size: bool) -> Shape:
    """The tiles by which ``predict`` calls the network."""
    metadata = model.metadata
    evaluate = build_config(metadata.config, [], where=f"{model.path}: its config").evaluate
    batch = -1 if dynamic_batch else evaluate.batch
    side = -1 if dynamic_size else evaluate.tile
    return batch, metadata.in_channels, side, side


def _numbers(text: str) -> Sequence[int]:
    """Empty if one of them is none."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        return []
