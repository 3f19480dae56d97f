"""From a command to ranks at work: topology, plan, supervisor, and what came of it."""

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar

from unet_dist.cluster import host
from unet_dist.cluster.plan import CommKind, LaunchPlan, make_plan
from unet_dist.cluster.rank_table import read_rank_table
from unet_dist.cluster.supervisor import Failure, LaunchResult, run_plan
from unet_dist.cluster.topology import Topology, from_rank_table, simulated
from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.progress import Progress, decimals
from unet_dist.runs import AttemptDir, RunDir, read_json


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the user wants the ranks: simulated ones here, or one on each card of a table."""

    simulate: int = 0
    rank_table: str = ""
    server_id: str = ""
    comm: CommKind = "mpi"

    def or_else(self, earlier: Mapping[str, Any]) -> "Placement":
        """This placement if it says anything, else the one of an earlier attempt."""
        if self.simulate or self.rank_table or not earlier:
            return self
        return Placement(**earlier)

    def topology(self) -> Topology:
        if self.simulate and self.rank_table:
            raise UserError(
                "--simulate, --rank-table",
                "choose one: simulated ranks on this CPU, or the cards of a table",
            )
        if self.rank_table:
            table = read_rank_table(Path(self.rank_table))
            return from_rank_table(table, self.server_id or None)
        return simulated(self.simulate or 1, host.usable_cores())


def plan_job(
    run: RunDir, job: Mapping[str, Any], placement: Placement
) -> tuple[LaunchPlan, AttemptDir]:
    topology = placement.topology()
    attempt = run.attempt(run.next_attempt())
    on_cards = topology.target == "Ascend"
    plan = make_plan(
        topology,
        attempt,
        {**job, "run": str(run.path.resolve()), "placement": asdict(placement)},
        comm="mindspore" if on_cards else placement.comm,
        scheduler_port=host.free_port() if placement.comm == "mindspore" else 0,
        cpu_flags=host.cpu_flags(),
    )
    return plan, attempt


def begin_run(folder: RunDir, config: Config, console: Console) -> None:
    """Checks the whole data set and writes down what the ranks need of it; a faulty data set
    leaves no run behind."""
    from unet_dist.data.check import check_dataset
    from unet_dist.data.dataset import normalisation, open_dataset
    from unet_dist.data.manifest import write_manifest

    if folder.config.exists():
        raise UserError(
            str(folder.path),
            f"already holds a run; go on with `unet-dist train {folder.path} --resume`, or "
            "choose another --run",
        )
    if any(path.name != ".lock" for path in folder.path.iterdir()):
        raise UserError(str(folder.path), "is not empty, and not a run; choose another --run")
    try:
        with counter(console, "checking images") as count_images:
            report = check_dataset(config.data, seed=config.seed, on_progress=count_images)
        if report.faults:
            raise UserError(config.data.root or "data.root", report.faults)
        dataset = open_dataset(config.data, seed=config.seed)
        write_manifest(folder.dataset, dataset, normalisation(dataset))
    except BaseException:
        folder.discard()
        raise
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False)
    sizes = {part: len(samples) for part, samples in dataset.splits.parts().items()}
    console.print(
        f"{sizes['train']} images to train, {sizes['val']} to validate, {sizes['test']} to test; "
        f"masks {dataset.coding.describe()}",
        markup=False,
    )


@contextlib.contextmanager
def counter(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing elsewhere, since this takes seconds."""
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


def run_job(
    run: RunDir, plan: LaunchPlan, attempt: AttemptDir, console: Console
) -> tuple[LaunchResult, dict[str, Any]]:
    """Starts the ranks, shows what they do, and returns how it ended and what they answered."""
    waiting = f"starting {describe_ranks(plan)}; logs in {attempt.path}"
    first_rank = min(slot.rank for slot in plan.topology.slots)
    progress = Progress(run.records(first_rank), console, waiting)
    try:
        # Only a training has something to save.
        on_asked = progress.tell_stopping if plan.job["kind"] == "train" else None
        result = run_plan(plan, attempt, on_poll=progress.poll, on_asked=on_asked)
    finally:
        progress.close()
    answer = read_json(attempt.result()) if attempt.result().exists() else {}
    return result, answer


def describe_ranks(plan: LaunchPlan) -> str:
    number = len(plan.topology.slots)
    ranks = f"{number} rank{'s' if number > 1 else ''}"
    if plan.topology.target == "Ascend":
        return f"{ranks} on Ascend cards, {plan.topology.world} in the job"
    text = f"{ranks} simulated on this CPU"
    if "ONEDNN_MAX_CPU_ISA" in plan.processes[0].env:
        text += (
            " (ONEDNN_MAX_CPU_ISA=AVX2: MindSpore's convolutions are some 30 times slower on "
            "AVX-512)"
        )
    return text


def ending_of(result: LaunchResult, answer: Mapping[str, Any]) -> str:
    """``done``, ``failed`` or ``stopped``."""
    if result.failure is not None:
        return "failed"
    # Asked to stop after their last step, the ranks finish: then there is an answer. Without an
    # interruption there is none only where rank 0 runs on another server.
    stopped = "stopped_at_step" in answer or (result.interrupted and not answer)
    return "stopped" if stopped else "done"


def describe_answer(run: RunDir, plan: LaunchPlan, ending: str, answer: Mapping[str, Any]) -> str:
    if ending == "stopped":
        lines = [f"stopped after step {answer['stopped_at_step']}"] if answer else ["stopped"]
        if plan.job["kind"] == "train":
            lines.append(f"go on with: unet-dist train {run.path} --resume")
        return "\n".join(lines)
    if not answer:
        return "done on this server; the server of rank 0 has the result"
    if plan.job["kind"] == "predict":
        lines = [f"{len(answer['written'])} predictions in {plan.job['out']}"]
        return "\n".join([*lines, *(f"not predicted: {fault}" for fault in answer["faults"])])
    interval = answer["dice_interval"]
    between = f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    names = ("iou", "sensitivity", "specificity", "accuracy", "auc")
    others = (f"{name} {decimals(answer[name])}" for name in names)
    return "\n".join(
        [
            f"{answer['split']} Dice {decimals(answer['dice'])}{between}, mean of "
            f"{answer['images']} images",
            ", ".join(others),
            f"pooled Dice {decimals(answer['pooled']['dice'])}",
            answer["protocol"]["sentence"],
            f"weights of step {answer['checkpoint_step']}, report picture {run.picture}",
        ]
    )


def describe_failure(failure: Failure) -> str:
    who = "the job" if failure.rank is None else f"rank {failure.rank}"
    lines = [f"{who} failed first: {failure.reason}"]
    if failure.last_lines:
        lines += ["last lines of its log:", *(f"  {line}" for line in failure.last_lines)]
    return "\n".join([*lines, f"log: {failure.log}"])


def describe_plan(plan: LaunchPlan) -> str:
    """What ``--dry-run`` prints: every rank, and every process with its argv and environment."""
    lines = [f"{describe_ranks(plan)}, world size {plan.topology.world}, comm {plan.comm}", ""]
    lines.append("rank  server           device  cores")
    for slot in plan.topology.slots:
        cores = ",".join(map(str, slot.cores)) or "all"
        lines.append(f"{slot.rank:4}  {slot.server:15}  {slot.device_id:6}  {cores}")
    for process in plan.processes:
        ranks = ",".join(map(str, process.ranks)) or "none"
        lines += ["", f"process {process.name} (ranks {ranks})"]
        lines += [f"  {name}={value}" for name, value in sorted(process.env.items())]
        lines.append(f"  {shlex.join(process.argv)}")
    lines += ["", f"job {json.dumps(dict(plan.job))}"]
    return "\n".join(lines)
