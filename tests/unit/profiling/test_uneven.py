"""Ranks that wait for each other, and of which none is to blame."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.profiling.planted import NS, clean, run, step_ms
from unet_dist.profiling.analysis import analyse


def taking_turns(cause, *, share, ranks=3, steps=12):
    """In each step the next rank takes longer by so much of it."""
    job = clean(np.random.default_rng(7), ranks=ranks, steps=steps)
    ms = share * step_ms(job)
    late = [[ms if step % ranks == rank else 0.0 for rank in range(ranks)] for step in range(steps)]
    return analyse(run(replace(job, uneven={cause: late}), 7)), ms


@pytest.mark.parametrize("cause", ["compute", "host"])
def test_what_it_costs_and_what_the_last_rank_does_meanwhile_are_told(cause):
    found, ms = taking_turns(cause, share=0.2)
    assert found.stragglers == ()
    advice = found.advice[0]
    assert advice.rule == "uneven"
    assert advice.gain_ns / NS == pytest.approx(ms, rel=0.1)
    who, why = advice.evidence
    assert "of 12 collectives the last one was rank 0 in 4, rank 1 in 4, rank 2 in 4, by " in who
    assert f"{cause} +" in why
    setting = {"compute": "npu-smi", "host": "--bind-cores"}[cause]
    assert setting in advice.setting
    assert "First of all: ranks wait for each other, each time for another one" in found.verdict


def test_what_input_costs_is_told_whoever_waits_for_it():
    """Each rank does in one step of three; another one is typical and waits for that rank."""
    found, ms = taking_turns("data", share=0.2)
    first = found.advice[0]
    assert first.rule == "data"
    # The other two have their images after 1 % of a step at the most.
    assert first.gain_ns / NS == pytest.approx(ms, rel=0.1)
    assert "rank 0 in 4, rank 1 in 4, rank 2 in 4" in first.evidence[1]
    assert "uneven" not in [one.rule for one in found.advice]


def test_less_than_3_percent_is_not_advised():
    found, _ = taking_turns("host", share=0.02)
    assert found.advice == ()


def test_what_a_late_rank_costs_is_not_told_twice():
    job = clean(np.random.default_rng(8), ranks=4, steps=12)
    habits = [replace(one, slowness=1.3 if rank == 2 else 1.0)
              for rank, one in enumerate(job.habits)]  # fmt: skip
    found = analyse(run(replace(job, habits=habits), 8))
    rules = [one.rule for one in found.advice]
    assert rules[0] == "late_rank"
    assert "uneven" not in rules


def test_two_ranks_that_are_equally_late_are_advised_on_as_one_is():
    """Neither of them alone costs anything, since the other one is as late."""
    job = clean(np.random.default_rng(9), ranks=8, steps=12)

    def first_of(**slowness):
        slow = [replace(one, slowness=slowness.get(f"rank{rank}", 1.0))
                for rank, one in enumerate(job.habits)]  # fmt: skip
        return analyse(run(replace(job, habits=slow), 9)).advice[0]

    alone, both = first_of(rank5=1.3), first_of(rank2=1.3, rank5=1.3)
    assert both.what in ("ranks 2, 5 make the others wait (compute)",
                         "ranks 5, 2 make the others wait (compute)")  # fmt: skip
    assert len(both.evidence) == 2
    assert both.gain_ns == pytest.approx(alone.gain_ns, rel=0.02)


def test_waiting_for_nobody_knows_whom_is_told():
    """One rank of several, in whose profile no other one is named."""
    job = clean(np.random.default_rng(10), ranks=2, steps=12)
    habits = [job.habits[0], replace(job.habits[1], prepare_ms=0.3 * step_ms(job))]
    alone = replace(run(replace(job, habits=habits), 10)[0], transfers=())
    advice = analyse([alone]).advice[0]
    assert advice.rule == "unnamed_wait"
    assert "--profile-ranks all" in advice.setting
