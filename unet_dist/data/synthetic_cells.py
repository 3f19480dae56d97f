"""Pictures like electron micrographs of tissue, and like fluorescent nuclei, with exact masks."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.transforms import smooth_noise

NEIGHBOURS = [(row, column) for row in range(-2, 3) for column in range(-2, 3)]
JOINED = 0.3
"""Share of the cells that are joined to the one before, so that not all are convex."""


class Tissue(NamedTuple):
    image_hw: NDArray[np.uint8]
    membranes_hw: NDArray[np.bool_]


class Nuclei(NamedTuple):
    image_hw: NDArray[np.uint8]
    numbers_hw: NDArray[np.uint16]
    """0 for the background, then each nucleus has its own number."""


def draw_tissue(size: int, rng: np.random.Generator) -> Tissue:
    """Cells with wobbly membranes; membranes are true within their half thickness."""
    cell = max(12.0, size / rng.uniform(7.0, 9.0))
    distance, numbers = _cells(size, cell, rng)
    shape = (size, size)
    half = (1.6 + 0.45 * smooth_noise(shape, cell / 2, rng)) * max(1.0, size / 300)
    half = np.clip(half, 1.1, None)
    membranes = distance < half
    shades = rng.normal(0.62, 0.06, numbers.max() + 1).astype(np.float32)
    image = shades[numbers] + 0.035 * smooth_noise(shape, cell / 3, rng)
    image += 0.06 * smooth_noise(shape, 1.6, rng)
    image = _add_organelles(image, distance, cell, rng)
    # Membranes cut at a slant look pale and wide; the mask stays at their middle.
    slant = np.clip(0.25 + 0.45 * smooth_noise(shape, cell / 2.5, rng), 0, 0.75)
    wall = np.exp(-np.square(distance / (half * (0.85 + 1.1 * slant)))) * (1 - 0.55 * slant)
    image -= 0.5 * wall * (1 + 0.2 * smooth_noise(shape, 2.5, rng))
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.7), np.float32)
    image += np.float32(0.055) * rng.standard_normal(shape, np.float32)
    image += 0.03 * smooth_noise(shape, size / 3, rng)
    return Tissue(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), membranes)


def _cells(
    size: int, cell: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distance to the nearest border in pixels, and the number of each pixel's cell.

    A Voronoi diagram of a shaken grid, seen through a wobbly glass; only the 5 x 5 nearest
    grid places can own a pixel, so the time grows with the pixels alone.
    """
    places = int(np.ceil(size / cell)) + 6
    shape = (places, places)
    corners = np.stack(np.meshgrid(np.arange(places), np.arange(places), indexing="ij"), axis=2)
    seeds = corners + rng.uniform(0.02, 0.98, (*shape, 2))
    joined = np.flatnonzero(rng.random(places**2) < JOINED)
    flat = np.arange(places**2)
    for place in joined[joined % places != 0]:
        flat[place] = flat[place - (1 if rng.random() < 0.5 or place < places else places)]
    numbers = flat.reshape(shape)
    squeeze = rng.uniform(0.7, 1.0)
    glass = [
        0.30 * smooth_noise((size, size), 0.55 * cell, rng)
        + 0.07 * smooth_noise((size, size), 0.16 * cell, rng)
        for _ in range(2)
    ]
    axis = np.arange(size, dtype=np.float32) / np.float32(cell) + np.float32(3)
    rows = axis[:, None] * np.float32(squeeze) + glass[0]
    columns = axis[None, :] + glass[1]
    owner = _owners(rows, columns, seeds.astype(np.float32), numbers)
    inside = np.ones(owner.shape, np.uint8)
    inside[1:] &= owner[1:] == owner[:-1]
    inside[:, 1:] &= owner[:, 1:] == owner[:, :-1]
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Whole pixels make steps in the outline; a little blur rounds them off.
    return np.asarray(cv2.GaussianBlur(distance, (0, 0), 0.8), np.float32), owner


def _owners(
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    seeds: NDArray[np.float32],
    numbers: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The number of the nearest seed, for places in units of the grid."""
    last = len(numbers) - 1
    home_row, home_column = np.floor(rows).astype(int), np.floor(columns).astype(int)
    best = np.full(rows.shape, np.inf, np.float32)
    owner = np.zeros(rows.shape, np.int64)
    for down, right in NEIGHBOURS:
        row = np.clip(home_row + down, 0, last)
        column = np.clip(home_column + right, 0, last)
        seed = seeds[row, column]
        away = np.square(rows - seed[..., 0]) + np.square(columns - seed[..., 1])
        owner = np.where(away < best, numbers[row, column], owner)
        best = np.minimum(best, away)
    return owner


def _add_organelles(
    image: NDArray[np.float32],
    distance: NDArray[np.float32],
    cell: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Mitochondria, dark with darker rims and folds, and small vesicles, clear of membranes."""
    size = len(image)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    mitochondria = 0
    for _ in range(int(6 * (size / cell) ** 2)):
        row, column = rng.integers(0, size, 2)
        room = float(distance[row, column])
        big = mitochondria < 0.35 * (size / cell) ** 2 and room > 0.16 * cell
        if not big and room < 3:
            continue
        length = rng.uniform(0.55, 0.8) * room if big else rng.uniform(0.9, 1.6)
        width = length * (rng.uniform(0.55, 0.9) if big else 1)
        angle = rng.uniform(0, np.pi)
        reach = int(2 * length) + 2
        part = (
            slice(max(0, row - reach), row + reach + 1),
            slice(max(0, column - reach), column + reach + 1),
        )
        across, along = x[part] - column, y[part] - row
        u = np.cos(angle) * across + np.sin(angle) * along
        v = np.cos(angle) * along - np.sin(angle) * across
        inside = np.hypot(u / length, v / width)
        soft = 1 / (1 + np.exp(np.clip((inside - 1) * 1.6 * width, -30, 30)))
        if big:
            mitochondria += 1
            folds = 0.05 * np.sin(u * 2.2 + 0.5 * np.sin(v))
            rim = np.exp(-np.square((inside - 0.93) * width / 1.1))
            image[part] -= soft * (0.17 + folds) + 0.13 * rim
        else:
            image[part] -= 0.16 * soft
    return image


def draw_nuclei(size: int, rng: np.random.Generator) -> Nuclei:
    """Bright ellipses with rough outlines on a dark ground; some touch, later ones lie below."""
    numbers = np.zeros((size, size), np.uint16)
    light = np.zeros((size, size), np.float32)
    texture = smooth_noise((size, size), 2.5, rng)
    radius = max(4.0, size / rng.uniform(18, 26))
    for _ in range(int(0.1 * (size / radius) ** 2) + 1):
        row, column = rng.uniform(0, size, 2)
        axes = radius * rng.uniform(0.75, 1.35, 2)
        reach = int(1.1 * axes.max()) + 1  # the outline is at most 9 % rougher than the ellipse
        rows = slice(max(0, int(row) - reach), int(row) + reach + 2)
        columns = slice(max(0, int(column) - reach), int(column) + reach + 2)
        part = numbers[rows, columns]
        along = (np.arange(rows.start, rows.start + part.shape[0]) - row)[:, None]
        across = np.arange(columns.start, columns.start + part.shape[1]) - column
        inside = _rough_ellipse(across, along, axes, rng)
        free = inside & (part == 0)
        # What is left of a nucleus below another must be most of it, and in one piece.
        pieces, _ = cv2.connectedComponents(free.astype(np.uint8), connectivity=4)
        if pieces != 2 or free.sum() < 0.6 * inside.sum():
            continue
        part[free] = numbers.max() + 1
        shade = rng.uniform(0.3, 0.75)
        light[rows, columns][free] = shade * (1 + 0.15 * texture[rows, columns][free])
    glow = cv2.GaussianBlur(light, (0, 0), 1.1) + 0.12 * np.asarray(
        cv2.GaussianBlur(light, (0, 0), radius)
    )
    image = 0.04 + np.asarray(glow, np.float32)
    image += rng.standard_normal(image.shape, np.float32) * (0.012 + 0.05 * np.sqrt(image) * 0.5)
    return Nuclei(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), numbers)


def _rough_ellipse(
    across: NDArray[np.float64],
    along: NDArray[np.float64],
    axes: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    turn = np.arctan2(along, across)
    u = np.cos(angle) * across + np.sin(angle) * along
    v = np.cos(angle) * along - np.sin(angle) * across
    rough = 1 + 0.06 * np.cos(3 * turn + phase) + 0.03 * np.cos(5 * turn - 2 * phase)
    return np.asarray(np.hypot(u / axes[0], v / axes[1]) < rough)
