"""``unet-dist deploy``: trained networks on their way to where they are used."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_dist.cli.shared import (
    Json,
    answer,
    checked_split,
    checked_tta,
    console_for,
    new_app,
    told_phases,
)
from unet_dist.errors import EXIT_DONE, EXIT_JOB_FAILED, UserError, counted
from unet_dist.runs import RunDir

if TYPE_CHECKING:
    from rich.console import Console

    from unet_dist.deploy.ascend_commands import ConversionPlan
    from unet_dist.deploy.bench import Speed

app = new_app("Bring trained networks to where they are used.")


@app.command()
def commands(
    model: Annotated[Path, typer.Argument(metavar="DIR|MODEL", help="Folder of export, or file.")],
    soc: Annotated[str, typer.Option(help="The card, such as Ascend310P3.")],
    cann: Annotated[str, typer.Option(help="Version of CANN: 7.0, 8.0 or 9.1.")] = "9.1",
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="N,C,H,W", help="Once for each .om; default predict's tiles."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp16 (default), mixed_float16, origin ...; older names too."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="The quantised model, by AMCT.")] = False,
    dynamic_batch: Annotated[str, typer.Option(metavar="N,N", help="Like 1,2,4.")] = "",
    dynamic_size: Annotated[
        str, typer.Option(metavar="H,W;H,W", help="Like 256,256;512,512.")
    ] = "",
    aipp: Annotated[
        bool, typer.Option("--aipp", help="Images go in as uint8, the card normalises.")
    ] = False,
    aipp_config: Annotated[
        Path | None, typer.Option(help="An AIPP file of your own, which is checked.")
    ] = None,
    input_type: Annotated[
        str, typer.Option("--input", help="float32, float16; uint8 with --aipp.")
    ] = "",
    tool: Annotated[
        str, typer.Option(help="atc, lite, both; auto: lite where it supports the card.")
    ] = "auto",
    out: Annotated[Path | None, typer.Option(help="Default: ascend beside the model.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Run atc, and keep its logs.")] = False,
    as_json: Json = False,
) -> None:
    """Write the commands that convert a model for Ascend cards: atc, AIPP, AMCT, MindSpore Lite.

    All rules of their documents are checked before: whatever is refused is told at once. With
    --run atc is run, and its exit code passed on. None of it has run on hardware yet.

    \b
    Examples:
      unet-dist deploy commands exported --soc Ascend310P3 --aipp
      unet-dist deploy commands exported --soc Ascend910B3 --cann 9.1 --shape 1,3,512,512 --int8
      unet-dist deploy commands exported --soc Ascend910A --shape -1,3,256,256 --dynamic-batch 1,4
    """
    from unet_dist.deploy.ascend_options import read_request
    from unet_dist.deploy.conversion import check_converted, run_atc, write_conversion
    from unet_dist.deploy.machine import need_packages

    need_packages()
    request = read_request(
        model,
        soc=soc,
        cann=cann,
        shapes=shape or [],
        precisions=precision or [],
        int8=int8,
        dynamic_batch=dynamic_batch,
        dynamic_size=dynamic_size,
        aipp=aipp,
        aipp_config=aipp_config,
        input_type=input_type,
        tool=tool,
    )
    folder = out or request.model.path.parent / "ascend"
    console = console_for(as_json)
    plan = write_conversion(request, folder, will_run=run)
    if not as_json:
        _show(console, plan, folder)
    ends = []
    if run:
        check_converted(request, folder)
        ends = run_atc(
            plan.atc,
            folder,
            on_start=lambda call: console.print(f"atc: {call.makes} ...", markup=False),
        )
    failed = next((end for end in ends if end.code != 0), None)
    if failed is not None:
        for line in (*failed.last_lines, f"atc ended with {failed.code}: {failed.log}"):
            console.print(line, markup=False)
    if as_json:
        told = [{"makes": end.makes, "code": end.code, "log": str(end.log)} for end in ends]
        answer(console, True, "", {"folder": str(folder), **plan.to_json(), "ran": told})
    raise typer.Exit(failed.code if failed is not None else EXIT_DONE)


def _show(console: "Console", plan: "ConversionPlan", folder: Path) -> None:
    from unet_dist.deploy.ascend_commands import SCRIPT

    console.print(plan.files[SCRIPT], markup=False)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"written: {folder} ({', '.join(sorted(plan.files))})", markup=False)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(help="An .onnx file, an .om file, or outputs in .npz.")],
    b: Annotated[Path, typer.Argument(help="Another form of the same network.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="Once for each image or folder, for model files.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Largest difference, as a part of the largest value. Default 0.001; between "
            "float32 and 8 bits 0.9, since single pixels of good ones are up to 0.7 apart.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two forms of a network: cosine, largest error and Dice of each image; of two ONNX
    files also the first layer where they part. Exits with 1 if they differ by more than that.

    \b
    Examples:
      unet-dist deploy diff exported/model.onnx exported/model_int8.onnx --images eyes/
      unet-dist deploy diff cpu.npz card.npz --tolerance 0.01
    """
    from unet_dist.deploy.machine import need_packages

    need_packages()
    from unet_dist.deploy.comparison import compare_forms, comparison_text

    if not images and not {a.suffix, b.suffix} <= {".npy", ".npz"}:
        raise UserError("--images", "a model file needs images to compare its outputs on")
    found = compare_forms(a, b, images=images or [], tolerance=tolerance)
    answer(console_for(as_json), as_json, comparison_text(found), found.to_json())
    raise typer.Exit(EXIT_DONE if found.agrees else EXIT_JOB_FAILED)


@app.command()
def bench(
    folder: Annotated[Path, typer.Argument(help="Folder of export or quantize.")],
    threads: Annotated[int, typer.Option(min=1, help="Cores, to which all are pinned.")] = 2,
    images: Annotated[int, typer.Option(min=0, help="The first so many; 0 for all.")] = 0,
    split: Annotated[str, typer.Option(help="train, val or test (default).")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 3,
    tta: Annotated[str, typer.Option(help="none, flip or d4.")] = "none",
    tile: Annotated[
        int,
        typer.Option(
            min=0,
            help="Side of deployed forms' tiles, in pixels after data.resize, one at a time: as "
            "large as the image, nothing is computed twice. 0: as the run does, which networks "
            "of model.norm group or instance need.",
        ),
    ] = 0,
    run: Annotated[Path | None, typer.Option(help="The run, if it is elsewhere now.")] = None,
    native: Annotated[bool, typer.Option(help="Measure MindSpore, too.")] = True,
    as_json: Json = False,
) -> None:
    """Measure images per second, from pixels in memory to the mask, of each form of a network:
    MindSpore, ONNX Runtime and OpenVINO in float32, bf16 and 8 bits, with the Dice beside it.

    Each form has a process of its own on the same cores, is warmed up on all images, and takes
    turns with the others. OpenVINO's own default may be bf16; here float32 is float32.

    images/s is the median of the rounds, least-most their range, times against the first row, and
    network images/s of the network alone, without what prepares its input and joins its tiles. A
    form whose Dice is more than 0.005 below that of the first row is warned of.

    \b
    Examples:
      unet-dist deploy bench deployed --threads 2
      unet-dist deploy bench deployed --tile 512
      unet-dist deploy bench deployed --images 2 --no-native --json
    """
    from unet_dist.cluster.host import usable_cores
    from unet_dist.deploy.bench import (
        choose_images,
        computed_rightly,
        dice_warnings,
        forms_of,
        measure,
        run_of,
        scatter_warnings,
    )
    from unet_dist.deploy.machine import need_packages
    from unet_dist.deploy.model_file import ModelFile

    need_packages("openvino")
    if split:
        checked_split(split)
    cores = usable_cores()[:threads]
    if len(cores) < threads:
        raise UserError(
            "--threads", f"is {threads}, but this process may use {counted(len(cores), 'core')}"
        )
    models = ModelFile(folder)
    forms = forms_of(models, native=native)
    models.check_one_run()
    forms, notes = computed_rightly(forms)
    source = RunDir(run) if run else run_of(models)
    chosen, ids = choose_images(source, split, images)
    console = console_for(as_json)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    with told_phases("nothing was measured") as phases:
        found = measure(
            source,
            forms,
            split=chosen,
            ids=ids,
            cores=cores,
            tta=checked_tta(tta) or "none",
            tile=tile,
            rounds=rounds,
            on_form=phases,
        )
    about = {"split": chosen, "images": len(ids), "threads": threads, "rounds": rounds, "tta": tta}
    about["tile"] = tile
    title = (
        f"{counted(len(ids), f'{chosen} image')}, {counted(threads, 'core')}, "
        f"{counted(rounds, 'round')}"
    )
    warnings = [*dice_warnings(found), *scatter_warnings(found)]
    shown = {**about, "forms": [one.to_json() for one in found], "warnings": warnings}
    answer(console, as_json, _table(found, title), shown)
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)


def _table(found: Sequence["Speed"], title: str) -> str:
    """Plain lines, which fit a log as well as a terminal."""
    heads = ("images/s", "least-most", "times", "network", "Dice", "bytes")
    widths = (8, 15, 6, 8, 7, 10)

    def line(name: str, cells: Sequence[str], executed: str) -> str:
        right = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{name:<20} {right}  {executed}".rstrip()

    rows = [
        line(
            one.name,
            (
                f"{one.fps:.2f}",
                f"{one.fps_least:.2f}-{one.fps_most:.2f}",
                f"{one.times_first:.2f}",
                f"{one.network_fps:.2f}",
                "" if one.dice is None else f"{one.dice:.4f}",
                "" if one.bytes is None else f"{one.bytes:,}",
            ),
            ", ".join(f"{number} {precision}" for precision, number in one.executed.items()),
        )
        for one in found
    ]
    return "\n".join([title, line("form", heads, "convolutions"), *rows])
