"""``unet-dist compare``: is one training better than another, image by image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_dist.cli.shared import Json, answer, checked_split, console_for
from unet_dist.errors import UserError, counted

if TYPE_CHECKING:
    from unet_dist.evaluate.compare import Comparison

IMAGES_SHOWN = 5


def compare(
    runs: Annotated[list[Path], typer.Argument(help="RUN_A RUN_B; or seeds of A.")],
    against: Annotated[
        list[Path] | None, typer.Option(help="A seed of side B; once for each.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    metric: Annotated[
        str,
        typer.Option(
            help="Such as cldice, v_rand, ap_50.  [default: dice, or foreground_dice (of all "
            "pixels) where objects are numbered]",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Compare two evaluated runs on the same images: paired difference, interval, Wilcoxon's p.

    \b
    Examples:
      unet-dist compare runs/a runs/b --metric cldice
      unet-dist compare runs/a0 runs/a1 runs/a2 --against runs/b0 --against runs/b1
    """
    # Here, since scipy takes half a second that no other command should wait for.
    from unet_dist.evaluate import compare as paired
    from unet_dist.evaluate.names import METRICS

    checked_split(split)
    if metric and metric not in METRICS:
        raise UserError("--metric", f"is {metric!r}, but must be one of {', '.join(METRICS)}")
    if not against and len(runs) != 2:
        raise UserError("RUNS", f"{len(runs)} were given: two, or more with --against RUN_B")
    side_a, side_b = (runs, against) if against else (runs[:1], runs[1:])
    if both := sorted({run.resolve() for run in side_a} & {run.resolve() for run in side_b}):
        raise UserError("RUNS", f"on both sides: {', '.join(map(str, both))}")
    result = paired.compare(
        [paired.read_evaluation(run, split, metric) for run in side_a],
        [paired.read_evaluation(run, split, metric) for run in side_b],
    )
    names = [", ".join(map(str, side)) for side in (side_a, side_b)]
    value = {"split": split, "a": list(map(str, side_a)), "b": list(map(str, side_b))}
    answer(
        console_for(as_json),
        as_json,
        "\n".join(_lines(result, names)),
        {**value, **result.to_json()},
    )


def _lines(result: "Comparison", names: list[str]) -> list[str]:
    interval = result.interval
    between = (
        f" (95 % over {result.unit}s: {interval[0]:+.4f} to {interval[1]:+.4f})" if interval else ""
    )
    lines = [
        f"A {result.mean_a:.4f}  {names[0]}",
        f"B {result.mean_b:.4f}  {names[1]}",
        f"A - B {result.difference:+.4f}{between}, {result.metric}, mean of "
        + counted(result.images, "image"),
        f"Wilcoxon signed-rank test over {result.units} {result.unit}s: "
        + ("none" if result.p_value is None else f"p = {result.p_value:.3g}"),
        f"A is better on {counted(result.better, 'image')} and worse on {result.worse}",
        "largest differences: "
        + ", ".join(f"{id_} {value:+.4f}" for id_, value in result.deciding[:IMAGES_SHOWN])
        if result.better + result.worse
        else "every image has the same on both sides",
    ]
    if 0 < result.removable < result.images:
        ahead = "A" if (result.difference > 0) != result.lower_is_better else "B"
        lines.append(
            f"{ahead} would no longer be better without the {result.removable} of "
            f"{result.images} images that favour it most"
        )
    if result.left_out:
        lines.append(f"not defined on {counted(result.left_out, 'image')}, left out here")
    if result.lower_is_better:
        lines.append(f"of {result.metric} less is better")
    return [*lines, *(f"note: {note}" for note in result.notes)]
