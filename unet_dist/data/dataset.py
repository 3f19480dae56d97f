"""A data set that was listed, understood and divided, and the reading of its samples."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.config_data import DataConfig
from unet_dist.data.fov import estimate_fov, read_fov
from unet_dist.data.images import Pixels, image_size, read_image, read_indices, to_unit_range
from unet_dist.data.light import even_light
from unet_dist.data.masks import MaskCoding, count_values, decode, recognise
from unet_dist.data.object_size import factor_to, median_diameter, resize_numbers
from unet_dist.data.public_sets import other_observer
from unet_dist.data.sample import IGNORE, Example, ImageRef, Sample
from unet_dist.data.sources import list_samples
from unet_dist.data.splits import Splits, split_samples
from unet_dist.errors import UserError

READERS = 4
"""Threads that decode files; the decoders release Python's lock."""


class Normalisation(NamedTuple):
    """Mean and standard deviation of each input channel, over pixels inside the view."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class ImageCache:
    """Examples that were read, up to a number of bytes; safe for threads.

    What fits stays for good: every epoch visits every image once, so evicting the oldest would
    drop each image just before its next use and never hit.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._examples: dict[tuple[str, bool], Example] = {}
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def get(self, key: tuple[str, bool]) -> Example | None:
        with self._lock:
            return self._examples.get(key)

    def put(self, key: tuple[str, bool], example: Example) -> None:
        """Keeps the example if there is room for it."""
        size = sum(array.nbytes for array in example)
        with self._lock:
            if key not in self._examples and self._used_bytes + size <= self._limit_bytes:
                self._examples[key] = example
                self._used_bytes += size


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The samples of each part and the meaning of their masks."""

    config: DataConfig
    coding: MaskCoding
    splits: Splits
    cache: ImageCache = field(repr=False, compare=False)

    def read(self, sample: Sample) -> Example:
        """The sample as the network is trained on it, resized; its arrays are read-only."""
        if self.config.resize == 1 and not self.config.object_size:
            return self.read_native(sample)
        return self._cached(sample, native=False)

    def read_native(self, sample: Sample) -> Example:
        """The sample in its own size, in which predictions are scored; read-only arrays."""
        return self._cached(sample, native=True)

    def read_objects(self, sample: Sample) -> NDArray[np.integer]:
        """The object numbers of the sample's mask in its own size, 0 where there is none."""
        assert sample.mask is not None
        assert self.coding.kind in ("instances", "instances_border")
        return read_indices(sample.mask)

    def read_other_observer(self, sample: Sample) -> NDArray[np.uint8] | None:
        """Class numbers as the observer who is not the truth drew them; None where only one did."""
        if self.coding.kind != "binary" or sample.mask is None:
            return None
        path = other_observer(sample.mask.path, self.config.format)
        if path is None:
            return None
        other_hw = np.asarray(read_indices(ImageRef(path=path)) != 0, np.uint8)
        shape = image_size(sample.image)
        if faults := size_faults(sample, shape, other_hw.shape, shape):
            raise UserError(str(path), faults)
        return other_hw

    def largest_size(self) -> tuple[int, int]:
        """Height and width, after ``data.resize``, that no training image exceeds."""
        sizes = [image_size(sample.image) for sample in self.splits.train]
        largest = (max(size[0] for size in sizes), max(size[1] for size in sizes))
        return resized(largest, self.config.resize)

    def _resized(self, example: Example, numbers_hw: NDArray[np.integer] | None) -> Example:
        """By the size of its true objects if that is asked for.

        Args:
            numbers_hw: the values of its mask.
        """
        factor, size = self.config.resize, self.config.object_size
        if numbers_hw is None or self.coding.kind not in ("instances", "instances_border"):
            return resize_example(example, factor)
        if size:
            factor = factor_to(size, median_diameter(np.where(example.fov_hw, numbers_hw, 0)))
        example = resize_example(example, factor)
        # Borders are drawn at the new size: those of one pixel would be dots at half of it.
        numbers_hw = resize_numbers(numbers_hw, example.target_hw.shape)
        return example._replace(target_hw=decode(numbers_hw, self.coding))

    def _cached(self, sample: Sample, *, native: bool) -> Example:
        example = self.cache.get((sample.id, native))
        if example is None:
            example, numbers_hw = _read_sample(sample, self.config, self.coding)
            if not native:
                example = self._resized(example, numbers_hw)
            for array in example:
                array.setflags(write=False)  # several threads share it
            self.cache.put((sample.id, native), example)
        return example


def open_dataset(config: DataConfig, *, seed: int) -> Dataset:
    """Lists the samples, reads every mask once to learn its coding, and divides the samples.

    Raises:
        UserError: with all faults of the first of these three that has any.
    """
    samples = list_samples(config)
    splits = split_samples(samples, config.split, seed=seed)
    return Dataset(
        config=config,
        coding=recognise_all(samples, config),
        splits=splits,
        cache=ImageCache(config.cache_mb << 20),
    )


def resized(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width after a resize by the factor."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resize_example(example: Example, factor: float) -> Example:
    """Image by area when it shrinks and linearly when it grows, classes by nearest pixel."""
    if factor == 1:
        return example
    rows, columns = example.target_hw.shape
    height, width = resized((rows, columns), factor)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = cv2.resize(example.image_hwc, (width, height), interpolation=how)
    # INTER_NEAREST takes the upper left of the pixels in question: half a pixel off.
    nearest = cv2.INTER_NEAREST_EXACT
    target = cv2.resize(example.target_hw, (width, height), interpolation=nearest)
    fov = cv2.resize(example.fov_hw.view(np.uint8), (width, height), interpolation=nearest)
    return Example(
        np.asarray(image, np.float32).reshape(height, width, -1),
        np.asarray(target, np.uint8),
        np.asarray(fov, np.uint8).view(np.bool_),
    )


def normalisation(dataset: Dataset) -> Normalisation:
    """Of the training images; a channel that is constant gets the deviation 1."""
    number, sums, squares = 0, 0.0, 0.0
    for sample in dataset.splits.train:
        example = dataset.read(sample)
        inside = example.image_hwc[example.fov_hw].astype(np.float64)
        number += len(inside)
        sums += inside.sum(axis=0)
        squares += (inside**2).sum(axis=0)
    return moments_to_normalisation(number, np.asarray(sums), np.asarray(squares))


def moments_to_normalisation(
    number: int, sums: NDArray[np.float64], squares: NDArray[np.float64]
) -> Normalisation:
    """From the count of pixels and the sums of their values and squares, one a channel."""
    if number == 0:
        raise UserError("data", "no training pixel is inside the field of view: check data.fov")
    mean = sums / number
    variance = np.maximum(squares / number - mean**2, 0)
    # Fluorescence pictures often leave a colour channel empty. 1e-4 is half a grey step of 4096.
    std = np.where(variance > 1e-8, np.sqrt(variance), 1.0)
    return Normalisation(tuple(map(float, mean)), tuple(map(float, std)))


def read_view(sample: Sample, image: Pixels, config: DataConfig) -> NDArray[np.bool_]:
    """The sample's field of view as the configuration asks for it, in the image's size."""
    if config.fov == "file" and sample.fov is not None:
        return read_fov(sample.fov)
    if config.fov == "estimate":
        return estimate_fov(image)
    return np.ones(image.shape[:2], np.bool_)


def size_faults(
    sample: Sample, image: tuple[int, ...], mask: tuple[int, ...], fov: tuple[int, ...]
) -> list[str]:
    """Says which of mask and field of view are not as large as the image."""
    return [
        f"{sample.id}: the image has {image[0]} x {image[1]} pixels but its {name} "
        f"{shape[0]} x {shape[1]} (height x width): are they of the same picture?"
        for name, shape in (("mask", mask), ("field of view", fov))
        if shape[:2] != image[:2]
    ]


def _read_sample(
    sample: Sample, config: DataConfig, coding: MaskCoding
) -> tuple[Example, NDArray[np.integer] | None]:
    """And the values of its mask, if it has one."""
    image, indices = read_image(sample.image), None
    fov = read_view(sample, image, config)
    if sample.mask is None:
        target = np.full(image.shape[:2], IGNORE, np.uint8)
    else:
        indices = read_indices(sample.mask)
        target = decode(indices, coding, where=str(sample.mask.path))
    if faults := size_faults(sample, image.shape, target.shape, fov.shape):
        raise UserError(str(sample.image.path), faults)
    return Example(network_input(image, fov, config), target, fov), indices


def network_input(
    image: Pixels, fov_hw: NDArray[np.bool_], config: DataConfig
) -> NDArray[np.float32]:
    """What the network is to see of an image, 0..1, before resizing and normalisation."""
    image_hwc = to_unit_range(image, config.channels)
    if not config.even_light:
        return image_hwc
    return even_light(image_hwc, fov_hw, config.even_light, config.even_curve)


def recognise_all(samples: list[Sample], config: DataConfig) -> MaskCoding:
    """The coding of the masks, each of which is read.

    Raises:
        UserError: with every mask that cannot be read, or with values of no plain meaning.
    """

    def values_of(sample: Sample) -> dict[int, int] | UserError:
        assert sample.mask is not None  # listed samples have one
        try:
            return count_values(read_indices(sample.mask))
        except UserError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(values_of, samples))
    errors = [item for item in found if isinstance(item, UserError)]
    if errors:
        faults = [f"{error.where}: {fault}" for error in errors for fault in error.faults]
        raise UserError(f"masks of {config.root}", faults)
    return recognise(
        {
            sample.id: counts
            for sample, counts in zip(samples, found, strict=True)
            if not isinstance(counts, UserError)
        },
        config,
    )
