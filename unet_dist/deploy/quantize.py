"""From a run to a model of 8 bits that is good, small and fast enough, or to no file."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from unet_dist.deploy.export import (
    check_room,
    checked,
    files_of,
    kept,
    onnx_bytes,
    record_of,
)
from unet_dist.deploy.model_file import Metadata, ModelFile
from unet_dist.deploy.parity import FEW_ODD_SHAPES, Refused, Tell, untold
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
from unet_dist.deploy.runtime import (
    RUNTIMES,
    DeployedNetwork,
    OnnxRuntimeSession,
    Runtime,
    session_of,
)
from unet_dist.deploy.source import Source
from unet_dist.errors import UserError, counted
from unet_dist.evaluate.outputs import to_png, write_files
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.evaluate.symmetries import symmetries
from unet_dist.evaluate.table import bootstrap_unit
from unet_dist.files import json_bytes
from unet_dist.report.panels import PictureRow
from unet_dist.report.quantised import pair_strip, quantised_html

MOST_PICTURES = 6
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
    bytes_float32: int
    seconds: float
    """Of one batch of tiles."""
    seconds_float32: float
    layers: int
    layout: str
    bytes_plain: int
    """Of the same model in the layout plain."""
    calibrated_on: int
    training_images: int
    validation: Validation
    agreement: float | None
    """Share of the pixels of validation images that training with 8 bits gave the same class."""

    def to_json(self, options: Options) -> dict[str, Any]:
        tree = {key: value for key, value in asdict(self).items() if key != "content"}
        dice = self.dice[options.runtime]
        return {
            "options": asdict(options),
            **tree,
            "bytes": len(self.content),
            "drop": self.dice_float32 - dice,
            "size": len(self.content) / self.bytes_float32,
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
                f"{options.max_drop:g}, with {len(self.float_layers)} layers in float32"
            )
        size = len(self.content) / self.bytes_float32
        if size > options.max_size:
            faults.append(
                f"its file is {size:.1%} of the float32 one ({len(self.content):,} of "
                f"{self.bytes_float32:,} bytes), more than --max-size {options.max_size:g}"
            )
        if self.seconds > self.seconds_float32:
            faults.append(
                f"it takes {1000 * self.seconds:.1f} ms by {options.runtime} where float32 takes "
                f"{1000 * self.seconds_float32:.1f} ms"
            )
        return faults


def quantise_run(
    source: Source,
    native: Network,
    make: Callable[[], Calibrated],
    folder: Path,
    options: Options,
    *,
    force: bool,
    say: Say,
    tell: Tell = untold,
) -> dict[str, Any]:
    """Writes the float32 model, the one of 8 bits, ``quantize.json`` and ``report.html``.

    Args:
        make: what is to be of 8 bits (``ptq.calibrate``, ``qat.learned``).
        force: write them even if the model of 8 bits is worse than the limits.

    Raises:
        Refused: what the folder held is left as it was.
        UserError: no image to learn from or to decide by.
    """
    splits = source.dataset.splits
    if not splits.val:
        raise UserError(str(source.run.path), "has no validation images to decide by")
    file = ModelFile(folder)
    check_room(source, folder, replaced=[file.onnx, file.int8])
    plain = onnx_bytes(source)
    session = OnnxRuntimeSession(plain)
    parity = checked(source, session, native, file=file.onnx, shapes=FEW_ODD_SHAPES, tell=tell)
    say(f"float32 is equal to MindSpore: {parity.describe()}")
    made = make()
    quantised = choose(source, made, plain, options, say=say, tell=tell)
    faults = quantised.faults(options)
    if faults and not force:
        raise Refused(
            f"the model of 8 bits is refused (--force writes it): {'; '.join(faults)}"
            f"{kept(file.int8)}"
        )
    record = {**quantised.to_json(options), "faults": faults, "file": file.int8.name}
    rows = _pictures(source, made, plain, quantised, options, tell)
    write_files(
        {
            **files_of(source, file.onnx, plain, record_of(source, file.onnx, plain, parity)),
            file.int8: quantised.content,
            file.report: quantised_html(
                record,
                rows,
                classes=source.metadata.classes,
                even_light=source.config.data.even_light > 0,
            ).encode(),
            file.quantize_record: json_bytes(record),
        }
    )
    return record


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
    samples = source.dataset.splits.val
    validation = Validation.of(source)

    def dice(content: bytes, metadata: Metadata, runtime: Runtime, name: str) -> float:
        network = DeployedNetwork(session_of(content, runtime), metadata)
        on_image = partial(tell, f"Dice of {name} by {runtime}: {{}} validation images")
        threshold = metadata.threshold
        return dice_of(
            network, source.config, source.dataset, samples, threshold, on_image=on_image
        )

    before = dice(plain, source.metadata, options.runtime, "float32")

    # Of the file as it is to be written: in a compact one biases have fewer digits.
    @cache
    def written(number: int) -> tuple[bytes, int, float]:
        described = _described(made, made.quantised(names[:number]))
        content = file_of(described, options.layout, largest=options.max_size * len(plain))
        in_plain = len(file_of(described, "plain", largest=0))
        return content, in_plain, dice(content, made.metadata, options.runtime, "8 bits")

    def is_good(number: int) -> bool:
        _, _, after = written(number)
        say(
            f"{number} of {len(names)} layers in float32: Dice {after:.4f}, was {before:.4f}, on "
            f"{counted(validation.images, 'validation image')}, "
            f"{counted(validation.views, 'view')} of each, by {options.runtime}"
        )
        return math.isnan(before) or before - after <= options.max_drop

    number = fewest_float_layers(names, is_good)
    content, bytes_plain, after = written(number)
    tell("measuring the speed", 0, 1)
    evaluate = source.config.evaluate
    shape = (evaluate.batch, source.metadata.in_channels, evaluate.tile, evaluate.tile)
    x_nchw = np.random.default_rng(0).random(shape, np.float32)
    both = [session_of(one, options.runtime) for one in (plain, content)]
    seconds_float32, seconds = seconds_of(both, x_nchw)
    return Quantised(
        content=content,
        float_layers=tuple(names[:number]),
        sensitivities=worst_first,
        dice={
            one: after if one == options.runtime else dice(content, made.metadata, one, "8 bits")
            for one in RUNTIMES
            if made.activations == "u8" or one != "openvino"  # ``runtime.SIGNED``
        },
        layout="compact" if onnx.load_from_string(content).functions else "plain",
        bytes_plain=bytes_plain,
        dice_float32=before,
        bytes_float32=len(plain),
        seconds=seconds,
        seconds_float32=seconds_float32,
        layers=len(names),
        calibrated_on=made.images,
        training_images=len(source.dataset.splits.train),
        validation=validation,
        agreement=None
        if made.taught_by is None
        else agreement(
            [made.taught_by, DeployedNetwork(session_of(content, options.runtime), made.metadata)],
            source.config,
            source.dataset,
            samples,
            made.metadata.threshold,
            tell=tell,
        ),
    )


def _described(made: Calibrated, model: onnx.ModelProto) -> onnx.ModelProto:
    described = onnx.ModelProto()
    described.CopyFrom(model)
    del described.metadata_props[:]
    helper.set_model_props(described, made.metadata.to_props())
    onnx.checker.check_model(described, full_check=True)
    return described


def _pictures(
    source: Source,
    made: Calibrated,
    plain: bytes,
    quantised: Quantised,
    options: Options,
    tell: Tell,
) -> list[tuple[str, bytes]]:
    """The first validation images: what they are, and image, truth and both predictions."""
    contents = ((plain, source.metadata), (quantised.content, made.metadata))
    predictors = [
        (
            metadata.threshold,
            Predictor(
                source.config, [DeployedNetwork(session_of(content, options.runtime), metadata)]
            ),
        )
        for content, metadata in contents
    ]
    found = []
    samples = source.dataset.splits.val[:MOST_PICTURES]
    for number, sample in enumerate(samples):
        tell("drawing pictures: {} validation images", number, len(samples))
        truth = source.dataset.read_native(sample)
        rows: Sequence[PictureRow] = [
            PictureRow(
                id=sample.id,
                image_hwc=truth.image_hwc,
                truth_hw=truth.target_hw,
                prob_hwk=predictor.of_sample(source.dataset, sample),
                threshold=threshold,
                fov_hw=truth.fov_hw,
                dice=math.nan,
            )
            for threshold, predictor in predictors
        ]
        changed = float((np.abs(rows[0].prob_hwk - rows[1].prob_hwk)).max())
        caption = f"{sample.id}: largest difference of a probability {changed:.3f}"
        found.append((caption, to_png(pair_strip(*rows))))
    return found
