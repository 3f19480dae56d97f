"""``unet-dist train --folds`` and ``--seeds``: several runs of one configuration."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from unet_dist.cli.run_config import config_of_run, refuse_folder, refuse_structure
from unet_dist.cli.shared import EXIT_CODES, answer, console_for
from unet_dist.cli.where import warn_of_table
from unet_dist.cluster.tables.edit import parse_numbers
from unet_dist.cluster.topology import Topology, fitting_ranks
from unet_dist.config import Config
from unet_dist.config_file import build_config, dump_config, read_yaml_mapping, with_absolute_paths
from unet_dist.errors import UserError
from unet_dist.launching.datasets import begin_ensemble
from unet_dist.launching.describe import describe_plan
from unet_dist.launching.ensemble import EnsembleJob, EnsembleResult
from unet_dist.launching.placement import Placement, Supervision, check_fit, plan_job
from unet_dist.launching.places import divide
from unet_dist.launching.summary import describe_summary
from unet_dist.runs import Members, RunDir, default_run_path, write_json, write_text_atomically

MAX_MEMBERS = 100

Folds = Annotated[
    int,
    typer.Option(
        min=0,
        max=MAX_MEMBERS,
        help="Cross-validation: train this many folds of the images beside the test.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str, typer.Option(help="Train with each of these seeds, such as 0,1,2 or 0-2, on one split.")
]
Parallel = Annotated[
    int,
    typer.Option(
        min=0,
        help="Folds or seeds that train beside each other, on their share of the cards or cores; "
        "1 by default.",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Vary:
    """What the user said of the members of an ensemble."""

    by: Literal["fold", "seed"] | None
    """None: as in the folder that is to go on."""
    values: tuple[int, ...] = ()
    parallel: int = 0
    """0: as before, or one."""


def chosen_members(
    target: Path, *, folds: int, seeds: str, parallel: int, resume: bool, overfit: int
) -> Vary | None:
    """None for an ordinary run.

    Raises:
        UserError: options that contradict one another, or have no effect.
    """
    goes_on = resume and RunDir(target).is_ensemble()
    given = [option for option, said in (("--folds", folds), ("--seeds", seeds)) if said]
    values = _seeds_of(seeds) if seeds else ()
    faults = []
    if len(given) > 1:
        faults.append("--folds and --seeds: choose one; the seed of the folds is seed=N")
    if resume and given:
        faults.append(f"--resume goes on with what {target} holds; leave {given[0]} out")
    if parallel and not given and not goes_on:
        faults.append("--parallel has no effect without --folds or --seeds")
    if overfit and (given or goes_on):
        what = given[0] if given else f"{target}, which holds several runs"
        faults.append(f"--overfit checks one run, not {what}; leave --overfit out")
    if folds == 1 or (seeds and len(values) < 2):
        faults.append(f"{given[0]}: 2 or more are needed for a mean; or leave it out")
    if faults:
        raise UserError("train", faults)
    if goes_on:
        return Vary(by=None, parallel=parallel)
    if folds:
        return Vary(by="fold", values=tuple(range(folds)), parallel=parallel)
    return Vary(by="seed", values=values, parallel=parallel) if seeds else None


def _seeds_of(text: str) -> tuple[int, ...]:
    """Of ``0,1,2`` or ``0-2``, each once."""
    seeds = parse_numbers(text, "--seeds").listed(most=MAX_MEMBERS, what="seeds")
    return tuple(dict.fromkeys(seeds))


def configs_of(config: Config, by: str, values: tuple[int, ...]) -> list[Config]:
    """One for each member. The images of the test are the same in all of them."""
    split = config.data.split
    if by == "fold":
        rule = split.test_by if split.by == "fold" else split.by
        changed = {"by": "fold", "folds": len(values), "test_by": rule}
        updates = [({"fold": value} | changed, config.seed) for value in values]
    else:
        # Drawn once: the members of an ensemble are not to be tested on each other's images.
        seed = config.seed if split.seed is None else split.seed
        updates = [({"seed": seed}, value) for value in values]
    return [
        config.model_copy(
            update={
                "seed": seed,
                "data": config.data.model_copy(update={"split": split.model_copy(update=update)}),
            }
        )
        for update, seed in updates
    ]


def train_ensemble(
    target: Path,
    overrides: list[str],
    vary: Vary,
    *,
    placement: Placement,
    supervise: Callable[[Topology], Supervision],
    run: Path | None,
    dry_run: bool,
    as_json: bool,
) -> NoReturn:
    """Trains all members, or those that are not finished; exits with the code of the ending."""
    console = console_for(as_json)
    if vary.by is None:
        folder = RunDir(target)
        before = folder.load_members()
        placement = placement.or_else(before.placement)
        members = replace(before, parallel=vary.parallel or before.parallel)
        names = before.names
        configs = {name: config_of_run(folder.member(name), overrides) for name in names}
        whole = config_of_run(folder, overrides)
    else:
        refuse_folder(target, "its runs")
        folder = RunDir(run or default_run_path(target))
        tree = read_yaml_mapping(target)
        config = with_absolute_paths(build_config(tree, overrides, where=str(target)))
        refuse_structure(config)
        members = Members(
            vary=vary.by, values=vary.values, parallel=max(1, vary.parallel), placement={}
        )
        found = configs_of(config, vary.by, vary.values)
        configs, whole = dict(zip(members.names, found, strict=True)), found[0]
    members = replace(members, placement=asdict(placement))
    topology = placement.topology()
    if topology.part.count > 1:
        raise UserError(
            "--folds", "and --seeds take all ranks from one command: use --hosts in place of --part"
        )
    fitting = fitting_ranks(whole.train.batch, whole.train.accumulation)
    count = min(members.parallel, len(members.values))
    job = EnsembleJob(
        folder=folder,
        members=members,
        placement=placement,
        division=divide(placement, count, folder=folder.path, fitting=fitting),
        supervise=supervise,
        fitting=fitting,
        console=console,
    )
    for place in job.division.topologies():
        check_fit(whole, place.world, place.target)
        supervise(place)
    warn_of_table(placement, console)
    if dry_run:
        _show_plans(job, as_json)
        raise typer.Exit
    with folder.locked():
        if vary.by is not None:
            begin_ensemble(folder, configs, console)
        write_down(folder, members, configs, whole)
        console.print(_arithmetic(job), markup=False)
        _finish(job, job.lead(), as_json)


def write_down(
    folder: RunDir, members: Members, configs: Mapping[str, Config], whole: Config
) -> None:
    """The configurations, and last that this folder holds several runs."""
    for name, config in configs.items():
        run = folder.member(name)
        if run.state() == "done" and run.load_config() != config:
            # With the new settings it has something left to do.
            write_json(run.status, {**run.read_status(), "state": "stopped"})
        write_text_atomically(run.config, dump_config(config))
    write_text_atomically(folder.config, dump_config(whole))
    write_json(folder.members_file, members.to_json())


def _arithmetic(job: EnsembleJob) -> str:
    """For example ``5 folds, 2 beside each other on 4 ranks each; 1 card left over``."""
    division, number = job.division, len(job.members.values)
    count, world = len(division.places), division.topologies()[0].world
    ranks = f"{world} rank{'s' if world > 1 else ''}"
    how = f"{count} beside each other" if count > 1 else "one after the other"
    idle = division.idle_cards
    left = f"; {idle} card{'s' if idle > 1 else ''} left over" if idle else ""
    return f"{number} {job.members.vary}s, {how} on {ranks}{' each' if count > 1 else ''}{left}"


def _show_plans(job: EnsembleJob, as_json: bool) -> None:
    """Each place with the first member that it gets. Rank tables of parts are not written: they
    are read from elsewhere, and shown where they will be."""
    with tempfile.TemporaryDirectory() as elsewhere:
        count = len(job.division.places)
        there = divide(job.placement, count, folder=Path(elsewhere), fitting=job.fitting)
        there.write_tables()
        texts, plans = [_arithmetic(job)], {}
        for name, place in zip(job.members.names, there.places, strict=False):
            run, what = job.folder.member(name), {"kind": "train", "resume": False, "split": ""}
            limits = job.supervise(place.topology()).limits
            plan, _ = plan_job(run, what, place, limits)
            texts.append(f"\n{name}: {describe_plan(plan)}")
            plans[name] = plan.to_json()
        resolved = (str(Path(elsewhere).resolve()), str(job.folder.path.resolve()))
        answer(
            job.console,
            as_json,
            "\n".join(texts).replace(*resolved),
            {"members": _moved(plans, *resolved)},
        )


def _moved(value: Any, old: str, new: str) -> Any:
    """The same tree with a folder named otherwise in its texts."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_moved(item, old, new) for item in value]
    return value


def _finish(job: EnsembleJob, result: EnsembleResult, as_json: bool) -> NoReturn:
    summary = result.summary
    # As of a run: the numbers of the last evaluation at the top.
    top = summary.get("test") or summary.get("val") or {}
    report = {**top, "state": result.ending, "run": str(job.folder.path), "attempt": None}
    report |= summary
    if result.failure is not None:
        report["failure"] = {**asdict(result.failure), "member": result.failed}
    text = describe_summary(summary)
    if result.ending != "done":
        left = [row["name"] for row in summary["members"] if row["state"] != "done"]
        text += f"\n{result.ending}; not finished: {', '.join(left or ['the evaluation of all'])}"
        text += f"\ngo on with: unet-dist train {job.folder.path} --resume"
    answer(job.console, as_json, text, report)
    raise typer.Exit(EXIT_CODES[result.ending])
