"""``unet-dist train`` and ``eval``: the jobs of a run on its own images."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unet_dist.cli.beginning import Beginning, begun_anew, resumed
from unet_dist.cli.folds import Folds, Parallel, Seeds, chosen_members, train_ensemble
from unet_dist.cli.run_config import refuse_structure
from unet_dist.cli.shared import (
    Json,
    TtaOption,
    checked_split,
    checked_tta,
    console_for,
    run_to_end,
    show_plan,
)
from unet_dist.cli.where import (
    BindCores,
    Comm,
    Grace,
    HangLimit,
    Hosts,
    Master,
    MaxRestarts,
    MinRanks,
    PartOption,
    RankTable,
    ServerId,
    Simulate,
    Tee,
    placement_of,
    supervision_of,
    warn_of_table,
)
from unet_dist.cluster.topology import fitting_ranks
from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.launching.datasets import check_capture
from unet_dist.launching.job import Job
from unet_dist.launching.placement import check_fit
from unet_dist.profiling.capture import CapturePlan
from unet_dist.runs import RunDir

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="such as train.lr=0.001")
]


def train(
    target: Annotated[Path, typer.Argument(help="Configuration file, or run folder to resume.")],
    overrides: Overrides = None,
    simulate: Simulate = 0,
    rank_table: RankTable = "",
    server_id: ServerId = "",
    hosts: Hosts = "",
    part: PartOption = "",
    master: Master = "",
    comm: Comm = "mpi",
    bind_cores: BindCores = True,
    max_restarts: MaxRestarts = 3,
    min_ranks: MinRanks = 0,
    hang_limit: HangLimit = None,
    grace: Grace = 1.0,
    tee: Tee = "",
    folds: Folds = 0,
    seeds: Seeds = "",
    parallel: Parallel = 0,
    run: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint.")] = False,
    overfit: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Only see whether the network can learn N training images by heart; exits with 1 "
            "if not, and says what to look at.",
        ),
    ] = 0,
    profile: Annotated[
        str,
        typer.Option(
            metavar="steps=A:B",
            help="Profile these steps into RUN/profile: such as steps=20:25, or "
            "steps=20:25,warmup=2,every=500,repeat=3 (warmup: steps before, not kept).",
        ),
    ] = "",
    profile_ranks: Annotated[str, typer.Option(help="all, or like 0,3.")] = "all",
    profile_stack: Annotated[
        bool, typer.Option("--profile-stack", help="With stacks of Python, on cards alone.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Print what would be started.")] = False,
    as_json: Json = False,
) -> None:
    """Train a U-Net, then score it on the test images and draw the report picture.

    \b
    Examples:
      unet-dist train configs/chasedb1.yaml data.root=DIR --simulate 2 --run runs/chase
      unet-dist train runs/chase --resume
      unet-dist train configs/chasedb1.yaml data.root=DIR --overfit 1
      unet-dist train configs/drive.yaml data.root=DIR --rank-table rank_tables/1x8.json
      unet-dist train configs/vessels.yaml --simulate 4 --dry-run
      unet-dist train configs/vessels.yaml --simulate 4 --hosts a:2,b:2
      unet-dist train configs/drive.yaml --rank-table 4x8.json --part 1/4 --run /shared/drive
      unet-dist train configs/vessels.yaml --folds 5 --parallel 2 --run runs/cv
      unet-dist train configs/vessels.yaml --seeds 0,1,2 --run runs/seeds
      unet-dist train configs/vessels.yaml --simulate 4 --profile steps=20:25
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
    supervise = partial(
        supervision_of,
        max_restarts=max_restarts,
        min_ranks=min_ranks,
        hang_limit=hang_limit,
        grace=grace,
        tee=tee,
    )
    if resume:
        _refuse_beside_resume(target, run, overfit)
    capture = _capture_of(profile, profile_ranks, stacks=profile_stack)
    vary = chosen_members(
        target, folds=folds, seeds=seeds, parallel=parallel, resume=resume, overfit=overfit
    )
    if vary is not None and capture is not None:
        raise UserError("--profile", "is for one training, not for folds or seeds")
    if vary is not None:
        train_ensemble(
            target,
            overrides or [],
            vary,
            placement=placement,
            supervise=supervise,
            run=run,
            dry_run=dry_run,
            as_json=as_json,
        )
    if resume:
        begin = resumed(target, overrides or [], placement, capture)
    else:
        begin = begun_anew(target, overrides or [], placement, capture, run=run, overfit=overfit)
    topology = begin.placement.topology()
    if topology.part.count > 1 and run is None and not resume:
        raise UserError("--run", "is needed with several parts: the folder that all of them share")
    config = begin.config_of(topology.world)
    check_fit(config, topology.world, topology.target)
    if capture is not None:
        capture.check_ranks(topology.world)
    job = Job(
        run=begin.folder,
        what={
            "kind": "train",
            "resume": resume,
            "profile": capture and capture.to_json(),
            **begin.what,
        },
        placement=begin.placement,
        supervision=supervise(topology),
        console=console,
        fitting=fitting_ranks(config.train.batch, config.train.accumulation),
    )
    warn_of_table(begin.placement, console)
    if dry_run:
        if capture is not None:
            _tell_capture(begin, config, capture, console)
        show_plan(job, as_json)
        return

    def prepare() -> None:
        job.what = {**job.what, **begin.prepare(topology.world, console)}

    run_to_end(job, topology.part, as_json, prepare)


def _refuse_beside_resume(target: Path, run: Path | None, overfit: int) -> None:
    """Raises UserError for what says where or how a new run begins."""
    if run is not None and not target.is_dir():
        told = f"--resume takes the run's folder alone: unet-dist train {run} --resume"
        raise UserError("--run", told)
    for option, given in (("--run", run is not None), ("--overfit", overfit)):
        if given:
            raise UserError(option, f"--resume goes on in {target}; leave {option} out")


def _capture_of(steps: str, ranks: str, *, stacks: bool) -> CapturePlan | None:
    if steps:
        return CapturePlan.parse(steps, ranks, stacks=stacks)
    for option, given in (("--profile-ranks", ranks != "all"), ("--profile-stack", stacks)):
        if given:
            raise UserError(option, "has no effect without --profile steps=A:B")
    return None


def _tell_capture(begin: Beginning, config: Config, capture: CapturePlan, console: Console) -> None:
    """What a dry run says of it."""
    if begin.folder.dataset.exists():
        check_capture(begin.folder, config, capture, console)
    else:
        console.print(
            "--profile: whether the training has these steps is checked once its images are read",
            markup=False,
        )


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    simulate: Simulate = 0,
    rank_table: RankTable = "",
    server_id: ServerId = "",
    comm: Comm = "mpi",
    tta: TtaOption = "",
    as_json: Json = False,
) -> None:
    """Score the best checkpoint on whole images, at the threshold chosen on validation images.

    \b
    Example:
      unet-dist eval runs/chase --split test --json
    """
    checked_split(split)
    folder = RunDir(run)
    refuse_structure(folder.load_config())
    folder.check_members()
    placement = placement_of(
        simulate=simulate, rank_table=rank_table, server_id=server_id, comm=comm
    )
    placement = placement.or_else(folder.last_placement())
    topology = placement.topology()
    job = Job(
        run=folder,
        what={"kind": "evaluate", "split": split, "tta": checked_tta(tta)},
        placement=placement,
        supervision=supervision_of(topology),
        console=console_for(as_json),
    )
    run_to_end(job, topology.part, as_json)
