"""Pictures of a run: examples beside their truth, curves, and both on one page."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.colours import Rgb, class_colours
from unet_dist.errors import counted
from unet_dist.report.classes import (
    draw_confusion,
    draw_dice_of_classes,
    names_of,
    rgb_fraction,
)
from unet_dist.report.curves import (
    AXIS_LABEL,
    CURVE_HEIGHT,
    Record,
    draw_curves,
    draw_validations,
)
from unet_dist.report.page import (
    COLUMN_TITLE,
    MARGIN,
    WIDTH,
    axes_at,
    new_figure,
    save_figure,
    shorten,
    write_text,
)
from unet_dist.report.panels import (
    PictureRow,
    column_names,
    meanings_of,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches, as WIDTH and MARGIN of the page.
GAP = 0.08
ROW_TITLE = 0.3
MAX_ROW_HEIGHT = 6.0
LEGEND = 0.4
CLASSES_A_LINE = 8
NOTE_LINE = 0.17
CONFUSION_HEIGHT = 2.0
CONFUSION_LABELS = 0.9


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What the page of a run says first."""

    run: str
    ranks: int
    simulated: bool
    """On the CPU: what the picture says of speed is not a card's."""
    split: str
    images: int
    dice: float
    """Mean over images, NaN before the first evaluation."""
    of_objects: bool = False
    """It is of all pixels of numbered objects."""
    interval: tuple[float, float] | None
    threshold: float | None
    note: str = ""
    """A sentence or two below, for example the protocol."""
    confusion_kk: NDArray[np.int64] | None = None
    """With several foreground classes: pixels by true (rows) and by predicted class."""
    dice_of_class: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
    """Background first."""

    def result(self) -> str:
        if math.isnan(self.dice):
            return "not evaluated yet"
        interval = self.interval
        between = f"  (95 %: {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
        parts = [
            f"Dice {'of object pixels ' * self.of_objects}{self.dice:.4f}{between}",
            f"{counted(self.images, 'image')} of {self.split}",
        ]
        if self.threshold is not None:
            parts.append(f"threshold {self.threshold:g}")
        return "   |   ".join(parts)


def report_picture(
    rows: Sequence[PictureRow],
    steps: Sequence[Record],
    evals: Sequence[Record],
    path: Path,
    *,
    heading: Heading,
    of_members: Mapping[str, Sequence[Record]] | None = None,
) -> None:
    """Writes one PNG that tells how the run went: its number, its curves, its predictions.

    Args:
        of_members: validations by the name of a fold or seed, whose run has no steps of its own.
    """
    note = textwrap.wrap(heading.note, 165)
    curves_top = 1.35 + NOTE_LINE * len(note)
    classes_top = curves_top + CURVE_HEIGHT + AXIS_LABEL + 0.2
    rows_top = classes_top
    if heading.confusion_kk is not None:
        rows_top += COLUMN_TITLE + CONFUSION_HEIGHT + CONFUSION_LABELS
    figure = new_figure(rows_top + (_comparison_height(rows) if rows else 0) + MARGIN / 2)
    kind = "simulated rank" if heading.simulated else "rank"
    title = f"{shorten(heading.run, 70)}   |   {counted(heading.ranks, kind)}"
    write_text(figure, MARGIN, 0.38, title, size=12, colour="#333333")
    write_text(figure, MARGIN, 0.72, heading.result(), size=15, weight="bold")
    for number, line in enumerate(note):
        write_text(figure, MARGIN, 1.02 + NOTE_LINE * number, line, size=8.5, colour="#555555")
    if of_members and any(of_members.values()):
        draw_validations(figure, of_members, curves_top)
    else:
        draw_curves(figure, steps, evals, curves_top)
    if heading.confusion_kk is not None:
        _draw_classes(figure, heading, heading.confusion_kk, classes_top + COLUMN_TITLE)
    if rows:
        _draw_comparison(figure, rows, rows_top)
    save_figure(figure, path)


def _draw_classes(
    figure: "Figure", heading: Heading, confusion_kk: NDArray[np.int64], top: float
) -> None:
    names = [shorten(name, 16) for name in names_of(len(confusion_kk), heading.class_names)]
    label, half = 1.3, (WIDTH - 2 * MARGIN) / 2
    matrix = axes_at(figure, MARGIN + label, top, half - label, CONFUSION_HEIGHT)
    draw_confusion(matrix, confusion_kk, names)
    bars = axes_at(figure, MARGIN + half + label, top, half - label, CONFUSION_HEIGHT)
    draw_dice_of_classes(bars, heading.dice_of_class, names)
    titles = ("share of the true class that is predicted as", "Dice, mean of the images")
    for axes, title in zip((matrix, bars), titles, strict=True):
        axes.set_title(title, fontsize=11, color="#333333")


def _panel_width() -> float:
    return (WIDTH - 2 * MARGIN - 3 * GAP) / 4


def _row_height(row: PictureRow) -> float:
    height, width = row.truth_hw.shape
    return float(min(_panel_width() * height / width, MAX_ROW_HEIGHT))


def _comparison_height(rows: Sequence[PictureRow]) -> float:
    legends = LEGEND * (1 + _class_lines(rows))
    return COLUMN_TITLE + sum(ROW_TITLE + _row_height(row) for row in rows) + legends


def _classes(rows: Sequence[PictureRow]) -> int:
    """With the background; 2 where a threshold decides."""
    colours = (row for row in rows if row.threshold is None and row.objects is None)
    return max((row.prob_hwk.shape[2] for row in colours), default=2)


def _class_lines(rows: Sequence[PictureRow]) -> int:
    """Lines of the legend of class colours."""
    classes = _classes(rows)
    return 0 if classes == 2 else -(-(classes - 1) // CLASSES_A_LINE)


def _draw_comparison(figure: "Figure", rows: Sequence[PictureRow], top: float) -> None:
    classes = _classes(rows)
    objects = any(row.objects is not None for row in rows)
    several = classes > 2
    width = _panel_width()
    for column, name in enumerate(column_names(several=several, objects=objects)):
        centre = MARGIN + column * (width + GAP) + width / 2
        write_text(figure, centre, top + 0.12, name, size=11, align="center", colour="#333333")
    top += COLUMN_TITLE
    for row in rows:
        dice = "no foreground" if math.isnan(row.dice) else f"Dice {row.dice:.3f}"
        write_text(figure, MARGIN, top + ROW_TITLE * 0.6, shorten(row.id, 90), size=9)
        right = WIDTH - MARGIN
        write_text(
            figure, right, top + ROW_TITLE * 0.6, dice, size=10, weight="bold", align="right"
        )
        top += ROW_TITLE
        for column, picture_hwc in enumerate(panels(row)):
            left = MARGIN + column * (width + GAP)
            axes = axes_at(figure, left, top, width, _row_height(row))
            axes.imshow(picture_hwc, interpolation="antialiased")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color="#cccccc", linewidth=0.5)
        top += _row_height(row)
    if several:
        names = names_of(classes, rows[0].class_names)
        kinds = list(zip(class_colours(classes), names, strict=True))[1:]
        for first in range(0, len(kinds), CLASSES_A_LINE):
            part = [(colour, shorten(name, 20)) for colour, name in kinds[first:][:CLASSES_A_LINE]]
            _draw_patches(figure, top + LEGEND / 2, part)
            top += LEGEND
    _draw_patches(figure, top + LEGEND / 2, meanings_of(several=several, objects=objects))


def _draw_patches(figure: "Figure", middle: float, meanings: Sequence[tuple[Rgb, str]]) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=rgb_fraction(colour), edgecolor="#333333", linewidth=0.6, label=meaning)
        for colour, meaning in meanings
    ]
    figure.legend(
        handles=patches,
        loc="center right",
        bbox_to_anchor=(1 - (MARGIN - 0.1) / WIDTH, 1 - middle / figure.get_figheight()),
        ncols=len(patches),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        handleheight=1.1,
        columnspacing=1.6,
    )
