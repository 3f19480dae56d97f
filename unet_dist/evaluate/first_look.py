"""By which factor an image is resized before the network: fixed, or by the size of its objects,
which a first look at it finds out."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.data.bands import resize_bands
from unet_dist.data.dataset import resized
from unet_dist.data.object_size import (
    LEAST,
    MOST,
    factor_to,
    median_diameter,
    resize_numbers,
)
from unet_dist.evaluate.tiles import Forward, predict_bands

SMALLER, LARGER = 0.5, 2.0
"""Factors of a second look, if at the first one objects are far from the size that the network
knows: there they are near to it."""
NEAR = 1.5
"""Times larger or smaller, which a network learns by ``augment.scale``."""
SIDE = 1024
"""Of a large image the middle is looked at, so many pixels high and wide."""
CERTAIN = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Middle:
    """Of an image, before any resize."""

    image_hwc: NDArray[np.float32]
    """0..1."""
    inside_hw: NDArray[np.bool_]
    """The field of view, beside which nothing counts as an object."""


@dataclass(frozen=True)
class Scale:
    """Of one image."""

    factor: float
    note: str = ""
    """What a person should know of it."""


def scale_for(forward: Forward, config: Config, middle: Callable[[], Middle]) -> Scale:
    """
    Args:
        forward: of one view, since a median needs no better.
        middle: gives ``middle_of`` the image; called only if it is needed.
    """
    size = config.data.object_size
    if not size:
        return Scale(config.data.resize)
    looked_at = middle()
    # In pixels of each look, as the size is.
    seen = {1.0: _diameter(forward, config, looked_at, 1.0)}
    if seen[1.0] > size * NEAR or not seen[1.0]:
        seen[SMALLER] = _diameter(forward, config, looked_at, SMALLER)
    if seen[1.0] < size / NEAR:
        seen[LARGER] = _diameter(forward, config, looked_at, LARGER)
    found = {factor: diameter for factor, diameter in seen.items() if diameter}
    if not found:
        return Scale(1.0, "in its middle no object was found, so it was not resized by their size")
    factor = min(found, key=lambda factor: abs(math.log(found[factor] / size)))
    diameter = found[factor] / factor
    if LEAST <= size / diameter <= MOST:
        return Scale(size / diameter)
    return Scale(
        factor_to(size, diameter),
        f"its objects of some {diameter:.0f} pixels in diameter would need a resize by "
        f"{size / diameter:.2g}, but {LEAST:g} to {MOST:g} are the limits",
    )


def middle_of(size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of an image of that height and width that are looked at."""
    starts = [max(0, side - SIDE) // 2 for side in size]
    return slice(starts[0], starts[0] + SIDE), slice(starts[1], starts[1] + SIDE)


def _diameter(forward: Forward, config: Config, middle: Middle, factor: float) -> float:
    """Median of the objects found, in pixels after the resize; 0 for none."""
    # Importing scikit-image takes time.
    from unet_dist.evaluate.objects import LEAST_MEASURED, find_objects

    native = (middle.image_hwc.shape[0], middle.image_hwc.shape[1])
    small, evaluate, classes = resized(native, factor), config.evaluate, config.data.classes
    bands = predict_bands(
        forward,
        resize_bands([middle.image_hwc], native, small, area=factor < 1),
        small,
        tile=evaluate.tile,
        overlap=evaluate.overlap,
        batch=evaluate.batch,
    )
    prob_hwk = np.concatenate(list(bands))[:, :, : 1 if classes == 2 else classes]
    objects_hw = find_objects(prob_hwk, CERTAIN, min_size=LEAST_MEASURED)
    inside_hw = resize_numbers(middle.inside_hw.view(np.uint8), small) > 0
    return median_diameter(np.where(inside_hw, objects_hw, 0))
