"""What a report draws of an evaluation: Dice by threshold, calibration, confusion."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.colours import class_colours
from unet_dist.report.classes import draw_confusion, rgb_fraction
from unet_dist.report.page import COLUMN_WIDTH, axes_at, figure_png, name_axes, new_figure, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORTED, VALIDATION, CHOSEN = "#0072B2", "#009E73", "#D55E00"
NAME_LENGTH = 16
FIRST, GAP, TOP, HEIGHT = 0.7, 0.9, 0.4, 2.5  # inches

Curve = Sequence[Sequence[float | None]]
"""Pairs of x and y; None where y is not defined."""


def plots_png(
    plots: Mapping[str, Any],
    names: Sequence[str],
    *,
    split: str,
    threshold: float | None,
    validation: Curve,
) -> bytes:
    """
    Args:
        plots: see ``results.plots_of``.
        names: of the classes, background first.
        validation: Dice by threshold of the validation that chose the threshold, or nothing.
    """
    names = [shorten(name, NAME_LENGTH) for name in names]
    figure = new_figure(3.5)
    lefts = iter([FIRST, FIRST + COLUMN_WIDTH + GAP, FIRST + 2 * (COLUMN_WIDTH + GAP)])
    if threshold is not None:
        axes = axes_at(figure, next(lefts), TOP, COLUMN_WIDTH, HEIGHT)
        _draw_thresholds(axes, plots["dice_by_threshold"], validation, split, threshold)
    axes = axes_at(figure, next(lefts), TOP, COLUMN_WIDTH, HEIGHT)
    _draw_calibration(axes, plots["calibration"], names)
    label = 0.6
    axes = axes_at(figure, next(lefts) + label, TOP, COLUMN_WIDTH - label, HEIGHT - 0.2)
    matrix_kk: NDArray[np.int64] = np.array(plots["confusion"], np.int64)
    draw_confusion(axes, matrix_kk, names)
    axes.set_title("share of the true class predicted as", fontsize=11)
    return figure_png(figure)


def _draw_thresholds(
    axes: "Axes", reported: Curve, validation: Curve, split: str, threshold: float
) -> None:
    if split == "val":
        reported, validation = (), reported
    if reported:
        axes.plot(*_columns(reported), color=REPORTED, label=split)
    if validation:
        axes.plot(*_columns(validation), color=VALIDATION, linestyle="-.", label="val")
    axes.axvline(threshold, color=CHOSEN, linestyle="--", label=f"used: {threshold:g}")
    _finish(axes, "mean Dice by threshold", "threshold", "Dice, mean over images")
    axes.legend(fontsize=8, frameon=False, loc="lower left")


def _draw_calibration(axes: "Axes", curves: Sequence[Curve], names: Sequence[str]) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, label="perfect")
    several = len(curves) > 1
    colours = class_colours(len(curves) + 1)[1:]
    for curve, name, colour in zip(curves, names[1:], colours, strict=True):
        predicted, observed = _columns(curve)
        shown = rgb_fraction(colour) if several else REPORTED
        axes.plot(predicted, observed, marker="o", markersize=3, color=shown, label=name)
    _finish(axes, "calibration", "predicted probability", "share of true pixels")
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _finish(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_title(title, fontsize=11)
    name_axes(axes, x, y)


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    pairs = [[math.nan if value is None else float(value) for value in pair] for pair in curve]
    return [x for x, _ in pairs], [y for _, y in pairs]
