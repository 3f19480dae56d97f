"""A made job of several ranks, timed from causes: what each rank computes, when its host launches,
what its links carry. Faults are changes of these causes; what a profile shows of them follows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.unit.profiling.made import BEGIN
from unet_dist.profiling.intervals import merged
from unet_dist.profiling.tables import (
    Allocation,
    Collective,
    Kernels,
    MemoryCurve,
    RankProfile,
    Step,
    Transfer,
)

NS = 1_000_000
"""Of a millisecond, in which all durations here are."""
GB_PER_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """A kernel of every step."""

    type: str
    core: str
    dtype: str
    ms: float


@dataclass(frozen=True, kw_only=True)
class Habits:
    """Of a rank."""

    data_ms: float
    prepare_ms: float
    launch_ms: float
    """Of the host for each kernel; it runs ahead of the device if it can."""
    slowness: float = 1.0
    """Of the device."""


@dataclass(frozen=True, kw_only=True)
class Job:
    works: Sequence[Work]
    habits: Sequence[Habits]
    """By rank."""
    steps: int
    buckets: Sequence[tuple[int, float]]
    """After which kernel a part of the gradients is ready, and for how long healthy links send."""
    slow_links: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """By how much they are slower."""
    mesh: bool = False
    """Whether every rank has a link to every other one, or to its neighbours in a ring alone."""
    compiles: Mapping[int, float] = field(default_factory=dict)
    """Milliseconds by step, which the host marks."""
    stalls: Mapping[int, float] = field(default_factory=dict)
    """Milliseconds by step, which nothing marks."""
    uneven: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """Further milliseconds of each step and rank, by what it does for so long."""
    resizes: Mapping[int, float] = field(default_factory=dict)
    """Before which kernels the pool gives memory back and asks for it again, which the device must
    be idle for, and for how long."""
    beside: Mapping[str, Mapping[int, Sequence[float]]] = field(default_factory=dict)
    """By name and step, of each rank: none goes on before the slowest."""


@dataclass(kw_only=True)
class _Rank:
    number: int
    now: float = 0.0
    begins: list[tuple[int, float, float]] = field(default_factory=list)
    """Place in ``works``, begin and end."""
    step_of: list[int] = field(default_factory=list)
    marks: list[tuple[float, float]] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)
    calls: list[tuple[int, float, float, float, float]] = field(default_factory=list)
    """Step, begin, when the last rank came, end of the own transfer, end."""
    memory: list[tuple[float, float, float]] = field(default_factory=list)
    beside: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    compiling: list[tuple[float, float]] = field(default_factory=list)


def run(job: Job, seed: int) -> list[RankProfile]:
    """Profiles of its ranks, each with a clock of its own."""
    rng = np.random.default_rng(seed)
    ranks = [_Rank(number=number) for number in range(len(job.habits))]
    links = links_of(job, rng)
    for step in range(job.steps):
        begins = [rank.now for rank in ranks]
        ready = [_computes(job, rank, step, rng) for rank in ranks]
        _sends(job, ranks, step, ready, links)
        for name, spans in job.beside.items():
            if step in spans:
                end = max(rank.now + ms for rank, ms in zip(ranks, spans[step], strict=True))
                for rank in ranks:
                    rank.beside.setdefault(name, []).append((rank.now, end))
                    rank.now = end
        for rank, begin in zip(ranks, begins, strict=True):
            rank.marks.append((begin, rank.now))
    return [_profile(job, rank, links, round(rng.uniform(0, 3e9))) for rank in ranks]


def links_of(job: Job, rng: np.random.Generator) -> dict[tuple[int, int], float]:
    """GB/s by source and target."""
    count = len(job.habits)
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    return {
        pair: GB_PER_S * rng.uniform(0.97, 1.03) / job.slow_links.get(pair, 1.0)
        for pair in pairs
        if job.mesh or (pair[1] - pair[0]) % count == 1
    }


def _computes(job: Job, rank: _Rank, step: int, rng: np.random.Generator) -> list[float]:
    """When each part of the gradients is ready; the rank is left at the end of its kernels."""
    habits = job.habits[rank.number]
    jitter = rng.uniform(0.99, 1.01, len(job.works) + 2)
    more = {cause: ms[step][rank.number] for cause, ms in job.uneven.items()}
    host = rank.now + habits.data_ms * jitter[-1] + more.get("data", 0.0)
    rank.waits.append((rank.now, host))
    host += habits.prepare_ms * jitter[-2] + job.stalls.get(step, 0.0) + more.get("host", 0.0)
    if step in job.compiles:
        rank.compiling.append((host, host + job.compiles[step]))
        host += job.compiles[step]
    device, ends = host, []
    for place, work in enumerate(job.works):
        host += habits.launch_ms
        if place in job.resizes:
            drained = max(host, device)
            host = drained + job.resizes[place]
            rank.memory += [(drained + 0.2 * job.resizes[place], 720.0, 800.0),
                            (host - 0.1 * job.resizes[place], 860.0, 1000.0)]  # fmt: skip
        begin = max(host, device)
        device = begin + work.ms * habits.slowness * jitter[place]
        device += more.pop("compute", 0.0)
        rank.begins.append((place, begin, device))
        rank.step_of.append(step)
        rank.memory.append((begin, 860.0 + 10 * (place % 7), 1000.0))
        ends.append(device)
    rank.now = device
    return [ends[place] for place, _ in job.buckets]


def _sends(
    job: Job,
    ranks: Sequence[_Rank],
    step: int,
    ready: Sequence[Sequence[float]],
    links: Mapping[tuple[int, int], float],
) -> None:
    ends = [0.0] * len(ranks)
    for number, (_, ms) in enumerate(job.buckets):
        begins = [max(own[number], end) for own, end in zip(ready, ends, strict=True)]
        last = max(begins)
        # A ring goes as fast as its slowest link, and ranks beside others wait for it.
        own_ms = [
            ms * GB_PER_S / min(speed for pair, speed in links.items() if rank.number in pair)
            for rank in ranks
        ]
        end = last + max(own_ms) + 0.0005
        for place, rank in enumerate(ranks):
            rank.calls.append((step, begins[place], last, last + own_ms[place], end))
        ends = [end] * len(ranks)
    for rank, end in zip(ranks, ends, strict=True):
        rank.now = max(rank.now, end)


def _profile(
    job: Job, rank: _Rank, links: Mapping[tuple[int, int], float], offset_ns: int
) -> RankProfile:
    def at(ms: float) -> int:
        return BEGIN + offset_ns + round(ms * NS)

    def spans(pairs):
        found = np.array(pairs, float).reshape(-1, 2) * NS
        return np.rint(found).astype(np.int64) + BEGIN + offset_ns

    kernels = _kernels(job, rank, spans([(b, e) for _, b, e in rank.begins]))
    sent_ms = sum(ms for _, ms in job.buckets)
    moments = spans([call[1:] for call in rank.calls]).reshape(-1, 4).tolist()
    calls = tuple(
        Collective(
            name=f"hcom_allReduce_{number}", group="0", step=call[0], begin_ns=begin, end_ns=end,
            transfer_ns=moved - last, wait_ns=end - moved + last - begin, sent_bytes=1000,
        )
        for number, (call, (begin, last, moved, end)) in enumerate(
            zip(rank.calls, moments, strict=True)
        )
    )  # fmt: skip
    curve = sorted(rank.memory)
    return RankProfile(
        rank=rank.number, source="made", format="ascend text",
        steps=tuple(
            Step(number=n, begin_ns=at(b), end_ns=at(e)) for n, (b, e) in enumerate(rank.marks)
        ),
        kernels=kernels, computing=merged(kernels.time_ns),
        communicating=merged(spans([(b, e) for _, b, _, _, e in rank.calls])),
        transferring=merged(spans([(last, moved) for _, _, last, moved, _ in rank.calls])),
        awaiting=merged(
            spans([(b, last) for _, b, last, _, _ in rank.calls]),
            spans([(moved, end) for _, _, _, moved, end in rank.calls]),
        ),
        data_waits=merged(spans(rank.waits)),
        compiling=merged(spans(rank.compiling)),
        beside={name: merged(spans(pairs)) for name, pairs in rank.beside.items()},
        collectives=calls,
        transfers=tuple(
            Transfer(
                source=source, target=target, link="HCCS", collective="allreduce-total",
                sent_bytes=GB_PER_S * sent_ms * job.steps * NS,
                duration_ns=GB_PER_S / speed * sent_ms * job.steps * NS,
            )
            for (source, target), speed in links.items()
            if source == rank.number
        ),
        memory=(
            MemoryCurve(
                component="MindSpore", at_ns=spans([one[:2] for one in curve])[:, 0],
                allocated_mb=np.array([one[1] for one in curve]),
                reserved_mb=np.array([one[2] for one in curve]),
            ),
        ),
        allocations=tuple(
            Allocation(operator="net", size_kb=1024, begin_ns=begin, end_ns=end)
            for begin, end in kernels.time_ns.tolist()
        ),
    )  # fmt: skip


def _kernels(job: Job, rank: _Rank, times) -> Kernels:
    texts: dict[str, int] = {"": 0, "8,32,64,64;32,32,3,3": 1}
    works = job.works

    def codes(names: Sequence[str]) -> np.ndarray:
        found = np.array([texts.setdefault(name, len(texts)) for name in names], np.int32)
        return found[[place for place, _, _ in rank.begins]]

    columns = {
        "name": codes([f"Default/net/down_{n % 4}/{w.type}-op{n}" for n, w in enumerate(works)]),
        "type": codes([work.type for work in works]),
        "core": codes([work.core for work in works]),
        "dtypes": codes([f"{work.dtype};{work.dtype}" for work in works]),
    }
    return Kernels(
        time_ns=times,
        step=np.array(rank.step_of, np.int64), shapes=np.ones(len(times), np.int32),
        texts=tuple(texts), **columns,
    )  # fmt: skip


def clean(rng: np.random.Generator, *, kernel_ms: float | None = None, **changes) -> Job:
    """A job without a fault, whose numbers differ from draw to draw: what costs something all the
    same costs less than 3 % each."""
    count = int(rng.integers(10, 18))
    usual = kernel_ms or float(rng.uniform(0.3, 4.0))
    works = [
        Work(
            type="Conv2D" if place % 2 == 0 else "ReLU",
            core="AI_CORE" if place % 2 == 0 else "AI_VECTOR_CORE",
            dtype="FLOAT16",
            ms=usual * float(rng.uniform(0.6, 1.6)),
        )
        for place in range(count)
    ]
    launch = min(0.02, 0.2 * usual)
    step = sum(work.ms for work in works)
    works.append(Work(type="Cast", core="AI_VECTOR_CORE", dtype="FLOAT", ms=0.01 * step))
    sent = float(rng.uniform(0.1, 0.25)) * step
    parts = int(rng.integers(3, 6))
    ready = [math.ceil((0.4 + 0.45 * n / parts) * count) for n in range(parts)]
    buckets = [(place, sent / parts) for place in ready] + [(count, 0.008 * step)]
    habits = Habits(
        data_ms=float(rng.uniform(0.001, 0.01)) * step,
        prepare_ms=float(rng.uniform(0.001, 0.005)) * step,
        launch_ms=launch,
    )
    ranks = changes.pop("ranks", 0) or int(rng.integers(2, 6))
    facts = {
        "works": works, "habits": [habits] * ranks, "steps": int(rng.integers(8, 11)),
        "buckets": buckets, "mesh": bool(rng.integers(2)),
    }  # fmt: skip
    return Job(**{**facts, **changes})


def step_ms(job: Job) -> float:
    """Of a clean step, about."""
    return sum(max(work.ms, job.habits[0].launch_ms) for work in job.works)
