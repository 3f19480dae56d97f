"""``unet-dist launch``: a script of the user's own under the same supervision."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from unet_dist.cli.shared import Json, console_for, run_to_end, show_plan
from unet_dist.cli.where import (
    BindCores,
    Comm,
    Grace,
    HangLimit,
    Hosts,
    Master,
    PartOption,
    RankTable,
    ServerId,
    Simulate,
    Tee,
    placement_of,
    supervision_of,
    warn_of_table,
)
from unet_dist.errors import UserError
from unet_dist.launching.job import Job
from unet_dist.runs import RunDir, default_run_path


def launch(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="What every rank runs.")
    ],
    simulate: Simulate = 0,
    rank_table: RankTable = "",
    server_id: ServerId = "",
    hosts: Hosts = "",
    part: PartOption = "",
    master: Master = "",
    comm: Comm = "mpi",
    bind_cores: BindCores = True,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="Starts again after a failure; the script must go on itself.")
    ] = 0,
    hang_limit: HangLimit = None,
    grace: Grace = 10.0,
    tee: Tee = "0",
    run: Annotated[Path | None, typer.Option(help="Folder for logs; default runs/NAME.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print what would be started.")] = False,
    as_json: Json = False,
) -> None:
    """Start your own MindSpore or MPI script on every rank, supervised like a training.

    A script that tells what it does is watched for hangs as well:

    \b
      from unet_dist.heartbeat import Heartbeat
      heartbeat = Heartbeat.of_this_rank()
      heartbeat.beat("step", step=12)              # a phase of --hang-limit
      with heartbeat.waiting("all-reduce"):        # else it cannot be told who waits for whom
          comm.allreduce(...)

    Its rank is OMPI_COMM_WORLD_RANK under MPI, RANK_ID otherwise; UNET_DIST_ATTEMPT is the folder
    of the attempt.

    \b
    Examples:
      unet-dist launch --simulate 4 -- python train.py --epochs 3
      unet-dist launch --simulate 2 --comm mindspore -- python train_with_init.py
      unet-dist launch --rank-table rank_tables/1x8.json --tee 0-7 -- python train.py
    """
    console = console_for(as_json)
    placement = placement_of(
        simulate=simulate,
        rank_table=rank_table,
        server_id=server_id,
        comm=comm,
        hosts=hosts,
        part=part,
        master=master,
        bind_cores=bind_cores,
    )
    topology = placement.topology()
    if topology.part.count > 1 and run is None:
        raise UserError("--run", "is needed with several parts: the folder that all of them share")
    argv = resolved(command)
    script = next((word for word in command if word.endswith(".py")), command[0])
    folder = RunDir(run or default_run_path(Path(script)))
    if folder.config.exists():
        raise UserError(str(folder.path), "holds a training; choose another --run")
    job = Job(
        run=folder,
        what={"kind": "launch"},
        placement=placement,
        supervision=supervision_of(
            topology,
            max_restarts=max_restarts,
            hang_limit=hang_limit,
            grace=grace,
            tee=tee,
            start_is_watched=False,
        ),
        console=console,
        argv=argv,
    )
    warn_of_table(placement, console)
    if dry_run:
        show_plan(job, as_json)
        return
    run_to_end(job, topology.part, as_json)


def resolved(command: list[str]) -> tuple[str, ...]:
    """``python`` is the interpreter that runs this program, so that the ranks find what it finds;
    a script without one gets it too. Scripts run by way of ``unet_dist.run_script``, which writes
    down their errors."""
    program, *arguments = command
    if program.endswith(".py"):
        program, arguments = "python", command
    script = arguments[0] if program in ("python", "python3") and arguments else ""
    if script.endswith(".py") and not Path(script).is_file():
        raise UserError(script, "no such file")
    if program in ("python", "python3"):
        runs_script = bool(arguments) and (arguments[0] == "-m" or arguments[0][0] != "-")
        runner = ("-m", "unet_dist.run_script") if runs_script else ()
        return (sys.executable, *runner, *arguments)
    found = shutil.which(program)
    if found is None:
        raise UserError(program, "was not found, or is not executable")
    return (found, *arguments)
