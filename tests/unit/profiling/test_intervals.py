import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.profiling.intervals import (
    clipped,
    common,
    gaps,
    measured_ns,
    merged,
    of_pairs,
    total_ns,
    without,
)

MOMENTS = st.integers(0, 40)
SETS = st.lists(st.tuples(MOMENTS, MOMENTS).map(sorted).map(tuple), max_size=12).map(of_pairs)


def covered(intervals):
    """Each nanosecond as a number: what the algebra says of intervals, sets say of these."""
    return {moment for begin, end in intervals.tolist() for moment in range(begin, end)}


@given(SETS, SETS)
def test_the_algebra_is_that_of_sets_of_moments(one, other):
    a, b = merged(one), merged(other)
    assert covered(a) == covered(one)
    assert covered(merged(one, other)) == covered(one) | covered(other)
    assert covered(common(a, b)) == covered(a) & covered(b)
    assert covered(without(a, b)) == covered(a) - covered(b)
    assert covered(gaps(a, 5, 30)) == set(range(5, 30)) - covered(a)
    assert covered(clipped(a, 5, 30)) == covered(a) & set(range(5, 30))
    for result in (a, common(a, b), without(a, b)):
        assert total_ns(result) == len(covered(result))


@given(SETS)
def test_merged_intervals_are_in_order_and_apart(one):
    found = merged(one)
    assert (found[:, 0] < found[:, 1]).all()
    assert (found[:-1, 1] < found[1:, 0]).all()
    assert np.array_equal(merged(found), found)


def test_what_lies_between_pairs_of_moments_is_measured_for_all_at_once():
    intervals = of_pairs([(10, 20), (30, 50)])
    lows, highs = np.array([0, 12, 15, 20, 31, 60, 40]), np.array([100, 18, 35, 30, 49, 70, 35])
    assert measured_ns(intervals, lows, highs).tolist() == [30, 6, 10, 0, 18, 0, 0]
    assert measured_ns(of_pairs([]), lows, highs).tolist() == [0] * 7
