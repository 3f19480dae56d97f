"""What is said of a plan, of a failure and of an answer."""

import shlex
from collections.abc import Mapping
from typing import Any

from unet_dist.cluster.failure import Failure
from unet_dist.cluster.plan import LaunchPlan
from unet_dist.progress import decimals
from unet_dist.runs import RunDir

VICTIMS_SHOWN = 8


def describe_ranks(plan: LaunchPlan) -> str:
    topology = plan.topology
    number = len(topology.mine)
    ranks = f"{number} rank{'s' if number > 1 else ''}"
    job = f", {topology.world} in the job" if number < topology.world else ""
    where = f" over {len(topology.hosts)} hosts" if topology.hosts else ""
    if topology.target == "Ascend":
        return f"{ranks} on Ascend cards{where}{job}"
    text = f"{ranks} simulated on this CPU{job}" if not where else f"{ranks} simulated{where}"
    if any("ONEDNN_MAX_CPU_ISA" in process.env for process in plan.processes):
        text += " (ONEDNN_MAX_CPU_ISA=AVX2)"
    return text


def describe_answer(run: RunDir, plan: LaunchPlan, ending: str, answer: Mapping[str, Any]) -> str:
    if plan.job["kind"] == "predict" and answer:
        return describe_predictions(plan.job["out"], ending, answer)
    if ending == "stopped":
        lines = [f"stopped after step {answer['stopped_at_step']}"] if answer else ["stopped"]
        if plan.job["kind"] == "train":
            lines.append(f"go on with: unet-dist train {run.path} --resume")
        return "\n".join(lines)
    if plan.job["kind"] == "launch":
        return f"done; logs of all ranks in {run.path / 'attempts'}"
    if not answer:
        return "done on this server; the server of rank 0 has the result"
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


def describe_predictions(out: str, ending: str, answer: Mapping[str, Any]) -> str:
    there = f", {answer['skipped']} were there already" if answer["skipped"] else ""
    lines = [f"{len(answer['written'])} predictions in {out}{there}"]
    lines += [f"not predicted: {fault}" for fault in answer["faults"]]
    if ending == "stopped":
        lines.append("stopped; the same command goes on")
    return "\n".join(lines)


def describe_failure(failure: Failure) -> str:
    """The culprit, where it was, what its codes mean, what became of the others, its log."""
    alike = sum(victim.partition(": ")[2].startswith("the same,") for victim in failure.victims)
    if failure.rank is None:
        lines = [f"the job failed: {failure.reason}"]
    elif alike and alike == len(failure.victims):
        lines = [f"all {alike + 1} ranks failed alike: {failure.reason}"]
    else:
        lines = [f"rank {failure.rank} failed first: {failure.reason}"]
    known = [failure.place, f"last sign of life: {failure.at}" if failure.at else ""]
    if any(known) and not failure.user_error:
        lines.append("  " + "; ".join(filter(None, known)))
    lines += [f"  {text}" for text in failure.explained]
    shown = () if alike == len(failure.victims) else failure.victims[:VICTIMS_SHOWN]
    lines += [f"  a victim of this: {victim}" for victim in shown]
    if len(failure.victims) > len(shown) > 0:
        lines.append(f"  and {len(failure.victims) - len(shown)} more victims")
    if failure.last_lines:
        lines += ["last lines of its log:", *(f"  {line}" for line in failure.last_lines)]
    return "\n".join([*lines, f"log: {failure.log}"] if failure.log else lines)


def describe_plan(plan: LaunchPlan) -> str:
    """What ``--dry-run`` prints: every rank, and every process with its argv and environment."""
    lines = [f"{describe_ranks(plan)}, world size {plan.topology.world}, comm {plan.comm}"]
    lines += [plan.limits.describe(), "", "rank  server           device  cores  started"]
    for slot in plan.topology.slots:
        cores = ",".join(map(str, slot.cores)) or "all"
        started = "here" if slot.rank in plan.topology.mine else "elsewhere"
        if plan.topology.hosts:
            started = "by mpirun"
        lines.append(f"{slot.rank:4}  {slot.server:15}  {slot.device_id:6}  {cores:5}  {started}")
    if plan.starter is not None:
        lines += ["", "GUARD, which starts and watches a process below, is started by"]
        lines += [*_environment(plan.starter.env), f"  {shlex.join(plan.starter.argv)} GUARD"]
    everywhere = dict(set.intersection(*(set(process.env.items()) for process in plan.processes)))
    if len(plan.processes) > 1:
        lines += ["", "environment of all processes", *_environment(everywhere)]
    for process in plan.processes:
        ranks = ",".join(map(str, process.ranks)) or "none"
        own = {k: v for k, v in process.env.items() if everywhere.get(k) != v}
        lines += ["", f"process {process.name} (ranks {ranks})"]
        lines += _environment(own if len(plan.processes) > 1 else process.env)
        lines.append(f"  {shlex.join(process.argv)}")
    return "\n".join([*lines, "", "job", *_environment(plan.job)])


def _environment(values: Mapping[str, Any]) -> list[str]:
    return [f"  {name}={value}" for name, value in sorted(values.items())]
