"""Reasons not to take a result at face value, in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unet_dist.runs import RunDir

NEARLY_ALL = 0.999
"""Share of the pixels from which a prediction is called one class throughout."""
TENTH = 0.1
"""Thin structures are few pixels too: a prediction has lost them if it leaves less than so much of
what the truth has beside that class."""
HARDLY_ABOVE_CHANCE = 0.6
"""Area under the ROC curve; drawing lots gives 0.5."""


def doubts_of(evaluation: Mapping[str, Any]) -> list[str]:
    """A sentence for each sign that a result of ``evaluate.results`` is of a model that learnt
    nothing: one class throughout, or probabilities that do not tell the classes apart."""
    names = evaluation["class_names"]
    return [
        *_one_class(evaluation["plots"]["confusion"], names, evaluation["threshold"]),
        *_near_chance(evaluation["per_class"], names),
    ]


def _one_class(
    confusion: Sequence[Sequence[int]], names: Sequence[str], threshold: float | None
) -> list[str]:
    """
    Args:
        confusion: pixels by true (rows) and by predicted class.
    """
    total = sum(map(sum, confusion))
    at = "" if threshold is None else f" at threshold {threshold:g}"
    found = []
    for number, name in enumerate(names):
        predicted, true = sum(row[number] for row in confusion), sum(confusion[number])
        rest = total - predicted
        if predicted > NEARLY_ALL * total and rest < TENTH * (total - true):
            return [
                f"{predicted / total:.2%} of the pixels are predicted as {name}{at}, but "
                f"{true / total:.2%} are: the model tells nothing apart, and Dice and the other "
                "numbers are those of a constant picture"
            ]
        if true and not predicted:
            found.append(f"no pixel is predicted as {name}, though {true / total:.2%} are")
    return found


def _near_chance(per_class: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    return [
        f"the area under the ROC curve of {names[row['class']]} is {row['auc']:.3f}: its "
        "probabilities hardly tell where it is (0.5 is chance)"
        for row in per_class
        if row["auc"] is not None and row["auc"] < HARDLY_ABOVE_CHANCE
    ]


def doubts_about(
    run: RunDir, records: Iterable[Mapping[str, Any]], evaluation: Mapping[str, Any]
) -> list[str]:
    """Those of the run, of whose rank 0 the records are, and those of its result."""
    return [*filter(None, [unfinished(run, records)]), *doubts_of(evaluation)]


def unfinished(run: RunDir, records: Iterable[Mapping[str, Any]]) -> str:
    """That a training did not reach its last step, and where it is; empty if it did, if nothing
    is known of it, and for an overfit check, which ends when it has learnt."""
    if run.is_ensemble() or run.last_plan().get("job", {}).get("until_dice"):
        return ""
    start: Mapping[str, Any] = {}
    step = 0
    for record in records:
        if record.get("kind") == "start":
            start, step = record, record["step"]
        elif record.get("kind") in ("step", "checkpoint"):
            step = max(step, record["step"])
    if not start or step >= start["total_steps"]:
        return ""
    each = start["steps_per_epoch"]
    return (
        f"unfinished: this run stopped after step {step} of {start['total_steps']} (epoch "
        f"{step / each:.3g} of {start['total_steps'] / each:.3g}); go on with: "
        f"unet-dist train {run.path} --resume"
    )
