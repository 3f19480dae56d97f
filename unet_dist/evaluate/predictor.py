"""From networks to the probabilities of an image: views, their mean, tiles."""

import copy
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.data.bands import resize_bands
from unet_dist.data.dataset import Dataset, resize_example
from unet_dist.data.sample import Example, Sample
from unet_dist.evaluate.first_look import Middle, middle_of, scale_for
from unet_dist.evaluate.metrics import ImageScore, score_image
from unet_dist.evaluate.symmetries import symmetries
from unet_dist.evaluate.tiles import predict_bands
from unet_dist.evaluate.views import blank_outside


class Network(Protocol):
    """A trained network, whoever computes it."""

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities ``[N, K, H, W]`` of images 0..1, resized, not yet normalised."""


NetworkT = TypeVar("NetworkT", bound=Network, covariant=True)


class Predictor(Generic[NetworkT]):
    """One network, or those of several runs (an ensemble), each seen from the views that
    ``evaluate.tta`` asks for. The probability is the mean over all of them.
    """

    def __init__(self, config: Config, members: Sequence[NetworkT]) -> None:
        self.config = config
        self.members = members
        self._symmetries = symmetries(config.evaluate.tta)
        self.left_out_by: dict[str, int] = {}
        """Of folds, the member whose training left a sample out, by the sample's id."""

    def for_sample(self, sample_id: str) -> "Predictor[NetworkT]":
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

    def one_view(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """By each member from one view, the mean."""
        outputs = [member.forward(image_nchw) for member in self.members]
        return sum(outputs[1:], start=outputs[0]) / np.float32(len(outputs))

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

    def probabilities(self, native: Example) -> NDArray[np.float32]:
        """``[H, W, K]`` in the image's true size; outside the field of view all is background."""
        settings = self.config.evaluate
        size = native.target_hw.shape
        part = middle_of((size[0], size[1]))
        middle = Middle(image_hwc=native.image_hwc[part], inside_hw=native.fov_hw[part])
        scale = scale_for(self.one_view, self.config, lambda: middle)
        resized = resize_example(native, scale.factor)
        small = resized.target_hw.shape
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
        return predictor.probabilities(dataset.read_native(sample))

    def score(self, dataset: Dataset, sample: Sample) -> ImageScore:
        native = dataset.read_native(sample)
        prob_hwk = self.of_sample(dataset, sample)
        return score_image(sample.id, prob_hwk, native.target_hw, native.fov_hw)
