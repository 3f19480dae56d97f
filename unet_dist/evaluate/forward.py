"""The trained network as a function from images to probabilities."""

import statistics
import time
from collections.abc import Mapping, Sequence

import mindspore as ms
import numpy as np
from mindspore import nn
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.data.dataset import Normalisation
from unet_dist.evaluate.predictor import Predictor
from unet_dist.model.target import on_cpu
from unet_dist.model.unet import UNet, build_unet, probabilities, put, set_precision

TIMED_BATCHES = 3


class _Probabilities(nn.Cell):
    def __init__(self, net: UNet) -> None:
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, x: ms.Tensor, keep: ms.Tensor) -> ms.Tensor:
        return probabilities(self.net(x, keep))


class Member:
    """One trained network, compiled, with the normalisation of its training images."""

    def __init__(self, config: Config, normalisation: Normalisation) -> None:
        self._factor_c11 = 1 / np.array(normalisation.std, np.float32)[:, None, None]
        self._shift_c11 = np.array(normalisation.mean, np.float32)[:, None, None] * self._factor_c11
        # Whichever rank's images gave them, sync_batch's statistics are used as batch's are.
        model = config.model
        if model.norm == "sync_batch":
            model = model.model_copy(update={"norm": "batch"})
        self.net = build_unet(
            model, in_channels=config.data.in_channels, classes=config.data.classes, seed=0
        )
        # The CPU has no bf16 convolutions; a run trained in it is evaluated in float32 there.
        amp = config.train.amp
        set_precision(self.net, "off" if amp == "bf16" and on_cpu() else amp)
        cell = _Probabilities(self.net)
        cell.set_train(False)
        batch, tile = config.evaluate.batch, config.evaluate.tile
        self._batch_nchw = (batch, config.data.in_channels, tile, tile)
        self._keep = ms.Tensor(np.ones((batch, self.net.deepest_channels), np.float32))

        @ms.jit
        def forward_graph(x, keep):  # type: ignore[no-untyped-def]
            return cell(x, keep)

        self._forward_graph = forward_graph

    def load(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Takes weights and running statistics, by the parameters' names."""
        for name, parameter in self.net.parameters_dict().items():
            put(parameter, weights[name])

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        x_nchw = image_nchw * self._factor_c11 - self._shift_c11
        keep = self._keep
        if len(x_nchw) != len(keep):  # tiles come in whole batches; export compares others too
            keep = ms.Tensor(np.ones((len(x_nchw), keep.shape[1]), np.float32))
        y_nkhw: NDArray[np.float32] = self._forward_graph(ms.Tensor(x_nchw), keep).asnumpy()
        return y_nkhw

    def latency_ms(self) -> float:
        """Milliseconds for one tile of ``evaluate.tile`` pixels, in batches of ``evaluate.batch``:
        the median, as one that is compiled first takes longer."""
        image_nchw, seconds = np.zeros(self._batch_nchw, np.float32), []
        for _ in range(TIMED_BATCHES):
            started = time.perf_counter()
            self.forward(image_nchw)
            seconds.append(time.perf_counter() - started)
        return 1000 * statistics.median(seconds) / len(image_nchw)


def new_predictor(config: Config, normalisations: Sequence[Normalisation]) -> Predictor[Member]:
    """With networks of its own for evaluation, so that training goes on undisturbed."""
    return Predictor(config, [Member(config, normalisation) for normalisation in normalisations])
