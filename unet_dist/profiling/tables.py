"""What a profile holds, whichever format it was read from: tables of numbers, a rank each.

All times are nanoseconds of the clock of the rank's host, which differs from that of other ranks
(``clocks.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet_dist.profiling.intervals import NOTHING, Intervals

NO_STEP = -1
MOST_ROWS = 1_000_000
"""Of a table that are read; of kernels some 200 MB with their counters. A gigabyte of text holds
some five millions, and so much memory no laptop has."""

Format = Literal["ascend text", "ascend db", "chrome trace", "cluster table"]


CODES = ("name", "type", "core", "shapes", "dtypes", "signature")
"""Columns of kernels that stand for texts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """What ran on the device, in the order of begins; also what ran on the CPU of a simulated
    rank. Texts are codes into ``texts``, since a million rows share a few hundred of them."""

    time_ns: Intervals
    step: NDArray[np.integer]
    """``NO_STEP`` where none is known."""
    name: NDArray[np.integer]
    type: NDArray[np.integer]
    core: NDArray[np.integer]
    """AI_CORE, AI_VECTOR_CORE, MIX_AIC, AI_CPU, HCCL, ..., CPU."""
    shapes: NDArray[np.integer]
    """Of the inputs, as the profiler writes them."""
    dtypes: NDArray[np.integer]
    texts: tuple[str, ...]
    counters: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Hardware counters by the profiler's names, NaN where a kernel has none."""
    signature: NDArray[np.integer] | None = None
    """Shapes, number formats and layouts of inputs and outputs (``roofline.SIGNATURE``); None where
    the profiler does not tell outputs."""

    def __len__(self) -> int:
        return len(self.time_ns)

    def of(self, codes: NDArray[np.integer]) -> list[str]:
        return [self.texts[code] for code in codes]

    def packed(self) -> "Kernels":
        """The same in fewer bytes, since a job of many ranks is held in memory at once."""
        codes = {name: getattr(self, name) for name in CODES if getattr(self, name) is not None}
        small = np.uint16 if len(self.texts) <= np.iinfo(np.uint16).max else np.int32
        limit = np.iinfo(np.int32)
        fits = not len(self.step) or limit.min < self.step.min() <= self.step.max() < limit.max
        return replace(
            self,
            step=self.step.astype(np.int32) if fits else self.step,
            **{name: column.astype(small) for name, column in codes.items()},
        )

    def with_steps(self, steps: Sequence["Step"]) -> "Kernels":
        """Those of no step get the one in which they begin, if there is one.

        Args:
            steps: in the order of their begins.
        """
        if not steps:
            return self
        begins, ends, numbers = (
            np.array(column, np.int64)
            for column in zip(*((s.begin_ns, s.end_ns, s.number) for s in steps), strict=True)
        )
        at = self.time_ns[:, 0]
        place = np.searchsorted(begins, at, side="right") - 1
        inside = (place >= 0) & (at < ends[place])
        found = np.where(inside, numbers[place], NO_STEP)
        return replace(self, step=np.where(self.step == NO_STEP, found, self.step))


@dataclass(frozen=True, kw_only=True)
class Collective:
    """One call of a collective operation, or of a send or receive."""

    name: str
    """With the group, equal on all ranks that took part."""
    group: str
    step: int
    begin_ns: int
    end_ns: int
    transfer_ns: int | None = None
    """While data moved, on any plane; None if the profile does not tell."""
    wait_ns: int | None = None
    """While it waited for a signal of another rank."""
    sent_bytes: int | None = None

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.begin_ns


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Data between two ranks over one kind of link, summed over a step."""

    source: int
    target: int
    link: str
    """HCCS, PCIE, RDMA, SIO, LOCAL."""
    sent_bytes: float
    duration_ns: float
    collective: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """On the host, as the program marked it."""

    number: int
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryCurve:
    component: str
    at_ns: NDArray[np.int64]
    allocated_mb: NDArray[np.float64]
    reserved_mb: NDArray[np.float64]


def memory_curves(
    points: Mapping[str, Sequence[tuple[int, float, float]]],
) -> list[MemoryCurve]:
    """From moment, allocated and reserved MB of each component."""
    return [
        MemoryCurve(
            component=component,
            at_ns=np.array([point[0] for point in found], np.int64),
            allocated_mb=np.array([point[1] for point in found]),
            reserved_mb=np.array([point[2] for point in found]),
        )
        for component, found in points.items()
    ]


@dataclass(frozen=True, kw_only=True)
class Allocation:
    operator: str
    size_kb: float
    begin_ns: int
    end_ns: int | None
    """None if it was not freed while the profile ran."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RankProfile:
    rank: int
    source: str
    """Folder or file."""
    format: Format
    simulated: bool = False
    host: str = ""
    """Of a simulated rank: those of one host read one clock."""
    world: int = 0
    """Ranks of the job, if it is known."""
    steps: Sequence[Step] = ()
    kernels: Kernels | None = None
    computing: Intervals = field(default_factory=lambda: NOTHING)
    """Merged, as the device's timeline shows it."""
    communicating: Intervals = field(default_factory=lambda: NOTHING)
    transferring: Intervals = field(default_factory=lambda: NOTHING)
    """Of ``communicating``, while data moved between ranks."""
    awaiting: Intervals = field(default_factory=lambda: NOTHING)
    """Of ``communicating``, while a signal of another rank was awaited."""
    bubbles: Intervals = field(default_factory=lambda: NOTHING)
    """Of ``communicating``, while a pipeline stage waited to receive."""
    data_waits: Intervals = field(default_factory=lambda: NOTHING)
    """While the program waited for its input."""
    compiling: Intervals = field(default_factory=lambda: NOTHING)
    """While the host compiled graphs or kernels."""
    beside: Mapping[str, Intervals] = field(default_factory=dict)
    """What a step holds besides training, by its name: validation, checkpoint."""
    collectives: Sequence[Collective] = ()
    transfers: Sequence[Transfer] = ()
    memory: Sequence[MemoryCurve] = ()
    allocations: Sequence[Allocation] = ()
    told_steps: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Rows of step_trace_time.csv in microseconds, by step: what the profiler itself says."""
    missing: tuple[str, ...] = ()
    """What was not there or not whole, a sentence each."""
    untold: tuple[str, ...] = ()
    """What a profile of its kind does not hold, though it is whole."""
    is_cut: bool = False
    """Whether the timeline ends before the profile does: what lies after it looks idle."""
    has_timeline: bool = True
    """Without one nothing tells how a step's communication and idling are divided."""
