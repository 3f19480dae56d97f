"""Prediction of image files by a deployed model, in this process: no run, no MindSpore."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unet_dist.config import Config, with_tta
from unet_dist.config_file import build_config
from unet_dist.data.images import read_indices
from unet_dist.data.masks import MaskCoding, count_values, recognise
from unet_dist.data.sample import ImageRef
from unet_dist.deploy.card_network import CONVERTED, open_card_network, read_converted
from unet_dist.deploy.model_file import Metadata, metadata_of_onnx
from unet_dist.deploy.runtime import DeployedNetwork, Runtime, open_network
from unet_dist.errors import UserError
from unet_dist.evaluate.fingerprint import file_digest
from unet_dist.evaluate.finished import unfinished
from unet_dist.evaluate.inputs import list_images, truths_in
from unet_dist.evaluate.numbering import Numbering
from unet_dist.evaluate.prediction import predict_file
from unet_dist.evaluate.prediction_task import PredictionSettings, PredictionTask, Uncertainty
from unet_dist.evaluate.predictor import Predictor

NORMS_OF_TILES = ("group", "instance")
"""Whose statistics are those of the tile itself."""


def check_tile(config: Config, tile: int) -> None:
    """
    Args:
        tile: that was asked for; 0 for that of the run.

    Raises:
        UserError: the network would compute something else by such tiles.
    """
    norm, own = config.model.norm, config.evaluate.tile
    if norm in NORMS_OF_TILES and tile not in (0, own):
        raise UserError(
            "--tile",
            f"is {tile}, but model.norm {norm} takes its statistics from each tile, so tiles of "
            f"another side than the run's evaluate.tile {own} give other, mostly worse masks: "
            f"leave --tile out (or give {own}); a run with model.norm batch may have any",
        )


@dataclass(frozen=True, kw_only=True)
class DeployedModel:
    """A model file that is to predict."""

    file: Path
    metadata: Metadata
    config: Config
    runtime: Runtime | Literal["card"]
    tile: int
    """That was asked for; 0 for that of the run."""

    @classmethod
    def open(
        cls, file: Path, *, runtime: Runtime | Literal["card"], tta: str, tile: int
    ) -> "DeployedModel":
        """
        Args:
            tta: empty for that of the run.
            tile: 0 for that of the run.

        Raises:
            UserError: the file cannot be read, or its network not be used by such tiles.
        """
        is_card = file.suffix in CONVERTED
        metadata = read_converted(file)[1] if is_card else metadata_of_onnx(file)
        config = build_config(metadata.config, [], where=str(file))
        check_tile(config, tile)
        if tta:
            config = with_tta(config, tta)  # type: ignore[arg-type]  # the command line checks it
        return cls(file=file, metadata=metadata, config=config, runtime=runtime, tile=tile)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Images, with what is known of each, and how to read their masks."""

    listed: Sequence[Mapping[str, Any]]
    coding: MaskCoding
    without_truth: int


def list_inputs(model: DeployedModel, images: Sequence[Path], truth: Path | None) -> Inputs:
    """
    Raises:
        UserError: an image is not there, or the masks' values have no plain meaning.
    """
    inputs = list_images(images)
    truths = truths_in(truth, inputs, suffix="") if truth else {}
    return Inputs(
        listed=[
            {
                **ImageRef(path=one.ref.path.resolve(), page=one.ref.page).to_json(),
                "stem": one.stem,
                "truth": found.to_json() if (found := truths.get(one.stem)) else None,
                "fov": None,
                "left_out_by": "",
                "trained_on": False,
            }
            for one in inputs
        ],
        coding=_coding(model.config, truths),
        without_truth=len(inputs) - len(truths) if truth else 0,
    )


def _coding(config: Config, truths: Mapping[str, ImageRef]) -> MaskCoding:
    """Of the masks that were given: those of the training are not known here."""
    if not truths:
        return MaskCoding(kind="binary", classes=2, values=(), shares={})
    counts = {str(ref.path): count_values(read_indices(ref)) for ref in truths.values()}
    return recognise(counts, config.data)


def predict_deployed(
    model: DeployedModel,
    inputs: Inputs,
    out: Path,
    *,
    uncertainty: Uncertainty,
    force: bool,
    on_image: Callable[[int, int], None],
) -> dict[str, Any]:
    """Writes the results of each image as ``unet-dist predict`` does for a run; a bad image does
    not stop the rest. What it returns is what that command answers."""
    listed = inputs.listed
    with _opened(model) as network:
        settings = _settings(model, inputs, uncertainty)
        todo = listed if force else unfinished(out, listed, settings.made_by)
        predictor = Predictor(model.config, [network])
        written, faults = _predict_each(predictor, todo, out, settings, on_image=on_image)
    return {
        "threshold": settings.threshold,
        "written": written,
        "skipped": len(listed) - len(todo),
        "trained_on": 0,
        "left_out": 0,
        "faults": faults,
    }


@contextmanager
def _opened(model: DeployedModel) -> Iterator[DeployedNetwork]:
    if model.runtime == "card":
        with open_card_network(model.file, device=0) as network:
            yield network
    else:
        yield open_network(model.file, model.metadata, model.runtime)


def _predict_each(
    predictor: Predictor[DeployedNetwork],
    todo: Sequence[Mapping[str, Any]],
    out: Path,
    settings: PredictionSettings,
    *,
    on_image: Callable[[int, int], None],
) -> tuple[list[dict[str, Any]], list[str]]:
    """What was written, and the faults of bad images."""
    std = settings.uncertainty == "std"
    forward = predictor.forward_with_variance if std else predictor.forward
    written, faults = [], []
    for number, image in enumerate(todo):
        on_image(number, len(todo))
        task = PredictionTask.of_json(image)
        try:
            record = predict_file(forward, task, out, settings, look=predictor.one_view)
        except UserError as error:
            faults.append(str(error))
            continue
        written.append({**image, **record.answer(out)})
    if todo:
        on_image(len(todo), len(todo))
    return written, faults


def _settings(model: DeployedModel, inputs: Inputs, uncertainty: Uncertainty) -> PredictionSettings:
    metadata, config = model.metadata, model.config
    numbering = Numbering(**metadata.numbering) if metadata.numbering else None
    if numbering is not None:
        numbering.check(str(model.file), "evaluate its run and export it again")
    return PredictionSettings(
        config=config,
        threshold=metadata.threshold,
        uncertainty=uncertainty,
        coding=inputs.coding,
        # The file's own digest stands for weights and settings, which it holds.
        made_by={
            "model_sha256": file_digest(model.file),
            "runtime": model.runtime,
            "evaluate.tta": config.evaluate.tta,
            "evaluate.tile": model.tile or config.evaluate.tile,
            "uncertainty": uncertainty,
        },
        numbering=numbering,
        tile=model.tile,
        usual_mean=0.0 if config.data.even_light else min(metadata.mean),
    )
