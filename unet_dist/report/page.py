"""A page to draw on, measured in inches from its top left corner."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from unet_dist.evaluate.outputs import write_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
WIDTH = 12.0  # inches, as all lengths below
MARGIN = 0.3
COLUMN_WIDTH = 3.0
COLUMN_TITLE = 0.3


def new_figure(height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Axes at a place measured in inches from the top left corner."""
    whole = figure.get_figheight()
    bounds = (left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole)
    return figure.add_axes(bounds)


def write_text(
    figure: "Figure",
    left: float,
    top: float,
    text: str,
    *,
    size: float,
    weight: str = "normal",
    align: str = "left",
    colour: str = "#111111",
) -> None:
    figure.text(
        left / WIDTH,
        1 - top / figure.get_figheight(),
        text,
        fontsize=size,
        fontweight=weight,
        ha=align,
        va="center",
        color=colour,
        parse_math=False,  # a file name may hold dollar signs
    )


def name_axes(axes: "Axes", x: str, y: str = "") -> None:
    axes.set_xlabel(x, fontsize=9)
    if y:
        axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8, color="#999999")
    axes.spines[["top", "right"]].set_visible(False)


def shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"...{text[3 - length :]}"


def save_figure(figure: "Figure", path: Path) -> None:
    write_files({path: figure_png(figure)})


def figure_png(figure: "Figure") -> bytes:
    stream = BytesIO()
    with warnings.catch_warnings():
        # A name in Chinese shows as boxes where no font has it, which is not worth a warning.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format="png")
    return stream.getvalue()
