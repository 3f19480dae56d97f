"""What the records of a run say at the rungs of a search."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unet_dist.records import parse_record


@dataclass(kw_only=True)
class RungReader:
    """Follows a record file; each line is read once."""

    path: Path
    rungs: Sequence[int]
    found: dict[int, dict[str, float]] = field(default_factory=dict)
    """By epoch, the metrics of ``spec.Metric``; what is undefined is missing."""
    _offset: int = 0
    _parameters: float = math.nan
    _rates: list[float] = field(default_factory=list)
    """Images per second of each step since the ranks started."""

    def poll(self) -> Mapping[int, dict[str, float]]:
        """All results so far."""
        try:
            with self.path.open("rb") as stream:
                if self.path.stat().st_size < self._offset:
                    self._offset = 0  # the ranks cut the file back to their checkpoint
                stream.seek(self._offset)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break  # not yet complete
                    self._offset += len(line)
                    record = parse_record(line.decode(errors="replace"))
                    if record is not None:
                        self._take(record)
        except FileNotFoundError:
            pass  # the ranks have not begun
        return self.found

    def _take(self, record: Mapping[str, Any]) -> None:
        kind = record.get("kind")
        if kind == "start":
            self._parameters, self._rates = _number(record, "parameters"), []
        elif kind == "step":
            self._rates.append(_number(record, "images_per_s"))
        elif kind == "eval" and record.get("epoch") in self.rungs:
            metrics = {
                "dice": _number(record, "dice"),
                "iou": _number(record, "iou"),
                "parameters": self._parameters,
                "images_per_s": statistics.median(self._rates) if self._rates else math.nan,
            }
            self.found[int(record["epoch"])] = {
                name: value for name, value in metrics.items() if math.isfinite(value)
            }


def _number(record: Mapping[str, Any], key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else math.nan
