"""``unet-dist predict``: a run's network, or a deployed model, on images of the user's."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer

from unet_dist.cli.shared import (
    Json,
    TtaOption,
    answer,
    checked_tta,
    console_for,
    run_to_end,
    told_phases,
)
from unet_dist.cli.where import RankTable, ServerId, Simulate, placement_of, supervision_of
from unet_dist.config import with_tta
from unet_dist.errors import EXIT_DONE, EXIT_JOB_FAILED, UserError, counted, one_of
from unet_dist.launching.describe import describe_predictions
from unet_dist.launching.job import Job
from unet_dist.runs import RunDir


def predict(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder, a model.onnx of unet-dist export, or one of the .om and .mindir "
            "files of deploy commands, on card 0."
        ),
    ],
    images: Annotated[list[Path], typer.Argument(help="Images, TIFF stacks, or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    tta: TtaOption = "",
    uncertainty: Annotated[
        str,
        typer.Option(
            help="none; entropy of the mean probability (0 certain, 1 a toss-up); or std, the "
            "standard deviation over the views of --tta (0 to 0.5). In 16 bits, 65535 being 1."
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
    runtime: Annotated[
        str, typer.Option(help="onnxruntime (default) or openvino, for a model.onnx.")
    ] = "",
    tile: Annotated[
        int,
        typer.Option(
            min=0,
            help="Side of a model.onnx's tiles, in pixels after data.resize, one at a time: as "
            "large as the image, nothing is computed twice. 0: as the run does, which networks of "
            "model.norm group or instance need.",
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Write mask, probability (16 bit) and overlay of each image; above 67 million pixels as tiled
    TIFF. The probability is that of the foreground; of several classes, that of the likeliest one
    of the foreground. Where the run has measured objects or cells: their numbers (16 bit, which
    most viewers show as black), and a CSV of the place, size and probability of each.

    What stands in --out already, from the same image, weights and settings, is left as it is: a
    call that was interrupted goes on where it was. Logs of the ranks are kept in RUN/attempts.

    \b
    Examples:
      unet-dist predict runs/chase eye1.png eye2.png --out predictions
      unet-dist predict runs/chase slides/ --out predictions --tta d4 --uncertainty std
      unet-dist predict runs/chase images/ --truth masks/ --out predictions --simulate 2
      unet-dist predict deployed/model.onnx images/ --out predictions --runtime openvino
    """
    # Here, since other commands do without NumPy and OpenCV.
    from unet_dist.data.manifest import read_manifest
    from unet_dist.evaluate.finished import unfinished
    from unet_dist.evaluate.prediction_task import UNCERTAINTIES
    from unet_dist.launching.predictions import check_views, list_inputs, made_by_run

    if run.suffix in (".onnx", ".om", ".mindir"):
        if simulate or rank_table or server_id:
            raise UserError(str(run), "is predicted in this process: leave out the ranks' options")
        wishes = _Wishes(images, out, tta, uncertainty, truth, force, runtime, tile)
        _predict_deployed(run, wishes, as_json)
    _refuse_folder_of_models(run)
    if runtime or tile:
        option = "--runtime" if runtime else "--tile"
        raise UserError(option, "is for a model.onnx: unet-dist export makes one of a run")
    folder = RunDir(run)
    config = folder.load_config()
    folder.check_members()
    console = console_for(as_json)
    if own := checked_tta(tta):
        if own != config.evaluate.tta:
            chosen = f"the threshold was chosen with evaluate.tta={config.evaluate.tta}"
            console.print(f"note: {chosen}, not {own}", markup=False)
        config = with_tta(config, own)  # type: ignore[arg-type]  # checked a line above
    one_of("--uncertainty", uncertainty, UNCERTAINTIES)
    dataset, _ = read_manifest(folder.dataset, config.data)
    listed, without = list_inputs(images, truth, dataset, folder)
    if uncertainty == "std" and config.evaluate.tta == "none":
        check_views(folder, listed)
    if without:
        console.print(
            f"no mask in {truth} for {without} of {counted(len(listed), 'image')}", markup=False
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("--out", f"{out} cannot be made: {error.strerror}") from error
    placement = placement_of(simulate=simulate, rank_table=rank_table, server_id=server_id)
    topology = placement.topology()
    if len(listed) < topology.world:
        idle = topology.world - len(listed)
        console.print(
            f"note: {idle} of {topology.world} ranks have nothing to do: an image is one rank's",
            markup=False,
        )
    job = Job(
        run=folder,
        what={"kind": "predict", "tta": own, "uncertainty": uncertainty, "out": str(out.resolve())},
        placement=placement,
        supervision=supervision_of(topology),
        console=console,
    )

    def prepare() -> None:
        """With the run locked, so that the weights stay what they are."""
        made = made_by_run(folder, config, uncertainty)
        todo = listed if force else unfinished(out, listed, made)
        skipped = len(listed) - len(todo)
        trained_on = sum(image["trained_on"] for image in listed)
        if not todo:
            nothing: dict[str, Any] = {
                "written": [],
                "skipped": skipped,
                "trained_on": trained_on,
                "left_out": 0,
                "faults": [],
            }
            report = {"state": "done", "run": str(run), **nothing}
            answer(
                console,
                as_json,
                describe_predictions(config.data.names, str(out), "done", nothing),
                report,
            )
            raise typer.Exit(EXIT_DONE)
        told = {"images": todo, "skipped": skipped, "trained_on": trained_on}
        job.what = {**job.what, **told, "made_by": made}

    run_to_end(job, topology.part, as_json, prepare)


def _refuse_folder_of_models(path: Path) -> None:
    from unet_dist.deploy.model_file import ModelFile

    folder = ModelFile(path)
    if RunDir(path).config.is_file() or not folder.is_deployed():
        return
    file = next((one for one in (folder.onnx, folder.int8) if one.is_file()), folder.onnx)
    how = "" if file.is_file() else f", which unet-dist export RUN --to onnx -o {path} makes"
    raise UserError(
        str(path), f"is a folder of deployed models, no run: name a file in it, {file}{how}"
    )


class _Wishes(NamedTuple):
    """The options that a run and a deployed model share, and the runtime."""

    images: list[Path]
    out: Path
    tta: str
    uncertainty: str
    truth: Path | None
    force: bool
    runtime: str
    tile: int


def _predict_deployed(file: Path, wishes: _Wishes, as_json: bool) -> NoReturn:
    from unet_dist.deploy.machine import need_packages
    from unet_dist.deploy.predict import DeployedModel, list_inputs, predict_deployed
    from unet_dist.deploy.runtime import RUNTIMES
    from unet_dist.evaluate.prediction_task import UNCERTAINTIES

    runtime = wishes.runtime or ("onnxruntime" if file.suffix == ".onnx" else "card")
    if file.suffix == ".onnx":
        need_packages(one_of("--runtime", runtime, RUNTIMES))
    elif wishes.runtime:
        raise UserError("--runtime", f"is for a model.onnx: a card runs {file.name}")
    one_of("--uncertainty", wishes.uncertainty, UNCERTAINTIES)
    console, out = console_for(as_json), wishes.out
    model = DeployedModel.open(
        file,
        runtime=runtime,  # type: ignore[arg-type]  # checked above
        tta=checked_tta(wishes.tta),
        tile=wishes.tile,
    )
    if wishes.uncertainty == "std" and model.config.evaluate.tta == "none":
        raise UserError(
            "--uncertainty", "std needs several views of each image: add --tta flip or d4"
        )
    inputs = list_inputs(model, wishes.images, wishes.truth)
    if inputs.without_truth:
        missing = f"{inputs.without_truth} of {counted(len(inputs.listed), 'image')}"
        console.print(f"no mask in {wishes.truth} for {missing}", markup=False)
    with told_phases("finished images stay; the same command goes on") as phases:
        result = predict_deployed(
            model,
            inputs,
            out,
            uncertainty=wishes.uncertainty,  # type: ignore[arg-type]  # checked above
            force=wishes.force,
            on_image=partial(phases, "predicting: {} images"),
        )
    text = describe_predictions(model.metadata.class_names, str(out), "done", result)
    answer(console, as_json, text, {"state": "done", "model": str(file), **result})
    raise typer.Exit(EXIT_JOB_FAILED if result["faults"] else EXIT_DONE)
