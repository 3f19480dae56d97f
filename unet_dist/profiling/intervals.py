"""Algebra of time intervals, in whole nanoseconds.

A set of intervals is an array ``[n, 2]`` of begins and ends, half open. What is *merged* is in
order, and its intervals neither overlap nor touch.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Intervals = NDArray[np.int64]

NOTHING: Intervals = np.empty((0, 2), np.int64)


def merged(*sets: Intervals) -> Intervals:
    """The union. Intervals without a length are dropped."""
    filled = [one for one in sets if len(one)]
    # Of the tracks of a large trace, each copy that is not made saves a hundred megabytes.
    together = filled[0] if len(filled) == 1 else np.concatenate([NOTHING, *filled])
    long = together[:, 1] > together[:, 0]
    if not long.all():
        together = together[long]
    if not len(together):
        return NOTHING
    if (together[1:, 0] < together[:-1, 0]).any():
        together = together[np.argsort(together[:, 0], kind="stable")]
    reach = np.maximum.accumulate(together[:, 1])
    opens = np.flatnonzero(np.append(True, together[1:, 0] > reach[:-1]))
    closes = np.append(opens[1:], len(together)) - 1
    return np.column_stack([together[opens, 0], reach[closes]])


def total_ns(intervals: Intervals) -> int:
    """Summed lengths; of a merged set the time that it covers."""
    return int((intervals[:, 1] - intervals[:, 0]).sum())


def common(one: Intervals, other: Intervals) -> Intervals:
    """The intersection of two merged sets."""
    if not len(one) or not len(other):
        return NOTHING
    # For each of `one`, those of `other` that end after its begin and begin before its end.
    first = np.searchsorted(other[:, 1], one[:, 0], side="right")
    counts = np.searchsorted(other[:, 0], one[:, 1], side="left")
    np.maximum(np.subtract(counts, first, out=counts), 0, out=counts)
    mine = np.repeat(np.arange(len(one), dtype=np.int32), counts)
    first -= np.cumsum(counts) - counts
    theirs = np.arange(len(mine))
    theirs += first[mine]
    del first, counts
    shared = np.empty((len(mine), 2), np.int64)
    np.maximum(one[mine, 0], other[theirs, 0], out=shared[:, 0])
    np.minimum(one[mine, 1], other[theirs, 1], out=shared[:, 1])
    return shared


def without(one: Intervals, other: Intervals) -> Intervals:
    """What of a merged set is in no interval of another merged one."""
    if not len(one):
        return NOTHING
    low, high = int(one[0, 0]), int(one[-1, 1])
    return common(one, gaps(other, low, high))


def gaps(intervals: Intervals, low: int, high: int) -> Intervals:
    """What a merged set leaves free between two moments."""
    inside = clipped(intervals, low, high)
    free = np.empty((len(inside) + 1, 2), np.int64)
    free[0, 0], free[1:, 0] = low, inside[:, 1]
    free[-1, 1], free[:-1, 1] = high, inside[:, 0]
    long = free[:, 1] > free[:, 0]
    return free if long.all() else free[long]


def clipped(intervals: Intervals, low: int, high: int) -> Intervals:
    """What of a merged set lies between two moments; it looks at nothing else of the set."""
    first = np.searchsorted(intervals[:, 1], low, side="right")
    last = np.searchsorted(intervals[:, 0], high, side="left")
    return np.clip(intervals[first : max(first, last)], low, high)


def measured_ns(
    intervals: Intervals, lows: NDArray[np.int64], highs: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What of a merged set lies between pairs of moments, of all pairs at once."""
    if not len(intervals):
        return np.zeros(len(lows), np.int64)
    before = np.concatenate([[0], np.cumsum(intervals[:, 1] - intervals[:, 0])])

    def until(moments: NDArray[np.int64]) -> NDArray[np.int64]:
        place = np.searchsorted(intervals[:, 0], moments, side="right")
        last = np.maximum(place - 1, 0)
        open_ns = np.clip(moments - intervals[last, 1], None, 0)  # of one that goes on
        return np.asarray(before[place] + np.where(place > 0, open_ns, 0))

    return until(np.maximum(highs, lows)) - until(lows)


def of_pairs(pairs: Iterable[tuple[int, int]]) -> Intervals:
    return np.array(list(pairs), np.int64).reshape(-1, 2)
