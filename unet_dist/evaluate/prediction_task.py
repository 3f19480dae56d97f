"""What is to be predicted, and how probabilities become files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from unet_dist.config import Config
from unet_dist.data.masks import MaskCoding
from unet_dist.data.sample import ImageRef
from unet_dist.evaluate.numbering import Numbering

Uncertainty = Literal["none", "entropy", "std"]
UNCERTAINTIES: tuple[Uncertainty, ...] = ("none", "entropy", "std")
"""entropy: of the mean probability, 0 where one class is certain to 1 where all are equally
probable. std: standard deviation over the views of test-time augmentation and the members of an
ensemble, of the class that varies most: 0 where they agree, 0.5 at most."""


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """How probabilities become files."""

    config: Config
    threshold: float | None
    """None: the most probable of several classes."""
    uncertainty: Uncertainty
    coding: MaskCoding
    """Meaning of the values of truth masks."""
    made_by: Mapping[str, Any]
    """What else the results depend on, for their record."""
    numbering: Numbering | None = None
    """How single objects or cells are found; None where the structure has none."""
    tile: int = 0
    """Side of the tiles in place of ``evaluate.tile``, no larger than the image (``with_tile``); 0
    for none."""
    usual_mean: float = 0.0
    """Of the darkest channel of the training images, 0..1; 0 where the light is evened."""


def with_tile(config: Config, tile: int, sizes: Iterable[tuple[int, int]]) -> Config:
    """Tiles of another side, one at a time: a deployed model takes any size, and what is larger has
    less overlap to compute twice. Those of the run's own side are its own, also padded.

    Args:
        sizes: of the images, after the resize; tiles are at most as large as the largest of them.
    """
    if tile == config.evaluate.tile:
        return config
    tile = min(tile, max(max(size) for size in sizes))
    evaluate = config.evaluate.model_copy(update={"tile": tile, "batch": 1})
    return config.model_copy(update={"evaluate": evaluate})


@dataclass(frozen=True, kw_only=True)
class PredictionTask:
    """One image to predict."""

    image: ImageRef
    stem: str
    truth: ImageRef | None
    fov: ImageRef | None = None
    """Mask of the field of view, with ``data.fov=file`` and an image of the data set."""
    left_out_by: str = ""
    """The one member of an ensemble that predicts it; empty if all do."""
    trained_on: bool = False
    """Whether a network that predicts it was trained on it."""

    @classmethod
    def of_json(cls, image: Mapping[str, Any]) -> Self:
        """Of an image as the commands list it."""
        return cls(
            image=ImageRef.of_json(image),
            stem=image["stem"],
            truth=ImageRef.of_json(image["truth"]) if image["truth"] else None,
            fov=ImageRef.of_json(image["fov"]) if image["fov"] else None,
            left_out_by=image["left_out_by"],
            trained_on=image["trained_on"],
        )
