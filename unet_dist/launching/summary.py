"""The numbers of an ensemble: every member, mean and deviation over them, all together."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unet_dist.cluster.failure import Failure
from unet_dist.errors import counted
from unet_dist.evaluate.doubts import doubts_of
from unet_dist.evaluate.names import METRICS, OPTIMISTIC, at_threshold, decimals, main_dice
from unet_dist.runs import Members, RunDir, read_json

Evaluation = Mapping[str, Any]


def summarise_members(
    folder: RunDir, members: Members, failures: Mapping[str, Failure]
) -> dict[str, Any]:
    """What ``summary.json`` holds and ``train --json`` prints, JSON values.

    Keys: ``vary`` (fold or seed); ``members``: for each its ``name``, ``fold`` or ``seed``,
    ``state``, ``first_failure`` if it failed now, ``threshold``, and ``test``: its metrics on the
    test images (``val`` without such), and of a fold ``left_out``: those on the images that it
    left out, at the threshold of the ensemble; ``over_members``: of each of these, for each metric
    ``mean``, ``std`` (of a sample; null for fewer than two) and ``members``, the number where it
    is defined. Once all members are trained ``val`` and ``test``: the evaluations of the ensemble
    without ``per_image``; ``val`` of folds is out of fold: each image is predicted by the member
    that left it out.
    """
    val, test = _evaluation(folder, "val"), _evaluation(folder, "test")
    rows = []
    for name, value in zip(members.names, members.values, strict=True):
        run = folder.member(name)
        state = run.state()
        row: dict[str, Any] = {"name": name, members.vary: value, "state": state}
        if name in failures:
            row["first_failure"] = failures[name].reason
        if state == "done":
            row |= _scores_of_member(run)
            if members.vary == "fold" and val:
                row["left_out"] = mean_of_images(val["per_image"], _ids_left_out(run))
        rows.append(row)
    splits = ("test", "val", "left_out")
    return {
        "vary": members.vary,
        "members": rows,
        "over_members": {
            split: over_members([row[split] for row in rows if split in row])
            for split in splits
            if any(split in row for row in rows)
        },
        **({"val": _without_images(val)} if val else {}),
        **({"test": _without_images(test)} if test else {}),
    }


def metrics_of(evaluation: Evaluation) -> dict[str, float | None]:
    """The means over images, by name."""
    return {name: evaluation[name] for name in METRICS if name in evaluation}


def over_members(rows: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation of each metric over the members where it is defined."""
    names = dict.fromkeys(name for row in rows for name in row)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        found[name] = {
            "mean": math.fsum(values) / len(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "members": len(values),
        }
    return found


def mean_of_images(
    per_image: Iterable[Mapping[str, Any]], ids: frozenset[str]
) -> dict[str, float | None]:
    """Mean of each metric over the images with these ids where it is defined."""
    rows = [metrics_of(row) for row in per_image if row["id"] in ids]
    return {name: one["mean"] for name, one in over_members(rows).items()}


def describe_member(evaluation: Evaluation) -> str:
    if "dice" not in evaluation:
        return "done; the server of rank 0 has the result"
    done = (
        f"done: {evaluation['split']} Dice {decimals(evaluation[main_dice(evaluation)])}, mean of "
        f"{counted(evaluation['images'], 'image')}{at_threshold(evaluation['threshold'])}"
    )
    return "\n".join([done, *(f"warning: {doubt}" for doubt in doubts_of(evaluation))])


def describe_summary(summary: Mapping[str, Any]) -> str:
    """For a person: a line for each member, then what all of them say."""
    several = {"fold": "folds", "seed": "seeds"}[summary["vary"]]
    titles = {"left_out": "Dice left out", "val": "val Dice", "test": "test Dice"}
    shown = [split for split in titles if split in summary["over_members"]]
    width = max(len(row["name"]) for row in summary["members"]) + 2
    heads = "".join(f"{titles[split]:>16}" for split in shown)
    chosen = any(row.get("threshold") is not None for row in summary["members"])
    lines = [f"{'':{width}}{heads}{'   threshold' * chosen}".rstrip()] if shown else []
    for row in summary["members"]:
        scores = (row.get(split, {}) for split in shown)
        dice = (decimals(one[main_dice(one)]) if one else "" for one in scores)
        threshold = row.get("threshold")
        last = "" if row["state"] == "done" else row["state"]
        if threshold is not None:
            last = f"{threshold:g}"
        gap = "   " if shown else ""
        lines.append(f"{row['name']:{width}}" + "".join(f"{d:>16}" for d in dice) + gap + last)
    for split in shown:
        lines += [f"over {several}, {split.replace('_', ' ')}: mean and standard deviation (SD)"]
        over = summary["over_members"][split]
        longest = max(map(len, over))
        for name, one in over.items():
            deviation = "" if one["std"] is None else f"  SD {one['std']:.4f}"
            lines.append(f"  {name:{longest}} {decimals(one['mean'])}{deviation}")
    val, test = summary.get("val"), summary.get("test")
    if val:
        what = "out of fold" if summary["vary"] == "fold" else "validation, by the ensemble"
        lines.append(f"{what}: {_dice_of(val)}; {OPTIMISTIC}")
    if test:
        lines.append(f"test, by the ensemble: {_dice_of(test)}")
    if last := test or val:
        lines.append(last["protocol"]["sentence"])
        lines += [f"warning: {doubt}" for doubt in doubts_of(last)]
    return "\n".join(lines)


def _dice_of(evaluation: Evaluation) -> str:
    name = main_dice(evaluation)
    interval = evaluation["intervals"][name]
    between = f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    images = counted(evaluation["images"], "image")
    at = at_threshold(evaluation["threshold"])
    return f"Dice {decimals(evaluation[name])}{between}, mean of {images}{at}"


def _scores_of_member(run: RunDir) -> dict[str, Any]:
    """Of the evaluation that its training ended with."""
    for split, path in run.evaluations().items():
        found = read_json(path)
        return {"threshold": found["threshold"], split: metrics_of(found)}
    return {}


def _ids_left_out(run: RunDir) -> frozenset[str]:
    return frozenset(sample["id"] for sample in read_json(run.dataset)["splits"]["val"])


def _evaluation(run: RunDir, split: str) -> Evaluation | None:
    path = run.evaluation(split)
    return read_json(path) if path.exists() else None


def _without_images(evaluation: Evaluation) -> dict[str, Any]:
    return {key: value for key, value in evaluation.items() if key != "per_image"}
