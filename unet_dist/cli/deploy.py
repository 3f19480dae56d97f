"""``unet-dist deploy``: trained networks on their way to where they are used."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_dist.cli.shared import Json, answer, console_for, new_app, one_of
from unet_dist.errors import EXIT_DONE, EXIT_JOB_FAILED, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from unet_dist.deploy.ascend_commands import ConversionPlan

app = new_app("Bring trained networks to where they are used.")


@app.command()
def commands(
    model: Annotated[Path, typer.Argument(metavar="DIR|MODEL", help="Folder of export, or file.")],
    soc: Annotated[str, typer.Option(help="The card, such as Ascend310P3.")],
    cann: Annotated[str, typer.Option(help="Version of CANN: 7.0, 8.0 or 9.1.")] = "8.0",
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
    from unet_dist.deploy.conversion import check_can_run, run_atc, write_conversion
    from unet_dist.deploy.machine import need_packages

    need_packages()
    one_of("--tool", tool, ("auto", "atc", "lite", "both"))
    one_of("--input", input_type, ("", "float32", "float16", "uint8"))
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
    plan = write_conversion(request, folder)
    if not as_json:
        _show(console, plan, folder)
    ends = []
    if run:
        check_can_run(request, folder)
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
        float, typer.Option(min=0, help="Largest difference, as a part of the largest value.")
    ] = 1e-3,
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
