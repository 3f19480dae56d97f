from dataclasses import replace

import numpy as np
import pytest

from unet_dist.profiling.clocks import align
from unet_dist.profiling.intervals import of_pairs, total_ns
from unet_dist.profiling.levels import ahead_of_collectives, levels_of
from unet_dist.profiling.steps import told_parts
from unet_dist.profiling.stragglers import (
    Straggler,
    arrivals,
    divided_by_arrival,
    explained,
    stragglers_of,
    stragglers_of_tables,
)
from unet_dist.profiling.tables import Collective, RankProfile, Step

JITTER_NS = 100_000


def begins(late_by, *, ranks=8, collectives=100, seed=0):
    """Of ranks whose lateness is normal, some of them shifted by so many of its deviations."""
    rng = np.random.default_rng(seed)
    found = np.sort(rng.uniform(0, 1e9, collectives))[:, None]
    found = found + rng.normal(0, JITTER_NS, (collectives, ranks))
    for rank, deviations in late_by.items():
        found[:, rank] += deviations * JITTER_NS
    return found


def named(found_cr, **settings):
    facts = {"step_ns": 20e6, "num_steps": 10, **settings}
    return [rank for rank, _, _ in stragglers_of(found_cr, range(found_cr.shape[1]), **facts)]


@pytest.mark.parametrize("late", [{3: 2}, {2: 2, 5: 2}])
def test_ranks_late_by_two_deviations_are_found(late):
    hits = [sorted(named(begins(late, seed=seed))) == sorted(late) for seed in range(200)]
    assert np.mean(hits) >= 0.95


def test_ranks_that_are_not_late_are_not_named():
    alarms = [bool(named(begins({}, seed=seed))) for seed in range(400)]
    assert np.mean(alarms) <= 0.01


def test_a_rank_that_is_late_once_by_much_is_named_also_beside_one_other():
    found = begins({}, ranks=2, collectives=4)
    found[0, 1] += 5e6
    assert named(found, num_steps=1, step_ns=150e6) == [1]
    assert named(found, num_steps=1, step_ns=5e9) == []  # 0.1 % of the step


def test_a_lateness_that_costs_nothing_is_not_named():
    assert named(begins({3: 2}), step_ns=10e9) == []


def rank_profile(rank, *, extra_ms, cause):
    """100 ms steps with one collective at their end; the rank does something for longer."""
    steps, computing, data, collectives = [], [], [], []
    for number in range(20):
        begin = number * 200_000_000
        arrives = begin + 50_000_000 + round(extra_ms * 1e6)
        computing.append((begin, begin + 50_000_000))
        if cause == "compute":
            computing[-1] = (begin, arrives)
        if cause == "data":
            data.append((begin + 50_000_000, arrives))
        collectives.append(
            Collective(
                name="allReduce", group="", step=number, begin_ns=arrives,
                end_ns=begin + 90_000_000,
            )
        )  # fmt: skip
        steps.append(Step(number=number, begin_ns=begin, end_ns=begin + 100_000_000))
    return RankProfile(
        rank=rank, source="", format="ascend text", steps=tuple(steps),
        computing=of_pairs(computing), data_waits=of_pairs(data), collectives=tuple(collectives),
    )  # fmt: skip


def before_all(profiles, keys):
    return ahead_of_collectives(profiles, keys, levels_of(profiles, keys), np.arange(len(keys)))


def test_a_collective_is_waiting_until_the_last_rank_has_come():
    profiles = [
        replace(rank_profile(rank, extra_ms=10 * (rank == 1), cause="host"), world=2)
        for rank in range(2)
    ]
    first, late = divided_by_arrival(profiles, align(profiles))
    call = profiles[1].collectives[3]
    length_ns = call.end_ns - call.begin_ns
    for one, waited_ns in ((first, 10_000_000), (late, 0)):
        told = one.collectives[3]
        assert told.wait_ns == pytest.approx(waited_ns, abs=1)
        assert told.transfer_ns == pytest.approx(length_ns, abs=1)
        assert total_ns(one.awaiting) == pytest.approx(waited_ns * len(one.collectives), abs=50)
        assert total_ns(one.transferring) == pytest.approx(length_ns * len(one.collectives), abs=50)
    # Of a job whose other ranks are not there, the last one may be any.
    alone = [replace(profile, world=3) for profile in profiles]
    assert divided_by_arrival(alone, align(alone)) == alone


@pytest.mark.parametrize("cause", ["compute", "data", "host"])
def test_the_cause_is_what_the_late_rank_did_meanwhile(cause):
    profiles = [
        rank_profile(rank, extra_ms=10 if rank == 2 else 0.001 * rank, cause=cause)
        for rank in range(4)
    ]
    found_cr, keys = arrivals(profiles, align(profiles))
    late = stragglers_of(found_cr, range(4), step_ns=100e6, num_steps=20)
    [culprit] = explained(range(4), late, found_cr, before_all(profiles, keys))
    assert (culprit.rank, culprit.cause) == (2, cause)
    assert culprit.cost_ns == pytest.approx(10e6, rel=0.01)


@pytest.mark.parametrize(
    ("waits_ms", "named"),
    [((30, 30, 40, 30), []), ((5, 5, 25, 5), [2]), ((0, 20, 35, 0), []), ((0, 3, 35, 0), [2])],
)
def test_loaders_that_are_all_too_slow_are_no_late_rank(waits_ms, named):
    """Each of them runs ahead of the steps at its own pace: where another one waits for its images
    too, about as long as for the rank that comes last, its images sooner would gain nothing."""
    profiles = [
        rank_profile(rank, extra_ms=waited_ms, cause="data")
        for rank, waited_ms in enumerate(waits_ms)
    ]
    found_cr, keys = arrivals(profiles, align(profiles))
    late = stragglers_of(found_cr, range(4), step_ns=100e6, num_steps=20)
    late = [one for one in late if one[0] == 2]
    culprits = explained(range(4), late, found_cr, before_all(profiles, keys))
    assert [culprit.rank for culprit in culprits] == named


def test_a_single_stall_changes_neither_the_cause_nor_the_cost_of_what_is_there_all_the_time():
    profiles = [
        rank_profile(rank, extra_ms=2 if rank == 2 else 0.001 * rank, cause="host")
        for rank in range(4)
    ]
    held_up, arrives = profiles[2], 5 * 200_000_000 + 87_000_000
    calls, computing = list(held_up.collectives), held_up.computing.copy()
    calls[5] = replace(calls[5], begin_ns=arrives)  # 37 ms late, computing all the time
    computing[5, 1] = arrives
    profiles[2] = replace(held_up, collectives=tuple(calls), computing=computing)
    found_cr, keys = arrivals(profiles, align(profiles))
    late = stragglers_of(found_cr, range(4), step_ns=100e6, num_steps=20)
    [culprit] = explained(range(4), late, found_cr, before_all(profiles, keys))
    assert (culprit.rank, culprit.cause) == (2, "host")
    assert culprit.cost_ns == pytest.approx(2e6, rel=0.01)


def table_of(rank, *, exposed, free, computing=80.0):
    row = {"Computing": computing, "Communication(Not Overlapped)": exposed, "Free": free}
    return told_parts(
        RankProfile(rank=rank, source="", format="cluster table", told_steps={0: row})
    )[0]


def test_of_tables_the_culprit_communicates_least():
    """As eight real ranks do, of which the host of one is slow (milliseconds)."""
    exposed = [683.7, 133.4, 530.3, 265.6, 478.5, 756.4, 244.1, 539.0]
    parts = [table_of(r, exposed=e * 1e3, free=(1674 - e) * 1e3) for r, e in enumerate(exposed)]
    [culprit] = stragglers_of_tables(parts)
    assert (culprit.rank, culprit.cause) == (1, "host")
    assert culprit.cost_ns == pytest.approx((244.1 - 133.4) * 1e6)
    even = [table_of(r, exposed=500e3 + r, free=1000e3) for r in range(8)]
    assert stragglers_of_tables(even) == []
    assert isinstance(culprit, Straggler)


def test_what_only_several_late_ranks_together_save_is_divided_among_them():
    """Late by 12, 10 and once in ten by 2 ms: a step gains 12 ms if the first two are not late, of
    which the first 10 need both of them."""
    found = np.zeros((20, 8)) + np.arange(20)[:, None] * 1e9
    found[:, 1] += 12e6
    found[:, 6] += 10e6
    found[::10, 3] += 2e6
    late = stragglers_of(found, range(8), step_ns=100e6, num_steps=20)
    assert [(rank, pytest.approx(cost)) for rank, _, cost in late] == [(1, 7e6), (6, 5e6)]


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_ranks_that_take_turns_are_not_blamed(ranks):
    blamed = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = begins({}, ranks=ranks, collectives=40, seed=seed)
        found[np.arange(40), rng.integers(ranks, size=40)] += 5e6
        blamed += named(found, num_steps=40)
    assert len(blamed) <= 1
