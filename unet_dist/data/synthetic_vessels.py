"""Pictures like fundus photographs, with the exact mask of their vessels."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.transforms import smooth_noise

CANVAS = 1024
"""Side, at least, of the canvas on which vessels are drawn before they are scaled down."""
SHARES = (0.10, 0.125)
"""Share of the field of view that vessels cover, drawn uniformly between these."""
THINNEST = 0.0036
"""Radius at which a vessel ends, as a share of the field's radius (of 1)."""
STEP = 0.012
"""Length of a vessel's straight pieces, as a share of the field's radius."""


class Fundus(NamedTuple):
    image_hwc: NDArray[np.uint8]
    vessels_hw: NDArray[np.bool_]
    fov_hw: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Sprout:
    """Where a vessel begins; lengths in radii of the field, whose centre is 0, 0."""

    x: float
    y: float
    heading: float
    radius: float
    aim: float
    """Heading to which the vessel keeps returning."""
    arcade: int
    """-1 or 1 if it arches above or below the fovea, 0 if it follows its aim."""
    artery: bool


class _Vessel(NamedTuple):
    points: NDArray[np.float64]
    """Centre line, n x 2."""
    radius: float
    artery: bool


class _Eye(NamedTuple):
    disc: tuple[float, float]
    fovea: tuple[float, float]
    side: int
    """1 if the fovea lies right of the optic disc, else -1."""


def draw_fundus(size: int, rng: np.random.Generator) -> Fundus:
    """A square picture with a round field of view; vessels are true where more than half lies
    inside a vessel."""
    side = 1 if rng.random() < 0.5 else -1
    disc = (-side * rng.uniform(0.42, 0.58), rng.uniform(-0.1, 0.1))
    fovea = (disc[0] + side * rng.uniform(0.62, 0.72), disc[1] + rng.uniform(0.04, 0.12))
    eye = _Eye(disc, fovea, side)
    vessels, ink = _grow_all(eye, size, rng)
    scale = ink.shape[0] / size
    cover = cv2.resize(ink, (size, size), interpolation=cv2.INTER_AREA)
    grid = (np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)) / _field(size)
    distance = np.hypot(grid[:, None], grid[None, :])
    fov = distance <= 1
    mask = (np.asarray(cover) >= 128) & fov
    image = _paint(eye, size, distance, _darkness(vessels, size, scale), rng)
    image[~fov] = rng.integers(0, 4, (int((~fov).sum()), 1))
    return Fundus(image, mask, fov)


def _field(size: int) -> float:
    """Radius of the field of view in pixels."""
    return 0.48 * size


def _grow_all(
    eye: _Eye, size: int, rng: np.random.Generator
) -> tuple[list[_Vessel], NDArray[np.uint8]]:
    """Grows the thickest sprout first until the vessels cover the share wanted."""
    side = size * max(2, -(-CANVAS // size))
    ink = np.zeros((side, side), np.uint8)
    goal = rng.uniform(*SHARES) * np.pi * _field(side) ** 2
    sprouts, vessels = _roots(eye, rng), list[_Vessel]()
    while cv2.countNonZero(ink) < goal:
        if not sprouts:
            sprouts = [_side_sprout(vessels, rng) for _ in range(8)]
        sprouts.sort(key=lambda sprout: sprout.radius)
        vessel, more = _grow(sprouts.pop(), eye, rng)
        sprouts += more
        if len(vessel.points) > 1:
            vessels.append(vessel)
            _stroke(ink, vessel, 255, size=size, width=2 * vessel.radius)
    return vessels, ink


def _roots(eye: _Eye, rng: np.random.Generator) -> list[_Sprout]:
    """An artery and a vein into each quadrant: two arcades round the fovea, two to the nose."""
    sprouts = []
    for arcade in (-1, 1):
        for temporal in (True, False):
            for artery in (True, False):
                # Degrees from the direction of the fovea; arcades rise steeply, then turn.
                degrees = (rng.uniform(58, 80) if temporal else rng.uniform(115, 145)) + 10 * artery
                heading = arcade * np.deg2rad(degrees)
                heading = heading if eye.side > 0 else np.pi - heading
                radius = (0.0150 if temporal else 0.0105) * rng.uniform(0.9, 1.1)
                sprouts.append(
                    _Sprout(
                        x=eye.disc[0] + rng.normal(0, 0.012),
                        y=eye.disc[1] + rng.normal(0, 0.02),
                        heading=heading,
                        radius=radius * (0.8 if artery else 1),
                        aim=heading,
                        arcade=arcade if temporal else 0,
                        artery=artery,
                    )
                )
    return sprouts


def _preferred(sprout: _Sprout, x: float, y: float, eye: _Eye) -> float:
    """The heading that the vessel bends towards: an arcade turns round the fovea."""
    if not sprout.arcade:
        return sprout.aim
    height = sprout.arcade * (y - eye.fovea[1]) / (0.54 if sprout.artery else 0.62)
    rise = np.clip(2.2 * (1 - height), -0.45, 2.2)
    return float(np.arctan2(sprout.arcade * rise, eye.side))


def _grow(sprout: _Sprout, eye: _Eye, rng: np.random.Generator) -> tuple[_Vessel, list[_Sprout]]:
    """A vessel up to its fork, and the two sprouts there.

    Murray's law (1926): the cubes of the daughters' radii add up to the mother's.
    """
    x, y, heading = sprout.x, sprout.y, sprout.heading
    points = [(x, y)]
    wobble = 0.0
    length = rng.uniform(0.10, 0.20) * (1 + 10 * sprout.radius)
    for _ in range(max(2, int(length / STEP))):
        wobble = 0.75 * wobble + rng.normal(0, 0.045)
        turn = _preferred(sprout, x, y, eye) - heading
        heading += 0.09 * float(np.arctan2(np.sin(turn), np.cos(turn))) + wobble
        x, y = x + STEP * np.cos(heading), y + STEP * np.sin(heading)
        points.append((x, y))
        if np.hypot(x, y) > 1.02 or np.hypot(x - eye.fovea[0], y - eye.fovea[1]) < 0.1:
            return _Vessel(np.array(points), sprout.radius, sprout.artery), []
    vessel = _Vessel(np.array(points), sprout.radius, sprout.artery)
    return vessel, _fork(sprout, x, y, heading, rng)


def _fork(
    sprout: _Sprout, x: float, y: float, heading: float, rng: np.random.Generator
) -> list[_Sprout]:
    """The two daughters: equal ones part widely, a thin one leaves at nearly a right angle."""
    thin = rng.uniform(0.15, 0.5) if sprout.radius < 0.0085 else rng.uniform(0.07, 0.25)
    turn = 1 if rng.random() < 0.5 else -1
    sprouts = []
    for flow, angle in ((1 - thin, -thin * rng.uniform(0.5, 1.1)), (thin, rng.uniform(0.5, 1.1))):
        radius = sprout.radius * flow ** (1 / 3)
        if radius >= THINNEST:
            main = flow > 0.7
            sprouts.append(
                _Sprout(
                    x=x,
                    y=y,
                    heading=heading + turn * angle,
                    radius=radius,
                    aim=sprout.aim if main else heading + turn * angle * rng.uniform(0.3, 1.1),
                    arcade=sprout.arcade if main else 0,
                    artery=sprout.artery,
                )
            )
    return sprouts


def _side_sprout(vessels: list[_Vessel], rng: np.random.Generator) -> _Sprout:
    """A thin branch from the middle of a vessel, where the trees ended too early."""
    vessel = vessels[int(rng.integers(len(vessels)))]
    index = int(rng.integers(len(vessel.points) - 1))
    (x, y), (next_x, next_y) = vessel.points[index], vessel.points[index + 1]
    turn = 1 if rng.random() < 0.5 else -1
    heading = float(np.arctan2(next_y - y, next_x - x)) + turn * rng.uniform(0.7, 1.3)
    return _Sprout(
        x=float(x),
        y=float(y),
        heading=heading,
        radius=min(vessel.radius * 0.7, 0.006) + THINNEST / 4,
        aim=heading + turn * rng.uniform(-0.9, 0.2),
        arcade=0,
        artery=vessel.artery,
    )


def _stroke(
    canvas: NDArray[np.uint8], vessel: _Vessel, level: int, *, size: int, width: float
) -> None:
    """Draws the centre line with a round pen; a vessel is 1 pixel of the picture wide at least."""
    scale = canvas.shape[0] / size
    radius = _field(canvas.shape[0])
    centre = (canvas.shape[0] - 1) / 2
    pen = max(1, round(max(width * radius, scale)))
    # The last 4 bits are fractions of a pixel.
    points = np.rint((vessel.points * radius + centre) * 16).astype(np.int32)
    cv2.polylines(canvas, [points], False, level, thickness=pen, lineType=cv2.LINE_8, shift=4)


def _darkness(
    vessels: list[_Vessel], size: int, scale: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """How much of each pixel is vein, artery, and the light reflex along thick arteries."""
    side = round(size * scale)
    layers = []
    for artery in (False, True):
        canvas = np.zeros((side, side), np.uint8)
        # Thin vessels hold less blood and are paler; thick ones are drawn last, on top.
        for vessel in sorted(vessels, key=lambda vessel: vessel.radius):
            if vessel.artery == artery:
                pale = min(1.0, 0.45 + 0.55 * vessel.radius / 0.009)
                _stroke(canvas, vessel, int(255 * pale), size=size, width=2 * vessel.radius)
        layers.append(canvas)
    reflex = np.zeros((side, side), np.uint8)
    for vessel in vessels:
        if 2 * vessel.radius * _field(size) > 2.5:
            level = 255 if vessel.artery else 90
            _stroke(reflex, vessel, level, size=round(4 * side), width=0.55 * vessel.radius)
    veins, arteries, shine = (
        np.asarray(cv2.resize(layer, (size, size), interpolation=cv2.INTER_AREA) / 255, np.float32)
        for layer in (*layers, reflex)
    )
    return veins, arteries, shine


def _paint(
    eye: _Eye,
    size: int,
    distance: NDArray[np.float32],
    blood: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    radius = _field(size)
    y, x = (np.mgrid[:size, :size].astype(np.float32) - np.float32((size - 1) / 2)) / radius
    shape = (size, size)
    cloud = smooth_noise(shape, 0.35 * radius, rng)
    streaks = smooth_noise(shape, max(1.0, 0.05 * radius), rng)
    towards = rng.uniform(-0.12, 0.12, 2)
    light = 1 - 0.28 * distance**2 + towards[0] * x + towards[1] * y + 0.04 * cloud
    light *= 1 - 0.35 * np.clip((distance - 0.9) / 0.1, 0, 1) ** 2
    colour = np.array([0.76, 0.37, 0.15]) * rng.uniform([0.9, 0.85, 0.7], [1.1, 1.15, 1.2])
    image = np.stack([light * np.float32(part) for part in colour], axis=2)
    image *= (1 + np.array([0.02, 0.05, 0.05], np.float32) * streaks[..., None]).astype(np.float32)
    away = np.hypot(x - eye.fovea[0], y - eye.fovea[1])
    macula = np.exp(-((away / 0.2) ** 2))[..., None]
    image *= 1 - macula * np.array([0.22, 0.34, 0.3], np.float32)
    rim = np.hypot((x - eye.disc[0]) / 0.135, (y - eye.disc[1]) / 0.155)
    disc = 1 / (1 + np.exp(np.clip((rim - 1) * 14, -30, 30)))
    cup = np.exp(-((rim / 0.5) ** 2))
    pale = np.array([0.97, 0.78, 0.50]) * rng.uniform(0.92, 1.03)
    image += (disc * (0.72 + 0.25 * cup))[..., None] * (pale.astype(np.float32) - image)
    vein, artery, shine = (np.asarray(cv2.GaussianBlur(layer, (0, 0), 0.5)) for layer in blood)
    image *= 1 - vein[..., None] * np.array([0.36, 0.58, 0.48], np.float32)
    image *= 1 - artery[..., None] * np.array([0.20, 0.46, 0.40], np.float32)
    image += (shine * 0.16)[..., None] * np.array([1.0, 0.7, 0.4], np.float32)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.45, size / 1100)))
    grain = rng.standard_normal((size, size, 3), np.float32) * np.float32(0.55)
    grain += rng.standard_normal((size, size, 1), np.float32)
    image += grain * np.array([0.014, 0.013, 0.012], np.float32)
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), np.uint8)
