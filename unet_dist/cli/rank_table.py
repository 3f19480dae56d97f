"""``unet-dist rank-table``: check, change and show HCCL rank tables."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from unet_dist.cli.rank_table_make import make
from unet_dist.cli.shared import Json, answer, console_for, new_app
from unet_dist.cluster.server.discover import cards_and_names
from unet_dist.cluster.tables.check import Checked, check_tree, refused_by_910a
from unet_dist.cluster.tables.compare import compare_tables, moved_servers, order_difference
from unet_dist.cluster.tables.edit import (
    convert_table,
    keys_not_carried,
    merge_tables,
    parse_numbers,
    slice_table,
)
from unet_dist.cluster.tables.here import problems_here, rank_id_problems
from unet_dist.cluster.tables.model import CHIPS_OF, Chip, RankTable
from unet_dist.cluster.tables.problems import RULES, SEVERITIES, Problem
from unet_dist.cluster.tables.read import POLL_S, check_file, load_rank_table, table_of
from unet_dist.cluster.tables.show import describe_doubts, describe_table, table_facts
from unet_dist.cluster.tables.write import tree_of, write_rank_table
from unet_dist.errors import EXIT_DONE, EXIT_JOB_FAILED, UserError

app = new_app("Make, check, merge, cut, convert, compare and show HCCL rank tables.")
app.command("make")(make)

WAIT_S = 10.0
NOTE_EVERY_S = 5.0
MOST_NAMED = 4

File = Annotated[Path, typer.Argument(metavar="FILE", help="Rank table.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write; .json.")]
Force = Annotated[bool, typer.Option(help="Replace the output if it exists.")]


@app.command("check")
def check(
    file: File,
    chip: Annotated[Chip | None, typer.Option(help="Check the rules of this chip too.")] = None,
    wait: Annotated[
        float, typer.Option(min=0, max=86400, help="Seconds to wait for a file being written.")
    ] = WAIT_S,
    here: Annotated[bool, typer.Option(help="Compare it with this server's cards too.")] = False,
    verbose: Annotated[bool, typer.Option(help="Say where HCCL or its documents say so.")] = False,
    as_json: Json = False,
) -> None:
    """List every violation, with what HCCL would make of it and how to mend it.

    Exits with 1 if there is an ERROR (HCCL refuses the table) or an UNSUPPORTED (its documents
    forbid it).

    \b
    Examples:
      unet-dist rank-table check rank_tables/2x8.json --chip 910A
      unet-dist rank-table check cluster.json --here
      unet-dist rank-table check /user/serverid/devindex/config/hccl.json --wait 600
    """
    console = console_for(as_json)
    checked = check_file(file, chip, wait_s=wait, on_wait=_waiting_notes(file, console))
    problems = list(checked.problems)
    if checked.table is not None and "RANK_ID" in os.environ:
        problems += rank_id_problems(checked.table, os.environ["RANK_ID"])
    unchecked = list(checked.unchecked)
    not_here = ""
    if checked.table is not None and here:
        try:
            problems += problems_here(checked.table, *cards_and_names())
        except UserError as error:
            not_here = f"--here: {'; '.join(error.faults)}"
    elif here:
        not_here = "--here: mend the table first"
    if not_here:
        unchecked.append(not_here)
    problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    counts = Counter(problem.severity for problem in problems)
    report = {
        "file": str(file),
        "dialect": checked.dialect,
        "chip": chip,
        "ranks": checked.table.world if checked.table else None,
        "servers": len(checked.table.servers) if checked.table else None,
        "fingerprint": checked.fingerprint,
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "problems": [problem.to_json() for problem in problems],
        "not_checked": unchecked,
    }
    lines = [_heading(file, checked), *_describe_problems(problems, verbose)]
    if checked.dialect and checked.unchecked:
        lines.append(f"also run with --chip {'|'.join(CHIPS_OF[checked.dialect])}")
    lines += [f"not checked: {not_here}"] if not_here else []
    answer(console, as_json, "\n".join(lines), report)
    bad = counts["ERROR"] or counts["UNSUPPORTED"]
    raise typer.Exit(EXIT_JOB_FAILED if bad else EXIT_DONE)


@app.command("merge")
def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="In order of ranks.")],
    out: Out,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make one table of the tables of single servers; ranks follow the order of the files.

    \b
    Example:
      unet-dist rank-table merge server1.json server2.json -o cluster.json
    """
    if len(files) < 2:
        raise UserError("FILES", "one table is nothing to merge; name at least two")
    table = merge_tables([(str(file), load_rank_table(file)) for file in files])
    _write(out, table, files, force=force, as_json=as_json)


@app.command("slice")
def slice_(
    file: File,
    out: Out,
    servers: Annotated[str, typer.Option(metavar="A,B", help="server_ids to keep.")] = "",
    devices: Annotated[str, typer.Option(metavar="0-3", help="Cards of each to keep.")] = "",
    ranks: Annotated[str, typer.Option(metavar="0-7", help="Ranks to keep.")] = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Cut a smaller table; what is left gets the ranks 0 to n-1 in its old order.

    \b
    Examples:
      unet-dist rank-table slice rank_tables/2x8.json --servers 10.0.0.2 -o server2.json
      unet-dist rank-table slice rank_tables/2x8.json --devices 0-3 -o rings.json
    """
    if not (servers or devices or ranks):
        raise UserError("slice", "pass at least one of --servers, --devices and --ranks")
    table = slice_table(
        load_rank_table(file),
        servers=[name.strip() for name in servers.split(",")] if servers else [],
        devices=parse_numbers(devices, "--devices") if devices else None,
        ranks=parse_numbers(ranks, "--ranks") if ranks else None,
    )
    _write(out, table, [file], force=force, as_json=as_json)


@app.command("convert")
def convert(
    file: File,
    to: Annotated[Literal["1.0", "template2", "1.2"], typer.Option(help="Dialect to write.")],
    out: Out,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the same ranks in another dialect; keys that it does not know are kept.

    \b
    Examples:
      unet-dist rank-table convert old_lab.json --to 1.0 -o new.json
      unet-dist rank-table convert rank_tables/2x8.json --to template2 -o pods.json
    """
    before = load_rank_table(file)
    table = convert_table(before, to)
    _write(out, table, [file], force=force, as_json=as_json, absent=keys_not_carried(before, table))


@app.command("diff")
def diff(
    a: Annotated[Path, typer.Argument(metavar="A")],
    b: Annotated[Path, typer.Argument(metavar="B")],
    as_json: Json = False,
) -> None:
    """Say what differs between two tables. Exits with 1 if anything does.

    HCCL stops with EI0005 if the servers of a job do not hold the same table.

    \b
    Example:
      unet-dist rank-table diff server1/hccl.json server2/hccl.json
    """
    checked = {path: check_file(path) for path in (a, b)}
    tables = [table_of(path, found) for path, found in checked.items()]
    differences = compare_tables(tables[0], tables[-1])
    prints = [checked[path].fingerprint for path in (a, b)]
    order = "" if differences else order_difference(prints[0], prints[1])
    same = not differences and not order
    moved = moved_servers(tables[0], tables[-1])
    report = {
        "a": str(a),
        "b": str(b),
        "same": same,
        "fingerprints": prints,
        "moved_servers": moved,
        "differences": [difference.to_json() for difference in differences],
        "order": order or None,
    }
    lines = [f"{a} and {b} are the same to HCCL"] if same else [f"{a} -> {b}"]
    if moved:
        named = " and ".join(moved) if len(moved) <= MOST_NAMED else f"{len(moved)} of them"
        lines.append(f"  servers {named} are in another order")
    lines += [f"  {difference}" for difference in differences]
    lines += [f"  {order}"] if order else []
    answer(console_for(as_json), as_json, "\n".join(lines), report)
    raise typer.Exit(EXIT_DONE if same else EXIT_JOB_FAILED)


@app.command("show")
def show(file: File, as_json: Json = False) -> None:
    """Show servers, cards, ranks and addresses.

    \b
    Example:
      unet-dist rank-table show rank_tables/2x8.json
    """
    table = load_rank_table(file)
    answer(console_for(as_json), as_json, describe_table(table), table_facts(table))


def _write(
    out: Path,
    table: RankTable,
    inputs: Sequence[Path],
    *,
    force: bool,
    as_json: bool,
    absent: Sequence[str] = (),
) -> None:
    """Args:
    absent: keys that the dialect is there for, but that the inputs do not tell.
    """
    write_rank_table(out, table, inputs=inputs, force=force)
    tree = tree_of(table)
    problems, of_910a = check_tree(tree).problems, refused_by_910a(tree)
    lines = [f"{out}: dialect {table.dialect}, servers: {len(table.servers)}, ranks: {table.world}"]
    if absent:
        lines.append(f"written without {' and '.join(absent)}, which {inputs[0]} does not tell")
    lines += describe_doubts(problems, of_910a)
    report = {
        "file": str(out),
        **table_facts(table),
        "absent": list(absent),
        "problems": [problem.to_json() for problem in problems],
        "refused_by_910A": [problem.to_json() for problem in of_910a],
    }
    answer(console_for(as_json), as_json, "\n".join(lines), report)


def _describe_problems(problems: Sequence[Problem], with_sources: bool) -> list[str]:
    if not problems:
        return ["no problem found"]
    lines = []
    for problem in problems:
        code = f" {problem.code}" if problem.code else ""
        lines += [
            f"{problem.severity} {problem.rule}{code} at {problem.path}",
            f"  {problem.message}",
            f"  mend: {problem.fix}",
            f"  rule: {RULES[problem.rule].title}",
        ]
        lines += [f"  source: {RULES[problem.rule].source}"] if with_sources else []
    counts = Counter(problem.severity for problem in problems)
    found = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES)
    if counts["UNSUPPORTED"]:
        lines.append("UNSUPPORTED: HCCL would start, its documents forbid it")
    return [*lines, found]


def _heading(file: Path, checked: Checked) -> str:
    if checked.dialect is None:
        return f"{file}: not a rank table that can be read"
    if checked.table is None:
        return f"{file}: dialect {checked.dialect}"
    servers, ranks = len(checked.table.servers), checked.table.world
    return (
        f"{file}: dialect {checked.dialect}, servers: {servers}, ranks: {ranks}, fingerprint "
        f"{checked.fingerprint} (must be the same on every server)"
    )


def _waiting_notes(file: Path, console: Console) -> Callable[[str, float], None]:
    """Says at once why there is a wait, and then now and again how long it goes on."""
    said: list[float] = []

    def note(reason: str, left_s: float) -> None:
        if left_s <= POLL_S or (said and said[-1] - left_s < NOTE_EVERY_S):
            return
        said.append(left_s)
        text = f"{file}: {reason}; waiting up to {left_s:.0f} s more (--wait)"
        console.print(text, markup=False)

    return note
