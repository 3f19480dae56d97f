"""Charts of an analysed profile."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unet_dist.profiling.analysis import Analysis
from unet_dist.profiling.clocks import Clock
from unet_dist.profiling.intervals import clipped, merged, without
from unet_dist.profiling.steps import whole_of
from unet_dist.profiling.tables import RankProfile
from unet_dist.report.page import axes_at, figure_png, name_axes, new_figure, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Mapping[str, str] = {
    "computing": "#0072B2",
    "transfer": "#009E73",
    "waiting": "#D55E00",
    "late": "#E69F00",
    "bubble": "#CC79A7",
    "data": "#F0E442",
    "beside": "#8C564B",
    "preparing": "#56B4E9",
    "free": "#BBBBBB",
    "unattributed": "#666666",
}
"""Of the parts of a step."""
LINES = ("#0072B2", "#009E73", "#56B4E9", "#CC79A7", "#8C564B", "#666666", "#000000", "#B8A900")
"""Of ranks that are not late, beside the orange of those that are."""
LANES = 8
"""Ranks of the timeline."""


def shown_ranks(ranks: Sequence[int], most: int, *, first: Sequence[int]) -> list[int]:
    """So many of them in their order, those that come first among them."""
    chosen = [*(rank for rank in first if rank in ranks), *ranks]
    return sorted(list(dict.fromkeys(chosen))[:most])


def told_ranks(shown: int, ranks: int) -> str:
    """That there are more than are shown; empty if there are not."""
    return f" {shown} of {ranks} ranks are shown." if shown < ranks else ""


def lateness_png(analysis: Analysis) -> bytes:
    """Of each collective, when each rank came after the first."""
    from matplotlib.ticker import MaxNLocator

    ranks = list(analysis.collectives[0].late_ms)
    late_rc = np.array([[row.late_ms[rank] for row in analysis.collectives] for rank in ranks])
    figure = new_figure(3.4)
    axes = axes_at(figure, 0.9, 0.3, 8.6, 2.5)
    culprits = {late.rank for late in analysis.stragglers}
    grey = False
    for place, (rank, row) in enumerate(zip(ranks, late_rc, strict=True)):
        named = rank in culprits or len(ranks) <= LANES
        axes.plot(
            range(1, len(row) + 1), row, marker="." if len(row) < 60 else "",
            linewidth=1.5 if rank in culprits else 0.8,
            color="#D55E00" if rank in culprits else LINES[place] if named else "#AAAAAA",
            zorder=3 if rank in culprits else 2,
            label=f"rank {rank}" if named else None if grey else "others",
        )  # fmt: skip
        grey = grey or not named
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name_axes(axes, "collectives, numbered in their order", "ms after the first rank")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure_png(figure)


def kernels_png(analysis: Analysis) -> bytes:
    """The types of kernels that take longest."""
    groups = analysis.types[:12]
    figure = new_figure(0.8 + 0.3 * len(groups))
    axes = axes_at(figure, 2.6, 0.1, 8.8, 0.3 * len(groups) + 0.2)
    places = range(len(groups))
    axes.barh(places, [group.total_ns / 1e6 for group in groups], color="#0072B2", height=0.7)
    axes.set_yticks(places, [shorten(group.name, 28) for group in groups], fontsize=8)
    for place, group in zip(places, groups, strict=True):
        bound = f", bound by {group.bound}" if group.bound not in ("unknown", "none") else ""
        axes.text(
            group.total_ns / 1e6, place, f" {group.share:.1%}{bound}", va="center", fontsize=8
        )
    axes.invert_yaxis()
    axes.margins(x=0.2)
    name_axes(axes, "milliseconds in all steps", "")
    return figure_png(figure)


def timeline_png(shown: Sequence[RankProfile], clocks: Mapping[int, Clock]) -> bytes:
    """The last marked step of these ranks, by one clock."""
    windows = {p.rank: (p.steps or whole_of(p))[-1] for p in shown}
    figure = new_figure(0.75 + 0.5 * len(shown))
    axes = axes_at(figure, 0.9, 0.1, 10.6, 0.5 * len(shown) + 0.1)
    start = min(clocks[p.rank].common_ns(windows[p.rank].begin_ns) for p in shown)
    for lane, profile in enumerate(shown):
        window = windows[profile.rank]
        shift = clocks[profile.rank].common_ns(window.begin_ns) - window.begin_ns - start
        exposed = without(profile.communicating, profile.computing)
        for name, intervals in (
            ("late", exposed),
            ("waiting", profile.awaiting),
            ("transfer", profile.transferring),
            ("bubble", profile.bubbles),
            ("data", profile.data_waits),
            ("computing", profile.computing),
            ("beside", merged(*profile.beside.values())),
        ):
            inside = clipped(intervals, window.begin_ns, window.end_ns)
            _bars(axes, lane, [(b + shift, e - b) for b, e in inside.tolist()], COLOURS[name])
    axes.set_yticks(range(len(shown)), [f"rank {p.rank}" for p in shown], fontsize=8)
    axes.invert_yaxis()
    name_axes(axes, "milliseconds since the step's begin", "")
    return figure_png(figure)


def _bars(axes: "Axes", lane: int, spans: Sequence[tuple[float, float]], colour: str) -> None:
    scaled = [(begin / 1e6, length / 1e6) for begin, length in spans]
    axes.broken_barh(scaled, (lane - 0.35, 0.7), facecolors=colour)
