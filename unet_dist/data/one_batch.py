"""A data set of a few parts of training images, for the question whether a network can learn them
by heart."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.config_data import DataConfig, SplitConfig
from unet_dist.data.dataset import Dataset
from unet_dist.data.images import Pixels
from unet_dist.data.sample import IGNORE, Sample
from unet_dist.data.windows import busiest_window
from unet_dist.errors import UserError
from unet_dist.runs import write_files_atomically

LOOKED_AT = 64
"""Training masks that are read to find images with every class."""


class OneBatch(NamedTuple):
    config: DataConfig
    """Reads the written files: class numbers, nothing left for validation or test."""
    ids: tuple[str, ...]
    """Of the samples the parts were cut from."""
    contradictions: tuple[str, ...]
    """Pairs of the same picture with different masks, for a person."""


def write_one_batch(dataset: Dataset, number: int, folder: Path, *, crop: int) -> OneBatch:
    """Writes ``images/``, ``masks/`` and, with a field of view, ``fov/``.

    Of each image, as the network sees it (after ``data.resize``), the square of ``crop`` pixels
    with most of the structures is taken, all of it with crop 0. It is written at that size, so
    that what a smaller size cannot show is not held against the network.

    Raises:
        UserError: there are not so many training images, or none has any foreground.
    """
    config = dataset.config
    contents: dict[Path, bytes] = {}
    seen: dict[bytes, tuple[Sample, NDArray[np.uint8], tuple[slice, slice]]] = {}
    contradictions = []
    samples = _most_classes(dataset, number)
    for index, sample in enumerate(samples):
        image_hwc, target_hw, view_hw = dataset.read(sample)
        window = busiest_window(np.where(view_hw, target_hw, IGNORE), crop or max(view_hw.shape))
        # The same picture twice gets the same square: at two places even contradictory masks could
        # be learnt by heart.
        picture = hashlib.sha256(image_hwc.tobytes()).digest()
        first, first_hw, window = seen.setdefault(picture, (sample, target_hw, window))
        if not np.array_equal(first_hw, target_hw):
            contradictions.append(
                f"{first.id} and {sample.id} are the same picture with different masks"
            )
        name = f"{index:03d}_{re.sub(r'[^A-Za-z0-9_.-]', '_', sample.id)[-80:]}.png"
        layers: dict[str, Pixels] = {
            "images": np.rint(image_hwc[window] * 65535).astype(np.uint16),
            "masks": target_hw[window],
        }
        if config.fov != "none":
            layers["fov"] = view_hw[window].astype(np.uint8) * np.uint8(255)
        contents |= {folder / layer / name: _png(pixels) for layer, pixels in layers.items()}
    write_files_atomically(contents, durable=False)
    return OneBatch(
        config=config.model_copy(
            update={
                "format": "folder",
                "root": str(folder),
                "images": "images",
                "masks": "masks",
                "mask_suffix": "",
                "mask": "labels",
                "ignore": IGNORE,
                "resize": 1.0,
                "object_size": 0.0,
                "border": 0.0,
                "even_light": 0.0,
                "observer": "first",
                "class_names": config.names,
                "fov": "none" if config.fov == "none" else "file",
                "fov_masks": "" if config.fov == "none" else "fov",
                "split": SplitConfig(by="ratio", val=0.0, test=0.0),
            }
        ),
        ids=tuple(sample.id for sample in samples),
        contradictions=tuple(contradictions),
    )


def _most_classes(dataset: Dataset, number: int) -> list[Sample]:
    """The first training images of those with the most classes."""
    train = dataset.splits.train
    if number > len(train):
        raise UserError("--overfit", f"{number} images are asked for, but only {len(train)} train")
    looked_at = train[: max(number, LOOKED_AT)]
    classes = []
    for sample in looked_at:
        example = dataset.read(sample)
        inside = np.unique(example.target_hw[example.fov_hw])
        classes.append(int(((inside > 0) & (inside != IGNORE)).sum()))
    if not any(classes):
        raise UserError(
            "--overfit",
            f"none of the first {len(looked_at)} training masks has any foreground "
            f"({dataset.coding.describe()}): is data.mask right?",
        )
    ranked = sorted(range(len(looked_at)), key=lambda index: -classes[index])
    return [looked_at[index] for index in sorted(ranked[:number])]


def _png(pixels: Pixels) -> bytes:
    """With OpenCV, since Pillow writes no 16-bit colour."""
    written, content = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert written
    return content.tobytes()
