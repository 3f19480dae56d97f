"""Options of the commands that start ranks: where they run, and how they are watched."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unet_dist.cluster.limits import Limits, parse_hang_limits
from unet_dist.cluster.plan import CommKind
from unet_dist.cluster.restart import RestartPolicy
from unet_dist.cluster.tables.read import check_file
from unet_dist.cluster.topology import Topology
from unet_dist.errors import UserError
from unet_dist.launching.placement import (
    CARD_RESTART_DELAY_S,
    Placement,
    Supervision,
    parse_ranks,
    read_hosts,
)

Simulate = Annotated[
    int,
    typer.Option(
        min=0,
        help="Number of simulated ranks on CPUs; 0 is 1, unless there is a rank table.",
        show_default=False,
    ),
]
SimulateAsRun = Annotated[
    int,
    typer.Option(
        "--simulate",
        min=0,
        help="Number of simulated ranks on CPUs; 0 is as many as the run trained on (its rank "
        "table, if it had one).",
        show_default=False,
    ),
]
RankTable = Annotated[str, typer.Option(help="HCCL rank table: one process per card.")]
ServerId = Annotated[
    str,
    typer.Option(help="This server's server_id in the rank table; the others start their own."),
]
Comm = Annotated[
    CommKind, typer.Option(help="Collectives of simulated ranks: mpi, or MindSpore's own.")
]
Hosts = Annotated[
    str,
    typer.Option(
        help="a:2,b:2, or a file with a line `a slots=2` each: mpirun starts the ranks there."
    ),
]
PartOption = Annotated[
    str,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Start part I of N of the ranks; give the same command with the other I elsewhere.",
    ),
]
Master = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT", help="Address of part 0, for --comm mindspore over several machines."
    ),
]
BindCores = Annotated[
    bool, typer.Option(help="Give the rank of each card CPU cores near it (its NUMA node).")
]
MaxRestarts = Annotated[
    int,
    typer.Option(min=0, help="Starts again after a failure, from the last checkpoint."),
]
MinRanks = Annotated[
    int,
    typer.Option(
        min=0,
        help="Allow as few ranks as this when a card failed twice, at the same images per step; "
        "0: never fewer.",
    ),
]
HangLimit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PHASE=SECONDS",
        help="Longest silence of a rank in a phase (start, compile, step, validation, checkpoint, "
        "evaluation, prediction), such as step=60; 0: never. Learnt by default. host=60: of the "
        "launcher on another host, or of mpirun's daemon there; 30 by default. stop=600: time "
        "for a checkpoint after Ctrl-C or SIGTERM; 1800 by default.",
    ),
]
Grace = Annotated[float, typer.Option(min=0, help="Seconds between SIGTERM and SIGKILL.")]
Tee = Annotated[
    str,
    typer.Option(help="Show the logs of these ranks while they grow, such as 0,3 or 0-7."),
]


def placement_of(
    *,
    simulate: int,
    rank_table: str,
    server_id: str = "",
    comm: CommKind = "mpi",
    hosts: str = "",
    part: str = "",
    master: str = "",
    bind_cores: bool = True,
) -> Placement:
    return Placement(
        simulate=simulate,
        # A run is resumed from wherever the user then is.
        rank_table=str(Path(rank_table).resolve()) if rank_table else "",
        server_id=server_id,
        comm=comm,
        hosts=read_hosts(hosts),
        part=part,
        master=master,
        bind_cores=bind_cores,
    )


def warn_of_table(placement: Placement, console: Console) -> None:
    """What HCCL takes but its documents forbid; what HCCL refuses was an error before."""
    if not placement.rank_table:
        return
    for problem in check_file(Path(placement.rank_table)).problems:
        if problem.severity != "ERROR":
            console.print(f"warning: {placement.rank_table}: {problem}", markup=False)


def supervision_of(
    topology: Topology,
    *,
    max_restarts: int = 0,
    min_ranks: int = 0,
    hang_limit: list[str] | None = None,
    grace: float = 1.0,
    tee: str = "",
    start_is_watched: bool = True,
) -> Supervision:
    shown = parse_ranks(tee, "--tee")
    faults = []
    if min_ranks and not max_restarts:
        faults.append("--min-ranks has no effect with --max-restarts 0")
    if min_ranks and (topology.hosts or topology.part.count > 1):
        faults.append("--min-ranks works on one machine only; here the ranks run on several")
    if min_ranks > topology.world:
        faults.append(f"--min-ranks is {min_ranks}, but there are {topology.world} ranks at all")
    faults += [
        f"--tee {rank}: the ranks are 0 to {topology.world - 1}"
        for rank in shown
        if rank >= topology.world
    ]
    if faults:
        raise UserError("supervision", faults)
    limits = Limits(
        # A script of the user's names its phases as it likes.
        chosen=parse_hang_limits(hang_limit or [], known_only=start_is_watched),
        grace_s=grace,
        start_is_watched=start_is_watched,
    )
    delay_s = CARD_RESTART_DELAY_S if topology.target == "Ascend" else RestartPolicy().first_delay_s
    return Supervision(
        limits=limits,
        restarts=RestartPolicy(
            max_restarts=max_restarts,
            # Of a script of the user's it is not known what progress is.
            without_progress=RestartPolicy().without_progress if start_is_watched else max_restarts,
            min_ranks=min_ranks,
            first_delay_s=delay_s,
        ),
        shown_ranks=shown,
    )
