"""One file that tells how a run went: it needs no network, no script and no other file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import jinja2

from unet_dist.config import Config
from unet_dist.data.colours import class_colours
from unet_dist.errors import UserError, counted
from unet_dist.evaluate.doubts import doubts_about
from unet_dist.evaluate.metrics import CLASS_QUALITIES
from unet_dist.evaluate.names import (
    METRICS,
    decimals,
    interval_text,
    main_dice,
    structure_sentence,
    title_in_class,
    title_of,
)
from unet_dist.records import read_records
from unet_dist.report.curves import curves_png, validations_png
from unet_dist.report.members import members_section, validations_of_members
from unet_dist.report.origin import command_of, data_set_of, evaluated_on, facts_of, settings_of
from unet_dist.report.panels import column_names, meanings_of
from unet_dist.report.plots import plots_png
from unet_dist.report.template import data_uri, render, shown_picture
from unet_dist.runs import RunDir, read_json

TEMPLATE = Path(__file__).with_name("report.html.j2")
HEADLINE = {
    "dice": "Dice",
    "foreground_dice": "Dice",
    "ap_50": "AP at IoU 0.5",
    "v_rand": "V_rand",
    "v_info": "V_info",
}
SHOWN_PER_IMAGE = ("foreground_dice", "dice", "ap_50", "v_rand", "v_info", "cldice", "hausdorff_95")
CURVES_FROM_STEPS = 2


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
    except (LookupError, TypeError, AttributeError, ValueError, jinja2.UndefinedError) as error:
        raise UserError(
            str(path),
            f"lacks what a report shows ({error!r}): unet-dist eval {run.path} --split {split} "
            "writes it anew",
        ) from error


def _page(run: RunDir, evaluation: Mapping[str, Any]) -> str:
    config = run.load_config()
    split, names = evaluation["split"], list(evaluation["class_names"])
    several = len(names) > 2
    records = list(read_records(run.records(0)))
    objects = any(case.get("objects") for case in evaluation["cases"])
    columns = [name for name in SHOWN_PER_IMAGE if name in evaluation["per_image"][0]]
    cases = _cases(run, evaluation)
    half = -(-len(cases) // 2)
    leading = main_dice(evaluation)
    plots = plots_png(
        evaluation["plots"],
        names,
        split=split,
        threshold=evaluation["threshold"],
        validation=_validation_curve(run, evaluation, records),
    )
    return render(
        TEMPLATE,
        run=run.path.name,
        data_set=data_set_of(config),
        evaluated=evaluated_on(run, split, records),
        doubts=doubts_about(run, records, evaluation),
        counted=counted,
        headline=_headline(evaluation),
        evaluation=evaluation,
        metrics=_metric_rows(evaluation),
        remarks=_remarks(evaluation),
        class_columns=[title_in_class(name) for name in CLASS_QUALITIES],
        classes=_class_rows(evaluation, names) if several else [],
        observers=evaluation["observers"],
        members=members_section(run),
        panels=column_names(several=several, objects=objects),
        legend=meanings_of(several=several, objects=objects),
        colours=[] if objects else list(zip(class_colours(len(names)), names, strict=True))[1:],
        cases={"Worst": cases[:half], "Best": cases[half:][::-1]},
        plots=data_uri(plots),
        balance=_balance(evaluation["plots"]["confusion"], names),
        curves=_curves(run, records),
        columns=[title_of(name, several=several) for name in columns],
        per_image=[
            {"id": row["id"], "cells": [decimals(row[name]) for name in columns]}
            for row in sorted(evaluation["per_image"], key=lambda row: _in_order(row[leading]))
        ],
        warnings=read_json(run.dataset).get("warnings", []),
        facts=facts_of(run, config, evaluation, records),
        fingerprint={
            key: value
            for key, value in evaluation["fingerprint"].items()
            if key not in ("short", "images", "versions")
        },
        command=command_of(run),
        differing=settings_of(config, Config()),
        whole=settings_of(config, None),
    )


def _cases(run: RunDir, evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """From the worst to the best; those whose picture is there."""
    pictures = {
        run.case(evaluation["split"], int(one["number"])): one for one in evaluation["cases"]
    }
    return [
        {"id": case["id"], "dice": decimals(case["dice"]), **shown_picture(path.read_bytes())}
        for path, case in pictures.items()
        if path.exists()
    ]


def _headline(evaluation: Mapping[str, Any]) -> str:
    shown = []
    for name, title in HEADLINE.items():
        if name in evaluation and (name != "dice" or main_dice(evaluation) == "dice"):
            interval = evaluation["intervals"].get(name)
            between = f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
            shown.append(f"{title} {decimals(evaluation[name])}{between}")
    return ", ".join(shown)


def _metric_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the model has of ``METRICS``, beside it what the observers have."""
    rows = []
    several = len(evaluation.get("per_class", ())) > 1
    for name in METRICS:
        if name not in evaluation:
            continue
        defined = evaluation["counted"][name]
        where = "" if defined == evaluation["images"] else f", {counted(defined, 'image')}"
        pooled = evaluation["pooled"]
        rows.append(
            {
                "title": f"{title_of(name, several=several)}{where}",
                "mean": decimals(evaluation[name]),
                "interval": interval_text(evaluation, name),
                "pooled": decimals(pooled[name]) if name in pooled else "",
                "observers": [
                    _short(row[name], row["intervals"].get(name)) if name in row else ""
                    for row in evaluation["observers"]
                ],
            }
        )
    return rows


def _short(mean: float | None, interval: Sequence[float] | None) -> str:
    if mean is None:
        return decimals(mean)
    return f"{mean:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _remarks(evaluation: Mapping[str, Any]) -> list[str]:
    """What one must know of the numbers beside the protocol."""
    remarks = []
    name = main_dice(evaluation)
    dice = [row[name] for row in evaluation["per_image"] if row[name] is not None]
    if len(dice) > 1:
        remarks.append(
            f"Standard deviation over images of the {METRICS[name].title}: {stdev(dice):.4f}."
        )
    if evaluation["dice_at_half"] is not None:
        remarks.append(f"Dice at threshold 0.5: {evaluation['dice_at_half']:.4f}.")
    if how := structure_sentence(evaluation):
        remarks.append(how)
    return remarks


def _class_rows(evaluation: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"name": names[row["class"]], "cells": [decimals(row[key]) for key in CLASS_QUALITIES]}
        for row in evaluation["per_class"]
    ]


def _balance(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Of the pixels that count, the share of each class in truth and prediction, and what is
    right and wrong of it."""
    total = max(1, sum(map(sum, confusion)))
    rows = []
    for number, name in enumerate(names):
        true, right = sum(confusion[number]), confusion[number][number]
        predicted = sum(row[number] for row in confusion)
        counts = (true, predicted, right, predicted - right, true - right)
        rows.append({"name": name, "cells": [f"{count / total:.2%}" for count in counts]})
    return rows


def _validation_curve(
    run: RunDir, evaluation: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> list[list[float | None]]:
    """Dice by threshold when the threshold was chosen; empty if that was not written down."""
    if evaluation["threshold_source"] != "validation" or evaluation["split"] == "val":
        return []
    if run.is_ensemble():  # it is evaluated on both splits at its end
        path = run.evaluation("val")
        curve = read_json(path)["plots"]["dice_by_threshold"] if path.exists() else []
    else:
        curves = [
            record["dice_by_threshold"]
            for record in records
            if record.get("kind") == "eval" and record.get("step") == evaluation["checkpoint_step"]
            if "dice_by_threshold" in record
        ]
        curve = curves[-1] if curves else []
    return list(curve)


def _in_order(dice: float | None) -> tuple[bool, float]:
    return dice is None, dice or 0.0


def _curves(run: RunDir, records: Sequence[Mapping[str, Any]]) -> str:
    of_members = validations_of_members(run)
    if any(of_members.values()):
        return data_uri(validations_png(of_members))
    steps = [record for record in records if record.get("kind") == "step"]
    if len(steps) < CURVES_FROM_STEPS:
        return ""
    evals = [record for record in records if record.get("kind") == "eval"]
    return data_uri(curves_png(steps, evals))
