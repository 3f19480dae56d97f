import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.profiling.test_intervals import SETS
from unet_dist.profiling.intervals import merged, of_pairs
from unet_dist.profiling.steps import (
    PARTS,
    median_parts,
    steady,
    step_parts,
    told_parts,
)
from unet_dist.profiling.tables import RankProfile, Step


def profile(**settings):
    return RankProfile(rank=0, source="here", format="ascend text", **settings)


def added(parts):
    return sum(getattr(parts, f"{name}_ns") for name in PARTS)


@given(SETS, SETS, SETS, SETS, SETS, SETS, SETS, st.integers(0, 40), st.integers(0, 40))
def test_the_parts_add_up_to_the_step_whatever_the_timeline(
    computing, communicating, moving, awaiting, data, bubbles, saving, low, high
):
    communicating = merged(communicating)
    [parts] = step_parts(
        profile(
            steps=(Step(number=3, begin_ns=min(low, high), end_ns=max(low, high)),),
            computing=merged(computing), communicating=communicating,
            transferring=merged(moving), awaiting=merged(awaiting), data_waits=merged(data),
            bubbles=merged(bubbles), beside={"checkpoint": merged(saving)},
        )
    )  # fmt: skip
    assert added(parts) == parts.step_ns == abs(high - low)
    assert all(getattr(parts, f"{name}_ns") >= 0 for name in (*PARTS, "overlapped"))


def test_each_part_is_what_it_is_called():
    [parts] = step_parts(
        profile(
            steps=(Step(number=7, begin_ns=0, end_ns=100),),
            computing=of_pairs([(20, 50), (90, 95)]),
            # 40-50 is hidden behind computing, 50-80 is exposed.
            communicating=of_pairs([(40, 80)]),
            transferring=of_pairs([(45, 60)]), awaiting=of_pairs([(55, 75)]),
            data_waits=of_pairs([(0, 5), (82, 84)]),
        )
    )  # fmt: skip
    assert parts.computing_ns == 35
    assert parts.overlapped_ns == 10
    assert (parts.transfer_ns, parts.waiting_ns, parts.late_ns) == (10, 15, 5)
    assert parts.exposed_ns == 30
    assert parts.data_ns == 7
    assert parts.preparing_ns == 15
    assert parts.free_ns == 8
    assert parts.unattributed_ns == 5


def test_without_marked_steps_the_devices_whole_time_is_one():
    [parts] = step_parts(profile(computing=of_pairs([(10, 20), (30, 50)])))
    assert (parts.step_ns, parts.computing_ns, parts.free_ns) == (40, 30, 10)
    assert step_parts(profile()) == []


def test_the_table_of_a_profiler_is_parts_too():
    row = {
        "Computing": 80.0, "Communication(Not Overlapped)": 20.0, "Overlapped": 5.0,
        "Free": 7.5, "Bubble": 2.0, "Preparing": float("nan"),
    }  # fmt: skip
    [parts] = told_parts(profile(told_steps={4: row}))
    assert (parts.step, parts.step_ns) == (4, 107_500)
    assert added(parts) == parts.step_ns
    assert (parts.late_ns, parts.bubble_ns, parts.free_ns) == (18_000, 2_000, 7_500)


def steps_of(*lengths):
    marks, begin = [], 0
    for number, length in enumerate(lengths):
        marks.append(Step(number=number, begin_ns=begin, end_ns=begin + length))
        begin += length
    return step_parts(profile(steps=tuple(marks), computing=of_pairs([(0, begin)])))


def test_steps_that_compile_are_left_out():
    parts = steps_of(900, 300, 100, 101, 99, 102)
    assert [one.step for one in steady(parts)] == [2, 3, 4, 5]
    assert len(steady(steps_of(100, 101, 99))) == 3


def test_the_median_step_still_adds_up():
    found = median_parts(steps_of(10, 20, 30, 44))
    assert found["step"] == 25
    assert np.isclose(sum(found[name] for name in PARTS), 25)
