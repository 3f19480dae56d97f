"""Random changes to image, mask and field of view together, and normalisation.

Everything geometric is one displacement field and one remap per array: interpolating once
keeps thin vessels sharper than a chain of resampling steps, and costs 2 ms instead of 10.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.config import AugmentConfig
from unet_dist.data.sample import Example

TRIES = 16
"""Crop positions drawn until the centre of one is inside the field of view."""


class _Draws(NamedTuple):
    """The numbers drawn for one crop, uniform in 0..1.

    All are drawn whatever is switched on, so that one option does not change the others.
    """

    flips: NDArray[np.float64]
    angle: float
    zoom: float
    gamma: float
    contrast: float
    brightness: float
    positions: NDArray[np.float64]
    invert: float


def sample_rng(seed: int, epoch: int, sample_index: int) -> np.random.Generator:
    """The random numbers of one sample in one epoch, whichever rank and thread uses them."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, sample_index])))


def augment(
    example: Example, config: AugmentConfig, *, size: tuple[int, int], rng: np.random.Generator
) -> Example:
    """A random crop of ``size`` (height, width), changed as configured; image within 0..1.

    Beyond the edges the picture and its mask are mirrored, so that every pixel counts; only a
    field of view that is not everything ends there. With all strengths 0 the crop is the
    image's own pixels, bit for bit.
    """
    draws = _draw(rng)
    crop = _moved(example, config, draws, size=size, rng=rng)
    image = _recolour(np.ascontiguousarray(crop.image_hwc), config, draws, rng)
    return Example(image, np.ascontiguousarray(crop.target_hw), np.ascontiguousarray(crop.fov_hw))


def move(
    example: Example, config: AugmentConfig, *, size: tuple[int, int], rng: np.random.Generator
) -> Example:
    """The same crop, whose colours nobody changes: an image of any values stays what it is."""
    return _moved(example, config, _draw(rng), size=size, rng=rng)


def _moved(
    example: Example,
    config: AugmentConfig,
    draws: _Draws,
    *,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Example:
    left, top = _position(example.fov_hw, size, draws.positions)
    if config.rotate or config.scale or config.elastic:
        crop = _warp(example, config, size, (left, top), draws, rng)
    else:
        crop = _cut(example, size, (left, top))
    if config.flip:
        down, right = (slice(None, None, -1 if flip < 0.5 else 1) for flip in draws.flips)
        crop = _at(crop, (down, right))
    return crop


def normalise(
    image_hwc: NDArray[np.float32],
    mean: Sequence[float] | NDArray[np.float32],
    std: Sequence[float] | NDArray[np.float32],
) -> NDArray[np.float32]:
    """(image - mean) / std for each channel."""
    factor = 1 / np.asarray(std, np.float32)
    return np.asarray(image_hwc * factor - np.asarray(mean, np.float32) * factor)


def _draw(rng: np.random.Generator) -> _Draws:
    numbers = rng.random(8 + 2 * TRIES)
    angle, zoom, gamma, contrast, brightness = map(float, numbers[2:7])
    return _Draws(
        flips=numbers[:2],
        angle=angle,
        zoom=zoom,
        gamma=gamma,
        contrast=contrast,
        brightness=brightness,
        positions=numbers[7:-1].reshape(TRIES, 2),
        invert=float(numbers[-1]),
    )


def _position(
    fov_hw: NDArray[np.bool_], size: tuple[int, int], positions: NDArray[np.float64]
) -> tuple[int, int]:
    """Left and top of the crop: inside the image where it fits, else around it."""
    room = np.array(fov_hw.shape) - size
    corners = np.where(room >= 0, np.floor(positions * (room + 1)), room // 2).astype(int)
    centres = np.clip(corners + np.array(size) // 2, 0, np.array(fov_hw.shape) - 1)
    inside = fov_hw[centres[:, 0], centres[:, 1]]
    top, left = corners[int(np.argmax(inside))]  # the first inside, or the first of all
    return int(left), int(top)


def _cut(example: Example, size: tuple[int, int], corner: tuple[int, int]) -> Example:
    (height, width), (left, top) = size, corner
    rows, columns = example.target_hw.shape
    if top >= 0 and top + height <= rows and left >= 0 and left + width <= columns:
        return _at(example, (slice(top, top + height), slice(left, left + width)))
    y = np.arange(top, top + height)
    x = np.arange(left, left + width)
    mirrored = np.ix_(_mirror(y, rows), _mirror(x, columns))
    fov = example.fov_hw[mirrored]
    if not example.fov_hw.all():
        fov &= ((y >= 0) & (y < rows))[:, None] & ((x >= 0) & (x < columns))
    return Example(example.image_hwc[mirrored], example.target_hw[mirrored], fov)


def _at(example: Example, index: tuple[slice, slice]) -> Example:
    return Example(example.image_hwc[index], example.target_hw[index], example.fov_hw[index])


def _mirror(positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Folds positions into 0..length-1 as cv2.BORDER_REFLECT_101 does: dcb|abcd|cba."""
    period = max(2 * (length - 1), 1)
    folded = positions % period
    return np.minimum(folded, period - folded)


def _warp(
    example: Example,
    config: AugmentConfig,
    size: tuple[int, int],
    corner: tuple[int, int],
    draws: _Draws,
    rng: np.random.Generator,
) -> Example:
    map_x, map_y = _source_positions(config, size, corner, draws)
    if config.elastic:
        for positions in (map_x, map_y):
            field = smooth_noise(size, config.elastic_smooth, rng)
            positions += np.float32(config.elastic) * field
    mirror = cv2.BORDER_REFLECT_101
    image = cv2.remap(example.image_hwc, map_x, map_y, cv2.INTER_LINEAR, borderMode=mirror)
    target = cv2.remap(example.target_hw, map_x, map_y, cv2.INTER_NEAREST, borderMode=mirror)
    if example.fov_hw.all():
        fov = np.ones(size, np.bool_)
    else:
        inside = example.fov_hw.view(np.uint8)
        fov = cv2.remap(inside, map_x, map_y, cv2.INTER_NEAREST, borderValue=0).view(np.bool_)
    return Example(np.asarray(image, np.float32).reshape(*size, -1), np.asarray(target), fov)


def _source_positions(
    config: AugmentConfig, size: tuple[int, int], corner: tuple[int, int], draws: _Draws
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where in the image each pixel of the crop comes from: turned and zoomed about its centre."""
    height, width = size
    angle = np.deg2rad(config.rotate) * (2 * draws.angle - 1)
    zoom = 1 + config.scale * (2 * draws.zoom - 1)
    cos, sin = np.float32(np.cos(angle) / zoom), np.float32(np.sin(angle) / zoom)
    x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
    y = (np.arange(height, dtype=np.float32) - np.float32((height - 1) / 2))[:, None]
    centre_x = np.float32(corner[0] + (width - 1) / 2)
    centre_y = np.float32(corner[1] + (height - 1) / 2)
    return (cos * x + (centre_x - sin * y)), (sin * x + (centre_y + cos * y))


def smooth_noise(
    size: tuple[int, int], length: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Gaussian noise of standard deviation 1, smoothed by a Gaussian of ``length`` pixels.

    Drawn and smoothed on a grid about 4 points per length, then interpolated: the full
    resolution would take 20 times as long for a field that has no finer detail.
    """
    step = max(1, int(length / 4))
    sigma = length / step
    reach = int(np.ceil(3 * sigma))
    rows, columns = (-(-side // step) + 1 for side in size)
    white = rng.standard_normal((rows + 2 * reach, columns + 2 * reach), np.float32)
    kernel = cv2.getGaussianKernel(2 * reach + 1, sigma, cv2.CV_32F)
    smooth = cv2.sepFilter2D(white, -1, kernel, kernel)[reach:-reach, reach:-reach]
    # White noise through a separable kernel k has the standard deviation sum(k^2).
    smooth = smooth / np.float32(np.sum(np.square(kernel)))
    if step == 1:
        return np.asarray(smooth[: size[0], : size[1]])
    fine = cv2.resize(smooth, (columns * step, rows * step), interpolation=cv2.INTER_CUBIC)
    half = step // 2
    return np.ascontiguousarray(fine[half : half + size[0], half : half + size[1]], np.float32)


def _recolour(
    image_hwc: NDArray[np.float32], config: AugmentConfig, draws: _Draws, rng: np.random.Generator
) -> NDArray[np.float32]:
    if draws.invert < config.invert:
        image_hwc = np.float32(1) - image_hwc
    if not (config.gamma or config.contrast or config.brightness or config.noise):
        return image_hwc
    shape = image_hwc.shape
    image = image_hwc.copy()
    if config.gamma:
        exponent = (1 + config.gamma) ** (2 * draws.gamma - 1)
        image = np.asarray(cv2.pow(image, exponent), np.float32).reshape(shape)
    if config.contrast or config.brightness:
        factor = np.float32(1 + config.contrast * (2 * draws.contrast - 1))
        shift = np.float32(config.brightness * (2 * draws.brightness - 1))
        mean = np.asarray(cv2.mean(image)[: shape[2]], np.float32)
        image *= factor
        image += mean * (1 - factor) + shift
    if config.noise:
        noise = rng.standard_normal(shape, np.float32)
        noise *= np.float32(config.noise)
        image += noise
    return np.clip(image, np.float32(0), np.float32(1), out=image)
