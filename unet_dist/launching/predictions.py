"""Which images are to be predicted, and what stands there already."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.manifest import read_manifest
from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError
from unet_dist.evaluate.inputs import list_images, truths_in, truths_of_dataset, views_of_dataset
from unet_dist.evaluate.numbering import numbering_of
from unet_dist.launching.copies import Copies
from unet_dist.runs import RunDir
from unet_dist.train.checkpoint import load_best
from unet_dist.train.made_by import made_by


@dataclass(frozen=True, kw_only=True)
class Training:
    """Which images of the data set the networks of a run, or of an ensemble, saw."""

    sample_ids: Mapping[ImageRef, str]
    """Of all images of the data set."""
    trained_on: frozenset[str]
    """Ids of images that networks which predict them were trained on."""
    left_out_by: Mapping[str, str]
    """Of folds, the one member that predicts an image since its training left it out, by id."""

    def of(self, ids: Sequence[str]) -> tuple[str, bool]:
        """As which sample an image is predicted, and whether a network that does so was trained on
        it. An image that the data set holds twice, in two folds, was left out by none of them."""
        if len({self.left_out_by.get(id_, "") for id_ in ids}) > 1:
            return "", True
        return next(iter(ids), ""), any(id_ in self.trained_on for id_ in ids)


def training_of(folder: RunDir) -> Training:
    runs = folder.networks()
    parts = {
        run.path.name: read_manifest(run.dataset, run.load_config().data)[0].splits for run in runs
    }
    left_out_by = {}
    if folder.is_ensemble() and folder.load_members().vary == "fold":
        left_out_by = {sample.id: name for name, one in parts.items() for sample in one.val}
    return Training(
        sample_ids={
            _resolved(sample.image): sample.id
            for one in parts.values()
            for samples in one.parts().values()
            for sample in samples
        },
        trained_on=frozenset(sample.id for one in parts.values() for sample in one.train)
        - left_out_by.keys(),
        left_out_by=left_out_by,
    )


def list_inputs(
    images: Sequence[Path], truth_folder: Path | None, dataset: Dataset, folder: RunDir
) -> tuple[list[dict[str, Any]], int]:
    """The images as the ranks are told of them, and how many of them lack a mask in --truth."""
    inputs = list_images(images)
    if truth_folder is None:
        truths, without = truths_of_dataset(dataset, inputs), 0
    else:
        truths = truths_in(truth_folder, inputs, suffix=dataset.config.mask_suffix)
        without = len(inputs) - len(truths)
    views = views_of_dataset(dataset, inputs) if dataset.config.fov == "file" else {}
    training = training_of(folder)
    copies = Copies(training.sample_ids)
    listed = []
    for image in inputs:
        ref = _resolved(image.ref)
        known = training.sample_ids.get(ref)
        sample, trained_on = training.of([known] if known else copies.ids_of(ref))
        listed.append(
            {
                **ref.to_json(),
                "stem": image.stem,
                "truth": truth.to_json() if (truth := truths.get(image.stem)) else None,
                "fov": fov.to_json() if (fov := views.get(image.stem)) else None,
                "sample": sample,
                "trained_on": trained_on,
                "left_out_by": training.left_out_by.get(sample, ""),
            }
        )
    return listed, without


def check_views(folder: RunDir, listed: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError if an image has a single view without test-time augmentation."""
    if not folder.is_ensemble():
        raise UserError(
            "--uncertainty", "std needs several views of each image: add --tta flip or d4"
        )
    if alone := sum(bool(image["left_out_by"]) for image in listed):
        raise UserError(
            "--uncertainty",
            "std needs several views of each image: add --tta flip or d4, since "
            f"{alone} of {len(listed)} are predicted by the one fold alone that left them out",
        )


def _resolved(ref: ImageRef) -> ImageRef:
    return ImageRef(path=ref.path.resolve(), page=ref.page)


def made_by_run(folder: RunDir, config: Config, uncertainty: str) -> dict[str, Any]:
    """On what predictions by the run, or by all members of an ensemble, depend."""
    trained = []
    for run in folder.networks():
        checkpoint, _ = load_best(run.checkpoints)
        _, normalisation = read_manifest(run.dataset, run.load_config().data)
        trained.append((checkpoint, normalisation))
    numbering = numbering_of(folder)
    return {
        **made_by(config, trained, uncertainty=uncertainty),
        "numbering": numbering and asdict(numbering),
    }
