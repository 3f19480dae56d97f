"""An analysis for a reader at a terminal."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from unet_dist.profiling.advice import Advice
from unet_dist.profiling.analysis import PART_NAMES, Analysis
from unet_dist.profiling.operators import ELSEWHERE, OperatorGroup
from unet_dist.profiling.roofline import CHIPS
from unet_dist.profiling.steps import PARTS

SHOWN_RANKS = 16
SHOWN_GROUPS = 10


def tables_of(analysis: Analysis) -> list[Table]:
    """Where a step goes, by rank; operators; nothing for what is not known."""
    found = []
    if analysis.parts:
        found.append(_steps(analysis))
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


def lines_of(analysis: Analysis) -> list[str]:
    """What no table holds: clocks, late ranks, links, memory."""
    lines = []
    for clock in analysis.clocks[1:SHOWN_RANKS]:
        if clock.is_known:
            drift = f", drift {clock.drift * 1e6:+.1f} us/s" if clock.drift else ""
            lines.append(
                f"clock of rank {clock.rank}: {clock.offset_ns / 1e3:+.1f} +- "
                f"{clock.spread_ns / 1e3:.1f} us against rank {analysis.clocks[0].rank}{drift} "
                f"({clock.collectives} collectives)"
            )
        elif analysis.ranks[0].format != "cluster table":
            lines.append(
                f"clock of rank {clock.rank}: not aligned, {clock.collectives} collectives in "
                "common with the first rank"
            )
    for late in analysis.stragglers:
        lines.append(
            f"rank {late.rank} is late ({late.cause}), at a cost of {late.cost_ns / 1e6:.2f} ms a "
            f"step: {late.evidence}"
        )
    for link, usual in analysis.slow_links:
        lines.append(
            f"{link.kind} link {link.source} to {link.target}: {link.gb_per_s:.1f} GB/s, usual "
            f"{usual:.1f}"
        )
    return [*lines, *_memory_lines(analysis), *_kernel_lines(analysis)]


def _memory_lines(analysis: Analysis) -> list[str]:
    lines = []
    for one in analysis.ranks:
        if one.rank == analysis.typical and (memory := one.memory):
            churn = memory.churn
            if not analysis.simulated:  # a process has no pool
                lines.append(
                    f"memory of rank {one.rank} in a step: {churn.allocations:.0f} allocations, "
                    f"{churn.frees:.0f} frees, the pool resized {churn.resizes:.1f} times"
                )
            lines.append(
                f"memory of rank {one.rank} ({memory.component}): peak "
                f"{memory.peak_allocated_mb:.1f} MB allocated, {memory.peak_reserved_mb:.1f} MB "
                f"reserved ({memory.gap_share:.1%} in vain)"
            )
            if memory.holders:
                held = ", ".join(f"{name} {size:.0f} MB" for name, size in memory.holders[:4])
                lines.append(f"  held at the peak by {held}")
    return lines


def _kernel_lines(analysis: Analysis) -> list[str]:
    lines = []
    if analysis.types and not has_scopes(analysis):
        lines.append("the names of kernels carry no scope: nothing is said of the network's levels")
    if any(group.roof != "unknown" for group in analysis.types):
        chip = CHIPS[analysis.chip]
        lines.append(
            f"roofline by the nominal peaks of {chip.name}: {chip.cube_flops / 1e12:.0f} TFLOP/s "
            f"of float16, {chip.bytes_per_s / 1e12:.1f} TB/s; shares are of the time taken"
        )
    if not math.isnan(analysis.cube_utilisation):
        lines.append(f"cube unit used to {analysis.cube_utilisation:.1f} % by its kernels")
    return lines


def advice_lines(advice: Sequence[Advice], step_ns: float) -> list[str]:
    lines = []
    for number, one in enumerate(advice, 1):
        gain = "" if math.isnan(one.gain_ns) else f", up to {one.gain_ns / step_ns:.0%} of a step"
        lines.append(f"{number}. {one.what}{gain}")
        lines += [f"   seen: {line}" for line in one.evidence]
        lines += [f"   change: {one.setting}", f"   wrong if: {one.disproof}"]
    return lines


def missing_lines(analysis: Analysis) -> list[str]:
    """The same of several ranks once."""
    ranks: dict[str, list[int]] = {}
    for one in analysis.ranks:
        for fault in one.missing:
            ranks.setdefault(fault, []).append(one.rank)
    return [
        f"rank{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:8]))}"
        f"{' ...' if len(found) > 8 else ''}: {fault}"
        for fault, found in ranks.items()
    ]


def _steps(analysis: Analysis) -> Table:
    table = Table(box=SIMPLE, title="milliseconds of a median step")
    table.add_column("")
    shown = [one for one in analysis.ranks if one.median][:SHOWN_RANKS]
    for one in shown:
        table.add_column(f"rank {one.rank}", justify="right")
    for name in ("step", *PARTS, "overlapped"):
        title = {"step": "step", "overlapped": "hidden communication"}.get(name) or PART_NAMES[name]
        cells = [f"{one.median[name] / 1e6:.2f}" for one in shown]
        if name == "step" or any(one.median[name] for one in shown):
            table.add_row(title, *cells, end_section=name == "step")
    return table


def _operators(title: str, groups: Sequence[OperatorGroup]) -> Table:
    table = Table(box=SIMPLE, title=title)
    for column in ("", "core", "count", "ms", "share", "busy pipe", "roofline"):
        right = column in ("count", "ms", "share")
        table.add_column(column, justify="right" if right else "left")
    for group in groups[:SHOWN_GROUPS]:
        table.add_row(
            group.name, group.core, f"{group.count:,}", f"{group.total_ns / 1e6:.3f}",
            f"{group.share:.1%}", group.bound, roof_text(group),
        )  # fmt: skip
    return table
