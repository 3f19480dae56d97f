"""Whether a deployed model does what the run's network does."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from unet_dist.config import Config, with_tta
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.errors import counted
from unet_dist.evaluate.metrics import quality, score_image
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.profiling.finite import finite

MAX_DIFFERENCE = 1e-4
"""Of any two probabilities."""
MAX_DICE_DIFFERENCE = 1e-4

ODD_SHAPES = ((1, 33, 47), (2, 64, 30), (3, 17, 17), (4, 50, 65))
"""Batch, height and width of random images."""
FEW_ODD_SHAPES = (ODD_SHAPES[0], (3, 17, 30))
"""Those that every ONNX file is compared on: validation images are seen in tiles, which need no
padding. MindSpore compiles anew for each, 0.5 to 1.7 s."""


Tell = Callable[[str, int, int], None]
"""Hears of a long computation: what is done, {} in the place of the numbers, how many of how many.
"""


def untold(phase: str, done: int, total: int) -> None:
    """For those whom nobody waits for."""


class Refused(Exception):
    """A model that must not be used; nothing of it is left."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far two networks are apart."""

    largest: float
    """Difference of probabilities; NaN if one is no number."""
    dice: float
    """Of the run's network, mean over images; NaN if no image counts."""
    dice_deployed: float
    images: int
    random_images: int = 0

    def with_noise(self, noise: "Parity") -> "Parity":
        """And what was measured on random images."""
        return replace(
            self,
            largest=_worse(self.largest, noise.largest),
            random_images=noise.random_images,
        )

    def faults(self) -> list[str]:
        """What is beyond the limits."""
        faults = []
        if not self.largest <= MAX_DIFFERENCE:
            faults.append(
                f"its probabilities differ by up to {self.largest:.2g}, more than "
                f"{MAX_DIFFERENCE:g}, from those of MindSpore"
            )
        difference = abs(self.dice - self.dice_deployed)
        if difference > MAX_DICE_DIFFERENCE or math.isnan(self.dice) != math.isnan(
            self.dice_deployed
        ):
            faults.append(
                f"its Dice is {self.dice_deployed:.5f} where that of MindSpore is "
                f"{self.dice:.5f}, more than {MAX_DICE_DIFFERENCE:g} apart"
            )
        return faults

    def to_json(self) -> dict[str, Any]:
        """JSON values: NaN becomes null."""
        tree: dict[str, Any] = finite(asdict(self))
        return tree

    def describe(self) -> str:
        text = f"largest difference {self.largest:.1g}"
        if self.images:
            text += (
                f", Dice {self.dice_deployed:.4f} and {self.dice:.4f} on "
                f"{counted(self.images, 'image')}, one view of each"
            )
        noise = counted(self.random_images, "random image")
        return text + (f", {noise}" if self.random_images else "")


def compare_on_images(
    native: Network,
    deployed: Network,
    config: Config,
    dataset: Dataset,
    samples: Sequence[Sample],
    threshold: float | None,
    *,
    tell: Tell = untold,
) -> Parity:
    """Over whole images in their true size, seen from one view each."""
    config = with_tta(config, "none")
    one, other = Predictor(config, [native]), Predictor(config, [deployed])
    largest, dices = 0.0, []
    for number, sample in enumerate(samples):
        tell("comparing with MindSpore: {} validation images", number, len(samples))
        truth = dataset.read_native(sample)
        pair = [each.of_sample(dataset, sample) for each in (one, other)]
        largest = _worse(largest, float(np.abs(pair[0] - pair[1]).max()))
        scores = [score_image(sample.id, prob, truth.target_hw, truth.fov_hw) for prob in pair]
        dices.append([quality(score.counts, threshold).dice for score in scores])
    defined = np.array([pair for pair in dices if not np.isnan(pair).all()]).reshape(-1, 2)
    means = defined.mean(axis=0) if len(defined) else (math.nan, math.nan)
    return Parity(
        largest=largest, dice=float(means[0]), dice_deployed=float(means[1]), images=len(samples)
    )


def compare_on_random(
    native: Network,
    deployed: Network,
    *,
    in_channels: int,
    shapes: Sequence[tuple[int, int, int]] = ODD_SHAPES,
    tell: Tell = untold,
) -> Parity:
    """On noise of these sizes, the same at each call."""
    draw = np.random.default_rng(0)
    largest, count = 0.0, 0
    for number, (batch, height, width) in enumerate(shapes):
        tell("comparing with MindSpore: {} sizes of noise", number, len(shapes))
        image = draw.random((batch, in_channels, height, width), np.float32)
        difference = np.abs(native.forward(image) - deployed.forward(image))
        largest = _worse(largest, float(difference.max()))
        count += batch
    return Parity(
        largest=largest, dice=math.nan, dice_deployed=math.nan, images=0, random_images=count
    )


def _worse(one: float, other: float) -> float:
    """NaN is the worst; Python's max would lose it."""
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)
