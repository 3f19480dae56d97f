"""``unet-dist deploy``: what becomes of an exported network."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_dist.cli.shared import Json, answer, checked_split, checked_tta, console_for, new_app
from unet_dist.errors import UserError
from unet_dist.progress import counter
from unet_dist.runs import RunDir

if TYPE_CHECKING:
    from unet_dist.deploy.bench import Speed

app = new_app("Speed and size of exported networks.")


@app.command()
def bench(
    folder: Annotated[Path, typer.Argument(help="Folder of export or quantize.")],
    threads: Annotated[int, typer.Option(min=1, help="Cores, to which all are pinned.")] = 2,
    images: Annotated[int, typer.Option(min=0, help="The first so many; 0 for all.")] = 0,
    split: Annotated[str, typer.Option(help="train, val or test (default).")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 3,
    tta: Annotated[str, typer.Option(help="none, flip or d4.")] = "none",
    run: Annotated[Path | None, typer.Option(help="The run, if it is elsewhere now.")] = None,
    native: Annotated[bool, typer.Option(help="Measure MindSpore, too.")] = True,
    as_json: Json = False,
) -> None:
    """Measure images per second, from pixels in memory to the mask, of each form of a network:
    MindSpore, ONNX Runtime and OpenVINO in float32, bf16 and 8 bits, with the Dice beside it.

    Each form has a process of its own on the same cores, is warmed up on all images, and takes
    turns with the others. OpenVINO's own default may be bf16; here float32 is float32.

    \b
    Examples:
      unet-dist deploy bench deployed --threads 2
      unet-dist deploy bench deployed --images 2 --no-native --json
    """
    from unet_dist.cluster.host import usable_cores
    from unet_dist.deploy.bench import choose_images, forms_of, measure, run_of
    from unet_dist.deploy.machine import need_packages
    from unet_dist.deploy.model_file import ModelFile

    need_packages("openvino")
    if split:
        checked_split(split)
    cores = usable_cores()[:threads]
    if len(cores) < threads:
        raise UserError("--threads", f"is {threads}, but this process may use {len(cores)} cores")
    models = ModelFile(folder)
    forms = forms_of(models, native=native)
    source = RunDir(run) if run else run_of(models)
    chosen, ids = choose_images(source, split, images)
    console = console_for(as_json)
    with counter(console, "measuring") as on_round:
        found = measure(
            source,
            forms,
            split=chosen,
            ids=ids,
            cores=cores,
            tta=checked_tta(tta) or "none",
            rounds=rounds,
            on_round=on_round,
        )
    about = {"split": chosen, "images": len(ids), "threads": threads, "rounds": rounds, "tta": tta}
    title = f"{len(ids)} {chosen} images, {threads} cores, {rounds} rounds"
    shown = {**about, "forms": [one.to_json() for one in found]}
    answer(console, as_json, _table(found, title), shown)


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
                "" if one.times_native is None else f"{one.times_native:.2f}",
                f"{one.network_fps:.2f}",
                "" if one.dice is None else f"{one.dice:.4f}",
                "" if one.bytes is None else f"{one.bytes:,}",
            ),
            ", ".join(f"{number} {precision}" for precision, number in one.executed.items()),
        )
        for one in found
    ]
    return "\n".join([title, line("form", heads, "convolutions"), *rows])
