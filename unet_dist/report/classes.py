"""Several classes on the page of a run: which colour is which, and which is taken for which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.colours import class_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELLS_WITH_NUMBERS = 10
"""Classes up to which the shares fit into the cells."""


def names_of(classes: int, names: Sequence[str]) -> list[str]:
    """The names that were given, or numbers."""
    return list(names) or [f"class {number}" for number in range(classes)]


def draw_confusion(axes: "Axes", matrix_kk: NDArray[np.int64], names: Sequence[str]) -> None:
    """Of the pixels of each true class (rows), the share that became each class (columns)."""
    totals_k1 = matrix_kk.sum(axis=1, keepdims=True)
    shares_kk = matrix_kk / np.maximum(totals_k1, 1)
    axes.imshow(shares_kk, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    places = range(len(names))
    axes.set_xticks(places, names, fontsize=8, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names, fontsize=8)
    axes.tick_params(length=0)
    axes.set_ylabel("truth", fontsize=9)
    if len(names) > CELLS_WITH_NUMBERS:
        return
    for (row, column), share in np.ndenumerate(shares_kk):
        text = f"{share:.1%}" if totals_k1[row, 0] else "no pixel"
        colour = "white" if share > 0.55 else "#333333"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def draw_dice_of_classes(axes: "Axes", dice: Sequence[float], names: Sequence[str]) -> None:
    """A bar for each class, background left out; none for a class that no image has."""
    colours = [rgb_fraction(colour) for colour in class_colours(len(dice) + 1)[1:]]
    places = range(len(dice))
    axes.barh(places, np.nan_to_num(np.array(dice)), color=colours, height=0.7)
    for place, value in zip(places, dice, strict=True):
        text = "in no image" if np.isnan(value) else f"{value:.3f}"
        axes.text(0.01, place, text, va="center", fontsize=8, color="#111111")
    axes.set_yticks(places, names[1:], fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(dice) - 0.5, -0.5))
    axes.tick_params(axis="x", labelsize=8, color="#999999")
    axes.spines[["top", "right"]].set_visible(False)


def rgb_fraction(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
