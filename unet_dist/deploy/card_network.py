"""A converted model on an Ascend card as a network like any other: images 0..1 in, probabilities
out, by pyACL (.om) or MindSpore Lite (.mindir).

Tested with stand-ins for ``acl`` and ``mindspore_lite``; it has not run on hardware.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unet_dist.deploy.ascend_commands import RECORD, Converted
from unet_dist.deploy.model_file import Metadata
from unet_dist.errors import UserError


class Executor(Protocol):
    """What runs the converted file."""

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The first output of one batch, whose shape is one of those the file was made for.

        Args:
            batch: as the file takes it, contiguous.
        """


class CardNetwork:
    """A converted file with all that is computed before and after it."""

    def __init__(self, executor: Executor, converted: Converted, metadata: Metadata) -> None:
        self._executor = executor
        self._converted = converted
        self._metadata = metadata

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities ``[N, K, H, W]`` of images 0..1, resized, not yet normalised.

        Raises:
            UserError: the file was made for images of another size.
        """
        self._check_size(image_nchw.shape[2], image_nchw.shape[3])
        outputs, start = [], 0
        while start < len(image_nchw):
            size = self._batch_for(len(image_nchw) - start)
            part_nchw = image_nchw[start : start + size]
            filled_nchw = np.zeros((size, *image_nchw.shape[1:]), np.float32)
            filled_nchw[: len(part_nchw)] = part_nchw
            batch = prepared(filled_nchw, self._metadata, self._converted)
            outputs.append(self._executor.run(batch)[: len(part_nchw)])
            start += size
        return probabilities(np.concatenate(outputs), self._metadata)

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


def prepared(
    image_nchw: NDArray[np.float32], metadata: Metadata, converted: Converted
) -> NDArray[Any]:
    """Images 0..1 as the file takes them: grey levels for AIPP, which reads RGB888_U8 pixel by
    pixel; else what ``Member.forward`` gives its network."""
    if converted.aipp:
        levels_nchw = np.rint(np.clip(image_nchw, 0, 1) * 255).astype(np.uint8)
        if metadata.in_channels == 1:
            return np.ascontiguousarray(levels_nchw)
        return np.ascontiguousarray(levels_nchw.transpose(0, 2, 3, 1))
    x_nchw = normalised(image_nchw, metadata)
    return np.ascontiguousarray(x_nchw, np.dtype(converted.input_type))


def normalised(image_nchw: NDArray[np.float32], metadata: Metadata) -> NDArray[np.float32]:
    """What the model's input is to be."""
    if metadata.normalises:
        return image_nchw
    factor_c11 = 1 / np.array(metadata.std, np.float32)[:, None, None]
    shift_c11 = np.array(metadata.mean, np.float32)[:, None, None] * factor_c11
    return image_nchw * factor_c11 - shift_c11


def probabilities(output_nkhw: NDArray[Any], metadata: Metadata) -> NDArray[np.float32]:
    """Of the model's first output, in float32."""
    y_nkhw = output_nkhw.astype(np.float32)
    if metadata.output == "probability":
        return y_nkhw
    if y_nkhw.shape[1] == 1:
        # By tanh, since exp of a large number overflows.
        return 0.5 * (1 + np.tanh(0.5 * y_nkhw))
    powers_nkhw = np.exp(y_nkhw - y_nkhw.max(axis=1, keepdims=True))
    return powers_nkhw / powers_nkhw.sum(axis=1, keepdims=True)


def read_converted(path: Path) -> tuple[Converted, Metadata]:
    """What ``deploy commands`` wrote of a converted file.

    Raises:
        UserError: it wrote nothing of it.
    """
    record = path.parent / RECORD
    try:
        tree = json.loads(record.read_text(encoding="utf-8"))
        found = [one for one in tree["converted"] if one["file"] == path.name]
        metadata = Metadata.of_json(tree["metadata"], where=str(record))
    except OSError as error:
        raise UserError(
            str(path), f"{record} is missing: the file must stay where deploy commands made it"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(str(record), f"is not understood: {error!r}") from error
    if not found:
        raise UserError(str(path), f"{record} tells nothing of it: run deploy commands for it")
    tree = found[0]
    converted = Converted(
        **{
            **tree,
            "shape": tuple(tree["shape"]),
            "dynamic_batch": tuple(tree["dynamic_batch"]),
            "dynamic_sizes": tuple((h, w) for h, w in tree["dynamic_sizes"]),
        }
    )
    return converted, metadata


@contextmanager
def open_card_network(path: Path, *, device: int) -> Iterator[CardNetwork]:
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
        yield CardNetwork(executor, converted, metadata)
