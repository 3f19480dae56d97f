"""Quantisation-aware training: a short training from a run's weights, in which convolutions see
weights and inputs of 8 bits (``model.fake_quant``), and the model of 8 bits that it learnt.

It is an ordinary run, on as many ranks as any, of the network without batch norms: as it is
deployed.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save

from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.deploy.folding import fold_batch_norms
from unet_dist.deploy.observe import Observer, observe
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.parity import Tell, untold
from unet_dist.deploy.ptq import Calibrated, Options, calibrate, evenly
from unet_dist.deploy.qdq import Layer, groups_of, joint_ranges, layers_of
from unet_dist.deploy.ranges import Range
from unet_dist.deploy.source import Source
from unet_dist.errors import UserError
from unet_dist.evaluate.metrics import hard_prediction
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.runs import RunDir, write_files_atomically

SHARE_OF_EPOCHS = 0.1
SHARE_OF_RATE = 0.1
"""Of the run's own; a tenth is what is usual for fine-tuning."""
ENCODER = re.compile(r"(?P<pass>(?:refine\.)?)encoder\.(?P<level>\d+)\.body\.3")
Progress = Literal["new", "begun", "done"]
SEEN_IMAGES = 2
"""Whose tiles tell which layers rounding hurts most."""


def qat_config(config: Config, start: Path, epochs: int) -> Config:
    """
    Args:
        epochs: 0 for a tenth of the run's.
    """
    epochs = epochs or math.ceil(config.train.epochs * SHARE_OF_EPOCHS)
    norm = "none" if config.model.norm in ("batch", "sync_batch") else config.model.norm
    every = math.ceil(epochs / 3)
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"norm": norm, "fake_quant": True}),
            "train": config.train.model_copy(
                update={
                    "epochs": epochs,
                    "lr": config.train.lr * SHARE_OF_RATE,
                    "start_from": str(start.resolve()),
                    "amp": "off",
                }
            ),
            "evaluate": config.evaluate.model_copy(update={"every_epochs": every}),
            "checkpoint": config.checkpoint.model_copy(update={"every_epochs": every}),
        }
    )


def start_file(source: Source, folder: RunDir, *, images: int) -> Path:
    """Named after the weights and the number of images that ranges are learnt on, so that a
    training that started from others is told by its configuration."""
    digest = source.metadata.checkpoint_sha256[:16]
    return folder.path.with_name(f"{folder.path.name}_start_{digest}_{images}.safetensors")


def write_start(source: Source, path: Path, *, images: int) -> None:
    """The weights that the training starts from, and the ranges of what layers read on so many
    training images."""
    made = calibrate(source, Options(calibrate=images))
    start = dict(fold_batch_norms(source.weights))
    # As deployed: a gate and its decoder read the same upsampled features at one scale.
    ranges = joint_ranges(groups_of(made.model, [one.input for one in made.layers]), made.ranges)
    for cell, tensor in _rounding_cells(made.layers):
        seen = ranges[tensor]
        start[f"{cell}.low"] = np.array([seen.low], np.float32)
        start[f"{cell}.high"] = np.array([seen.high], np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save({name: np.ascontiguousarray(value) for name, value in start.items()})
    write_files_atomically({path: content}, durable=False)


def _rounding_cells(layers: Sequence[Layer]) -> list[tuple[str, str]]:
    """Cells of the network in training, each with the tensor of the deployed graph it rounds."""
    cells = [(f"{layer.name}.rounded_input", layer.input) for layer in layers]
    names = {layer.name for layer in layers}
    for name in sorted(names):
        if found := ENCODER.fullmatch(name):
            half, level = found["pass"], int(found["level"])
            # Every level but the deepest hands what its block makes to a decoder.
            if f"{half}encoder.{level + 1}.body.3" in names:
                cells.append((f"{half}skips.{level}", f"{half}encoder.{level}.body.5"))
    return cells


def progress_of(run: RunDir, wanted: Config) -> Progress:
    """How far the training came before: "begun" if it was killed or stopped, or failed.

    Raises:
        UserError: the folder holds a training with other settings.
    """
    if not run.config.exists():
        return "new"
    if run.load_config() != wanted:
        raise UserError(
            str(run.path), "holds a training with other settings; choose another folder for -o"
        )
    return "done" if run.state() == "done" else "begun"


def learned(trained: Source, *, start_images: int, tell: Tell = untold) -> Calibrated:
    """The model of 8 bits of a training with ``model.fake_quant``.

    Args:
        start_images: that were asked for to begin its ranges from (``start_file``).
    """
    model = build_model(trained.weights, trained.config.model, trained.metadata)
    layers = layers_of(model)
    known = {
        tensor: Range(
            low=float(trained.weights[f"{cell}.low"][0]),
            high=float(trained.weights[f"{cell}.high"][0]),
        )
        for cell, tensor in _rounding_cells(layers)
    }
    # Training saw what convolutions read; what is passed on to them is within.
    ranges = joint_ranges(groups_of(model, [layer.input for layer in layers]), known)
    observer = Observer(model, trained.metadata, [])
    samples = trained.dataset.splits.train
    seen_images = evenly(samples, SEEN_IMAGES)
    on_image = partial(tell, "reading tiles of {} training images")
    observe(observer, trained.config, trained.dataset, seen_images, on_image=on_image)
    return Calibrated(
        model=model,
        metadata=replace(trained.metadata, precision="int8"),
        layers=layers,
        ranges=ranges,
        corrections={},
        inputs=observer.inputs,
        images=len(evenly(samples, start_images)),
        activations="u8",
        epochs=trained.config.train.epochs,
    )


def agreement(
    networks: Sequence[Network],
    config: Config,
    dataset: Dataset,
    samples: Sequence[Sample],
    threshold: float | None,
    *,
    tell: Tell = untold,
) -> float:
    """Share of the pixels inside the field of view that two networks give the same class."""
    predictors = [Predictor(config, [network]) for network in networks]
    equal = total = 0
    for number, sample in enumerate(samples):
        tell("comparing with the training: {} validation images", number, len(samples))
        fov_hw = dataset.read_native(sample).fov_hw
        one, other = (
            hard_prediction(each.of_sample(dataset, sample), threshold) for each in predictors
        )
        equal += int(np.count_nonzero((one == other) & fov_hw))
        total += int(np.count_nonzero(fov_hw))
    return equal / total
