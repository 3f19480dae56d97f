"""Reads model files that anybody may have made: of bounded size, and complete in themselves.

An ONNX file can name other files that hold its weights, by any path, and functions that call
functions, which grow without limit when they are written out: neither is read, nor are graphs
inside of nodes, in which such calls could stand.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unet_dist.config import EvaluateConfig
from unet_dist.errors import UserError
from unet_dist.files import read_bytes

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message

MOST_ONNX_BYTES = 1_000_000_000
"""Protobuf reads less than 2**31."""
MOST_NODES = 100_000
"""With functions written out; a U-Net has some hundreds."""
MOST_TILE_VALUES = 1 << 28
"""Of a batch of tiles, which is 1 GB; metadata tell how large they are."""
PREDICTS = ("data", "model", "evaluate")
"""Parts of a configuration that a prediction depends on (``source.prediction_settings``)."""
OF_A_MACHINE = ("root", "images", "masks", "mask_suffix", "split", "cache_mb")
"""Keys of ``data`` that do not go with a model: paths, and what was trained on."""


def read_onnx(path: Path) -> "onnx.ModelProto":
    """
    Raises:
        UserError: as ``read_bytes``; it is no ONNX model, or not one that is complete in itself.
    """
    return _read(path)[1]


def read_onnx_bytes(path: Path) -> bytes:
    """The same file as it is, for a runtime, which would follow its paths."""
    return _read(path)[0]


def _read(path: Path) -> "tuple[bytes, onnx.ModelProto]":
    # Here, since it takes time, and only those who deploy have it.
    import onnx
    from google.protobuf.message import DecodeError

    content = read_bytes(path, most=MOST_ONNX_BYTES)
    try:
        model = onnx.load_from_string(content)
    except (DecodeError, UnicodeDecodeError) as error:
        # The latter by protobuf's own Python, which MindSpore switches to.
        raise UserError(str(path), "is no ONNX model, or cut off") from error
    if faults := _faults(model):
        raise UserError(str(path), faults)
    return content, model


def _faults(model: "onnx.ModelProto") -> list[str]:
    faults = []
    if not model.graph.input or not model.graph.output:
        faults.append("has no input or no output: it is no network")
    if outside := sorted(set(_locations(model))):
        faults.append(
            f"keeps weights in other files ({', '.join(outside[:3])}), which are not read: "
            "unet-dist export writes one file"
        )
    nodes_inside = [node for one in model.functions for node in one.node]
    every = [*model.graph.node, *nodes_inside]
    if nested := sorted({node.op_type for node in every if _has_graphs(node)}):
        faults.append(f"has graphs inside of nodes ({', '.join(nested)[:60]}), which are not read")
    calls = {(one.domain, one.name): len(one.node) for one in model.functions}
    if any((node.domain, node.op_type) in calls for node in nodes_inside):
        faults.append("has functions that call functions, which are not read")
    nodes = sum(calls.get((node.domain, node.op_type), 1) for node in model.graph.node)
    if nodes > MOST_NODES:
        faults.append(f"has {nodes:,} nodes, more than {MOST_NODES:,}")
    return faults


def _has_graphs(node: "onnx.NodeProto") -> bool:
    return any(one.HasField("g") or len(one.graphs) > 0 for one in node.attribute)


def _locations(message: "Message") -> Iterator[str]:
    """Of tensors outside of the file, wherever they stand in it."""
    import onnx
    from google.protobuf.message import Message

    if isinstance(message, onnx.TensorProto):
        if message.external_data or message.data_location == onnx.TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in message.external_data}
            yield f"{entries.get('location', '?'):.80}"
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _locations(part)


def config_faults(config: object, *, in_channels: int) -> list[str]:
    """What a model's metadata may not say of how it predicts; its keys and values are checked
    where it is read (``build_config``)."""
    if not isinstance(config, Mapping):
        return [f"its config is {config!r:.60}, no mapping"]
    faults = []
    if others := sorted(map(str, set(config) - set(PREDICTS))):
        faults.append(f"its config tells of {', '.join(others)}, but only of {', '.join(PREDICTS)}")
    data = _section(config, "data")
    if paths := [key for key in OF_A_MACHINE if key in data]:
        faults.append(f"its config tells data.{', data.'.join(paths)} of some machine")
    # As it will be read, with defaults, and with texts of numbers made numbers.
    with contextlib.suppress(ValidationError):  # which is told where it is read
        read = EvaluateConfig.model_validate(_section(config, "evaluate"))
        if in_channels * read.tile**2 * read.batch > MOST_TILE_VALUES:
            faults.append(
                f"its tiles of {read.tile} x {read.tile} pixels, {read.batch} at once, need more "
                f"than {MOST_TILE_VALUES * 4:,} bytes"
            )
    return faults


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}
