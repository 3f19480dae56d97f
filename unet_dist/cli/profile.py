"""``unet-dist profile``: what captured profiles say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_dist.cli.shared import Json, answer, console_for, new_app
from unet_dist.errors import EXIT_DONE, EXIT_JOB_FAILED

if TYPE_CHECKING:
    from unet_dist.profiling.analysis import Analysis

app = new_app("Analyse profiles of ranks: where the time goes, who is late, what to change.")


@app.callback()
def profile() -> None:
    """A group, though it has one command so far."""


@app.command()
def analyze(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Folders of MindSpore's or torch_npu's profiler, all of one job, or what is above "
            "them; Chrome traces; cluster_step_trace_time.csv.",
        ),
    ],
    csv_folder: Annotated[
        Path | None, typer.Option("--csv", help="Write steps, kernels and collectives here.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that needs no other file here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say where the time of a step goes, which rank is late and why, and what to change.

    Exits with 1 if files were missing or damaged, after telling what the others say.

    \b
    Examples:
      unet-dist profile analyze runs/chase/profile --html profile.html
      unet-dist profile analyze node0/*_ascend_ms node1/*_ascend_ms --json > analysis.json
    """
    # Here, since other commands do without NumPy and SciPy.
    from unet_dist.profiling.analysis import analyse
    from unet_dist.profiling.describe import (
        advice_lines,
        lines_of,
        missing_lines,
        tables_of,
    )
    from unet_dist.profiling.load import find_profiles, read_profiles

    console = console_for(as_json)
    profiles = read_profiles(find_profiles(folders))
    analysis = analyse(profiles)
    if csv_folder is not None:
        _write_tables(analysis, csv_folder)
    if html is not None:
        from unet_dist.report.profile import profile_html
        from unet_dist.runs import write_text_atomically

        write_text_atomically(html, profile_html(analysis, profiles))
    if not as_json:
        console.print(analysis.verdict, markup=False)
        for table in tables_of(analysis):
            console.print(table)
        step_ns = analysis.parts.get("step", 0.0)
        advice = advice_lines(analysis.advice, step_ns)
        for line in (*lines_of(analysis), "", *(advice or ["nothing gains 3 % of a step"])):
            console.print(line, markup=False)
    for line in missing_lines(analysis):
        console.print(f"missing: {line}", markup=False)
    if as_json:
        answer(console, True, "", analysis.to_json())
    raise typer.Exit(EXIT_JOB_FAILED if analysis.is_partial else EXIT_DONE)


def _write_tables(analysis: "Analysis", folder: Path) -> None:
    from unet_dist.profiling.export import csv_tables
    from unet_dist.runs import write_text_atomically

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in csv_tables(analysis).items():
        write_text_atomically(folder / f"{name}.csv", text)
