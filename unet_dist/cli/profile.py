"""``unet-dist profile``: what captured profiles say."""

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_dist.cli.shared import Json, answer, console_for, new_app
from unet_dist.errors import EXIT_DONE, EXIT_JOB_FAILED, UserError, one_of
from unet_dist.profiling.capture import MOST_STEPS, USUAL_WARMUP, CapturePlan, CaptureRequest
from unet_dist.profiling.finite import finite
from unet_dist.runs import RunDir, write_text_atomically

if TYPE_CHECKING:
    from rich.console import Console

    from unet_dist.profiling.analysis import Analysis
    from unet_dist.profiling.scaling import Topology
    from unet_dist.profiling.tables import RankProfile
    from unet_dist.profiling.workload import KnownStep

WIDTH_OF_FILES = 130

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="DIR...",
        help="Folders of MindSpore's or torch_npu's profiler, all of one job, or what is above "
        "them; Chrome traces; cluster_step_trace_time.csv.",
    ),
]

app = new_app("Analyse profiles of ranks: where the time goes, who is late, what to change.")


@app.command()
def start(
    run: Annotated[Path, typer.Argument(help="Run folder of a training that runs.")],
    steps: Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="That are kept.")] = 5,
    warmup: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_STEPS,
            help="Steps before them, from the next one on, with the profiler set up but not kept.",
        ),
    ] = USUAL_WARMUP,
    ranks: Annotated[str, typer.Option(help="all, or like 0,3.")] = "all",
    stack: Annotated[
        bool, typer.Option("--stack", help="With stacks of Python, on cards alone.")
    ] = False,
) -> None:
    """Profile the next steps of a training without starting it again.

    \b
    Examples:
      unet-dist profile start runs/chase --steps 10
    """
    from unet_dist.profiling.asking import ask, folder_of

    folder, console = RunDir(run), console_for(False)
    plan = CapturePlan.parse(f"steps=1:{steps}", ranks)
    request = CaptureRequest(
        number=time.time_ns(), steps=steps, warmup=warmup, ranks=plan.ranks, stacks=stack
    )
    note = ask(folder, request)
    if note:
        console.print(f"warning: {note}", markup=False)
    place = folder_of(folder, request)
    if place is None:
        console.print(
            f"asked for {steps} steps; rank 0 has begun no step since: the training will name the "
            f"folder below {folder.profiles}", markup=False,
        )  # fmt: skip
        return
    console.print(f"asked for {steps} steps; then: unet-dist profile analyze {place}", markup=False)


@app.command()
def analyze(
    folders: Folders,
    csv_folder: Annotated[
        Path | None, typer.Option("--csv", help="Write steps, kernels and collectives here.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that needs no other file here.")
    ] = None,
    chip: Annotated[
        str, typer.Option(help="910A or 910B: whose peaks tell what bounds a kernel.")
    ] = "910B",
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
    from unet_dist.profiling.describe import missing_lines, untold_lines
    from unet_dist.profiling.roofline import CHIPS
    from unet_dist.profiling.workload import amp_of

    one_of("--chip", chip, tuple(CHIPS))
    console = console_for(as_json)
    profiles = _read(folders, console)
    analysis = analyse(profiles, amp=amp_of(folders[0]), chip=chip)
    if csv_folder is not None:
        _write_tables(analysis, csv_folder)
    if html is not None:
        from unet_dist.report.profile import profile_html

        write_text_atomically(html, profile_html(analysis, profiles))
    if not as_json:
        _tell(analysis, console)
    for line in untold_lines(analysis.ranks):
        console.print(f"not told: {line}", markup=False)
    for line in missing_lines(analysis.ranks):
        console.print(f"missing: {line}", markup=False)
    if as_json:
        answer(console, True, "", analysis.to_json())
    raise typer.Exit(EXIT_JOB_FAILED if analysis.is_partial else EXIT_DONE)


@app.command()
def timeline(
    folders: Folders,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
) -> None:
    """Merge the traces of all ranks into one, by one clock, for Perfetto or MindStudio Insight.

    Exits with 1 if files were missing or damaged, after writing what the others say.

    \b
    Examples:
      unet-dist profile timeline runs/chase/profile/step_000020 -o merged.json
    """
    from unet_dist.profiling.clocks import align
    from unet_dist.profiling.describe import missing_lines
    from unet_dist.profiling.timeline import lines, merge_traces

    profiles = _read(folders, console_for(False))
    part = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            merged = merge_traces(profiles, align(profiles), file)
        part.replace(output)
    except OSError as error:
        if error.filename == str(part):
            error.filename = str(output)  # which the user has named
        raise
    finally:
        with contextlib.suppress(OSError):  # the write before told the reason
            part.unlink(missing_ok=True)
    told = list(lines(merged))
    missing = [line for line in missing_lines(profiles) if line not in told]
    for line in (*told, *(f"missing: {line}" for line in missing), f"written: {output}"):
        console_for(False).print(line, markup=False)
    raise typer.Exit(EXIT_JOB_FAILED if any(one.missing for one in profiles) else EXIT_DONE)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="Profile A.")],
    after: Annotated[Path, typer.Argument(help="Profile B, of the same work.")],
    fail_above: Annotated[
        str, typer.Option(metavar="PERCENT", help="Exit with 1 if B's step is so much slower.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Say what became slower from one profile to another, beyond the noise of their steps.

    --fail-above exits with 2 where the steps are too few or too noisy to judge that limit, or files
    were missing or damaged; 0% asks for whatever is beyond the noise.

    \b
    Examples:
      unet-dist profile compare runs/a/profile runs/b/profile --fail-above 3%
    """
    from dataclasses import asdict

    from unet_dist.profiling.analysis import analyse
    from unet_dist.profiling.compare import (
        FEWEST,
        compare_profiles,
        comparison_lines,
        too_noisy_text,
    )
    from unet_dist.profiling.describe import SIMULATED, missing_lines
    from unet_dist.profiling.unlike import unlike

    limit = _percent(fail_above) if fail_above else None
    one, other = (analyse(_read([path], console_for(as_json))) for path in (before, after))
    if not one.parts or not other.parts:
        raise UserError("A B", "one of them tells nothing of a step: unet-dist profile analyze")
    found = compare_profiles(one, other)
    faults = [
        f"{name}: {line}"
        for name, each in (("A", one), ("B", other))
        for line in missing_lines(each.ranks)
    ]
    if limit is not None and faults:
        raise UserError("--fail-above", [f"cannot be judged: {fault}" for fault in faults])
    if limit is not None and not found.is_judged:
        raise UserError("--fail-above", f"needs {FEWEST} steps of each profile to tell noise from "
                        f"a change: A has {found.steps_a}, B has {found.steps_b}")  # fmt: skip
    if limit is not None and found.is_too_noisy_for(limit):
        raise UserError("--fail-above", too_noisy_text(found, limit))
    slower, differences = found.slower_by(), unlike(before, one, after, other)
    lines = [
        *([SIMULATED] if one.simulated or other.simulated else []),
        *(f"missing: {fault}" for fault in faults),
        *(f"not the same work: {line}" for line in differences),
        *comparison_lines(found),
    ]
    value = finite(
        {
            **asdict(found),
            "simulated": one.simulated or other.simulated,
            "slower_by": slower,
            "differences": differences,
            "missing": faults,
        }
    )
    answer(console_for(as_json), as_json, "\n".join(lines), value)
    failed = bool(faults) or (limit is not None and slower > limit)
    raise typer.Exit(EXIT_JOB_FAILED if failed else EXIT_DONE)


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise UserError("--fail-above", f"is {text!r}, but must be a percentage such as 3%")
    return value


@app.command()
def scale(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR|MODEL", help="Profile within a run folder, or configuration."),
    ],
    cards: Annotated[str, typer.Option(help="Numbers of cards.")] = "1,8,64,512",
    topology: Annotated[str, typer.Option(help="910A, 910B, pcie or superpod.")] = "910B",
    batch: Annotated[
        int,
        typer.Option(
            min=0,
            help="Images of a step over all cards; default as many a card. Of a profile outside of "
            "a run folder: how many its own step had over all its cards, and other numbers of "
            "cards have as many a card.",
        ),
    ] = 0,
    memory_gb: Annotated[float, typer.Option(min=0.1, help="Of a card.")] = 32.0,
    peak_tflops: Annotated[
        float, typer.Option(min=0.1, help="Of a card in the training's number format (MODEL).")
    ] = 256.0,
    as_json: Json = False,
) -> None:
    """Predict a step on other numbers of cards, and recommend how to divide it.

    \b
    Examples:
      unet-dist profile scale runs/chase/profile --cards 8,64,512 --topology 910A
      unet-dist profile scale configs/chasedb1.yaml --cards 8,64 --batch 512
    """
    from unet_dist.cluster.tables.edit import parse_numbers
    from unet_dist.profiling.predictions import (
        notes_of,
        predict_cards,
        prediction_lines,
        uneven_lines,
    )
    from unet_dist.profiling.scaling import TOPOLOGIES

    if not source.exists():
        raise UserError(str(source), "there is no such file or folder")
    one_of("--topology", topology, tuple(TOPOLOGIES))
    numbers = parse_numbers(cards, "--cards").listed(most=64, what="numbers of cards")
    step, batch = _step_of(source, TOPOLOGIES[topology], peak_tflops, batch)
    told = predict_cards(step, numbers, batch=batch, memory_bytes=memory_gb * 1e9)
    notes = [*notes_of(step), *uneven_lines(step, numbers, batch=batch)]
    about = {"simulated": step.simulated, "notes": notes}
    answer(
        console_for(as_json),
        as_json,
        "\n".join(prediction_lines(told, step, notes)),
        [{**t.to_json(), **about} for t in told],
    )


def _step_of(
    source: Path, topology: "Topology", peak_tflops: float, batch: int
) -> tuple["KnownStep", int]:
    """What is known of a step, from a configuration or from a profile; and the batch that is to be
    predicted."""
    from unet_dist.config_file import load_config
    from unet_dist.profiling.analysis import analyse
    from unet_dist.profiling.clocks import align
    from unet_dist.profiling.describe import missing_lines
    from unet_dist.profiling.stragglers import divided_by_arrival
    from unet_dist.profiling.workload import known_step, run_of, step_of_shapes

    if source.is_file() and source.suffix in (".yaml", ".yml"):
        config = load_config(source)
        return step_of_shapes(config, topology, peak_tflops=peak_tflops), batch
    known = run_of(source)
    if known is None and not batch:
        raise UserError(
            str(source),
            "lies in no run folder, so how many images a step had is not known: say it with "
            "--batch (over all cards), or name RUN/profile, or the configuration",
        )
    profiles = _read([source], console_for(True))
    for line in missing_lines(profiles):
        console_for(True).print(f"missing: {line}", markup=False)
    divided = divided_by_arrival(profiles, align(profiles))
    step = known_step(analyse(profiles), divided, topology, known or batch)
    return step, batch if known else 0


def _read(folders: list[Path], console: "Console") -> "list[RankProfile]":
    """Says which capture is read, if there are several."""
    from unet_dist.profiling.load import choose_capture, read_profiles

    chosen = choose_capture(folders)
    if chosen.note:
        console.print(chosen.note, markup=False)
    return read_profiles(chosen.found)


def _tell(analysis: "Analysis", console: "Console") -> None:
    from unet_dist.profiling.describe import SIMULATED, advice_lines, lines_of, tables_of

    for line in (analysis.verdict, *([SIMULATED] if analysis.simulated else [])):
        console.print(line, markup=False)
    # A file or a pipe has no width.
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_FILES)
    for table in tables_of(analysis, width=console.width):
        console.print(table)
    advice = advice_lines(analysis.advice, analysis.parts.get("step", 0.0))
    for line in (*lines_of(analysis), "", *(advice or ["nothing gains 3 % of a step"])):
        console.print(line, markup=False)


def _write_tables(analysis: "Analysis", folder: Path) -> None:
    from unet_dist.profiling.export import csv_tables

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in csv_tables(analysis).items():
        write_text_atomically(folder / f"{name}.csv", text)
