"""What is said of a plan, of a failure and of an answer."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from unet_dist.cluster.failure import Failure
from unet_dist.cluster.plan import LaunchPlan
from unet_dist.errors import counted
from unet_dist.evaluate.doubts import doubts_about
from unet_dist.evaluate.names import METRICS, decimals, interval_text, structure_sentence, title_of
from unet_dist.records import read_records
from unet_dist.runs import RunDir

VICTIMS_SHOWN = 8
NOTES_SHOWN = 5
"""Of each kind."""
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

SHOWN = (
    *("foreground_dice", "dice", "iou", "ap_50", "ap_50_95", "aji", "v_rand", "v_info", "cldice"),
    *("sensitivity", "specificity", "precision", "accuracy", "auc", "average_precision"),
    *("hausdorff_95", "assd", "calibration_error"),
    *("dice_with_background", "soft_dice_with_background"),
)
"""Metrics in the console; the result file has all."""
SHOWN_OF_OBSERVERS = ("dice", "iou", "cldice", "sensitivity", "specificity", "hausdorff_95")
_TITLE_WIDTH = max(len(METRICS[name].title) for name in SHOWN)


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
        return describe_predictions(run.load_config().data.names, plan.job["out"], ending, answer)
    if ending == "stopped":
        lines = [f"stopped after step {answer['stopped_at_step']}"] if answer else ["stopped"]
        if plan.job["kind"] == "train":
            command = plan.job.get("go_on") or f"unet-dist train {run.path} --resume"
            lines.append(f"go on with: {command}")
        return "\n".join(lines)
    if plan.job["kind"] == "launch":
        return f"done; logs of all ranks in {run.path / 'attempts'}"
    if not answer:
        return "done on this server; the server of rank 0 has the result"
    return describe_result(run, answer)


def describe_result(run: RunDir, answer: Mapping[str, Any]) -> str:
    """The evaluation that ``eval`` answers, and why one might not believe it."""
    doubts = doubts_about(run, read_records(run.records(0)), answer)
    last = [f"warning: {doubt}" for doubt in doubts]
    split = answer["split"]
    last.append(f"report {run.report(split)}, picture {run.picture(split)}")
    return describe_evaluation(answer, "\n".join(last))


def describe_evaluation(answer: Mapping[str, Any], last: str) -> str:
    """The main numbers of a result of ``evaluate.results.result_of``, with intervals and pooled."""
    unit = answer["protocol"]["bootstrap"]["unit"]
    lines = [
        f"{answer['split']} split, {counted(answer['images'], 'image')}",
        f"{'':{_TITLE_WIDTH}}      mean  {f'95 % over {unit}s':18} pooled",
    ]
    for name in SHOWN:
        if name in answer:
            lines.append(_metric_line(name, answer, unit, answer["pooled"].get(name, "")))
    lines += _class_table(answer)
    for row in answer["observers"]:
        lines.append(f"{row['row']}, {counted(row['images'], 'image')}")
        lines += [_metric_line(name, row, unit, "") for name in SHOWN_OF_OBSERVERS if name in row]
    lines.append(answer["protocol"]["sentence"])
    if how := structure_sentence(answer):
        lines.append(how)
    return "\n".join([*lines, answer["fingerprint"]["short"], last])


def _metric_line(
    name: str, answer: Mapping[str, Any], unit: str, pooled: float | str | None
) -> str:
    between = interval_text(answer, name, unit=unit)
    title = title_of(name, several=len(answer.get("per_class", ())) > 1)
    shown = pooled if isinstance(pooled, str) else decimals(pooled)
    return f"{title:{_TITLE_WIDTH}} {decimals(answer[name]):>9}  {between:18} {shown}".rstrip()


def _class_table(answer: Mapping[str, Any]) -> list[str]:
    """A line for each of several foreground classes: means over the images that have it."""
    per_class = answer["per_class"]
    if len(per_class) == 1:
        return []
    names = answer["class_names"][1:]
    width = max(map(len, names))
    lines = [f"{'':{width}}  {'Dice':>9} {'IoU':>9} {'sensitiv.':>9} {'AUC':>9}"]
    for name, one in zip(names, per_class, strict=True):
        numbers = (decimals(one[key]) for key in ("dice", "iou", "sensitivity", "auc"))
        lines.append(f"{name:{width}}  " + " ".join(f"{number:>9}" for number in numbers))
    return lines


def describe_classes(names: Sequence[str]) -> str:
    """The colour of each class number in predicted masks and overlays."""
    from unet_dist.data.colours import class_colours  # NumPy, which most commands do without

    shown = zip(names, class_colours(len(names)), strict=True)
    return "classes: " + ", ".join(
        f"{number} {name} (rgb {' '.join(map(str, rgb))})"
        for number, (name, rgb) in enumerate(shown)
    )


def describe_predictions(
    names: Sequence[str], out: str, ending: str, answer: Mapping[str, Any]
) -> str:
    """
    Args:
        names: of the classes.
    """
    skipped = answer["skipped"]
    there = f", {skipped} {'was' if skipped == 1 else 'were'} there already" if skipped else ""
    lines = [f"{counted(len(answer['written']), 'prediction')} in {out}{there}"]
    lines += [describe_classes(names)] if len(names) > 2 else []
    if seen := answer["trained_on"]:
        lines.append(
            f"{seen} of the images {'was' if seen == 1 else 'were'} trained on: expect more errors "
            "on new ones"
        )
    if alone := answer["left_out"]:
        lines.append(
            f"{counted(alone, 'image')} of the data set, each predicted by the one fold that left "
            "it out"
        )
    lines += _against_truths([one["pixels"] for one in answer["written"] if one.get("pixels")])
    counts = [one["objects"] for one in answer["written"] if one.get("objects") is not None]
    if counts:
        found = counted(sum(counts), "object or cell", "objects or cells")
        lines.append(f"{found} numbered in {counted(len(counts), 'image')}")
    lines += _notes(answer["written"])
    lines += [f"not predicted: {fault}" for fault in answer["faults"]]
    if ending == "stopped":
        done = f"{answer['images_done']} of {counted(answer['images'], 'image')} are done"
        lines.append(f"{done}: stopped; the same command goes on")
    return "\n".join(lines)


def _against_truths(pixels: Sequence[Mapping[str, int]]) -> list[str]:
    """What is right and wrong of all images that have a truth."""
    if not pixels:
        return []
    sums = {name: sum(one[name] for one in pixels) for name in pixels[0]}
    right, *wrong = sums.values()
    found = 2 * right + sum(wrong)
    one_class = any(name.endswith("(TP)") for name in sums)
    dice = f"; Dice {2 * right / found:.4f}" if one_class and found else ""
    listed = ", ".join(f"{name} {number:,}" for name, number in sums.items())
    return [f"pixels of {counted(len(pixels), 'image')} against the truth: {listed}{dice}, pooled"]


def _notes(written: Sequence[Mapping[str, Any]]) -> list[str]:
    """Equal ones together; of a kind whose numbers differ, the first few."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for one in written:
        for note in one.get("notes", ()):
            kinds.setdefault(NUMBER.sub("0", note), []).append((one["stem"], note))
    lines = []
    for noted in kinds.values():
        if len(noted) > 1 and len({note for _, note in noted}) == 1:
            lines.append(f"{len(noted)} images: {noted[0][1]}")
            continue
        lines += [f"{stem}: {note}" for stem, note in noted[:NOTES_SHOWN]]
        if len(noted) > NOTES_SHOWN:
            lines.append(f"and {counted(len(noted) - NOTES_SHOWN, 'more such note')}")
    return lines


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
