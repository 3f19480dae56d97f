"""Which layers of a network stay in float32, and what the model of 8 bits is worth then."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import onnx

from unet_dist.deploy.model_file import Metadata
from unet_dist.deploy.parity import Tell, untold
from unet_dist.deploy.ptq import (
    Calibrated,
    Options,
    dice_of,
    fewest_float_layers,
    file_of,
    seconds_of,
    sensitivities,
)
from unet_dist.deploy.qat import agreement
from unet_dist.deploy.runtime import RUNTIMES, DeployedNetwork, Runtime, session_of
from unet_dist.deploy.sizes import Sizes, described
from unet_dist.deploy.source import Source
from unet_dist.errors import counted
from unet_dist.evaluate.symmetries import symmetries
from unet_dist.evaluate.table import bootstrap_unit

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What the Dice of float32 and of 8 bits is the mean of."""

    images: int
    unit: str
    """image, or patient where one has several."""
    units: int
    views: int
    """Mirrored and turned ones of each, as in the run's evaluation."""

    @classmethod
    def of(cls, source: Source) -> "Validation":
        samples = source.dataset.splits.val
        groups = [sample.group for sample in samples]
        return cls(
            images=len(samples),
            unit=bootstrap_unit(groups),
            units=len(set(groups)),
            views=len(symmetries(source.config.evaluate.tta)),
        )


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A model of 8 bits and what was measured of it, on validation images."""

    content: bytes
    float_layers: tuple[str, ...]
    sensitivities: dict[str, float]
    dice: dict[str, float]
    """By runtime."""
    dice_float32: float
    seconds: float
    """Of one batch of tiles."""
    seconds_float32: float
    layers: int
    layout: str
    sizes: Sizes
    calibrated_on: int
    """Training images that ranges were learnt on; those of a training were begun from them."""
    epochs: int | None
    """Of the training that learnt the ranges, if one did."""
    training_images: int
    threshold: float | None
    threshold_float32: float | None
    validation: Validation
    agreement: float | None
    """Share of the pixels of validation images that training with 8 bits gave the same class."""

    def to_json(self, options: Options) -> dict[str, Any]:
        left_out = ("content", "sizes")
        tree = {key: value for key, value in asdict(self).items() if key not in left_out}
        dice, sizes = self.dice[options.runtime], self.sizes
        return {
            "options": asdict(options),
            **tree,
            "ranges": "calibrated" if self.epochs is None else "learnt in training",
            "bytes": sizes.written,
            "bytes_float32": sizes.float32,
            "bytes_plain": sizes.plain,
            "bytes_compact": sizes.compact,
            "drop": self.dice_float32 - dice,
            "size": sizes.written / sizes.float32,
            "speedup": self.seconds_float32 / self.seconds,
        }

    def faults(self, options: Options) -> list[str]:
        """What is beyond the limits."""
        faults = []
        drop = self.dice_float32 - self.dice[options.runtime]
        if not drop <= options.max_drop:
            faults.append(
                f"its Dice is {self.dice[options.runtime]:.4f} where float32 has "
                f"{self.dice_float32:.4f}: {drop:.4f} lost, more than --max-drop "
                f"{options.max_drop:g}, with {counted(len(self.float_layers), 'layer')} in float32"
            )
        sizes = self.sizes
        if sizes.written > options.max_size * sizes.float32:
            faults.append(
                f"its file is {sizes.written / sizes.float32:.1%} of the float32 one "
                f"({sizes.written:,} of {sizes.float32:,} bytes), more than --max-size "
                f"{options.max_size:g}: {sizes.remedies(options)} would do"
            )
        if self.seconds > self.seconds_float32:
            faults.append(
                f"it takes {1000 * self.seconds:.1f} ms by {options.runtime} where float32 takes "
                f"{1000 * self.seconds_float32:.1f} ms"
            )
        return faults


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A model of 8 bits as it would be written, since in a compact file biases have fewer
    digits."""

    content: bytes
    sizes: Sizes
    dice: float


def choose(
    source: Source,
    made: Calibrated,
    plain: bytes,
    options: Options,
    *,
    say: Say,
    tell: Tell = untold,
) -> Quantised:
    """Leaves as few layers in float32 as the limit of the Dice allows, those first whose rounding
    moves the output most."""
    worst_first = sensitivities(made, tell=tell)
    names = list(worst_first)
    validation = Validation.of(source)
    before = _dice(source, plain, source.metadata, options.runtime, "float32", tell)

    @cache
    def candidate(number: int) -> _Candidate:
        return _candidate(source, made, names[:number], len(plain), options, tell)

    def is_good(number: int) -> bool:
        after = candidate(number).dice
        say(
            f"{number} of {len(names)} layers in float32: Dice {after:.4f}, was {before:.4f}, on "
            f"{counted(validation.images, 'validation image')}, "
            f"{counted(validation.views, 'view')} of each, by {options.runtime}"
        )
        return math.isnan(before) or before - after <= options.max_drop

    number = fewest_float_layers(names, is_good)
    chosen = candidate(number)
    seconds_float32, seconds = _seconds(source, (plain, chosen.content), options.runtime, tell)
    return Quantised(
        content=chosen.content,
        float_layers=tuple(names[:number]),
        sensitivities=worst_first,
        dice=_dice_by_runtime(source, made, chosen, options.runtime, tell),
        layout="compact" if onnx.load_from_string(chosen.content).functions else "plain",
        sizes=chosen.sizes,
        dice_float32=before,
        seconds=seconds,
        seconds_float32=seconds_float32,
        layers=len(names),
        calibrated_on=made.images,
        epochs=made.epochs,
        training_images=len(source.dataset.splits.train),
        threshold=made.metadata.threshold,
        threshold_float32=source.metadata.threshold,
        validation=validation,
        agreement=_agreement(source, made, chosen, options.runtime, tell),
    )


def _candidate(
    source: Source,
    made: Calibrated,
    float_layers: Sequence[str],
    bytes_float32: int,
    options: Options,
    tell: Tell,
) -> _Candidate:
    model = described(made.quantised(float_layers), made.metadata)
    content = file_of(model, options.layout, largest=options.max_size * bytes_float32)
    return _Candidate(
        content=content,
        sizes=Sizes.of(model, float32=bytes_float32, written=len(content)),
        dice=_dice(source, content, made.metadata, options.runtime, "8 bits", tell),
    )


def _dice(
    source: Source, content: bytes, metadata: Metadata, runtime: Runtime, name: str, tell: Tell
) -> float:
    """On the validation images."""
    return dice_of(
        DeployedNetwork(session_of(content, runtime), metadata),
        source.config,
        source.dataset,
        source.dataset.splits.val,
        metadata.threshold,
        on_image=partial(tell, f"Dice of {name} by {runtime}: {{}} validation images"),
    )


def _dice_by_runtime(
    source: Source, made: Calibrated, chosen: _Candidate, known: Runtime, tell: Tell
) -> dict[str, float]:
    """
    Args:
        known: by which the Dice was measured already.
    """
    return {
        runtime: chosen.dice
        if runtime == known
        else _dice(source, chosen.content, made.metadata, runtime, "8 bits", tell)
        for runtime in RUNTIMES
        if made.activations == "u8" or runtime != "openvino"  # ``runtime.SIGNED``
    }


def _seconds(
    source: Source, contents: tuple[bytes, bytes], runtime: Runtime, tell: Tell
) -> tuple[float, float]:
    """Of one batch of tiles, by each of the two."""
    tell("measuring the speed", 0, 1)
    evaluate = source.config.evaluate
    shape = (evaluate.batch, source.metadata.in_channels, evaluate.tile, evaluate.tile)
    x_nchw = np.random.default_rng(0).random(shape, np.float32)
    before, after = seconds_of([session_of(one, runtime) for one in contents], x_nchw)
    return before, after


def _agreement(
    source: Source, made: Calibrated, chosen: _Candidate, runtime: Runtime, tell: Tell
) -> float | None:
    """With what training computed, if one saw 8 bits."""
    if made.taught_by is None:
        return None
    deployed = DeployedNetwork(session_of(chosen.content, runtime), made.metadata)
    return agreement(
        [made.taught_by, deployed],
        source.config,
        source.dataset,
        source.dataset.splits.val,
        made.metadata.threshold,
        tell=tell,
    )
