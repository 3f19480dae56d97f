"""Whether resize and augmentation leave thin structures in the masks the network learns from."""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.config import AugmentConfig
from unet_dist.data.dataset import resize_example
from unet_dist.data.sample import Example
from unet_dist.data.transforms import move, sample_rng

DRAWS = 4
"""Random changes of each mask that are looked at."""
_NEIGHBOURS = np.ones((3, 3), np.uint8)


class Kept(NamedTuple):
    """Share of a class's centre lines, 0..1, that still lie in the class."""

    resized: float
    """After ``data.resize``."""
    augmented: float
    """After ``data.resize`` and the augmentation."""


def kept_centre_lines(
    targets: Sequence[NDArray[np.uint8]],
    number: int,
    *,
    resize: float,
    config: AugmentConfig,
    seed: int,
) -> Kept | None:
    """What resize and augmentation leave of a class's centre lines; None without any.

    A pixel of a centre line is kept if the pixel of the changed mask that covers its place is of
    the class. Which one that is, is told by pictures of the coordinates that go through the very
    functions of the training beside the mask. A line thinner than 1 / resize pixels becomes dots:
    about ``resize`` times its width is kept of it. What stays 2 pixels wide is kept.

    Args:
        targets: class numbers [H, W], of any size.
    """
    # How far apart, in the file's pixels, the places of neighbouring pixels can be.
    reach = 1 / resize, 1 / resize / (1 - config.scale) + config.elastic / config.elastic_smooth
    shares: tuple[list[float], list[float]] = ([], [])
    for index, target_hw in enumerate(targets):
        inside_hw = target_hw == number
        line_hw = centre_lines(inside_hw)
        places_hw2 = np.moveaxis(np.indices(target_hw.shape), 0, 2).astype(np.float32)
        everywhere_hw = np.ones(target_hw.shape, np.bool_)
        native = Example(places_hw2, inside_hw.view(np.uint8), everywhere_hw)
        example = resize_example(native, resize)
        rows, columns = example.target_hw.shape
        size = (min(config.crop or rows, rows), min(config.crop or columns, columns))
        draws = [
            move(example, config, size=size, rng=sample_rng(seed, draw, index))
            for draw in range(DRAWS)
        ]
        for stage, seen, apart in zip(shares, ([example], draws), reach, strict=True):
            kept = (_share(line_hw, one, apart) for one in seen)
            stage += [share for share in kept if share is not None]
    if not all(shares):
        return None
    resized, augmented = map(mean, shares)
    return Kept(resized, augmented)


def centre_lines(inside_hw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels that lie no less deep in the structure than any of their 8 neighbours: all of a line
    of 1 or 2 pixels, the ridge of a thicker one."""
    depth_hw = cv2.distanceTransform(inside_hw.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(inside_hw & (depth_hw >= cv2.dilate(depth_hw, _NEIGHBOURS)))


def _share(line_hw: NDArray[np.bool_], changed: Example, apart: float) -> float | None:
    """Of the centre line that the changed picture shows, the share it still has in the class; None
    if it shows none.

    Args:
        changed: its image is the row and the column where each pixel comes from.
        apart: largest distance between the places of neighbouring pixels.
    """
    height, width = line_hw.shape
    rows, columns = np.rint(changed.image_hwc).astype(np.intp).transpose(2, 0, 1)
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    taken_hw = np.ones(line_hw.shape, np.uint8)
    taken_hw[rows, columns] = 0
    in_class_hw = np.zeros(line_hw.shape, np.bool_)
    in_class_hw[rows, columns] = changed.target_hw == 1
    # For each place the nearest one that a pixel comes from, by a number of it.
    away_hw, nearest_hw = cv2.distanceTransformWithLabels(
        taken_hw, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    in_class = np.zeros(int(nearest_hw.max()) + 1, np.bool_)
    in_class[nearest_hw[rows, columns]] = in_class_hw[rows, columns]
    shown_hw = line_hw & (away_hw <= apart)
    return float(in_class[nearest_hw[shown_hw]].mean()) if shown_hw.any() else None
