"""Which values the tensors of a network take on real images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from unet_dist.config import Config, with_tta
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.deploy.model_file import Metadata
from unet_dist.deploy.ranges import Calibration, Range, choose_range
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession
from unet_dist.evaluate.predictor import Predictor

MOST_VALUES = 4096
"""Of each tensor kept from each tile; the least and the largest are of all values."""
MOST_TILES = 4
"""Kept for comparisons of single layers."""


@dataclass
class Observed:
    """Of one tensor."""

    low: float = np.inf
    high: float = -np.inf
    pixels: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    """Of each channel."""
    kept: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, y_nchw: NDArray[np.float32]) -> None:
        self.low = min(self.low, float(y_nchw.min()))
        self.high = max(self.high, float(y_nchw.max()))
        self.pixels += y_nchw.size // y_nchw.shape[1]
        self.sums = self.sums + y_nchw.sum(axis=(0, 2, 3), dtype=np.float64)
        flat = y_nchw.ravel()
        # A prime, so that the sample is not one column of the image.
        self.kept.append(flat[:: _step(flat.size)].copy())

    @property
    def channel_means(self) -> NDArray[np.float64]:
        return self.sums / self.pixels

    def range(self, method: Calibration) -> Range:
        return choose_range(np.concatenate(self.kept), self.low, self.high, method)


def _step(size: int) -> int:
    """The next number that shares no small factor with widths."""
    step = -(-size // MOST_VALUES)
    while step > 1 and any(step % factor == 0 for factor in (2, 3, 5)):
        step += 1
    return step


class Observer:
    """A network that remembers what its tensors were."""

    def __init__(self, model: onnx.ModelProto, metadata: Metadata, tensors: Sequence[str]) -> None:
        """
        Args:
            tensors: to observe.
        """
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        watched.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors
        )
        self._session = OnnxRuntimeSession(watched.SerializeToString())
        self._network = DeployedNetwork(self, metadata)
        self.tensors = {name: Observed() for name in tensors}
        self.inputs: list[NDArray[np.float32]] = []
        """Of the first tiles, as the model sees them."""

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._network.forward(image_nchw)

    def run(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        first, *others = self._session.run_all(x_nchw, list(self.tensors))
        for observed, value in zip(self.tensors.values(), others, strict=True):
            observed.add(value)
        if len(self.inputs) < MOST_TILES:
            self.inputs.append(x_nchw)
        return first


def observe(
    observer: Observer,
    config: Config,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Lets it see all tiles of the images, each once."""
    # One tile at a time: batches are filled up with black tiles that no image has.
    evaluate = config.evaluate.model_copy(update={"batch": 1})
    single = with_tta(config.model_copy(update={"evaluate": evaluate}), "none")
    predictor = Predictor(single, [observer])
    for number, sample in enumerate(samples):
        on_image(number, len(samples))
        predictor.of_sample(dataset, sample)
