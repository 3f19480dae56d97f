"""``unet-dist rank-table make``: a table of the cards that this server or a cluster has."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from unet_dist.cli.shared import Json, answer, console_for
from unet_dist.cluster.server.device_list import parse_device_list
from unet_dist.cluster.server.gather import collect_parts
from unet_dist.cluster.server.make_table import chip_of_models, problems_of_table, table_of_parts
from unet_dist.cluster.server.part import (
    HostLine,
    hosts_of,
    part_of_this_server,
)
from unet_dist.cluster.tables.check import refused_by_910a
from unet_dist.cluster.tables.model import Chip, RankTable
from unet_dist.cluster.tables.problems import Problem, errors_of
from unet_dist.cluster.tables.show import describe_doubts, describe_table, table_facts
from unet_dist.cluster.tables.write import tree_of, write_rank_table
from unet_dist.errors import UserError

Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write; .json.")]
Devices = Annotated[
    str, typer.Option(metavar="0-7", help="Physical cards of each server; default all.")
]
Hosts = Annotated[
    str,
    typer.Option(
        metavar="FILE", help="Servers, a line `a`, `a slots=4` or `a devices=0-3` each; or a,b,c."
    ),
]
ServerId = Annotated[
    str, typer.Option(help="Of this server; default its address on the default route.")
]
ChipOption = Annotated[
    Chip | None,
    typer.Option("--chip", help="Whose rules the table must keep; default what is found."),
]
Force = Annotated[bool, typer.Option(help="Replace the output if it exists.")]


def make(
    out: Out,
    devices: Devices = "",
    hosts: Hosts = "",
    server_id: ServerId = "",
    chip: ChipOption = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the rank table of this server's cards, or of a cluster's.

    With --hosts, mpirun asks all of them at once; this program must be installed in the same
    place on each. Ranks are counted through the servers in the order of the file, and what is
    wrong anywhere is told together. A line of the file may also have server_id=ADDRESS.

    \b
    Examples:
      unet-dist rank-table make -o 1x8.json
      unet-dist rank-table make --devices 4-7 --server-id 10.0.0.1 -o half.json
      unet-dist rank-table make --hosts hosts.txt --chip 910A -o cluster.json
    """
    console = console_for(as_json)
    wanted = parse_device_list(devices) if devices else ()
    if hosts:
        if server_id:
            raise UserError(
                "--server-id", "is for one server; in the hosts file write server_id=ADDRESS"
            )
        lines = _host_lines(hosts, wanted)
        parts = collect_parts(lines, tell=lambda text: console.print(text, markup=False))
    else:
        parts = (part_of_this_server(HostLine(name="", devices=wanted, server_id=server_id)),)
    chip = chip or chip_of_models([model for part in parts for model in part.models])
    table = table_of_parts(parts)
    problems = problems_of_table(table, chip)
    refused = errors_of(problems)
    notes = [f"{part.host}: {note}" for part in parts for note in part.notes]
    if refused:
        raise UserError(f"the table for {chip or 'any chip'}", [*map(str, refused), *notes])
    write_rank_table(out, table, force=force)
    text = _describe(out, table, chip, problems, notes)
    answer(console, as_json, text, _facts(out, table, chip, problems, notes))


def _host_lines(hosts: str, devices: tuple[int, ...]) -> tuple[HostLine, ...]:
    """From a file or from ``a,b``; hosts without a choice of their own get ``devices``."""
    return tuple(
        replace(line, devices=devices) if devices and not line.devices and not line.slots else line
        for line in hosts_of(hosts)
    )


def _refused_if_910a(table: RankTable, chip: Chip | None) -> list[Problem]:
    """The chip with most rules is the one to warn of, as long as the chip is not known."""
    return [] if chip else refused_by_910a(tree_of(table))


def _describe(
    out: Path,
    table: RankTable,
    chip: Chip | None,
    problems: Sequence[Problem],
    notes: Sequence[str],
) -> str:
    rules = f"checked by the rules of {chip}" if chip else "checked without --chip"
    lines = [describe_table(table), "", f"{out}: {rules}"]
    lines += describe_doubts(problems, _refused_if_910a(table, chip))
    return "\n".join([*lines, *(f"not seen: {note}" for note in notes)])


def _facts(
    out: Path,
    table: RankTable,
    chip: Chip | None,
    problems: Sequence[Problem],
    notes: Sequence[str],
) -> dict[str, Any]:
    return {
        "file": str(out),
        "chip": chip,
        **table_facts(table),
        "problems": [problem.to_json() for problem in problems],
        "refused_by_910A": [problem.to_json() for problem in _refused_if_910a(table, chip)],
        "not_seen": list(notes),
    }
