"""Faults are planted one at a time into jobs that differ in size, and the first advice must name
each: the cause is planted, and what a profile shows of it follows from timing the job."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.profiling.planted import NS, Work, clean, run, step_ms
from unet_dist.profiling.analysis import analyse
from unet_dist.profiling.compare import compare_profiles
from unet_dist.profiling.load import find_profiles, read_profiles
from unet_dist.profiling.tables import Collective, MemoryCurve
from unet_dist.profiling.write import write_text_folder

DRAWS = 12
WHOLE_PROFILES = 0
"""The draw of each fault that goes through files."""


def everywhere(job, **changes):
    return replace(job, habits=[replace(one, **changes) for one in job.habits])


def one_rank(job, rng, **changes):
    late = int(rng.integers(len(job.habits)))
    habits = [
        replace(one, **changes) if rank == late else one for rank, one in enumerate(job.habits)
    ]
    return replace(job, habits=habits), f"rank {late} makes the others wait"


def cost(job, rng, low=0.08, high=0.5):
    """Milliseconds that are worth an advice."""
    return float(rng.uniform(low, high)) * step_ms(job)


def slow_data(rng):
    job = clean(rng)
    return everywhere(job, data_ms=cost(job, rng, 0.1, 1.0)), "waits for its input"


def slow_card(rng):
    job = clean(rng)
    job, what = one_rank(job, rng, slowness=float(rng.uniform(1.1, 1.6)))
    return job, f"{what} (compute)"


def slow_host(rng):
    job = clean(rng)
    job, what = one_rank(job, rng, prepare_ms=cost(job, rng))
    return job, f"{what} (host)"


def slow_data_of_one(rng):
    job = clean(rng)
    job, what = one_rank(job, rng, data_ms=cost(job, rng))
    return job, f"{what} (data)"


def slow_link(rng):
    job = clean(rng, ranks=int(rng.integers(4, 7)))
    source = int(rng.integers(len(job.habits)))
    target = (source + 1) % len(job.habits)
    sent = sum(ms for _, ms in job.buckets)
    # What half a step hides is no loss, so the link is slower than that.
    slower = float(rng.uniform(1.0, 2.0)) * 0.75 * step_ms(job) / sent
    return (
        replace(job, slow_links={(source, target): max(1.6, slower)}),
        f"link from rank {source} to {target} is slow",
    )


def no_overlap(rng):
    job = clean(rng)
    last = len(job.works) - 1
    return replace(job, buckets=[(last, cost(job, rng))]), "gradients travel while nothing"


def tiny_batch(rng):
    job = clean(rng, kernel_ms=float(rng.uniform(0.003, 0.006)))
    job = everywhere(job, launch_ms=float(rng.uniform(0.012, 0.05)))
    # All else stays as small beside the step as it was.
    longer = step_ms(job) / sum(work.ms for work in job.works)
    return (
        replace(job, buckets=[(place, ms * longer / 2) for place, ms in job.buckets]),
        "too little work",
    )


def host_bound(rng):
    job = clean(rng)
    mean = step_ms(job) / len(job.works)
    return everywhere(job, launch_ms=mean * float(rng.uniform(1.15, 2.0))), "the host launches"


def recompiles(rng):
    job = clean(rng)
    steps = rng.choice(np.arange(2, job.steps), size=int(rng.integers(1, 4)), replace=False)
    return (
        replace(job, compiles={int(n): cost(job, rng, 2, 30) for n in steps}),
        "some steps compile again",
    )


def stall_of_the_machine(rng):
    job = clean(rng)
    stalled = {int(n): cost(job, rng, 2, 30) for n in range(2, job.steps, 5)}
    return replace(job, stalls=stalled), "the machine or the host does something else"


def memory_churn(rng):
    job = clean(rng)
    times = int(rng.integers(1, 5))
    places = rng.choice(np.arange(1, len(job.works)), size=times, replace=False)
    ms = cost(job, rng) / times
    return replace(job, resizes={int(place): ms for place in places}), "memory is given back"


def layout_changes(rng):
    job = clean(rng)
    extra, works = cost(job, rng, 0.1), list(job.works)
    for _ in range(count := int(rng.integers(2, 6))):
        kind = str(rng.choice(["TransData", "Transpose", "Cast"]))
        work = Work(type=kind, core="AI_VECTOR_CORE", dtype="FLOAT16", ms=extra / count)
        works.insert(int(rng.integers(4)), work)
    return replace(job, works=works), "from one layout"


def float32(rng):
    job = clean(rng)
    works = [replace(w, dtype="FLOAT") if w.core == "AI_CORE" else w for w in job.works]
    return replace(job, works=works), "convolutions run in float32"


def straggling_validation(rng):
    return _beside(rng, "validation"), "training waits for the validation"


def stalling_checkpoint(rng):
    return _beside(rng, "checkpoint"), "training waits for the checkpoint"


def _beside(rng, name):
    """Of all ranks, or of one that the others wait for."""
    job = clean(rng)
    whole = cost(job, rng, 0.1, 2.0) * job.steps
    each = [whole] * len(job.habits)
    if rng.integers(2):
        each = [whole / 10] * len(job.habits)
        each[int(rng.integers(len(each)))] = whole
    return replace(job, beside={name: {int(rng.integers(1, job.steps)): each}})


def uneven_steps(rng):
    """Each rank in its turn is late, so that none is to blame."""
    job = clean(rng)
    cause, ranks = str(rng.choice(["compute", "data", "host"])), len(job.habits)
    ms, first = cost(job, rng, 0.1), int(rng.integers(ranks))
    late = [
        [ms * float(rng.uniform(0.9, 1.1)) if (step + first) % ranks == rank else 0.0
         for rank in range(ranks)]
        for step in range(job.steps)
    ]  # fmt: skip
    named = f"their steps are of unequal length ({cause})"
    return replace(job, uneven={cause: late}), "waits for its input" if cause == "data" else named


FAULTS = (
    slow_data, slow_card, slow_host, slow_data_of_one, slow_link, no_overlap, tiny_batch,
    host_bound, recompiles, memory_churn, layout_changes, float32, straggling_validation,
    stalling_checkpoint, stall_of_the_machine, uneven_steps,
)  # fmt: skip


def first_of(profiles):
    analysis = analyse(profiles)
    shares = [(one.what, one.gain_ns / analysis.parts["step"]) for one in analysis.advice]
    return (analysis.advice[0].what if analysis.advice else "none"), shares


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_first_advice_names_the_fault(fault, tmp_path):
    wrong = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([draw, FAULTS.index(fault)])
        job, expected = fault(rng)
        profiles = run(job, draw)
        if draw == WHOLE_PROFILES:
            for profile in profiles:
                write_text_folder(tmp_path / f"rank{profile.rank}_ascend_ms", profile)
            profiles = read_profiles(find_profiles([tmp_path]))
        first, shares = first_of(profiles)
        if expected not in first:
            wrong.append((draw, expected, shares))
    assert not wrong


def test_a_clean_job_gets_no_advice():
    found = {draw: first_of(run(clean(np.random.default_rng(draw)), draw)) for draw in range(24)}
    assert {draw: one for draw, one in found.items() if one[0] != "none"} == {}


def test_mixed_precision_is_not_advised_where_the_run_has_it():
    job, _ = float32(np.random.default_rng(1))
    profiles = run(job, 1)
    rules = [{one.rule for one in analyse(profiles, amp=amp).advice} for amp in ("", "off", "fp16")]
    assert ["float32" in each for each in rules] == [True, True, False]


def test_operators_on_the_cpu_of_the_card_are_named():
    job = clean(np.random.default_rng(1))
    works = list(job.works)
    works[2] = replace(works[2], type="Unique", core="AI_CPU")
    found = analyse(run(replace(job, works=works), 1)).advice
    assert [one.rule for one in found] == ["ai_cpu"]


def test_what_a_late_rank_costs_is_what_it_is_late_by_once_a_step():
    """Though it comes late to each of the parts of the gradients."""
    job = clean(np.random.default_rng(5), ranks=4)
    habits = [
        replace(one, prepare_ms=one.prepare_ms + (20 if rank == 1 else 0))
        for rank, one in enumerate(job.habits)
    ]
    [late] = analyse(run(replace(job, habits=habits), 5)).stragglers
    assert late.rank == 1
    assert late.cost_ns / NS == pytest.approx(20, rel=0.05)


def test_steps_that_warm_up_count_neither_in_kernels_nor_in_lateness():
    job = replace(clean(np.random.default_rng(5), ranks=4), steps=10)
    habits = [
        replace(one, prepare_ms=one.prepare_ms + (20 if rank == 1 else 0))
        for rank, one in enumerate(job.habits)
    ]
    usual = replace(job, habits=habits)
    warming = replace(usual, stalls={0: 900.0, 1: 900.0, 2: 900.0, 3: 900.0})
    whole, cut = (analyse(run(one, 5)) for one in (usual, warming))
    assert [one.left_out for one in cut.ranks] == [4, 4, 4, 4]
    assert compare_profiles(whole, cut).kernels == ()
    [late] = cut.stragglers
    assert (late.rank, late.cost_ns / NS) == (1, pytest.approx(20, rel=0.05))


def test_what_waits_for_a_validation_is_no_lateness_of_steps():
    """Whose gathers a rank comes to late that validates more slowly."""
    job = replace(clean(np.random.default_rng(6), ranks=2), steps=10)
    profiles = run(replace(job, beside={"validation": {step: [5, 60] for step in range(10)}}), 6)
    begun = []
    for profile in profiles:
        gathers = tuple(
            Collective(
                name="gather", group="world", step=step.number, begin_ns=begin, end_ns=int(end)
            )
            for step, (low, end) in zip(profile.steps, profile.beside["validation"], strict=True)
            for begin in [int(low) + (5 if profile.rank == 0 else 59) * NS]
        )
        calls = sorted((*profile.collectives, *gathers), key=lambda one: one.begin_ns)
        begun.append(replace(profile, collectives=tuple(calls)))
    assert analyse(begun).stragglers == ()


def test_the_gain_of_a_link_is_what_the_step_took_longer_for_it():
    job = clean(np.random.default_rng(2), ranks=4)
    slow = replace(job, slow_links={(1, 2): 6.0})
    usual, found = analyse(run(job, 2)), analyse(run(slow, 2))
    longer = found.parts["step"] - usual.parts["step"]
    [link] = [one for one in found.advice if one.rule == "slow_link"]
    assert link.gain_ns == pytest.approx(longer, rel=0.1)


def test_churn_is_counted_and_its_gain_is_what_it_took():
    job = clean(np.random.default_rng(3))
    churning = replace(job, resizes={4: 6.0})
    usual, found = analyse(run(job, 3)), analyse(run(churning, 3))
    memory = next(one.memory for one in found.ranks if one.rank == found.typical)
    # Given back and asked for again, once a step; a tensor for each kernel.
    assert memory.churn.resizes == pytest.approx(2, abs=0.01)
    assert memory.churn.allocations == pytest.approx(len(job.works), abs=0.01)
    first = found.advice[0]
    assert first.rule == "memory_churn"
    assert first.gain_ns == pytest.approx(found.parts["step"] - usual.parts["step"], rel=0.1)


def test_memory_that_grows_or_is_reserved_in_vain_is_told():
    one = run(clean(np.random.default_rng(4), steps=12), 4)[0]
    ends = np.array([step.end_ns for step in one.steps])

    def rules(allocated):
        curve = MemoryCurve(
            component="MindSpore", at_ns=ends, allocated_mb=np.array(allocated, float),
            reserved_mb=np.full(12, 1000.0),
        )  # fmt: skip
        return [found.rule for found in analyse([replace(one, memory=(curve,))]).advice]

    assert rules([500 + 40 * step for step in range(12)]) == ["memory_grows"]
    assert rules([500] * 12) == ["memory_reserved"]
    assert rules([950] * 12) == []


def test_a_stall_is_blamed_on_a_checkpoint_only_next_to_one():
    job = clean(np.random.default_rng(6), steps=16, ranks=2)
    long = 20 * step_ms(job)
    stalled = replace(job, stalls={3: long, 8: long, 13: long})
    found = next(one for one in analyse(run(stalled, 6)).advice if one.rule == "stall")
    assert found.evidence[0].startswith("in steps 3, 8, 13 (every 5 steps) the device idles ")
    assert found.evidence[1].endswith("before Default/net/down_0/Conv2D-op0")
    # 3 of 16 steps, of which up to a tenth may warm up.
    assert found.gain_ns / NS == pytest.approx(long * 3 / 16, rel=0.1)
    saving = {"checkpoint": {step: [0.01, 0.01] for step in (2, 7, 12)}}
    beside = replace(stalled, beside=saving)
    assert analyse(run(beside, 6)).advice[0].what == "steps stall next to checkpoints"
    far = replace(stalled, beside={"checkpoint": {5: [0.01, 0.01]}})
    assert analyse(run(far, 6)).advice[0].rule == "stall"
