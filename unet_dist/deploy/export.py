"""From a run to a model file that is proven equal, or to no file."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from unet_dist.deploy.compact import shorten
from unet_dist.deploy.model_file import ModelFile, content_of, metadata_of_onnx
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.parity import (
    FEW_ODD_SHAPES,
    ODD_SHAPES,
    Parity,
    Refused,
    Tell,
    compare_on_images,
    compare_on_random,
    untold,
)
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession, Session
from unet_dist.deploy.source import Source
from unet_dist.errors import UserError
from unet_dist.evaluate.outputs import write_files
from unet_dist.evaluate.predictor import Network
from unet_dist.files import json_bytes


def export_onnx(
    source: Source, folder: Path, native: Network, *, random: bool, tell: Tell = untold
) -> dict[str, Any]:
    """Writes ``model.onnx`` if it computes what MindSpore does.

    Args:
        random: compare on noise of more odd sizes, and of batches 1 to 4.

    Raises:
        Refused: it does not; what the folder held is left as it was.
    """
    file = ModelFile(folder).onnx
    check_room(source, folder, replaced=[file])
    content = onnx_bytes(source)
    session = OnnxRuntimeSession(content)
    shapes = ODD_SHAPES if random else FEW_ODD_SHAPES
    parity = checked(source, session, native, file=file, shapes=shapes, tell=tell)
    record = record_of(source, file, content, parity)
    write_files(files_of(source, file, content, record))
    return record


def onnx_bytes(source: Source) -> bytes:
    """The ONNX file of a run, valid but not yet compared."""
    model = shorten(build_model(source.weights, source.config.model, source.metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise Refused(f"model.onnx is no valid ONNX: {error}") from error
    return content_of(model)


def export_mindir(
    source: Source, folder: Path, native: Network, *, tell: Tell = untold
) -> dict[str, Any]:
    """Writes ``model.mindir``, for batches and tiles of the run's evaluation, if it computes what
    the run's network does.

    Raises:
        Refused: it does not; what the folder held is left as it was.
        UserError: asked for what a MindIR file cannot hold.
    """
    from unet_dist.deploy.native import MindirNetwork, mindir_of

    evaluate = source.config.evaluate
    if source.metadata.has_mask:
        raise UserError(
            "--with-threshold", "is for ONNX: of a MindIR file, compare the output yourself"
        )
    file = ModelFile(folder).mindir
    check_room(source, folder, replaced=[file])
    shape = (evaluate.batch, source.metadata.in_channels, evaluate.tile, evaluate.tile)
    tell("writing the MindIR file", 0, 1)
    content = mindir_of(source, shape)
    session = MindirNetwork(content)
    own = (evaluate.batch, evaluate.tile, evaluate.tile)
    parity = checked(source, session, native, file=file, shapes=[own], tell=tell)
    record = record_of(source, file, content, parity, shape=shape)
    write_files(files_of(source, file, content, record))
    return record


def checked(
    source: Source,
    session: Session,
    native: Network,
    *,
    file: Path,
    shapes: Sequence[tuple[int, int, int]],
    tell: Tell = untold,
) -> Parity:
    """
    Args:
        file: that is to be written if they are equal.
        shapes: of random images to compare on, besides the validation images of the run.

    Raises:
        Refused: the two networks differ.
    """
    deployed = DeployedNetwork(session, source.metadata)
    samples = source.dataset.splits.val
    parity = compare_on_images(
        native,
        deployed,
        source.config,
        source.dataset,
        samples,
        source.metadata.threshold,
        tell=tell,
    )
    noise = compare_on_random(
        native, deployed, in_channels=source.metadata.in_channels, shapes=shapes, tell=tell
    )
    parity = parity.with_noise(noise)
    if faults := parity.faults():
        raise Refused(f"{file.name} is refused: {'; '.join(faults)}{kept(file)}")
    return parity


def kept(file: Path) -> str:
    """What to say of an older file in the place of one that is refused."""
    return f". {file} is still the one of before" if file.exists() else ""


def check_room(source: Source, folder: Path, *, replaced: Sequence[Path]) -> None:
    """
    Args:
        replaced: models that are to be written; older ones stay until these are proven.

    Raises:
        UserError: the folder holds a model of other weights or options that would stay there.
    """
    model_file = ModelFile(folder)
    faults = []
    for file in (model_file.onnx, model_file.mindir):
        if file.exists() and file not in replaced:
            known = replace(model_file.load_metadata(), opset=source.metadata.opset)
            if known != source.metadata:
                faults.append(f"its {file.name} has other weights or options")
    small = model_file.int8
    if (
        small.exists()
        and small not in replaced
        and metadata_of_onnx(small).run_sha256 != source.metadata.checkpoint_sha256
    ):
        faults.append(f"its {small.name} has other weights")
    if faults:
        raise UserError(str(folder), [f"{fault}: choose another folder" for fault in faults])


def record_of(
    source: Source, file: Path, content: bytes, parity: Parity, **more: Any
) -> dict[str, Any]:
    """What is to be known of a model that was compared."""
    return {
        "file": file.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "run": str(source.run.path.resolve()),
        "checkpoint_step": source.state.step,
        "checkpoint_sha256": source.metadata.checkpoint_sha256,
        "parity": parity.to_json(),
        **more,
    }


def files_of(
    source: Source, file: Path, content: bytes, record: Mapping[str, Any]
) -> dict[Path, bytes]:
    """The model and what is told of it, to be written together."""
    model_file = ModelFile(file.parent)
    return {
        file: content,
        model_file.metadata: json_bytes(source.metadata.to_json()),
        model_file.export_record(file): json_bytes(record),
    }
