"""Which images are to be predicted, and what stands there already."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.manifest import read_manifest
from unet_dist.data.sample import ImageRef
from unet_dist.evaluate.fingerprint import file_digest
from unet_dist.evaluate.finished import is_finished, refuse_to_replace
from unet_dist.evaluate.inputs import list_images, truths_in, truths_of_dataset
from unet_dist.runs import RunDir
from unet_dist.train.checkpoint import load_best
from unet_dist.train.made_by import made_by


def list_inputs(
    images: Sequence[Path], truth: Path | None, dataset: Dataset
) -> tuple[list[dict[str, Any]], int]:
    """The images as the ranks are told of them, and how many of them lack a mask in --truth."""
    inputs = list_images(images)
    if truth is None:
        truths, without = truths_of_dataset(dataset, inputs), 0
    else:
        truths = truths_in(truth, inputs, suffix=dataset.config.mask_suffix)
        without = len(inputs) - len(truths)
    listed = [
        {
            "path": str(image.ref.path.resolve()),
            "page": image.ref.page,
            "stem": image.stem,
            "truth": _reference(truths.get(image.stem)),
        }
        for image in inputs
    ]
    return listed, without


def _reference(ref: ImageRef | None) -> dict[str, Any] | None:
    return {"path": str(ref.path), "page": ref.page} if ref else None


def made_by_run(folder: RunDir, config: Config, uncertainty: str) -> dict[str, Any]:
    """On what predictions by the run, or by all members of an ensemble, depend."""
    trained = []
    for run in folder.networks():
        checkpoint, _ = load_best(run.checkpoints)
        _, normalisation = read_manifest(run.dataset, run.load_config().data)
        trained.append((checkpoint, normalisation))
    return made_by(config, trained, uncertainty=uncertainty)


def unfinished(
    out: Path, listed: Sequence[Mapping[str, Any]], made: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Those of the images whose results do not stand in ``out`` yet.

    Raises:
        UserError: where other results would be replaced.
    """
    todo, conflicts = [], []
    digest = functools.cache(file_digest)  # the pages of a stack share its file
    for image in listed:
        references = [
            ImageRef(path=Path(ref["path"]), page=ref["page"]) if ref else None
            for ref in (image, image["truth"])
        ]
        assert references[0] is not None
        finished, conflict = is_finished(
            out, image["stem"], references[0], references[1], made, digest=digest
        )
        if conflict:
            conflicts.append(conflict)
        elif not finished:
            todo.append(image)
    refuse_to_replace(out, conflicts)
    return todo
