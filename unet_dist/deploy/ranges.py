"""From the values that a tensor takes to the range that its 8 bits cover.

What lies outside a range is cut off, and the wider it is the coarser are its steps: the methods
weigh the two differently.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Calibration = Literal["minmax", "percentile", "mse", "entropy"]
CALIBRATIONS: tuple[Calibration, ...] = ("minmax", "percentile", "mse", "entropy")
PERCENTILE = 99.99
SHARES = np.linspace(0.2, 1.0, 81)
"""Of the full range, tried by mse and entropy."""
BINS = 2048
LEVELS = 256

Values = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Of values; zero is always within."""

    low: float
    high: float

    @classmethod
    def of(cls, low: float, high: float) -> Self:
        return cls(low=min(low, 0.0), high=max(high, 0.0))

    def joined(self, other: "Range") -> "Range":
        return Range(low=min(self.low, other.low), high=max(self.high, other.high))

    def scale_and_offset(self, activations: Literal["u8", "s8"]) -> tuple[float, int]:
        """``real = (whole - offset) * scale``; zero is a whole number. s8 has no offset."""
        if activations == "s8":
            return max(-self.low, self.high, 1e-12) / 127, 0
        scale = max(self.high - self.low, 1e-12) / (LEVELS - 1)
        return scale, round(-self.low / scale)


def choose_range(values: Values, low: float, high: float, method: Calibration) -> Range:
    """
    Args:
        values: a sample.
        low: the least of all values.
        high: the largest.
    """
    return _METHODS[method](values, Range.of(low, high))


def _minmax(values: Values, full: Range) -> Range:
    return full


def _percentile(values: Values, full: Range) -> Range:
    low, high = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
    return Range.of(float(low), float(high))


def _mse(values: Values, full: Range) -> Range:
    """The least mean squared error of what is cut off and rounded."""

    def error(part: Range) -> float:
        scale, offset = part.scale_and_offset("u8")
        whole = np.clip(np.rint(values / scale) + offset, 0, LEVELS - 1)
        return float(np.square((whole - offset) * scale - values, dtype=np.float64).mean())

    return min(_parts(full), key=error)


def _entropy(values: Values, full: Range) -> Range:
    """The least Kullback-Leibler divergence of the histogram from what 256 steps leave of it
    (Migacz, "8-bit inference with TensorRT", 2017)."""
    if full.high <= full.low:
        return full
    counts, edges = np.histogram(values, BINS, (full.low, full.high))

    def divergence(part: Range) -> float:
        inside = (edges[:-1] >= part.low) & (edges[1:] <= part.high)
        kept = counts[inside].astype(np.float64)
        if len(kept) < LEVELS or not kept.any():
            return float("inf")
        first, last = np.flatnonzero(inside)[[0, -1]]
        reference = kept.copy()
        reference[0] += counts[:first].sum()
        reference[-1] += counts[last + 1 :].sum()
        level = np.arange(len(kept)) * LEVELS // len(kept)
        filled = kept > 0
        # A level's count is spread evenly over those of its bins that hold anything.
        totals = np.bincount(level, kept, LEVELS)
        spread = totals[level] / np.maximum(np.bincount(level, filled, LEVELS), 1)[level] * filled
        return _divergence(reference, spread)

    return min(_parts(full), key=divergence)


def _divergence(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Of two histograms; where only the other is empty, a small count stands in for it."""
    p, q = reference / reference.sum(), np.maximum(other, 1e-4) / np.maximum(other, 1e-4).sum()
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def _parts(full: Range) -> list[Range]:
    """The widest first, which wins where several are equally good."""
    return [Range(low=full.low * share, high=full.high * share) for share in SHARES[::-1]]


_METHODS: dict[Calibration, Callable[[Values, Range], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
