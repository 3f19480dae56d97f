"""From a run to a model file that is proven equal, or to no file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from unet_dist.deploy.compact import shorten
from unet_dist.deploy.model_file import ModelFile
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.parity import (
    FEW_ODD_SHAPES,
    ODD_SHAPES,
    Parity,
    Refused,
    compare_on_images,
    compare_on_random,
)
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession, Session
from unet_dist.deploy.source import Source
from unet_dist.errors import UserError
from unet_dist.evaluate.outputs import write_files
from unet_dist.evaluate.predictor import Network
from unet_dist.runs import write_json


def export_onnx(source: Source, folder: Path, native: Network, *, random: bool) -> dict[str, Any]:
    """Writes ``model.onnx`` if it computes what MindSpore does.

    Args:
        random: compare on noise of more odd sizes, and of batches 1 to 4.

    Raises:
        Refused: it does not; nothing is written.
    """
    _cleared(source, ModelFile(folder).onnx, beside=ModelFile(folder).mindir)
    content = onnx_bytes(source)
    session = OnnxRuntimeSession(content)
    shapes = ODD_SHAPES if random else FEW_ODD_SHAPES
    parity = checked(source, session, native, where="model.onnx", shapes=shapes)
    return write_onnx(source, folder, content, parity)


def write_onnx(source: Source, folder: Path, content: bytes, parity: Parity) -> dict[str, Any]:
    """A file that was compared.

    Raises:
        UserError: see ``_cleared``.
    """
    _cleared(source, ModelFile(folder).onnx, beside=ModelFile(folder).mindir)
    return _write(source, ModelFile(folder).onnx, content, parity)


def onnx_bytes(source: Source) -> bytes:
    """The ONNX file of a run, valid but not yet compared."""
    model = shorten(build_model(source.weights, source.config.model, source.metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise Refused(f"model.onnx is no valid ONNX: {error}") from error
    content: bytes = model.SerializeToString()
    return content


def export_mindir(source: Source, folder: Path, native: Network) -> dict[str, Any]:
    """Writes ``model.mindir``, for batches and tiles of the run's evaluation, if it computes what
    the run's network does.

    Raises:
        Refused: it does not; nothing is written.
        UserError: asked for what a MindIR file cannot hold.
    """
    from unet_dist.deploy.native import MindirNetwork, mindir_of

    evaluate = source.config.evaluate
    if source.metadata.has_mask:
        raise UserError(
            "--with-threshold", "is for ONNX: of a MindIR file, compare the output yourself"
        )
    file = _cleared(source, ModelFile(folder).mindir, beside=ModelFile(folder).onnx)
    shape = (evaluate.batch, source.metadata.in_channels, evaluate.tile, evaluate.tile)
    content = mindir_of(source, shape)
    session = MindirNetwork(content)
    own = (evaluate.batch, evaluate.tile, evaluate.tile)
    parity = checked(source, session, native, where="model.mindir", shapes=[own])
    return _write(source, file, content, parity, shape=shape)


def checked(
    source: Source,
    session: Session,
    native: Network,
    *,
    where: str,
    shapes: Sequence[tuple[int, int, int]],
) -> Parity:
    """
    Args:
        shapes: of random images to compare on, besides the validation images of the run.

    Raises:
        Refused: the two networks differ.
    """
    deployed = DeployedNetwork(session, source.metadata)
    samples = source.dataset.splits.val
    parity = compare_on_images(
        native, deployed, source.config, source.dataset, samples, source.metadata.threshold
    )
    noise = compare_on_random(
        native, deployed, in_channels=source.metadata.in_channels, shapes=shapes
    )
    parity = parity.with_noise(noise)
    if faults := parity.faults():
        raise Refused(f"{where} is refused: {'; '.join(faults)}")
    return parity


def _cleared(source: Source, file: Path, *, beside: Path) -> Path:
    """The place of a model, with no older one there that could be taken for it if the new one is
    refused.

    Raises:
        UserError: the folder holds a model of another kind, made of other weights or options.
    """
    model_file = ModelFile(file.parent)
    if beside.exists():
        known = replace(model_file.load_metadata(), opset=source.metadata.opset)
        if known != source.metadata:
            raise UserError(
                str(file.parent),
                f"its {beside.name} has other weights or options: choose another folder",
            )
    file.unlink(missing_ok=True)
    return file


def _write(
    source: Source, file: Path, content: bytes, parity: Parity, **more: Any
) -> dict[str, Any]:
    model_file = ModelFile(file.parent)
    record = {
        "file": file.name,
        "bytes": len(content),
        "run": str(source.run.path.resolve()),
        "checkpoint_step": source.state.step,
        "parity": parity.to_json(),
        **more,
    }
    write_files({file: content})
    write_json(model_file.metadata, source.metadata.to_json())
    write_json(model_file.export_record(file), record)
    return record
