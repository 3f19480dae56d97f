"""``unet-dist export``: a run's network as a file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from unet_dist.cli.shared import Json, answer, console_for, refuse, told_phases
from unet_dist.errors import UserError, counted, one_of
from unet_dist.files import check_writable
from unet_dist.runs import RunDir

FORMS = ("onnx", "mindir")


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    to: Annotated[str, typer.Option(help="onnx, or mindir for MindSpore Lite.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model.")],
    opset: Annotated[int, typer.Option(help="13, 15 or 17; CANN 8.0 reads up to 15.")] = 17,
    with_threshold: Annotated[
        bool, typer.Option("--with-threshold", help="A second output, mask: class numbers.")
    ] = False,
    with_normalisation: Annotated[
        bool, typer.Option("--with-normalisation", help="The input is the image 0..1.")
    ] = False,
    logits: Annotated[bool, typer.Option("--logits", help="In place of probabilities.")] = False,
    random: Annotated[
        bool,
        typer.Option("--random", help="Of onnx: compare on noise of more sizes, batches 1 to 4."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the network of a run as one file, for any batch, height and width (onnx).

    The file is compared with MindSpore on the run's validation images, and on noise of odd sizes,
    before it is written: where a probability differs by more than 0.0001, or the Dice does, no file
    is written and the exit code is 1. Its metadata tell classes, threshold, mean and deviation.

    \b
    Examples:
      unet-dist export runs/chase --to onnx -o deployed
      unet-dist export runs/chase --to onnx --opset 15 --with-normalisation -o for_atc
      unet-dist export runs/chase --to mindir -o deployed
    """
    from unet_dist.deploy.machine import need_packages, start_native

    one_of("--to", to, FORMS)
    one_of("--opset", str(opset), ("13", "15", "17"))
    if random and to == "mindir":
        raise UserError("--random", "has no effect on a MindIR file, which is for one shape")
    need_packages()
    folder = RunDir(run)
    folder.load_config()  # before MindSpore starts, which takes seconds
    check_writable(out)
    console = console_for(as_json)
    with told_phases("nothing was written") as phases:
        phases("starting MindSpore", 0, 1)
        start_native()
        from unet_dist.deploy.export import export_mindir, export_onnx
        from unet_dist.deploy.native import native_network
        from unet_dist.deploy.parity import Refused
        from unet_dist.deploy.source import open_source

        source = open_source(folder, opset=opset).with_options(
            opset=opset,
            normalises=with_normalisation,
            has_mask=with_threshold,
            output="logits" if logits else "probability",
        )
        for warning in source.warnings:
            console.print(f"warning: {warning}", markup=False)
        try:
            native = native_network(source)
            if to == "onnx":
                record = export_onnx(source, out, native, random=random, tell=phases)
            else:
                record = export_mindir(source, out, native, tell=phases)
        except Refused as error:
            refuse(error, as_json)
    parity = record["parity"]
    text = f"{out / record['file']}  {record['bytes']:,} bytes, equal to MindSpore: largest "
    text += f"difference {parity['largest']:.1g} on {counted(parity['images'], 'validation image')}"
    if parity["random_images"]:
        text += f" and {counted(parity['random_images'], 'random one')}"
    if parity["images"]:
        text += f", Dice {parity['dice_deployed']:.4f} and {parity['dice']:.4f} (one view of each)"
    answer(console, as_json, text, {"state": "done", **record})
