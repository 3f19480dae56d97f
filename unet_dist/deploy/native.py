"""The run's network as MindSpore computes it, in float32: what every deployed form is held to."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.data.dataset import Normalisation
from unet_dist.deploy.model_file import Metadata
from unet_dist.deploy.source import Source
from unet_dist.evaluate.forward import Member
from unet_dist.model.unet import UNet, probabilities


def native_network(source: Source) -> Member:
    """In float32, whatever precision the training had."""
    metadata = source.metadata
    member = Member(_in_float32(source.config), Normalisation(metadata.mean, metadata.std))
    member.load(source.weights)
    return member


def _in_float32(config: Config) -> Config:
    train = config.train.model_copy(update={"amp": "off"})
    return config.model_copy(update={"train": train})


class _Deployed(nn.Cell):
    """One input, and the outputs that the metadata tell of."""

    def __init__(self, net: UNet, metadata: Metadata) -> None:
        super().__init__(auto_prefix=False)
        self.net = net
        self.is_probability = metadata.output == "probability"
        self.normalises = metadata.normalises
        factor = 1 / np.array(metadata.std, np.float32)[:, None, None]
        self.factor = ms.Tensor(factor)
        self.shift = ms.Tensor(np.array(metadata.mean, np.float32)[:, None, None] * factor)

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        if self.normalises:
            image = image * self.factor - self.shift
        keep = ops.ones((image.shape[0], self.net.deepest_channels), ms.float32)
        logits = self.net(image, keep)
        return probabilities(logits) if self.is_probability else logits


def mindir_of(source: Source, shape: tuple[int, int, int, int]) -> bytes:
    """A MindIR file for images of one shape.

    The network is a new one: exporting changes the graphs that MindSpore keeps of a network.
    """
    cell = _Deployed(native_network(source).net, source.metadata)
    cell.set_train(False)
    # ms.export takes the rights to write away from its file, and may from the folder too.
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.mindir"
        ms.export(
            cell, ms.Tensor(np.zeros(shape, np.float32)), file_name=str(path), file_format="MINDIR"
        )
        os.chmod(folder, 0o700)
        return path.read_bytes()


class MindirNetwork:
    """A MindIR file, read back; for images of the shape that it was made for."""

    def __init__(self, content: bytes) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.mindir"
            path.write_bytes(content)
            self._cell = nn.GraphCell(ms.load(str(path)))

    def run(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = self._cell(ms.Tensor(x_nchw)).asnumpy()
        return output
