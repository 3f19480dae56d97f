"""From a run to a model of 8 bits that is good, small and fast enough, or to no file."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_dist.deploy.choice import Quantised, Say, choose
from unet_dist.deploy.export import (
    check_room,
    checked,
    files_of,
    kept,
    onnx_bytes,
    record_of,
)
from unet_dist.deploy.model_file import ModelFile
from unet_dist.deploy.parity import FEW_ODD_SHAPES, Refused, Tell, untold
from unet_dist.deploy.ptq import Calibrated, Options
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession, session_of
from unet_dist.deploy.source import Source
from unet_dist.errors import UserError
from unet_dist.evaluate.outputs import to_png, write_files
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.files import json_bytes
from unet_dist.report.panels import PictureRow
from unet_dist.report.quantised import pair_strips, quantised_html

MOST_PICTURES = 6


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
    record = {
        "run": str(source.run.path.resolve()),
        "checkpoint_sha256": source.metadata.checkpoint_sha256,
        **quantised.to_json(options),
        "faults": faults,
        "file": file.int8.name,
    }
    report = _report(source, made, plain, quantised, record, options, tell)
    write_files(
        {
            **files_of(source, file.onnx, plain, record_of(source, file.onnx, plain, parity)),
            file.int8: quantised.content,
            file.report: report,
            file.quantize_record: json_bytes(record),
        }
    )
    return record


def _report(
    source: Source,
    made: Calibrated,
    plain: bytes,
    quantised: Quantised,
    record: Mapping[str, Any],
    options: Options,
    tell: Tell,
) -> bytes:
    page = quantised_html(
        record,
        _pictures(source, made, plain, quantised, options, tell),
        classes=source.metadata.classes,
        even_light=source.config.data.even_light > 0,
    )
    return page.encode()


def _pictures(
    source: Source,
    made: Calibrated,
    plain: bytes,
    quantised: Quantised,
    options: Options,
    tell: Tell,
) -> list[tuple[str, list[bytes]]]:
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
        found.append((caption, [to_png(strip) for strip in pair_strips(*rows)]))
    return found
