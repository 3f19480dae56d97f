"""Pictures like slices through a body, with three organs of very different sizes."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.transforms import smooth_noise

CLASSES = ("background", "liver", "kidney", "lesion")
LIVER, KIDNEY, LESION = 1, 2, 3
BODY_SHADE, LIVER_SHADE, KIDNEY_SHADE = 0.46, 0.56, 0.62
LESION_CONTRAST = 0.13
"""How much darker a lesion is than the tissue around it."""


class Organs(NamedTuple):
    image_hw: NDArray[np.uint8]
    classes_hw: NDArray[np.uint8]
    """Places in ``CLASSES``."""


class _Blob(NamedTuple):
    """A rough ellipse; lengths in sides of the picture."""

    row: float
    column: float
    radius: float
    inside_hw: NDArray[np.float32]
    """Distance from the centre as a share of the outline's, below 1 inside."""

    @property
    def mask_hw(self) -> NDArray[np.bool_]:
        return np.asarray(self.inside_hw < 1)


def draw_organs(size: int, rng: np.random.Generator) -> Organs:
    """A large liver with coarse spots, a striped kidney that touches it, and small dark lesions in
    the liver. Dark spots of the same look outside the liver are background, so that a lesion is
    known by where it lies, not by its grey alone."""
    shape = (size, size)
    body = _blob(size, 0.5, 0.5, rng.uniform(0.43, 0.47), rng, rough=0.03)
    side = 1 if rng.random() < 0.5 else -1
    liver = _blob(
        size, rng.uniform(0.4, 0.48), 0.5 - side * rng.uniform(0.12, 0.16),
        rng.uniform(0.2, 0.24), rng, rough=0.12,
    )  # fmt: skip
    kidney = _touching(size, liver, rng.uniform(0.085, 0.105), side, rng)
    classes = np.where(liver.mask_hw, np.uint8(LIVER), np.uint8(0))
    classes[kidney.mask_hw] = KIDNEY  # it lies in front where both would be

    image = np.full(shape, 0.06, np.float32)
    tissue = BODY_SHADE + 0.05 * smooth_noise(shape, size / 14, rng)
    image[body.mask_hw] = tissue[body.mask_hw]
    _add_bones(image, size, rng)
    spots = LIVER_SHADE + 0.05 * smooth_noise(shape, max(2.0, size / 50), rng)
    image[liver.mask_hw] = spots[liver.mask_hw]
    image[kidney.mask_hw] = _kidney_shade(kidney, size, rng)[kidney.mask_hw]

    for spot in _spots(size, classes == LIVER, int(rng.integers(2, 5)), rng):
        classes[spot.mask_hw & (classes == LIVER)] = LESION
        image[spot.mask_hw] -= np.float32(LESION_CONTRAST * rng.uniform(0.8, 1.2))
    elsewhere = body.mask_hw & ~liver.mask_hw
    for spot in _spots(size, elsewhere, int(rng.integers(2, 5)), rng):
        image[spot.mask_hw & elsewhere] -= np.float32(LESION_CONTRAST * rng.uniform(0.8, 1.2))

    image = np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.7, size / 256)), np.float32)
    image += 0.03 * smooth_noise(shape, size / 3, rng)
    image += np.float32(0.04) * rng.standard_normal(shape, np.float32)
    return Organs(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), classes)


def _blob(
    size: int, row: float, column: float, radius: float, rng: np.random.Generator, *, rough: float
) -> _Blob:
    """An ellipse whose outline is ``rough`` by that share of the radius, in waves."""
    axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    along, across = axis[:, None] - np.float32(row), axis[None, :] - np.float32(column)
    flat, phase = rng.uniform(0.8, 1.0), rng.uniform(0, 2 * np.pi, 4)
    turn = np.arctan2(along, across)
    outline = 1 + (flat - 1) * np.square(np.sin(turn + phase[0]))
    for number, waves in enumerate((2, 3, 5), start=1):
        outline += rough * 2 / waves * np.cos(waves * turn + phase[number])
    inside = np.hypot(along, across) / (radius * outline)
    return _Blob(row, column, radius, np.asarray(inside, np.float32))


def _touching(size: int, liver: _Blob, radius: float, side: int, rng: np.random.Generator) -> _Blob:
    """A kidney below the liver that reaches a little into it, on the other side of the body."""
    angle = rng.uniform(0.25, 0.45) * np.pi
    reach = 0.93 * liver.radius + 0.75 * radius
    row = liver.row + reach * np.sin(angle)
    column = liver.column + side * reach * np.cos(angle)
    return _blob(size, row, column, radius, rng, rough=0.1)


def _kidney_shade(kidney: _Blob, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A bright rim about a darker middle with rays, as cortex and pyramids are."""
    axis = np.arange(size, dtype=np.float32) / np.float32(size)
    turn = np.arctan2(axis[:, None] - kidney.row, axis[None, :] - kidney.column)
    rays = np.cos(rng.integers(8, 12) * turn + rng.uniform(0, 2 * np.pi))
    middle = np.clip((0.75 - kidney.inside_hw) * 6, 0, 1)
    return np.asarray(KIDNEY_SHADE - middle * (0.1 + 0.05 * rays), np.float32)


def _spots(
    size: int, where_hw: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> list[_Blob]:
    """Small blobs whose centres lie well inside of an area; fewer if there is no room."""
    room = cv2.distanceTransform(where_hw.astype(np.uint8), cv2.DIST_L2, 5)
    spots = []
    for _ in range(count):
        radius = rng.uniform(0.022, 0.04)
        places = np.argwhere(room > radius * size)
        if len(places):
            row, column = (places[rng.integers(len(places))] + 0.5) / size
            spots.append(_blob(size, row, column, radius, rng, rough=0.1))
    return spots


def _add_bones(image: NDArray[np.float32], size: int, rng: np.random.Generator) -> None:
    """Bright background: a spine, and a rib on either side."""
    places = ((0.82, 0.5, 0.055), (0.55, 0.09, 0.025), (0.55, 0.91, 0.025))
    for row, column, radius in places:
        shake = rng.uniform(-0.015, 0.015, 2)
        bone = _blob(size, row + shake[0], column + shake[1], radius, rng, rough=0.1)
        image[bone.mask_hw] = np.float32(rng.uniform(0.8, 0.9))
