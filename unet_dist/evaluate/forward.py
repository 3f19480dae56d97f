"""The trained network as a function from images to probabilities."""

import copy
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

import mindspore as ms
import numpy as np
from mindspore import nn
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.data.bands import resize_bands
from unet_dist.data.dataset import Dataset, Normalisation
from unet_dist.data.sample import Example, Sample
from unet_dist.evaluate.metrics import ImageScore, score_image
from unet_dist.evaluate.symmetries import symmetries
from unet_dist.evaluate.tiles import predict_bands
from unet_dist.evaluate.views import blank_outside
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
        self._net = build_unet(
            model, in_channels=config.data.in_channels, classes=config.data.classes, seed=0
        )
        # The CPU has no bf16 convolutions; a run trained in it is evaluated in float32 there.
        amp = config.train.amp
        set_precision(self._net, "off" if amp == "bf16" and on_cpu() else amp)
        cell = _Probabilities(self._net)
        cell.set_train(False)
        batch, tile = config.evaluate.batch, config.evaluate.tile
        self._batch_nchw = (batch, config.data.in_channels, tile, tile)
        self._keep = ms.Tensor(np.ones((batch, self._net.deepest_channels), np.float32))

        @ms.jit
        def forward_graph(x, keep):  # type: ignore[no-untyped-def]
            return cell(x, keep)

        self._forward_graph = forward_graph

    def load(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Takes weights and running statistics, by the parameters' names."""
        for name, parameter in self._net.parameters_dict().items():
            put(parameter, weights[name])

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        x_nchw = image_nchw * self._factor_c11 - self._shift_c11
        y_nkhw: NDArray[np.float32] = self._forward_graph(ms.Tensor(x_nchw), self._keep).asnumpy()
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


class Predictor:
    """Networks of its own for evaluation, so that training goes on undisturbed.

    One network, or those of several runs (an ensemble), each seen from the views that
    ``evaluate.tta`` asks for. The probability is the mean over all of them.
    """

    def __init__(self, config: Config, normalisations: Sequence[Normalisation]) -> None:
        self.config = config
        self.members = [Member(config, normalisation) for normalisation in normalisations]
        self._symmetries = symmetries(config.evaluate.tta)
        self.left_out_by: dict[str, int] = {}
        """Of folds, the member whose training left a sample out, by the sample's id."""

    def for_sample(self, sample_id: str) -> "Predictor":
        """The one member that never saw the sample, where the others trained on it; else all."""
        if sample_id not in self.left_out_by:
            return self
        alone = copy.copy(self)
        alone.members = [self.members[self.left_out_by[sample_id]]]
        return alone

    def views(self, image_nchw: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Probabilities ``[N, K, H, W]`` of square tiles (0..1, resized, not yet normalised) by
        each member from each view, in the tile's own orientation."""
        for symmetry in self._symmetries:
            seen_nchw = symmetry.apply(image_nchw)
            for member in self.members:
                yield symmetry.undo(member.forward(seen_nchw))

    @property
    def num_views(self) -> int:
        return len(self._symmetries) * len(self.members)

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of the views."""
        views = self.views(image_nchw)
        total_nkhw = sum(views, start=next(views))
        return total_nkhw / np.float32(self.num_views)

    def forward_with_variance(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of the views, and as one channel more their variance (of the class whose
        probability varies most)."""
        views = self.views(image_nchw)
        first_nkhw = next(views)
        # As differences to the first view, or what views have in common would cancel badly.
        sums_nkhw, squares_nkhw = np.zeros_like(first_nkhw), np.zeros_like(first_nkhw)
        for view_nkhw in views:
            difference_nkhw = view_nkhw - first_nkhw
            sums_nkhw += difference_nkhw
            squares_nkhw += difference_nkhw**2
        count = np.float32(self.num_views)
        mean_nkhw = sums_nkhw / count
        variance_nkhw = np.maximum(squares_nkhw / count - mean_nkhw**2, 0)
        most_n1hw = variance_nkhw.max(axis=1, keepdims=True)
        return np.concatenate([first_nkhw + mean_nkhw, most_n1hw], axis=1)

    def probabilities(self, native: Example, resized: Example) -> NDArray[np.float32]:
        """``[H, W, K]`` in the image's true size; outside the field of view all is background."""
        settings = self.config.evaluate
        size, small = native.target_hw.shape, resized.target_hw.shape
        bands = predict_bands(
            self.forward,
            [resized.image_hwc],
            small,
            tile=settings.tile,
            overlap=settings.overlap,
            batch=settings.batch,
        )
        prob_hwk = np.concatenate(list(resize_bands(bands, small, size, area=False)))
        blank_outside(prob_hwk, native.fov_hw, classes=self.config.data.classes)
        return prob_hwk

    def of_sample(self, dataset: Dataset, sample: Sample) -> NDArray[np.float32]:
        predictor = self.for_sample(sample.id)
        return predictor.probabilities(dataset.read_native(sample), dataset.read(sample))

    def score(self, dataset: Dataset, sample: Sample) -> ImageScore:
        native = dataset.read_native(sample)
        prob_hwk = self.of_sample(dataset, sample)
        return score_image(sample.id, prob_hwk, native.target_hw, native.fov_hw)
