"""One file that tells what a profile says: no network, no script, no other file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_dist.errors import counted
from unet_dist.profiling.analysis import PART_NAMES, Analysis, RankSummary
from unet_dist.profiling.describe import (
    NUMBERS,
    SIMULATED,
    by_ranks,
    has_scopes,
    lines_of,
    missing_lines,
    operator_cells,
    told_columns,
    untold_lines,
)
from unet_dist.profiling.operators import OperatorGroup
from unet_dist.profiling.steps import PARTS
from unet_dist.profiling.stragglers import divided_by_arrival
from unet_dist.profiling.tables import RankProfile
from unet_dist.profiling.texts import shortened
from unet_dist.report.profile_charts import (
    COLOURS,
    LANES,
    kernels_png,
    lateness_png,
    shown_ranks,
    timeline_png,
    told_ranks,
)
from unet_dist.report.template import data_uri, render

TEMPLATE = Path(__file__).with_name("profile.html.j2")
ROWS = 20
BARS = 32
"""Ranks whose steps are held against each other."""
LONGEST_NAME = 120
"""Kernels over lists of tensors name all their shapes."""


def profile_html(analysis: Analysis, profiles: Sequence[RankProfile]) -> str:
    """The same of the same profiles, byte for byte."""
    step_ns = analysis.parts.get("step", 0.0)
    return render(
        TEMPLATE,
        verdict=analysis.verdict,
        simulated=SIMULATED if analysis.simulated else "",
        ranks=counted(len(analysis.ranks), "rank"),
        advice=[
            {
                "what": one.what,
                "gain": one.gain_text(step_ns),
                "evidence": one.evidence,
                "setting": one.setting,
                "disproof": one.disproof,
            }
            for one in analysis.advice
        ],
        parts=[
            {
                "name": PART_NAMES[name],
                "ms": f"{analysis.parts[name] / 1e6:.2f}",
                "share": f"{analysis.parts[name] / step_ns:.1%}",
            }
            for name in PARTS
            if analysis.parts.get(name)
        ],
        step_ms=f"{step_ns / 1e6:.2f}",
        typical=analysis.typical,
        bars=_bars(analysis),
        charts=_charts(analysis, profiles),
        lines=lines_of(analysis),
        tables=_tables(analysis),
        missing=missing_lines(analysis.ranks),
        untold=untold_lines(analysis.ranks),
        sources=by_ranks({one.rank: [_source(one)] for one in analysis.ranks}),
    )


def _source(one: RankSummary) -> str:
    warmed = f" ({one.left_out} more warmed up)" if one.left_out else ""
    return f"{counted(len(one.steps), 'step')}{warmed}, {one.format}"


def _bars(analysis: Analysis) -> dict[str, Any]:
    """Median steps of the ranks, each as long as its share of the longest; empty without any."""
    known = {one.rank: one.median for one in analysis.ranks if one.median}
    if not known:
        return {}
    late = [one.rank for one in analysis.stragglers]
    shown = shown_ranks(list(known), BARS, first=[*late, analysis.typical])
    longest = max(known[rank]["step"] for rank in shown) or 1.0
    parts = [name for name in PARTS if any(known[rank][name] for rank in shown)]
    return {
        "legend": [{"name": PART_NAMES[name], "colour": COLOURS[name]} for name in parts],
        "more": told_ranks(len(shown), len(known)),
        "rows": [
            {
                "rank": f"rank {rank}",
                "late": rank in late,
                "ms": f"{known[rank]['step'] / 1e6:.1f}",
                "parts": [
                    {
                        "colour": COLOURS[name],
                        "percent": f"{100 * known[rank][name] / longest:.3f}",
                        "told": f"{PART_NAMES[name]}: {known[rank][name] / 1e6:.2f} ms",
                    }
                    for name in parts
                    if known[rank][name]
                ],
            }
            for rank in shown
        ],
    }


def _tables(analysis: Analysis) -> list[dict[str, Any]]:
    found = []
    if has_scopes(analysis):
        found.append(("By level of the network", "place", analysis.scopes))
    if analysis.shapes:
        found.append(("Kernels by shape", "type and input shapes", analysis.shapes))
    return [_table(title, what, groups) for title, what, groups in found]


def _table(title: str, what: str, groups: Sequence[OperatorGroup]) -> dict[str, Any]:
    """Without columns that say the same of every kernel: nothing."""
    rows = [_row(group) for group in groups[:ROWS]]
    columns = [
        {"title": column, "number": column in NUMBERS}
        for column in told_columns(rows)
        if column != "name"
    ]
    more = f"{len(groups):,}" if len(groups) > ROWS else ""
    return {"title": title, "what": what, "columns": columns, "rows": rows, "more": more}


def _row(group: OperatorGroup) -> dict[str, str]:
    return {"name": shortened(group.name, LONGEST_NAME), **operator_cells(group)}


def _charts(analysis: Analysis, profiles: Sequence[RankProfile]) -> list[dict[str, Any]]:
    clocks = {clock.rank: clock for clock in analysis.clocks}
    divided = divided_by_arrival(profiles, clocks)
    charts = []
    drawn = {profile.rank: profile for profile in divided if len(profile.computing)}
    if drawn:
        late = [one.rank for one in analysis.stragglers]
        shown = shown_ranks(list(drawn), LANES, first=[*late, analysis.typical])
        caption = "By one clock; colours as above, and white where the device does nothing."
        caption += told_ranks(len(shown), len(drawn))
        picture = timeline_png([drawn[rank] for rank in shown], clocks)
        charts.append(("Timeline of the last step", caption, picture))
    if analysis.collectives:
        caption = "A collective ends for all when the last rank has come."
        charts.append(("Who comes late", caption, lateness_png(analysis)))
    if analysis.types:
        caption = f"Of rank {analysis.typical}, all its steps together; shares are of all kernels."
        charts.append(("Kernels", caption, kernels_png(analysis)))
    return [
        {"title": title, "caption": caption, "picture": data_uri(png)}
        for title, caption, png in charts
    ]
