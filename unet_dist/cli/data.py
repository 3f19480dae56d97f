"""``unet-dist data``: make and check data sets."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from unet_dist.cli.data_convert import convert
from unet_dist.cli.shared import Json, answer, console_for, new_app
from unet_dist.config_file import build_config, read_yaml_mapping, with_absolute_paths
from unet_dist.errors import EXIT_DONE, EXIT_JOB_FAILED, UserError, counted
from unet_dist.progress import counter

app = new_app("Make, check and convert data sets.")
app.command("convert")(convert)

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="such as train.lr=0.001")
]


@app.command("synth")
def synth(
    kind: Annotated[str, typer.Argument(help="vessels, membranes, nuclei or organs.")],
    directory: Annotated[Path, typer.Argument(help="New folder.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 40,
    size: Annotated[int, typer.Option(min=32, help="Side in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Make images with exact masks, to try the program without any download.

    \b
    Example:
      unet-dist data synth vessels data/vessels --count 40 --size 256 --seed 0
    """
    from unet_dist.data.synthetic import KINDS, write_synthetic

    if kind not in KINDS:
        raise UserError("KIND", f"is {kind!r}, but must be one of {', '.join(KINDS)}")
    console = console_for(as_json)
    with counter(console, f"drawing {kind}") as count_images:
        write_synthetic(
            kind, directory, count=count, size=size, seed=seed, on_progress=count_images
        )
    answer(
        console,
        as_json,
        f"{counted(count, 'image')} in {directory}; train on them by\n"
        f"  unet-dist train {directory / 'config.yaml'} --simulate 2",
        {"directory": str(directory), "images": count, "config": str(directory / "config.yaml")},
    )


@app.command("check")
def check(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG")],
    overrides: Overrides = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG to write: some images of each part with their masks.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List every fault of a data set at once, what deserves a look, and what is in it. Exits with
    1 if there is a fault.

    \b
    Examples:
      unet-dist data check configs/chasedb1.yaml data.root=DIR
      unet-dist data check configs/chasedb1.yaml data.root=DIR --picture check.png
    """
    from unet_dist.data.readiness import check_for_training
    from unet_dist.evaluate.structure import check_structure

    config = build_config(read_yaml_mapping(config_path), overrides or [], where=str(config_path))
    config = with_absolute_paths(config)
    console = console_for(as_json)
    with counter(console, "reading images") as count_images:
        report, dataset = check_for_training(config, on_progress=count_images)
    try:
        check_structure(config)
    except UserError as error:
        report = replace(report, faults=(*report.faults, str(error)))
    if picture is not None and dataset is not None:
        from unet_dist.report.contact_sheet import write_contact_sheet

        write_contact_sheet(dataset, picture, title=str(config_path))
        console.print(f"picture: {picture}", markup=False)
    elif picture is not None:
        console.print(f"{picture} is not drawn: first the faults", markup=False)
    answer(console, as_json, report.to_text(), json.loads(report.to_json()))
    raise typer.Exit(EXIT_JOB_FAILED if report.faults else EXIT_DONE)
