"""What the records of a run say at the rungs of a search."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unet_dist.records import RecordFollower


@dataclass(kw_only=True)
class RungReader:
    """Follows a record file; each line is read once.

    A result counts once the checkpoint of its step is written, which comes after the validation:
    ranks that are killed in between would leave a trial paused at a rung from which it cannot go
    on, nor be copied.
    """

    path: Path
    rungs: Sequence[int]
    found: dict[int, dict[str, float]] = field(default_factory=dict)
    """By epoch, the metrics of ``spec.Metric``; what is undefined is missing."""
    _unsaved: dict[float, tuple[int, dict[str, float]]] = field(default_factory=dict)
    """By step, epoch and metrics that still lack their checkpoint."""
    _parameters: float = math.nan
    _rates: list[float] = field(default_factory=list)
    """Images per second of each step since the ranks started."""
    _records: RecordFollower = field(init=False)

    def __post_init__(self) -> None:
        self._records = RecordFollower(self.path)

    def poll(self) -> Mapping[int, dict[str, float]]:
        """All results so far."""
        for record in self._records.new_records():
            self._take(record)
        return self.found

    def _take(self, record: Mapping[str, Any]) -> None:
        kind, step = record.get("kind"), _number(record, "step")
        if kind == "checkpoint":
            self._saved(step)
        elif kind == "start":
            # Where ranks go on there is a checkpoint, though its writer may have been killed before
            # it said so; what was measured after it is measured again.
            self._saved(step)
            self._unsaved.clear()
            self._parameters, self._rates = _number(record, "parameters"), []
        elif kind == "step":
            self._rates.append(_number(record, "images_per_s"))
        elif kind == "eval" and record.get("epoch") in self.rungs:
            metrics = {
                "dice": _number(record, "dice"),
                "iou": _number(record, "iou"),
                "parameters": self._parameters,
                "latency_ms": _number(record, "latency_ms"),
                "images_per_s": statistics.median(self._rates) if self._rates else math.nan,
            }
            finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
            self._unsaved[step] = (int(record["epoch"]), finite)

    def _saved(self, step: float) -> None:
        if step in self._unsaved:
            epoch, metrics = self._unsaved.pop(step)
            self.found[epoch] = metrics


def _number(record: Mapping[str, Any], key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else math.nan
