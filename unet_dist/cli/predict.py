"""``unet-dist predict``: a run's network on images of the user's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from unet_dist.cli.shared import (
    Json,
    TtaOption,
    answer,
    checked_tta,
    console_for,
    one_of,
    run_to_end,
)
from unet_dist.cli.where import RankTable, ServerId, Simulate, placement_of, supervision_of
from unet_dist.config import Config, with_tta
from unet_dist.data.dataset import Dataset
from unet_dist.data.manifest import read_manifest
from unet_dist.data.sample import ImageRef
from unet_dist.errors import EXIT_DONE, UserError
from unet_dist.evaluate.finished import is_finished, refuse_to_replace
from unet_dist.evaluate.inputs import list_images, truths_in, truths_of_dataset
from unet_dist.evaluate.prediction import UNCERTAINTIES
from unet_dist.launching.describe import describe_predictions
from unet_dist.launching.job import Job
from unet_dist.runs import RunDir
from unet_dist.train.checkpoint import load_best
from unet_dist.train.made_by import made_by


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[list[Path], typer.Argument(help="Images, TIFF stacks, or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    tta: TtaOption = "",
    uncertainty: Annotated[
        str,
        typer.Option(
            help="none; entropy of the mean probability (0 certain, 1 a toss-up); or std, the "
            "standard deviation over the views of --tta (0 to 0.5)."
        ),
    ] = "none",
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Folder of masks named like the images: right and wrong pixels are coloured. "
            "Images of the run's own data set need none."
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace all results in --out.")] = False,
    simulate: Simulate = 0,
    rank_table: RankTable = "",
    server_id: ServerId = "",
    as_json: Json = False,
) -> None:
    """Write mask, probability (16 bit) and overlay of each image; large ones as tiled TIFF.

    What stands in --out already, from the same image, weights and settings, is left as it is: a
    call that was interrupted goes on where it was.

    \b
    Examples:
      unet-dist predict runs/chase eye1.png eye2.png --out predictions
      unet-dist predict runs/chase slides/ --out predictions --tta d4 --uncertainty std
      unet-dist predict runs/chase images/ --truth masks/ --out predictions --simulate 2
    """
    folder = RunDir(run)
    config = folder.load_config()
    if own := checked_tta(tta):
        config = with_tta(config, own)  # type: ignore[arg-type]  # checked a line above
    one_of("--uncertainty", uncertainty, UNCERTAINTIES)
    if uncertainty == "std" and config.evaluate.tta == "none" and not folder.is_ensemble():
        raise UserError(
            "--uncertainty", "std needs several views of each image: add --tta flip or d4"
        )
    dataset, _ = read_manifest(folder.dataset, config.data)
    console = console_for(as_json)
    listed, without = _listed(images, truth, dataset)
    if without:
        console.print(f"no mask in {truth} for {without} of {len(listed)} images", markup=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("--out", f"{out} cannot be made: {error.strerror}") from error
    placement = placement_of(simulate=simulate, rank_table=rank_table, server_id=server_id)
    topology = placement.topology()
    job = Job(
        run=folder,
        what={"kind": "predict", "tta": own, "uncertainty": uncertainty, "out": str(out.resolve())},
        placement=placement,
        supervision=supervision_of(topology),
        console=console,
    )

    def prepare() -> None:
        """With the run locked, so that the weights stay what they are."""
        made = _made_by(folder, config, uncertainty)
        todo = listed if force else _unfinished(out, listed, made)
        skipped = len(listed) - len(todo)
        if not todo:
            nothing: dict[str, Any] = {"written": [], "skipped": skipped, "faults": []}
            report = {"state": "done", "run": str(run), **nothing}
            answer(
                console, as_json, describe_predictions(folder, str(out), "done", nothing), report
            )
            raise typer.Exit(EXIT_DONE)
        job.what = {**job.what, "images": todo, "skipped": skipped, "made_by": made}

    run_to_end(job, topology.part, as_json, prepare)


def _listed(
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


def _made_by(folder: RunDir, config: Config, uncertainty: str) -> dict[str, Any]:
    trained = []
    for run in folder.networks():
        checkpoint, _ = load_best(run.checkpoints)
        _, normalisation = read_manifest(run.dataset, run.load_config().data)
        trained.append((checkpoint, normalisation))
    return made_by(config, trained, uncertainty=uncertainty)


def _unfinished(
    out: Path, listed: Sequence[Mapping[str, Any]], made: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Raises UserError where other results would be replaced."""
    todo, conflicts = [], []
    for image in listed:
        references = [
            ImageRef(path=Path(ref["path"]), page=ref["page"]) if ref else None
            for ref in (image, image["truth"])
        ]
        assert references[0] is not None
        finished, conflict = is_finished(out, image["stem"], references[0], references[1], made)
        if conflict:
            conflicts.append(conflict)
        elif not finished:
            todo.append(image)
    refuse_to_replace(out, conflicts)
    return todo
