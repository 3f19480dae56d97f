"""Charts of an analysed profile."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unet_dist.profiling.analysis import PART_NAMES, Analysis
from unet_dist.profiling.clocks import Clock
from unet_dist.profiling.intervals import clipped, merged, without
from unet_dist.profiling.steps import PARTS, whole_of
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
MOST_RANKS = 32
LANES = 8
"""Ranks of the timeline."""


def parts_png(analysis: Analysis) -> bytes:
    """Milliseconds of a median step, a bar for each rank."""
    ranks = [one for one in analysis.ranks if one.median][:MOST_RANKS]
    figure = new_figure(1.5 + 0.32 * len(ranks) + 0.6)
    axes = axes_at(figure, 0.9, 1.1, 10.6, 0.32 * len(ranks) + 0.2)
    left = np.zeros(len(ranks))
    for name in PARTS:
        lengths = np.array([one.median[name] / 1e6 for one in ranks])
        if lengths.any():
            axes.barh(range(len(ranks)), lengths, left=left, color=COLOURS[name], height=0.75,
                      label=PART_NAMES[name])  # fmt: skip
        left += lengths
    axes.set_yticks(range(len(ranks)), [f"rank {one.rank}" for one in ranks], fontsize=8)
    axes.invert_yaxis()
    name_axes(axes, "milliseconds of a median step", "")
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure_png(figure)


def lateness_png(analysis: Analysis) -> bytes:
    """Of each collective, when each rank came after the first."""
    from matplotlib.ticker import MaxNLocator

    ranks = list(analysis.collectives[0].late_ms)
    late_rc = np.array([[row.late_ms[rank] for row in analysis.collectives] for rank in ranks])
    figure = new_figure(3.4)
    axes = axes_at(figure, 0.9, 0.3, 8.6, 2.5)
    culprits = {late.rank for late in analysis.stragglers}
    for rank, row in zip(ranks, late_rc, strict=True):
        named = rank in culprits or len(ranks) <= LANES
        axes.plot(
            range(1, len(row) + 1), row, marker="." if len(row) < 60 else "",
            linewidth=1.5 if rank in culprits else 0.8,
            color="#D55E00" if rank in culprits else None,
            label=f"rank {rank}" if named else None,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name_axes(axes, "collectives, numbered in their order", "ms after the first rank")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure_png(figure)


def kernels_png(analysis: Analysis) -> bytes:
    """The types of kernels that take longest."""
    groups = analysis.types[:12]
    figure = new_figure(0.7 + 0.3 * len(groups) + 0.6)
    axes = axes_at(figure, 2.6, 0.2, 8.8, 0.3 * len(groups) + 0.2)
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


def timeline_png(profiles: Sequence[RankProfile], clocks: Mapping[int, Clock]) -> bytes:
    """The last marked step of some ranks, by one clock."""
    shown = [profile for profile in profiles if len(profile.computing)][:LANES]
    windows = {p.rank: (p.steps or whole_of(p))[-1] for p in shown}
    figure = new_figure(1.2 + 0.5 * len(shown))
    axes = axes_at(figure, 0.9, 0.6, 10.6, 0.5 * len(shown) + 0.1)
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
