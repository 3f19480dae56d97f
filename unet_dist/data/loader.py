"""Batches of one rank, prepared in the background while a step runs.

An epoch is a permutation of the crops that depends on (seed, epoch). A step takes the next
``train.batch`` of them, whatever the number of ranks; accumulation step a, rank r takes those at
places ``r, r + world, ...`` of its part. The last step of an epoch is filled up with images of
weight 0, so each crop counts once an epoch and all ranks take equally many steps.
"""

import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import IGNORE, Sample
from unet_dist.data.skeletons import skeletons
from unet_dist.data.transforms import augment, normalise, sample_rng


class Batch(NamedTuple):
    """One forward and backward pass of one rank."""

    x_nchw: NDArray[np.float32]
    target_nhw: NDArray[np.int32]
    """Class numbers, 0 where not valid."""
    valid_nhw: NDArray[np.float32]
    """1 where loss and metrics count, else 0."""
    skeleton_nhw: NDArray[np.int32]
    """Class numbers on skeletons, else 0; ``[N, 1, 1]`` if the loss has no use for them."""
    weight_n: NDArray[np.float32]
    """1 for an image, 0 for padding."""
    keep_nc: NDArray[np.float32]
    """Dropout factors of the deepest level's channels."""
    step_images: int
    """Images of the whole step, over ranks and accumulation, without padding."""


class Place(NamedTuple):
    """Which crop fills a place of a batch; ``counts`` is False for padding."""

    crop: int
    counts: bool


def steps_per_epoch(num_crops: int, batch: int) -> int:
    return -(-num_crops // batch)


def epoch_order(num_crops: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(num_crops)


def step_places(
    order: NDArray[np.int64],
    *,
    step: int,
    batch: int,
    accumulation: int,
    rank: int,
    world: int,
) -> list[list[Place]]:
    """The places of one rank in one step of an epoch, for each accumulation step.

    With batch 4, two ranks, no accumulation and the order 7 2 9 4: rank 0 takes 7 9, rank 1
    takes 2 4.
    """
    taken = order[step * batch : (step + 1) * batch]
    places = [Place(int(crop), True) for crop in taken]
    places += [Place(int(order[0]), False)] * (batch - len(places))
    part = batch // accumulation
    return [places[a * part : (a + 1) * part][rank::world] for a in range(accumulation)]


class TrainLoader:
    """The training batches of one rank."""

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        *,
        rank: int,
        world: int,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        dropout_channels: int,
    ) -> None:
        self._dataset, self._config = dataset, config
        self._samples: tuple[Sample, ...] = dataset.splits.train
        self._rank, self._world = rank, world
        self._mean, self._std = mean, std
        self._dropout_channels = dropout_channels
        self.num_crops = len(self._samples) * config.augment.crops_per_image
        self.steps_per_epoch = steps_per_epoch(self.num_crops, config.train.batch)
        crop = config.augment.crop
        self.size = (crop, crop) if crop else dataset.largest_size()

    def steps(self, first_step: int, last_step: int) -> Iterator[list[Batch]]:
        """The batches of steps ``first_step`` up to, not including, ``last_step`` of the run,
        made in a thread that stays at most ``prefetch`` steps ahead."""
        ready: queue.Queue[list[Batch] | BaseException] = queue.Queue(self._config.train.prefetch)
        closed = threading.Event()

        def hand_over(item: list[Batch] | BaseException) -> bool:
            while not closed.is_set():
                try:
                    ready.put(item, timeout=0.2)
                except queue.Full:
                    continue
                return True
            return False

        def work() -> None:
            try:
                for step in range(first_step, last_step):
                    if not hand_over(self.make_step(step)):
                        return
            except BaseException as error:  # noqa: BLE001 - raised again by the reader
                hand_over(error)

        thread = threading.Thread(target=work, name="loader", daemon=True)
        thread.start()
        try:
            for _ in range(first_step, last_step):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            closed.set()
            thread.join()

    def make_step(self, step: int) -> list[Batch]:
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        train = self._config.train
        order = epoch_order(self.num_crops, seed=self._config.seed, epoch=epoch)
        parts = step_places(
            order,
            step=step_of_epoch,
            batch=train.batch,
            accumulation=train.accumulation,
            rank=self._rank,
            world=self._world,
        )
        step_images = min(train.batch, self.num_crops - step_of_epoch * train.batch)
        return [self._batch(places, epoch, step_images) for places in parts]

    def _batch(self, places: list[Place], epoch: int, step_images: int) -> Batch:
        images, targets, valids, skeletal, keeps = [], [], [], [], []
        no_skeleton = np.zeros((1, 1), np.uint8)
        wants_skeletons = self._config.loss.skeleton_recall > 0
        for place in places:
            rng = sample_rng(self._config.seed, epoch, place.crop)
            sample = self._samples[place.crop // self._config.augment.crops_per_image]
            example = augment(
                self._dataset.read(sample), self._config.augment, size=self.size, rng=rng
            )
            valid = example.fov_hw & (example.target_hw != IGNORE)
            images.append(normalise(example.image_hwc, self._mean, self._std).transpose(2, 0, 1))
            target = np.where(valid, example.target_hw, 0)
            targets.append(target)
            skeletal.append(skeletons(target) if wants_skeletons else no_skeleton)
            valids.append(valid)
            keeps.append(self._dropout(rng))
        return Batch(
            x_nchw=np.ascontiguousarray(np.stack(images), np.float32),
            target_nhw=np.stack(targets).astype(np.int32),
            valid_nhw=np.stack(valids).astype(np.float32),
            skeleton_nhw=np.stack(skeletal).astype(np.int32),
            weight_n=np.array([place.counts for place in places], np.float32),
            keep_nc=np.stack(keeps),
            step_images=step_images,
        )

    def _dropout(self, rng: np.random.Generator) -> NDArray[np.float32]:
        rate = self._config.model.dropout
        kept = rng.random(self._dropout_channels) >= rate
        return (kept / (1 - rate)).astype(np.float32)
