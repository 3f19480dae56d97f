"""From the texts of a command line to a request; every text that cannot be read is told at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from unet_dist.deploy.aipp import parse_aipp
from unet_dist.deploy.ascend_cards import card_faults
from unet_dist.deploy.ascend_request import (
    AscendRequest,
    InputType,
    Tool,
    default_shape,
    parse_batches,
    parse_shape,
    parse_sizes,
)
from unet_dist.deploy.ascend_rules import violations
from unet_dist.deploy.ascend_source import read_source
from unet_dist.errors import UserError, one_of
from unet_dist.files import read_bytes

MOST_AIPP_BYTES = 100_000
Value = TypeVar("Value")


def read_request(
    model: Path,
    *,
    soc: str,
    cann: str,
    shapes: Sequence[str],
    precisions: Sequence[str],
    int8: bool,
    dynamic_batch: str,
    dynamic_size: str,
    aipp: bool,
    aipp_config: Path | None,
    input_type: str,
    tool: str,
) -> AscendRequest:
    """
    Raises:
        UserError: with all options that cannot be read, what is wrong with the model, and every
            rule that is broken whatever those options were meant to be.
    """
    faults: list[str] = []
    read_tool = _tried(faults, lambda: one_of("--tool", tool, get_args(Tool)))
    read_type = _tried(faults, lambda: one_of("--input", input_type, ("", *get_args(InputType))))
    source = _tried(faults, lambda: read_source(model, int8=int8))
    batches = _tried(faults, lambda: parse_batches(dynamic_batch) if dynamic_batch else ())
    sizes = _tried(faults, lambda: parse_sizes(dynamic_size) if dynamic_size else ())
    read = [_tried(faults, lambda text=text: parse_shape(text)) for text in shapes]  # type: ignore[misc]
    own = _tried(faults, lambda: _own_aipp(aipp_config))
    if source is None:
        raise UserError("deploy commands", [*faults, *card_faults(soc, cann)])
    usual = default_shape(source, dynamic_batch=bool(batches), dynamic_size=bool(sizes))
    takes_aipp = aipp or aipp_config is not None
    request = AscendRequest(
        model=source,
        soc=soc,
        cann=cann,
        shapes=tuple(shape for shape in read if shape is not None) or (usual,),
        precisions=tuple(precisions),
        int8=int8,
        dynamic_batch=batches or (),
        dynamic_sizes=sizes or (),
        input_type=read_type or ("uint8" if takes_aipp else "float32"),  # type: ignore[arg-type]
        aipp=takes_aipp,
        own_aipp=own,
        tool=read_tool or "auto",  # type: ignore[arg-type]  # checked by one_of
    )
    if faults:
        # Without shapes, which may belong to profiles that could not be read.
        raise UserError("deploy commands", [*faults, *violations(replace(request, shapes=()))])
    return request


def _own_aipp(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        text = read_bytes(path, most=MOST_AIPP_BYTES).decode()
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"cannot be read: {error}") from error
    return parse_aipp(text, where=str(path))


def _tried(faults: list[str], read: Callable[[], Value]) -> Value | None:
    try:
        return read()
    except UserError as error:
        faults += [f"{error.where}: {fault}" for fault in error.faults]
        return None
