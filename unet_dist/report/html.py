"""One file that tells how a run went: it needs no network, no script and no other file."""

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.config_file import known_keys, value_of
from unet_dist.data.manifest import read_manifest
from unet_dist.errors import UserError
from unet_dist.evaluate.names import METRICS, decimals, title_of
from unet_dist.records import read_records
from unet_dist.report.classes import draw_confusion
from unet_dist.report.page import COLUMN_WIDTH, axes_at, figure_png, new_figure
from unet_dist.report.panels import MEANINGS
from unet_dist.report.pictures import curves_png
from unet_dist.runs import RunDir, read_json

TEMPLATE = "report.html.j2"
SHOWN_PER_IMAGE = ("dice", "foreground_dice", "ap_50", "v_rand", "v_info", "cldice", "hausdorff_95")
CURVES_FROM_STEPS = 2
LINE, CHOSEN = "#0072B2", "#D55E00"


def report_html(run: RunDir, split: str) -> str:
    """The page of an evaluated run.

    Raises:
        UserError: the split was not evaluated yet, or its result is of another kind.
    """
    path = run.evaluation(split)
    if not path.exists():
        raise UserError(
            str(run.path),
            f"has no result of the {split} split: unet-dist eval {run.path} --split {split}",
        )
    evaluation = read_json(path)
    try:
        return _page(run, evaluation)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            str(path),
            f"lacks what a report shows ({error!r}): unet-dist eval {run.path} --split {split} "
            "writes it anew",
        ) from error


def _page(run: RunDir, evaluation: Mapping[str, Any]) -> str:
    config = run.load_config()
    several = config.data.classes > 2
    names = list(evaluation["class_names"])
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    columns = [name for name in SHOWN_PER_IMAGE if name in evaluation["per_image"][0]]
    return environment.get_template(TEMPLATE).render(
        run=run.path.name,
        headline=_headline(evaluation),
        evaluation=evaluation,
        metrics=_metric_rows(evaluation, evaluation["pooled"]),
        classes=_class_rows(evaluation, names) if several else [],
        observers=[
            {"title": row["row"], "images": row["images"], "rows": _metric_rows(row, {})}
            for row in evaluation["observers"]
        ],
        members=_member_rows(run),
        legend=MEANINGS,
        cases=[
            {**case, "dice": decimals(case["dice"]), "picture": _data_uri(picture.read_bytes())}
            for case in evaluation.get("cases", ())
            if (picture := run.case(evaluation["split"], case["number"])).exists()
        ],
        plots=_data_uri(_plots(evaluation, names)),
        curves=_curves(run),
        columns=[title_of(name, several=several) for name in columns],
        per_image=[
            {"id": row["id"], "cells": [decimals(row[name]) for name in columns]}
            for row in sorted(evaluation["per_image"], key=_by_dice)
        ],
        facts=_facts(run, config, evaluation),
        command=_command(run),
        differing=_settings(config, Config()),
        whole=_settings(config, None),
    )


def _headline(evaluation: Mapping[str, Any]) -> str:
    shown = []
    for name in ("dice", "foreground_dice", "ap_50", "v_rand", "v_info"):
        if name in evaluation and not (name == "dice" and "foreground_dice" in evaluation):
            interval = evaluation["intervals"].get(name)
            between = f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
            title = {"dice": "Dice", "foreground_dice": "Dice", "ap_50": "AP at IoU 0.5"}
            shown.append(f"{title.get(name, name)} {decimals(evaluation[name])}{between}")
    return ", ".join(shown)


def _metric_rows(values: Mapping[str, Any], pooled: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name in METRICS:
        if name in values:
            interval = values["intervals"].get(name)
            rows.append(
                {
                    "title": title_of(name, several=len(values.get("per_class", ())) > 1),
                    "mean": decimals(values[name]),
                    "interval": f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else "",
                    "pooled": decimals(pooled[name]) if name in pooled else "",
                }
            )
    return rows


def _class_rows(evaluation: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, str]]:
    keys = ("dice", "iou", "sensitivity", "auc")
    return [
        {"name": names[row["class"]], **{key: decimals(row[key]) for key in keys}}
        for row in evaluation["per_class"]
    ]


def _member_rows(run: RunDir) -> list[dict[str, str]]:
    if not run.is_ensemble() or not run.summary.exists():
        return []
    rows = []
    for row in read_json(run.summary)["members"]:
        scores = row.get("test", row.get("val", {}))
        threshold = row.get("threshold")
        rows.append(
            {
                "name": row["name"],
                "dice": decimals(scores.get("dice")),
                "threshold": "" if threshold is None else f"{threshold:g}",
            }
        )
    return rows


def _by_dice(row: Mapping[str, Any]) -> tuple[bool, float]:
    dice = row["dice"]
    return dice is None, dice or 0.0


def _curves(run: RunDir) -> str:
    records = list(read_records(run.records(0))) if run.records(0).exists() else []
    steps = [record for record in records if record["kind"] == "step"]
    if len(steps) < CURVES_FROM_STEPS:
        return ""
    return _data_uri(curves_png(steps, [one for one in records if one["kind"] == "eval"]))


def _plots(evaluation: Mapping[str, Any], names: Sequence[str]) -> bytes:
    """Dice by threshold (two classes), calibration, confusion."""
    plots = evaluation["plots"]
    figure = new_figure(3.6)
    tops = 0.4, COLUMN_WIDTH, 2.5
    column = 0
    if plots["dice_by_threshold"]:
        axes = axes_at(figure, 0.6, *tops)
        thresholds, dice = zip(*plots["dice_by_threshold"], strict=True)
        axes.plot(thresholds, [math.nan if d is None else d for d in dice], color=LINE)
        axes.axvline(evaluation["threshold"], color=CHOSEN, linestyle="--", label="used")
        axes.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1))
        axes.set_title("mean Dice by threshold", fontsize=11)
        axes.legend(fontsize=8, frameon=False)
        column = 1
    axes = axes_at(figure, 0.6 + column * (COLUMN_WIDTH + 0.8), *tops)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    for number, curve in enumerate(plots["calibration"]):
        predicted, observed = zip(*curve, strict=True) if curve else ((), ())
        label = names[number + 1] if len(plots["calibration"]) > 1 else None
        axes.plot(predicted, observed, marker="o", markersize=3, label=label)
    axes.set(xlabel="predicted probability", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("observed share", fontsize=11)
    if len(plots["calibration"]) > 1:
        axes.legend(fontsize=8, frameon=False)
    left = 0.6 + (column + 1) * (COLUMN_WIDTH + 0.8) + 0.7
    axes = axes_at(figure, left, 0.4, COLUMN_WIDTH - 0.7, 2.3)
    matrix_kk: NDArray[np.int64] = np.array(plots["confusion"], np.int64)
    draw_confusion(axes, matrix_kk, names)
    axes.set_title("share of the true class predicted as", fontsize=11)
    return figure_png(figure)


def _facts(run: RunDir, config: Config, evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    dataset, _ = read_manifest(run.dataset, config.data)
    parts = ", ".join(f"{len(part)} {name}" for name, part in dataset.splits.parts().items())
    timeline = list(read_records(run.timeline)) if run.timeline.exists() else []
    versions = evaluation["fingerprint"]["versions"]
    facts = [
        ("images", parts),
        ("masks", dataset.coding.describe()),
        ("weights", f"step {evaluation['checkpoint_step']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    for start, end in _attempts(timeline):
        minutes = (end["time"] - start["time"]) / 60
        facts.append(
            (
                f"attempt {start['attempt']}",
                f"{start['ranks']} ranks by {start['engine']}, {end['state']}, {minutes:.1f} min",
            )
        )
    return facts


def _attempts(timeline: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    starts = {one["attempt"]: one for one in timeline if one["kind"] == "attempt"}
    ends = [one for one in timeline if one["kind"] == "end"]
    return [(starts[one["attempt"]], one) for one in ends if one["attempt"] in starts]


def _command(run: RunDir) -> str:
    placement = run.last_placement()
    where = ""
    if placement.get("rank_table"):
        where = f" --rank-table {placement['rank_table']}"
    elif placement.get("simulate"):
        where = f" --simulate {placement['simulate']}"
    if run.is_ensemble():
        members = run.load_members()
        if members.vary == "fold":
            where += f" --folds {len(members.values)}"
        else:
            where += f" --seeds {','.join(map(str, members.values))}"
    return f"unet-dist train {run.path / 'config.yaml'}{where} --run NEW"


def _settings(config: Config, base: Config | None) -> str:
    return "\n".join(
        f"{key}: {value_of(config, key)}"
        for key, _ in known_keys()
        if base is None or value_of(config, key) != value_of(base, key)
    )


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
