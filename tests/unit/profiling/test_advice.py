"""Faults are planted one at a time, and the first advice must name each.

The made job has gaps of 0.05 ms between kernels: with 0.2 ms they are 4 % of a step, and advised
against even without a fault. A slow link is told, but not first; churn of memory is not looked for.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.profiling.made import BEGIN, MS, kernels_of
from unet_dist.profiling.analysis import analyse
from unet_dist.profiling.intervals import NOTHING, merged, of_pairs
from unet_dist.profiling.tables import (
    Collective,
    MemoryCurve,
    RankProfile,
    Step,
    Transfer,
)

STEPS, RANKS = 12, 4
GAP_MS = 0.05


def rank_of(
    rank,
    *,
    slot_ms=85.0,
    data_ms=0.5,
    host_late_ms=0.0,
    compute=1.0,
    transfer_ms=2.0,
    overlap_ms=1.5,
    gap_ms=GAP_MS,
    kernels=20,
    kernel_ms=4.0,
    kind="Conv2D",
    core="AI_CORE",
    dtypes="FLOAT16",
    long_steps=(),
    beside=None,
    links=None,
    memory=None,
):
    """A step: waiting for input, kernels one after the other, an all-reduce that the last ones hide
    in part. Everything differs by some microseconds from step to step."""
    rng = np.random.default_rng(rank)
    marks, rows, collectives, waits, moving, awaiting, extra = [], [], [], [], [], [], {}
    now = 0
    for number in range(STEPS):
        begin = now
        now += round((data_ms + rng.uniform(0, 0.02)) * MS)
        waits.append((BEGIN + begin, BEGIN + now))
        now += round((0.3 + host_late_ms) * MS)
        if number in long_steps:
            now += 400 * MS
        for place in range(kernels):
            length = round((kernel_ms * compute + rng.uniform(0, 0.005)) * MS)
            first = place % 2 == 0
            name, unit = (kind, core) if first else ("ReLU", "AI_VECTOR_CORE")
            rows.append(
                (number, f"net/{name}-op{place}", name, unit, now, now + length, "4,8,256,256",
                 dtypes)
            )  # fmt: skip
            now += length + round(gap_ms * MS)
        collectives.append((number, now - round(overlap_ms * MS)))
        marks.append([number, begin, now])
        # All ranks leave together: when the slowest has come and the data has moved.
        now = begin + round(slot_ms * MS) + (400 * MS if number in long_steps else 0)
        for name, ms in (beside or {}).items():
            if number == STEPS // 2:
                span = (BEGIN + now, BEGIN + now + round(ms * MS))
                extra.setdefault(name, []).append(span)
                now += round(ms * MS)
        marks[-1][2] = now
    calls = []
    for (number, start), (_, _, end) in zip(collectives, marks, strict=True):
        if number == STEPS // 2 and beside:
            end -= round(sum(beside.values()) * MS)
        last = end - round(0.2 * MS)
        middle = last - round(transfer_ms * MS)
        start = min(start, middle)
        calls.append(
            Collective(
                name=f"allReduce_{number}", group="", step=number, begin_ns=BEGIN + start,
                end_ns=BEGIN + last, transfer_ns=last - middle, wait_ns=middle - start,
                sent_bytes=1000,
            )
        )  # fmt: skip
        awaiting.append((BEGIN + start, BEGIN + middle))
        moving.append((BEGIN + middle, BEGIN + last))
    made = kernels_of(rows)
    return RankProfile(
        rank=rank, source="made", format="ascend text",
        steps=tuple(Step(number=n, begin_ns=BEGIN + b, end_ns=BEGIN + e) for n, b, e in marks),
        kernels=made, computing=merged(made.time_ns),
        communicating=merged(of_pairs((c.begin_ns, c.end_ns) for c in calls)),
        transferring=merged(of_pairs(moving)), awaiting=merged(of_pairs(awaiting)),
        data_waits=merged(of_pairs(waits)),
        beside={name: merged(of_pairs(each)) for name, each in extra.items()},
        collectives=tuple(calls), transfers=tuple(links or ()), memory=tuple(memory or ()),
    )  # fmt: skip


def needed_ms(facts):
    """Of a rank for a step, when it does not wait for others."""
    computing = facts.get("kernels", 20) * (
        facts.get("kernel_ms", 4.0) * facts.get("compute", 1.0) + facts.get("gap_ms", GAP_MS)
    )
    before = facts.get("data_ms", 0.5) + 0.3 + facts.get("host_late_ms", 0.0)
    return before + computing - facts.get("overlap_ms", 1.5) + facts.get("transfer_ms", 2.0) + 0.5


def job(change=None, culprit=None, **everywhere):
    """Ranks alike but for the culprit; everybody's step is as long as the slowest needs."""
    facts = [{**everywhere, **(change if rank == culprit else {})} for rank in range(RANKS)]
    slot_ms = max(map(needed_ms, facts))
    return analyse([rank_of(rank, slot_ms=slot_ms, **one) for rank, one in enumerate(facts)])


FAULTS = {
    "slow data": ("data", {"data_ms": 12.0}),
    "one slow rank, its card": ("late_rank", {"change": {"compute": 1.15}, "culprit": 2}),
    "one slow rank, its host": ("late_rank", {"change": {"host_late_ms": 9.0}, "culprit": 1}),
    "no overlap": ("exposed_transfer", {"transfer_ms": 14.0, "overlap_ms": 0.0}),
    "tiny batch": ("host_bound", {"kernels": 40, "kernel_ms": 0.008, "gap_ms": 0.05}),
    "host-bound launch": ("host_bound", {"gap_ms": 1.0}),
    "layout changes": ("layout", {"kind": "TransData", "core": "AI_VECTOR_CORE"}),
    "float32 left over": ("float32", {"dtypes": "FLOAT"}),
    "operators on the CPU of the card": ("ai_cpu", {"core": "AI_CPU"}),
    "straggling validation": ("validation", {"beside": {"validation": 900.0}}),
    "checkpoint stalls": ("checkpoint", {"beside": {"checkpoint": 900.0}}),
    "recompiles": ("recompiles", {"long_steps": (5, 8)}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_advice_names_the_fault(fault):
    rule, settings = FAULTS[fault]
    advice = job(**settings).advice
    assert advice, fault
    assert advice[0].rule == rule, [(one.rule, one.gain_ns / MS) for one in advice]
    assert advice[0].setting
    assert advice[0].evidence


def test_a_clean_job_gets_no_advice():
    analysis = job()
    assert [(one.rule, one.gain_ns / analysis.parts["step"]) for one in analysis.advice] == []


def test_a_slow_link_is_told_beside_the_transfer_it_slows():
    profiles = [
        rank_of(0, slot_ms=needed_ms({"transfer_ms": 12.0}), transfer_ms=12.0, links=[
            Transfer(source=a, target=b, link="HCCS", sent_bytes=64e6,
                     duration_ns=64e6 / (5 if (a, b) == (0, 3) else 15 + 0.1 * b), collective="t")
            for a in range(4) for b in range(4) if a != b
        ])
    ]  # fmt: skip
    analysis = analyse(profiles)
    [(link, usual)] = analysis.slow_links
    assert (link.source, link.target) == (0, 3)
    assert usual == pytest.approx(15.2, abs=0.3)
    assert "slow_link" in [one.rule for one in analysis.advice]


def test_memory_that_grows_or_is_reserved_in_vain_is_told():
    [clean] = [rank_of(0)]
    ends = [step.end_ns for step in clean.steps]

    def with_memory(allocated, reserved):
        curve = MemoryCurve(
            component="MindSpore", at_ns=np.array(ends), allocated_mb=np.array(allocated, float),
            reserved_mb=np.array(reserved, float),
        )  # fmt: skip
        found = analyse([replace(clean, memory=(curve,))])
        return [one.rule for one in found.advice]

    flat = [1000] * STEPS
    assert "memory_grows" in with_memory([500 + 40 * n for n in range(STEPS)], flat)
    assert "memory_reserved" in with_memory([500] * STEPS, flat)
    assert with_memory([950] * STEPS, flat) == with_memory([950.0] * STEPS, flat)
    assert "memory_grows" not in with_memory([950] * STEPS, flat)
    assert NOTHING.shape == (0, 2)
