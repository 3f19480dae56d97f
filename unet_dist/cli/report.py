"""``unet-dist report``: a run as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from unet_dist.cli.shared import Json, answer, checked_split, console_for
from unet_dist.errors import UserError
from unet_dist.runs import RunDir


def report(
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of folds or seeds.")],
    split: Annotated[
        str, typer.Option(help="train, val or test; by default the best that was evaluated.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="File; default RUN/report.html, of another part than a training ends with "
            "RUN/report_SPLIT.html."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write what is known of a run into one HTML file that needs nothing else to be read.

    ``train`` and ``eval`` write it too. It is made of the last evaluation; nothing is computed.

    \b
    Examples:
      unet-dist report runs/chase
      unet-dist report runs/chase --split val --out validation.html
    """
    from unet_dist.evaluate.outputs import write_files
    from unet_dist.report.html import report_html

    folder = RunDir(run)
    folder.load_config()
    if split:
        checked_split(split)
    evaluated = list(folder.evaluations())
    if not split and not evaluated:
        raise UserError(str(run), f"was not evaluated yet: unet-dist eval {run}")
    split = split or evaluated[0]
    target = out or folder.report(split)
    write_files({target: report_html(folder, split).encode()})
    answer(console_for(as_json), as_json, str(target), {"report": str(target), "split": split})
