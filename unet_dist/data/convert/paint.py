"""The objects of a picture, and masks of their classes or numbers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.convert.annotation import BACKGROUND, Picture, Shape
from unet_dist.data.convert.labels import LabelMap
from unet_dist.data.convert.rasterise import Region, compose
from unet_dist.data.sample import IGNORE

MOST_OBJECTS = np.iinfo(np.uint16).max


class Painted(NamedTuple):
    mask_hw: NDArray[np.uint8] | NDArray[np.uint16]
    objects: int
    unseen: list[str]
    """Shapes that cover no pixel's centre."""


def paint_classes(picture: Picture, labels: LabelMap) -> Painted:
    """The class number of each pixel; ``IGNORE`` for what is left out."""
    mask_hw = np.zeros(picture.size, np.uint8)
    unseen: list[str] = []
    objects = 0
    for label, region in _objects(picture, unseen):
        objects += label != BACKGROUND
        region.paint(mask_hw, labels.number(label))
    return Painted(mask_hw, objects, unseen)


def paint_numbers(picture: Picture, labels: LabelMap) -> Painted:
    """The number of the object at each pixel, from 1 on; 0 too for what is left out."""
    mask_hw = np.zeros(picture.size, np.uint16)
    unseen: list[str] = []
    objects = 0
    for label, region in _objects(picture, unseen):
        is_object = labels.number(label) not in (0, IGNORE)
        objects += is_object
        region.paint(mask_hw, objects if is_object else 0)
    return Painted(mask_hw, objects, unseen)


def lost_holes(picture: Picture) -> list[Shape]:
    """Holes of groups that have nothing else."""
    groups = {shape.group for shape in picture.shapes if shape.label != BACKGROUND}
    return [
        shape
        for shape in picture.shapes
        if shape.label == BACKGROUND and shape.group is not None and shape.group not in groups
    ]


def _objects(picture: Picture, unseen: list[str]) -> Iterator[tuple[str, Region]]:
    """Label and pixels of each object, in the order of their first shapes."""

    def draw(shape: Shape) -> Region:
        region = shape.draw(picture.size)
        if not region.mask_hw.any():
            unseen.append(shape.where)
        return region

    groups: dict[str, list[Shape]] = {}
    for shape in picture.shapes:
        if shape.group is not None:
            groups.setdefault(shape.group, []).append(shape)
    done = set()
    for shape in picture.shapes:
        if shape.group is None:
            yield shape.label, draw(shape)
        elif shape.label != BACKGROUND and (shape.label, shape.group) not in done:
            done.add((shape.label, shape.group))
            members = [s for s in groups[shape.group] if s.label in (shape.label, BACKGROUND)]
            yield shape.label, compose((draw(s), s.label != BACKGROUND) for s in members)
