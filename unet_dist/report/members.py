"""Folds and seeds on the page of an ensemble: each member, and what all of them say."""

from collections.abc import Mapping
from typing import Any

from unet_dist.errors import counted
from unet_dist.evaluate.names import (
    METRICS,
    OPTIMISTIC,
    at_threshold,
    decimals,
    interval_text,
    main_dice,
    title_of,
)
from unet_dist.records import read_records
from unet_dist.report.curves import Record
from unet_dist.runs import RunDir, read_json

COLUMNS = {
    "left_out": "Dice of the images left out",
    "val": "Dice of the validation images",
    "test": "Dice of the test images",
    "train": "Dice of the training images",
}


def members_section(run: RunDir) -> dict[str, Any]:
    """What the template shows of ``summary.json``, see ``launching.summary.summarise_members``;
    empty for an ordinary run, and before all members are summarised."""
    if not run.is_ensemble() or not run.summary.exists():
        return {}
    summary = read_json(run.summary)
    rows, over = summary["members"], summary["over_members"]
    folds = summary["vary"] == "fold"
    splits = [split for split in COLUMNS if split in over]
    leading = main_dice(next(iter(over.values()), ()))
    sizes = {name: len(_left_out(run.member(name))) for name in (row["name"] for row in rows)}
    count = counted(len(rows), summary["vary"])
    val = summary.get("val")
    several = bool(val and len(val["per_class"]) > 1)
    return {
        "title": f"Cross-validation, {count}" if folds else f"Members, {count}",
        "over": f"{summary['vary']}s",
        "columns": [*(["images left out"] if folds else []), *(COLUMNS[one] for one in splits)],
        "rows": [
            {
                "name": row["name"],
                "cells": [
                    *([str(sizes[row["name"]])] if folds else []),
                    *(decimals(row[one].get(leading)) if one in row else "" for one in splits),
                    "" if row.get("threshold") is None else f"{row['threshold']:g}",
                ],
            }
            for row in rows
        ],
        "ends": [
            {
                "name": name,
                "cells": [
                    *([""] if folds else []),
                    *(_number(over[split][leading][key]) for split in splits),
                    "",
                ],
            }
            for key, name in (("mean", "mean"), ("std", "standard deviation"))
        ],
        "sentences": _sentences(summary, folds=folds),
        "wholes": _wholes(val, folds=folds) if val else [],
        "splits": [split.replace("_", " ") for split in splits],
        "metrics": [
            {
                "title": title_of(name, several=several),
                "whole": [decimals(val[name]), interval_text(val, name)] if val else [],
                "cells": [
                    _number(over[split].get(name, {}).get(key))
                    for split in splits
                    for key in ("mean", "std")
                ],
            }
            for name in METRICS
            if any(name in over[split] for split in splits)
        ],
    }


def validations_of_members(run: RunDir) -> dict[str, list[Record]]:
    """The validations during the training of each member, by its name; none of ordinary runs."""
    if not run.is_ensemble():
        return {}
    return {
        member.path.name: [
            record for record in read_records(member.records(0)) if record.get("kind") == "eval"
        ]
        for member in run.networks()
    }


def _left_out(member: RunDir) -> list[Any]:
    return list(read_json(member.dataset)["splits"]["val"])


def _number(value: float | None) -> str:
    return "" if value is None else decimals(value)


def _wholes(val: Mapping[str, Any], *, folds: bool) -> list[str]:
    """Headings of the numbers of all images that the members left out."""
    images, unit = counted(val["images"], "image"), val["protocol"]["bootstrap"]["unit"]
    which = "out of fold" if folds else "validation, all seeds together"
    return [f"{which}, mean of {images}", f"95 % interval over {unit}s"]


def _sentences(summary: Mapping[str, Any], *, folds: bool) -> list[str]:
    found = []
    for split in ("val", "test"):
        if split not in summary:
            continue
        one = summary[split]
        name = main_dice(one)
        interval = interval_text(one, name)
        between = f" (95 % interval {interval})" if interval else ""
        images = counted(one["images"], "image")
        who = "all of them together"
        if split == "val" and folds:
            who = "the one that left it out"
        where = {"val": "Out of fold" if folds else "Validation", "test": "Test"}[split]
        found.append(
            f"{where}: Dice {decimals(one[name])}{between}, mean of {images}, each predicted by "
            f"{who}{at_threshold(one['threshold'])}{f'; {OPTIMISTIC}' * (split == 'val')}."
        )
    if folds:
        found.append(
            "Images left out are judged at the threshold of all folds together, test images of a "
            "fold alone at its own."
        )
    return found
