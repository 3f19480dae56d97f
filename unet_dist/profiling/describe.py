"""An analysis for a reader at a terminal."""

import math
import statistics
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from unet_dist.profiling.analysis import PART_NAMES, Analysis, RankSummary
from unet_dist.profiling.clocks import Clock
from unet_dist.profiling.operators import ELSEWHERE, LAYOUT, OperatorGroup
from unet_dist.profiling.roofline import CHIPS
from unet_dist.profiling.seen import Advice
from unet_dist.profiling.steps import PARTS, outlier_text
from unet_dist.profiling.tables import RankProfile
from unet_dist.profiling.texts import shortened

SIMULATED = "Simulated ranks share one CPU: nothing here is a speed of cards."
SHOWN_RANKS = 16
SHOWN_CLOCKS = 8
"""That are told one by one."""
SHOWN_GROUPS = 10
FEWEST_FOR_GROWTH = 3
NAME_WIDTH = 14
NUMBERS = ("count", "ms", "share", "GB/s")
"""Columns of kernels."""
NAMES_WIDTH = 34
"""Columns that names of parts take at the least, so that each wraps to two lines at the most."""


def tables_of(analysis: Analysis, *, width: int) -> list[Table]:
    """Where a step goes, by rank; operators; nothing for what is not known.

    Args:
        width: columns of the terminal; ranks for whose numbers it has no room have a further table.
    """
    found = []
    if analysis.parts:
        found += _steps(analysis, width)
    if analysis.types:
        found.append(_operators("kernels by type", analysis.types))
    if has_scopes(analysis):
        found.append(_operators("kernels by place in the network", analysis.scopes))
    return found


def has_scopes(analysis: Analysis) -> bool:
    return any(group.name != ELSEWHERE for group in analysis.scopes)


def roof_text(group: OperatorGroup) -> str:
    """``memory, 63%``: what bounds it, and how much of its time that explains."""
    share = "" if math.isnan(group.roof_share) else f", {group.roof_share:.0%}"
    return f"{group.roof}{share}"


def gb_per_s_text(group: OperatorGroup) -> str:
    """That its tensors are moved at, each counted once; empty if their shapes are not known."""
    known = group.moved_bytes > 0 and group.total_ns > 0
    return f"{group.moved_bytes / group.total_ns:,.0f}" if known else ""


def lines_of(analysis: Analysis) -> list[str]:
    """What no table holds: clocks, late ranks, links, memory."""
    lines = _clock_lines(analysis)
    for late in analysis.stragglers:
        lines.append(
            f"rank {late.rank} is late ({late.cause}), at a cost of {late.cost_ns / 1e6:.2f} ms a "
            f"step: {late.evidence}"
        )
    lines += _link_lines(analysis)
    for link, usual in analysis.slow_links:
        lines.append(
            f"slow {link.kind} link {link.source} to {link.target}: {link.gb_per_s:.1f} GB/s, "
            f"usual {usual:.1f}"
        )
    return [*lines, *_memory_lines(analysis), *_mean_lines(analysis), *_kernel_lines(analysis)]


def _clock_lines(analysis: Analysis) -> list[str]:
    lines = []
    reference = next((clock for clock in analysis.clocks if clock.is_known), analysis.clocks[0])
    others = [clock for clock in analysis.clocks if clock is not reference]
    if analysis.simulated and others and all(map(_is_same, others)):
        return ["clocks of ranks: the one of their host"]
    known = [clock for clock in others if clock.is_known]
    if len(known) > SHOWN_CLOCKS:
        offsets = [clock.offset_ns / 1e3 for clock in known]
        lines.append(
            f"clocks of {len(known)} ranks: {min(offsets):+.1f} to {max(offsets):+.1f} us against "
            f"rank {reference.rank}, each +- {max(one.spread_ns for one in known) / 1e3:.1f} us "
            "at the most"
        )
        others = [clock for clock in others if not clock.is_known]
    for clock in others[:SHOWN_RANKS]:
        if clock.is_known:
            drift = f", drift {clock.drift * 1e6:+.1f} us/s" if clock.drift else ""
            lines.append(
                f"clock of rank {clock.rank}: {clock.offset_ns / 1e3:+.1f} +- "
                f"{clock.spread_ns / 1e3:.1f} us against rank {reference.rank}{drift} "
                f"({clock.collectives} collectives)"
            )
        elif analysis.ranks[0].format != "cluster table":
            lines.append(
                f"clock of rank {clock.rank}: not aligned, {clock.collectives} collectives in "
                f"common with rank {reference.rank}"
            )
    return lines


def _is_same(clock: Clock) -> bool:
    return clock.offset_ns == clock.spread_ns == clock.drift == 0 and clock.is_known


def _link_lines(analysis: Analysis) -> list[str]:
    """How fast links of each kind are."""
    lines = []
    for kind in sorted({link.kind for link in analysis.links}):
        speeds = sorted(link.gb_per_s for link in analysis.links if link.kind == kind)
        lines.append(
            f"{len(speeds)} {kind} links: {speeds[0]:.1f} to {speeds[-1]:.1f} GB/s, median "
            f"{statistics.median(speeds):.1f}"
        )
    return lines


def _memory_lines(analysis: Analysis) -> list[str]:
    lines = []
    for one in analysis.ranks:
        if one.rank == analysis.typical and (memory := one.memory):
            churn = memory.churn
            if not analysis.simulated and not one.unknown:  # a process has no pool
                lines.append(
                    f"memory of rank {one.rank} in a step: {churn.allocations:.0f} allocations, "
                    f"{churn.frees:.0f} frees, the pool resized {churn.resizes:.1f} times"
                )
            lines.append(
                f"memory of rank {one.rank} ({memory.component}): peak "
                f"{memory.peak_allocated_mb:.1f} MB allocated, {memory.peak_reserved_mb:.1f} MB "
                f"reserved ({memory.gap_share:.1%} of it unused)"
            )
            if analysis.parts and len(one.steps) >= FEWEST_FOR_GROWTH:
                grows = f"grows by {memory.growth_mb:.0f} MB" if memory.growth_mb else "is steady"
                lines.append(f"memory of rank {one.rank} {grows} over {len(one.steps)} steps")
            if memory.holders:
                held = ", ".join(f"{name} {size:.0f} MB" for name, size in memory.holders[:4])
                lines.append(f"memory at the peak is held by {held}")
    return lines


def _mean_lines(analysis: Analysis) -> list[str]:
    """Else 690 ms between kernels would stand beside an idle device of 27 ms."""
    [typical] = [one for one in analysis.ranks if one.rank == analysis.typical]
    told = outlier_text(typical.steps)
    if not told:
        return []
    return [
        f"steps of rank {typical.rank} differ much: {told}; kernels are told of all steps or "
        "of their mean, parts of the median one"
    ]


def _kernel_lines(analysis: Analysis) -> list[str]:
    lines = []
    launches = analysis.launches
    if launches is not None and launches.kernels:
        layout = sum(one.share for one in analysis.types if LAYOUT.search(one.name))
        lines.append(
            f"kernels of a mean step: {launches.kernels:,}, of which {launches.tiny:,} are shorter "
            f"than 10 us ({launches.tiny_ns / 1e6:.2f} ms); {launches.gaps_ns / 1e6:.2f} ms lie "
            f"between kernels; layouts and number formats take {layout:.1%} of their time"
        )
    if analysis.types and not has_scopes(analysis):
        lines.append("the names of kernels carry no scope: nothing is said of the network's levels")
    if any(group.roof != "unknown" for group in analysis.types):
        chip = CHIPS[analysis.chip]
        above = any(group.roof_share > 1 for group in analysis.types)
        lines.append(
            f"roofline by the nominal peaks of {chip.name}: {chip.cube_flops / 1e12:.0f} TFLOP/s "
            f"of float16, {chip.bytes_per_s / 1e12:.1f} TB/s; shares are of the time taken"
            + ("; above 100 % a cache or a shorter format than float32 helped" if above else "")
        )
    if not math.isnan(analysis.cube_utilisation):
        lines.append(f"cube unit used to {analysis.cube_utilisation:.1f} % by its kernels")
    return lines


def advice_lines(advice: Sequence[Advice], step_ns: float) -> list[str]:
    lines = []
    for number, one in enumerate(advice, 1):
        gain = one.gain_text(step_ns)
        lines.append(f"{number}. {one.what}{f', {gain}' if gain else ''}")
        lines += [f"   seen: {line}" for line in one.evidence]
        lines += [f"   change: {one.setting}", f"   wrong if: {one.disproof}"]
    return lines


def missing_lines(profiles: Sequence[RankSummary | RankProfile]) -> list[str]:
    return by_ranks({one.rank: one.missing for one in profiles})


def untold_lines(profiles: Sequence[RankSummary | RankProfile]) -> list[str]:
    return by_ranks({one.rank: one.untold for one in profiles})


def by_ranks(told: Mapping[int, Sequence[str]]) -> list[str]:
    """The same of several ranks once."""
    ranks: dict[str, list[int]] = {}
    for rank, faults in told.items():
        for fault in faults:
            ranks.setdefault(fault, []).append(rank)
    return [
        f"rank{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:8]))}"
        f"{f' and {len(found) - 8} more' if len(found) > 8 else ''}: {fault}"
        for fault, found in ranks.items()
    ]


def _steps(analysis: Analysis, width: int) -> list[Table]:
    ranks = [one for one in analysis.ranks if one.median]
    shown = ranks[:SHOWN_RANKS]
    digits = max(len(_ms_of(one, name)) for one in shown for name in ("step", *PARTS))
    column = 3 + max(digits, len(f"rank {shown[-1].rank}"))
    several = max(1, (width - NAMES_WIDTH) // column)
    title = "milliseconds of a median step"
    if len(ranks) > len(shown):
        title += f", the first {SHOWN_RANKS} of {len(ranks)} ranks"
    return [
        _steps_of(shown[first : first + several], title) for first in range(0, len(shown), several)
    ]


def _steps_of(shown: Sequence[RankSummary], title: str) -> Table:
    table = Table(box=SIMPLE, title=title)
    table.add_column("", min_width=NAMES_WIDTH - 4)
    for one in shown:
        table.add_column(f"rank {one.rank}", justify="right", no_wrap=True)
    for name in ("step", *PARTS, "overlapped"):
        title = {"step": "step", "overlapped": "hidden communication"}.get(name) or PART_NAMES[name]
        cells = [_ms_of(one, name) for one in shown]
        if name == "step" or any(one.median[name] for one in shown):
            table.add_row(title, *cells, end_section=name == "step")
    return table


def _ms_of(one: RankSummary, name: str) -> str:
    return "unknown" if name in one.unknown else f"{one.median[name] / 1e6:.2f}"


def _operators(title: str, groups: Sequence[OperatorGroup]) -> Table:
    """Without columns that tell of no kernel anything."""
    table = Table(box=SIMPLE, title=title)
    cells = [operator_cells(group) for group in groups[:SHOWN_GROUPS]]
    # Names are folded, as two that begin alike would look the same if they were cut.
    table.add_column("", overflow="fold", min_width=NAME_WIDTH)
    columns = told_columns(cells)
    for column in columns:
        table.add_column(
            column, justify="right" if column in NUMBERS else "left", no_wrap=True, overflow="fold"
        )
    for group, row in zip(groups, cells, strict=False):
        shown = {**row, "core": shortened(row["core"], 20)}
        table.add_row(Text(shortened(group.name)), *(Text(shown[column]) for column in columns))
    return table


def operator_cells(group: OperatorGroup) -> dict[str, str]:
    """What a table tells of it, besides its name, by the column's title."""
    return {
        "core": group.core,
        "count": f"{group.count:,}",
        "ms": f"{group.total_ns / 1e6:.3f}",
        "share": f"{group.share:.1%}",
        "GB/s": gb_per_s_text(group),
        "busy pipe": group.bound,
        "roofline": roof_text(group),
    }


def told_columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Those that tell something of any row."""
    return [column for column in rows[0] if any(row[column] not in ("", "unknown") for row in rows)]
