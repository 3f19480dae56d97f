"""A converted model on an Ascend card as a network like any other: images 0..1 in, probabilities
out, by pyACL (.om) or MindSpore Lite (.mindir).

Tested with stand-ins for ``acl`` and ``mindspore_lite``; it has not run on hardware.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unet_dist.deploy.ascend_commands import Converted, description_of
from unet_dist.deploy.model_file import Metadata, ModelFile
from unet_dist.deploy.runtime import DeployedNetwork
from unet_dist.errors import UserError
from unet_dist.runs import read_json

CONVERTED = (".om", ".mindir")
"""By atc, by converter_lite."""
MOST_BYTES = 1_000_000
"""Of a description."""


class Executor(Protocol):
    """What runs the converted file."""

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The first output of one batch, whose shape is one of those the file was made for.

        Args:
            batch: as the file takes it, contiguous.
        """


class CardSession:
    """A converted file, called with any number of images (``runtime.Session``)."""

    def __init__(self, executor: Executor, converted: Converted) -> None:
        self._executor = executor
        self._converted = converted

    def run(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first output of images as the model wants them; with AIPP, of images 0..1.

        Raises:
            UserError: the file was made for images of another size.
        """
        self._check_size(x_nchw.shape[2], x_nchw.shape[3])
        outputs, start = [], 0
        while start < len(x_nchw):
            size = self._batch_for(len(x_nchw) - start)
            part_nchw = x_nchw[start : start + size]
            filled_nchw = np.zeros((size, *x_nchw.shape[1:]), np.float32)
            filled_nchw[: len(part_nchw)] = part_nchw
            y_nkhw = self._executor.run(self._sent(filled_nchw))
            outputs.append(y_nkhw[: len(part_nchw)].astype(np.float32))
            start += size
        return np.concatenate(outputs)

    def _sent(self, x_nchw: NDArray[np.float32]) -> NDArray[Any]:
        """As the file takes it: with AIPP grey levels, of RGB888_U8 pixel by pixel ("RGB package",
        restrictions of the "Configuration File Template")."""
        if not self._converted.aipp:
            return np.ascontiguousarray(x_nchw, np.dtype(self._converted.input_type))
        levels_nchw = np.rint(np.clip(x_nchw, 0, 1) * 255).astype(np.uint8)
        if levels_nchw.shape[1] == 1:
            return levels_nchw
        return np.ascontiguousarray(levels_nchw.transpose(0, 2, 3, 1))

    def _batch_for(self, wanted: int) -> int:
        """The smallest batch that holds all that is left, else the largest there is."""
        sizes = self._converted.dynamic_batch or (self._converted.shape[0],)
        return min((size for size in sizes if size >= wanted), default=max(sizes))

    def _check_size(self, height: int, width: int) -> None:
        allowed = self._converted.dynamic_sizes or (self._converted.shape[2:],)
        if (height, width) not in allowed:
            sizes = " or ".join(f"{h} x {w}" for h, w in allowed)
            raise UserError(
                self._converted.file,
                f"takes images of {sizes} (height x width), not {height} x {width}: convert it "
                "for the --shape of evaluate.tile",
            )


def read_converted(path: Path) -> tuple[Converted, Metadata]:
    """What ``deploy commands`` wrote of a converted file.

    Raises:
        UserError: it wrote nothing of it.
    """
    description = path.with_name(description_of(path.name))
    exported = ModelFile(path.parent)
    if not description.is_file() and path == exported.mindir:
        raise UserError(
            str(path),
            "is the MindIR file of unet-dist export, which MindSpore and converter_lite read, and "
            f"is not predicted with here: take {exported.onnx} (unet-dist export RUN --to onnx), "
            "or, on a card, what the commands of unet-dist deploy commands make of it",
        )
    if not description.is_file():
        raise UserError(
            str(path),
            f"there is no {description.name} beside it: it must stay where deploy commands made "
            "it, under its own name",
        )
    tree = read_json(description, max_bytes=MOST_BYTES)
    try:
        converted = Converted.of_json(tree["converted"])
        metadata = Metadata.of_json(tree["metadata"], where=str(description))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(str(description), f"is not understood: {error!r}") from error
    if converted.file != path.name:
        raise UserError(
            str(path),
            f"{description.name} tells of {converted.file}: names tell conversions apart, so "
            "rename neither",
        )
    return converted, metadata


@contextmanager
def open_card_network(path: Path, *, device: int) -> Iterator[DeployedNetwork]:
    """
    Raises:
        UserError: the runtime is not installed here, or the file unknown.
    """
    from unet_dist.deploy.card_executors import open_acl, open_lite

    if not path.is_file():
        raise UserError(str(path), "there is no such file: run the commands that make it")
    converted, metadata = read_converted(path)
    opened = open_acl if path.suffix == ".om" else open_lite
    with opened(path, converted, device=device) as executor:
        # AIPP normalises on the card.
        seen = replace(metadata, normalises=True) if converted.aipp else metadata
        yield DeployedNetwork(CardSession(executor, converted), seen)
