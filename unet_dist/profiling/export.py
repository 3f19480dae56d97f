"""Tables of an analysis as CSV, for spreadsheets and notebooks."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from unet_dist.profiling.analysis import Analysis
from unet_dist.profiling.steps import PARTS


def csv_tables(analysis: Analysis) -> dict[str, str]:
    """By name of the file, without its end; those without a row are left out."""
    tables: dict[str, list[dict[str, Any]]] = {
        "steps": [
            {
                "rank": parts.rank,
                "step": parts.step,
                "step_us": parts.step_ns / 1e3,
                **{
                    f"{name}_us": "" if name in one.unknown else getattr(parts, f"{name}_ns") / 1e3
                    for name in (*PARTS, "overlapped")
                },
            }
            for one in analysis.ranks
            for parts in one.steps
        ],
        "kernels": [
            {
                "type_and_shapes": group.name,
                "core": group.core,
                "count": group.count,
                "total_us": group.total_ns / 1e3,
                "longest_us": group.longest_ns / 1e3,
                "share": group.share,
                "bound": group.bound,
                "flop": group.flop,
                "moved_bytes": group.moved_bytes,
                "roof": group.roof,
                "roof_share": group.roof_share,
            }
            for group in analysis.shapes
        ],
        "collectives": [
            {
                "name": row.name,
                "rank": rank,
                "late_us": late * 1e3,
                "duration_us": row.duration_ms[rank] * 1e3,
                "transfer_us": "" if (sent := row.transfer_ms[rank]) is None else sent * 1e3,
            }
            for row in analysis.collectives
            for rank, late in row.late_ms.items()
        ],
    }
    return {name: _csv(rows) for name, rows in tables.items() if rows}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
