"""Image files as the network sees them, and its outputs at that size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.data.dataset import Dataset, ImageCache
from unet_dist.data.masks import MaskCoding
from unet_dist.data.sample import Sample
from unet_dist.data.splits import Splits
from unet_dist.evaluate.inputs import list_images
from unet_dist.evaluate.tiles import Forward, predict_bands


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenImage:
    name: str
    image_hwc: NDArray[np.float32]
    """0..1, evened and resized (but not by the size of objects), not yet normalised."""


def read_seen(paths: Sequence[Path], config: Config) -> list[SeenImage]:
    """
    Raises:
        UserError: with every path that holds no image, or the first that cannot be read.
    """
    # Without masks nothing is decoded, so their coding does not matter.
    coding = MaskCoding(kind="binary", classes=config.data.classes, values=(), shares={})
    nothing = Splits(train=(), val=(), test=())
    dataset = Dataset(config=config.data, coding=coding, splits=nothing, cache=ImageCache(0))
    seen = []
    for one in list_images(paths):
        sample = Sample(id=one.stem, group=one.stem, image=one.ref, mask=None)
        seen.append(SeenImage(name=one.stem, image_hwc=dataset.read(sample).image_hwc))
    return seen


def predict_seen(
    forward: Forward, images: Sequence[SeenImage], config: Config
) -> dict[str, NDArray[np.float32]]:
    """``[K, H, W]`` by the image's name, by the tiles of ``predict``, before any resize back."""
    settings = config.evaluate
    outputs = {}
    for image in images:
        bands = predict_bands(
            forward,
            [image.image_hwc],
            (image.image_hwc.shape[0], image.image_hwc.shape[1]),
            tile=settings.tile,
            overlap=settings.overlap,
            batch=settings.batch,
        )
        outputs[image.name] = np.concatenate(list(bands)).transpose(2, 0, 1)
    return outputs
