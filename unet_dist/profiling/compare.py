"""Two profiles of the same work: what became slower, beyond what steps differ by themselves."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unet_dist.profiling.analysis import PART_NAMES, Analysis
from unet_dist.profiling.operators import OperatorGroup
from unet_dist.profiling.steps import PARTS, StepParts, outlier_text

RESAMPLES = 2000
FEWEST = 3
"""Steps that an interval needs."""
SHOWN_SHARE = 0.005
"""Of a step; changes of less are not shown."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Milliseconds of a step, B less A."""

    name: str
    a_ms: float
    b_ms: float
    low_ms: float
    """95 % interval of the difference of medians; NaN where there are too few steps."""
    high_ms: float

    @property
    def difference_ms(self) -> float:
        return self.b_ms - self.a_ms

    @property
    def is_sure(self) -> bool:
        """Whether the interval is on one side of 0."""
        return self.low_ms > 0 or self.high_ms < 0


@dataclass(frozen=True, kw_only=True)
class ProfileComparison:
    step: Change
    parts: tuple[Change, ...]
    """The largest change first."""
    kernels: tuple[Change, ...]
    """Of types, of a mean step; without intervals."""
    steps_a: int
    steps_b: int
    outliers: tuple[str, ...]
    """Of A and of B, where a mean step contradicts the median."""

    @property
    def is_judged(self) -> bool:
        """Whether there are steps enough to tell a change from noise."""
        return min(self.steps_a, self.steps_b) >= FEWEST

    def slower_by(self) -> float:
        """Of the step, as a share of A's; 0 where it is within the noise."""
        return self.step.difference_ms / self.step.a_ms if self.step.is_sure else 0.0

    def is_too_noisy_for(self, limit: float) -> bool:
        """Whether B neither surely fails a limit of ``slower_by`` nor surely keeps it. A limit of 0
        asks for whatever is beyond the noise, so no noise is too much for it."""
        fails = self.slower_by() > limit
        return limit > 0 and not fails and self.step.high_ms > limit * self.step.a_ms


def compare_profiles(a: Analysis, b: Analysis) -> ProfileComparison:
    """By the typical rank of each."""
    steps_a, steps_b = (_steps(one) for one in (a, b))
    step = _change("step", [s.step_ns for s in steps_a], [s.step_ns for s in steps_b])
    parts = [
        _change(
            PART_NAMES[name],
            [getattr(s, f"{name}_ns") for s in steps_a],
            [getattr(s, f"{name}_ns") for s in steps_b],
        )
        for name in PARTS
    ]
    least = SHOWN_SHARE * step.a_ms
    return ProfileComparison(
        step=step,
        parts=tuple(_largest(parts, least)),
        kernels=tuple(_largest(_kernels(a, b), least)),
        steps_a=len(steps_a),
        steps_b=len(steps_b),
        outliers=tuple(
            f"steps of {name} differ much: {told}"
            for name, steps in (("A", steps_a), ("B", steps_b))
            if (told := outlier_text(steps))
        ),
    )


def _steps(analysis: Analysis) -> Sequence[StepParts]:
    return next(one.steps for one in analysis.ranks if one.rank == analysis.typical)


def _change(name: str, a_ns: Sequence[int], b_ns: Sequence[int]) -> Change:
    a, b = np.array(a_ns) / 1e6, np.array(b_ns) / 1e6
    low = high = math.nan
    if min(len(a), len(b)) >= FEWEST:
        rng = np.random.default_rng(0)
        medians = [
            np.median(one[rng.integers(0, len(one), (RESAMPLES, len(one)))], axis=1)
            for one in (a, b)
        ]
        low, high = (float(q) for q in np.quantile(medians[1] - medians[0], [0.025, 0.975]))
    return Change(
        name=name,
        a_ms=statistics.median(a.tolist()) if len(a) else math.nan,
        b_ms=statistics.median(b.tolist()) if len(b) else math.nan,
        low_ms=low,
        high_ms=high,
    )


def _kernels(a: Analysis, b: Analysis) -> Iterable[Change]:
    one, other = (_by_name(each.types, each.kernel_steps) for each in (a, b))
    for name in sorted(one.keys() | other.keys()):
        yield Change(
            name=name,
            a_ms=one.get(name, 0.0),
            b_ms=other.get(name, 0.0),
            low_ms=math.nan,
            high_ms=math.nan,
        )


def _by_name(groups: Iterable[OperatorGroup], steps: int) -> dict[str, float]:
    return {group.name: group.total_ns / 1e6 / max(1, steps) for group in groups}


def _largest(changes: Iterable[Change], least_ms: float) -> list[Change]:
    found = [change for change in changes if abs(change.difference_ms) >= least_ms]
    return sorted(found, key=lambda change: (-abs(change.difference_ms), change.name))


def comparison_lines(found: ProfileComparison) -> list[str]:
    sure = "" if found.step.is_sure else " (within the noise)"
    if not found.is_judged:
        sure = f" (whether that is noise, {found.steps_a} and {found.steps_b} steps do not tell)"
    lines = [
        f"step: {found.step.a_ms:.2f} to {found.step.b_ms:.2f} ms, "
        f"{found.step.difference_ms:+.2f}{_interval(found.step)}{sure}"
    ]
    lines += found.outliers
    for title, changes in (
        ("parts of the median step", found.parts), ("kernels of the mean step", found.kernels),
    ):  # fmt: skip
        if changes:
            lines.append(f"{title}:")
        lines += [
            f"  {change.difference_ms:+8.2f} ms  {change.name} ({change.a_ms:.2f} to "
            f"{change.b_ms:.2f}){_interval(change)}"
            for change in changes[:12]
        ]
    return lines


def too_noisy_text(found: ProfileComparison, limit: float) -> str:
    shares = (found.step.difference_ms, found.step.low_ms, found.step.high_ms)
    change, low, high = (f"{share / found.step.a_ms:+.1%}" for share in shares)
    return (
        f"too noisy to judge {limit * 100:g} %: {found.steps_a} and {found.steps_b} steps tell a "
        f"change of {change}, 95 % interval {low} to {high}; profile more steps"
    )


def _interval(change: Change) -> str:
    if math.isnan(change.low_ms):
        return ""
    return f" [{change.low_ms:+.2f}, {change.high_ms:+.2f}]"
