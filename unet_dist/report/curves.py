"""What happened during trainings, by the step."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.report.page import (
    COLUMN_TITLE,
    MARGIN,
    WIDTH,
    axes_at,
    figure_png,
    name_axes,
    new_figure,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
"""One line of a records file."""

# Inches, as WIDTH and MARGIN of the page.
CURVE_HEIGHT = 2.3
CURVE_GAP = 0.62  # room for the numbers of the vertical axis
AXIS_LABEL = 0.5

LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", ":", "-.")
MEMBERS_A_COLUMN = 12


def curves_png(steps: Sequence[Record], evals: Sequence[Record]) -> bytes:
    """A PNG of loss, Dice, learning rate and time spent waiting for data."""
    figure = new_figure(COLUMN_TITLE + CURVE_HEIGHT + AXIS_LABEL + MARGIN / 2)
    draw_curves(figure, steps, evals, COLUMN_TITLE)
    return figure_png(figure)


def validations_png(evals_of: Mapping[str, Sequence[Record]]) -> bytes:
    """A PNG of the validation Dice during several trainings, by their names."""
    figure = new_figure(COLUMN_TITLE + CURVE_HEIGHT + AXIS_LABEL + MARGIN / 2)
    draw_validations(figure, evals_of, COLUMN_TITLE)
    return figure_png(figure)


def draw_validations(
    figure: "Figure", evals_of: Mapping[str, Sequence[Record]], top: float
) -> None:
    axes = axes_at(figure, MARGIN + 0.4, top, WIDTH / 2, CURVE_HEIGHT)
    for number, (name, evals) in enumerate(evals_of.items()):
        evals = _latest_by_step(evals)
        axes.plot(
            _column(evals, "step"),
            _column(evals, "dice"),
            color=LINE_COLOURS[number % len(LINE_COLOURS)],
            linestyle=LINE_STYLES[number // len(LINE_COLOURS) % len(LINE_STYLES)],
            marker="o",
            markersize=3.5,
            label=shorten(name, 20),
        )
    _plain(axes, "validation Dice of each training, on the images that it left out")
    columns = -(-len(evals_of) // MEMBERS_A_COLUMN)
    axes.legend(
        fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1), ncols=columns
    )


def draw_curves(
    figure: "Figure", steps: Sequence[Record], evals: Sequence[Record], top: float
) -> None:
    steps = _latest_by_step(steps)
    width = (WIDTH - 2 * MARGIN - 4 * CURVE_GAP + 0.3) / 4
    names = ("training loss", "Dice", "learning rate", "waiting for data (ms per step)")
    plots = []
    for column, name in enumerate(names):
        left = MARGIN + 0.3 + column * (width + CURVE_GAP)
        axes = axes_at(figure, left, top, width, CURVE_HEIGHT)
        _plain(axes, name)
        plots.append(axes)
    x = _column(steps, "step")
    _draw_noisy(plots[0], x, _column(steps, "loss"), LINE_COLOURS[0])
    _draw_noisy(plots[1], x, _column(steps, "dice"), LINE_COLOURS[0], label="training, pooled")
    _draw_evals(plots[1], evals)
    plots[2].plot(x, _column(steps, "lr"), color=LINE_COLOURS[0])
    plots[2].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    plots[2].yaxis.get_offset_text().set_fontsize(8)
    wait_ms = 1000 * _column(steps, "data_wait_s")
    _draw_noisy(plots[3], x, wait_ms, LINE_COLOURS[0])
    _limit_outliers(plots[3], wait_ms)
    _note_speed(plots[3], _column(steps, "images_per_s"))
    for axes in plots:
        if not any(np.isfinite(line.get_ydata()).any() for line in axes.lines):
            axes.set(xticks=[], yticks=[], ylim=(0, 1))
            axes.text(
                0.5, 0.5, "no records", transform=axes.transAxes, ha="center", color="#888888"
            )


def _plain(axes: "Axes", title: str) -> None:
    """Something by the step."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(
        MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
    )
    axes.set_title(title, fontsize=11, color="#333333")
    axes.grid(color="#e6e6e6", linewidth=0.8)
    name_axes(axes, "step")


def _draw_evals(axes: "Axes", evals: Sequence[Record]) -> None:
    splits = list(dict.fromkeys(str(record.get("split", "")) for record in evals))
    for colour, split in zip(LINE_COLOURS[1:], splits, strict=False):
        records = _latest_by_step([one for one in evals if str(one.get("split", "")) == split])
        x, dice = _column(records, "step"), _column(records, "dice")
        axes.plot(x, dice, color=colour, marker="o", markersize=3.5, label=shorten(split, 20))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(high, 1.02))
    if labels := axes.get_legend_handles_labels()[1]:
        # Beside the title: within the axes there is no corner that no curve comes through.
        axes.set_title(axes.get_title(), loc="left", fontsize=11, color="#333333")
        axes.set_title("")
        axes.legend(
            fontsize=8, frameon=False, ncols=len(labels), loc="lower right",
            bbox_to_anchor=(1, 1), borderaxespad=0, columnspacing=1.2, handlelength=1.5,
        )  # fmt: skip


def _draw_noisy(
    axes: "Axes", x: NDArray[np.float64], y: NDArray[np.float64], colour: str, label: str = ""
) -> None:
    """Every step in pale, and the median of each fortieth of the run."""
    finite = np.isfinite(y)
    if not finite.any():
        return
    parts = np.array_split(np.flatnonzero(finite), min(40, int(finite.sum())))
    middle_x, middle_y = ([np.median(values[part]) for part in parts] for values in (x, y))
    marker = "o" if len(parts) == 1 else ""
    axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(middle_x, middle_y, color=colour, linewidth=1.8, marker=marker, label=label or None)


def _limit_outliers(axes: "Axes", y: NDArray[np.float64]) -> None:
    """The first steps wait for start-up, and would flatten everything else."""
    finite = y[np.isfinite(y)]
    if finite.size:
        axes.set_ylim(0, max(1.0, 1.5 * float(np.quantile(finite, 0.98))))


def _note_speed(axes: "Axes", images_per_s: NDArray[np.float64]) -> None:
    finite = images_per_s[np.isfinite(images_per_s)]
    if finite.size:
        note = f"median speed: {np.median(finite):.3g} images/s"
        axes.text(0.97, 0.94, note, transform=axes.transAxes, ha="right", va="top", fontsize=9)


def _latest_by_step(records: Sequence[Record]) -> list[Record]:
    """Ordered by step; after a resumption, a step that was repeated counts as it was last."""
    by_step = {record["step"]: record for record in records if record.get("step") is not None}
    return [by_step[step] for step in sorted(by_step)]


def _column(records: Sequence[Record], key: str) -> NDArray[np.float64]:
    """One value for each record, NaN where it is missing, null or infinite."""
    values = np.array([_number(record.get(key)) for record in records], np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
