"""What the rules of advice look at, and what each of them says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unet_dist.profiling.links import Link
from unet_dist.profiling.memory import MemoryUse
from unet_dist.profiling.operators import Launches, OperatorGroup
from unet_dist.profiling.stalls import Stall
from unet_dist.profiling.stragglers import Straggler
from unet_dist.profiling.uneven import Uneven


@dataclass(frozen=True, kw_only=True)
class Advice:
    rule: str
    """Its name, for programs."""
    what: str
    gain_ns: float
    """Of a step, at the most; NaN where it is memory that is gained, or nothing tells how much."""
    evidence: tuple[str, ...]
    setting: str
    """What to change, and where."""
    disproof: str
    """What would show that the advice is wrong."""

    def gain_text(self, step_ns: float) -> str:
        """``up to 12% of a step``; a mean that some steps lengthen may exceed the median step."""
        if math.isnan(self.gain_ns) or not step_ns:
            return ""
        median = "median " if self.gain_ns > step_ns else ""
        return f"up to {self.gain_ns / step_ns:.0%} of a {median}step"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the rules look at: times are nanoseconds of a median step of the median rank."""

    parts: Mapping[str, float]
    """By ``steps.PARTS``, and ``step`` and ``overlapped``."""
    data_ns: float
    """By how much a step would be shorter if no rank waited for its input."""
    hidden_transfer_ns: float
    """While it computes, of a mean step."""
    stragglers: Sequence[Straggler]
    uneven: Uneven | None
    """What ranks wait for each other besides; None where nothing tells who comes when."""
    types: Sequence[OperatorGroup]
    layout_ns: float
    launches: Launches | None
    """Of a step."""
    float32_ns: float
    """Of convolutions and matrix products in float32."""
    slow_links: Sequence[tuple[Link, float]]
    memory: MemoryUse | None
    beside: Mapping[str, float]
    """Nanoseconds of a mean step by name: validation, checkpoint."""
    absent: Sequence[int]
    """Ranks that these exchange data with, and that have no profile."""
    stalls: Sequence[Stall]
    undivided_ns: float
    """Exposed communication of which the profile tells no part."""
    num_steps: int
    simulated: bool
    amp: str = ""
    """Of the run's configuration, if it is known."""
