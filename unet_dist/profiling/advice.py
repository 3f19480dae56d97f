"""What to change, by what the profile shows: each rule says what it saw, what it is worth, and what
would prove it wrong. The most valuable comes first."""

import math
from collections.abc import Callable, Iterator, Sequence

from unet_dist.profiling.seen import Advice, Seen
from unet_dist.profiling.stalls import STALLS, by_cause, stall_evidence
from unet_dist.profiling.uneven import UNEVEN

LEAST_SHARE = 0.03
"""Of a step: what gains less is not worth a change."""
TINY_SHARE = 0.5
"""Of all kernels shorter than 10 us: with more of them the work is too small, whatever the host."""
WASTED = 0.2
"""Of reserved memory that nothing uses."""
SHOWN_RANKS = 8
OFTEN = 0.5
"""Changes of the pool in a step from which they are no warm-up."""


def advise(seen: Seen) -> list[Advice]:
    """Those worth it, the largest gain first; those of no known gain last."""
    step = seen.parts["step"]
    found = [advice for rule in RULES for advice in rule(seen)]
    worth = [a for a in found if math.isnan(a.gain_ns) or a.gain_ns >= LEAST_SHARE * step]
    return sorted(worth, key=lambda a: -1.0 if math.isnan(a.gain_ns) else -a.gain_ns)


def _late_ranks(seen: Seen) -> Iterator[Advice]:
    remedies = {
        "host": "look what else runs on that host, and leave --bind-cores on",
        "data": "train.prefetch, data.cache_mb, and where its images lie; where the loaders of all "
        "ranks are as slow, the one that began last looks late",
        "compute": "look at the card's clock and temperature (npu-smi info), and start without it",
        "unknown": "profile longer (--profile steps=A:B) to see what it does meanwhile",
    }
    for cause in dict.fromkeys(late.cause for late in seen.stragglers):
        found = [late for late in seen.stragglers if late.cause == cause]
        several = len(found) > 1
        shown = _listed([late.rank for late in found])
        evidence = [
            f"rank {late.rank}: {late.evidence}" if several else late.evidence
            for late in found[:SHOWN_RANKS]
        ]
        if others := _listed([late.rank for late in seen.stragglers if late.cause != cause]):
            evidence.append(f"late as well: {others}; what only all of them gain is divided evenly")
        yield Advice(
            rule="late_rank",
            what=f"{f'ranks {shown} make' if several else f'rank {shown} makes'} the others wait "
            f"({cause})",
            gain_ns=sum(late.cost_ns for late in found),
            evidence=tuple(evidence),
            setting=remedies[cause],
            disproof="another rank is as late in the next profile",
        )


def _listed(ranks: Sequence[int]) -> str:
    more = ", ..." if len(ranks) > SHOWN_RANKS else ""
    return ", ".join(map(str, ranks[:SHOWN_RANKS])) + more


def _uneven(seen: Seen) -> Iterator[Advice]:
    """Who is late changes, so no rank is to blame."""
    if seen.uneven is not None and seen.uneven.cause == "data":
        return  # of which the advice on input tells
    if seen.uneven is not None:
        yield Advice(
            rule="uneven",
            what="ranks wait for each other, each time for another one: their steps are of unequal "
            f"length ({seen.uneven.cause})",
            gain_ns=seen.uneven.cost_ns,
            evidence=seen.uneven.evidence,
            setting=UNEVEN[seen.uneven.cause],
            disproof="a longer profile names one rank that is late all the time",
        )
    elif not seen.absent:
        yield Advice(
            rule="unnamed_wait",
            what="ranks wait for others, and nothing tells for which",
            gain_ns=seen.parts["waiting"] - _slow_link_ns(seen),
            evidence=(f"{_ms(seen.parts['waiting'])} of a step wait for signals of other ranks",),
            setting="profile all ranks (--profile-ranks all) and more steps (--profile steps=A:B): "
            "from 3 collectives that all have in common the late one is named",
            disproof="all ranks wait as long",
        )


def _late_ns(seen: Seen) -> float:
    """What waiting is explained by ranks that come late."""
    uneven = seen.uneven.cost_ns if seen.uneven else 0.0
    return sum(late.cost_ns for late in seen.stragglers) + uneven


def _absent_ranks(seen: Seen) -> Iterator[Advice]:
    """What is waited for without a culprit among the profiled."""
    if not seen.absent:
        return
    yield Advice(
        rule="absent_rank",
        what=f"these ranks wait for others that have no profile (among {_listed(seen.absent)})",
        gain_ns=seen.parts["waiting"] - _late_ns(seen),
        evidence=(f"{_ms(seen.parts['waiting'])} of a step wait for signals of other ranks",),
        setting="profile all ranks (--profile-ranks all), which names the late one",
        disproof="all ranks wait as long",
    )


def _undivided(seen: Seen) -> Iterator[Advice]:
    """The largest part of a step must not stay without a word."""
    yield Advice(
        rule="undivided",
        what="the profile does not tell whether ranks communicate or wait for each other",
        gain_ns=seen.undivided_ns - _late_ns(seen),
        evidence=(f"{_ms(seen.undivided_ns)} of a step are communication without its pieces",),
        setting="profile all ranks (--profile-ranks all), on cards at profiler level 1",
        disproof="the profile of all ranks shows as little waiting",
    )


def _data(seen: Seen) -> Iterator[Advice]:
    uneven = seen.uneven.evidence if seen.uneven and seen.uneven.cause == "data" else ()
    yield Advice(
        rule="data",
        what="the device waits for its input",
        gain_ns=seen.data_ns - sum(one.cost_ns for one in seen.stragglers if one.cause == "data"),
        evidence=(f"{_ms(seen.data_ns)} of a step without work and without an image", *uneven),
        setting="train.prefetch=4, data.cache_mb as large as the images, or smaller augment.*",
        disproof="a run with its images cached (second epoch) is as slow",
    )


def _beside(seen: Seen) -> Iterator[Advice]:
    remedies = {
        "validation": "evaluate.every_epochs larger, fewer validation images, evaluate.tta=none",
        "checkpoint": "checkpoint.every_epochs larger, or a faster disk for the run folder",
    }
    for name, ns in seen.beside.items():
        yield Advice(
            rule=name,
            what=f"training waits for the {name}",
            gain_ns=ns,
            evidence=(f"{_ms(ns)} of a step, in the mean over the profile",),
            setting=remedies.get(name, "do it less often"),
            disproof="the profile happened to hold the only one",
        )


def _slow_link_ns(seen: Seen) -> float:
    """What of exposed communication would go if the slowest link were as fast as others of its
    kind: all links of a ring wait for it, so the ranks beside others see it as waiting."""
    if not seen.slow_links:
        return 0.0
    link, usual = seen.slow_links[0]
    exposed = seen.parts["transfer"]
    if not seen.absent:
        exposed += max(0.0, seen.parts["waiting"] - _late_ns(seen))
    whole = exposed + seen.hidden_transfer_ns
    return min(exposed, whole * (1 - link.gb_per_s / usual))


def _exposed(seen: Seen) -> Iterator[Advice]:
    # What would stay exposed if each kernel came as soon as it could.
    moved = seen.parts["transfer"] - _slow_link_ns(seen)
    if seen.memory is not None:
        moved -= seen.memory.churn.sending_ns
    if seen.launches is not None:
        moved -= seen.launches.sending_ns
    moved = max(0.0, moved)
    hidden = seen.parts["overlapped"] / max(1.0, seen.parts["overlapped"] + moved)
    yield Advice(
        rule="exposed_transfer",
        what="gradients travel while nothing is computed",
        gain_ns=min(moved, seen.parts["computing"] / 2),
        evidence=(f"{_ms(moved)} of transfer is exposed, {hidden:.0%} of it is hidden",),
        setting="fewer and larger steps: train.accumulation=2; in MindSpore's data parallel mode "
        "all_reduce_fusion_config, to hide parts; HCCL_BUFFSIZE (MB) above the largest message",
        disproof="the same step on one card takes as long",
    )


def _host(seen: Seen) -> Iterator[Advice]:
    if seen.launches is None or not seen.launches.kernels:
        return
    tiny = seen.launches.tiny / seen.launches.kernels
    sending = seen.launches.sending_ns
    idle = min(seen.parts["free"], float(seen.launches.gaps_ns - sending)) + sending
    if seen.memory is not None:
        idle = max(0.0, idle - seen.memory.churn.stalled_ns)
    evidence = (
        f"{_ms(idle)} of a step lie between kernels, the longest of all steps before "
        f"{seen.launches.largest_gap_before} ({_ms(seen.launches.largest_gap_ns)})",
        f"{tiny:.0%} of {seen.launches.kernels} kernels are shorter than 10 us",
    )
    if tiny > TINY_SHARE:
        yield Advice(
            rule="tiny_kernels",
            what="a step has too little work: its kernels are shorter than their launch takes",
            gain_ns=idle,
            evidence=evidence,
            setting="larger train.batch or augment.crop, then graph kernel fusion "
            "(enable_graph_kernel)",
            disproof="twice the batch takes twice as long",
        )
        return
    yield Advice(
        rule="host_bound",
        what="the host launches kernels later than the device could run them",
        gain_ns=idle,
        evidence=evidence,
        setting="leave --bind-cores on, look what else runs there, keep Python's work between "
        "operators in one graph; larger train.batch; of Model.train dataset_sink_mode, sink_size",
        disproof="twice the batch takes twice as long",
    )


def _idle(seen: Seen) -> Iterator[Advice]:
    """Of profiles without kernels, such as the table of a cluster."""
    free = seen.parts["free"]
    if seen.launches is None and free >= LEAST_SHARE * seen.parts["step"] > 0:
        yield Advice(
            rule="untold_idle",
            what="the device idles, and the profile does not tell for what",
            gain_ns=math.nan,
            evidence=(f"{_ms(free)} of a step, {free / seen.parts['step']:.0%} of it",),
            setting="profile some steps with their timeline (--profile steps=A:B), which tells "
            "late launches, input, and late ranks apart",
            disproof="the timeline shows a device that is busy",
        )


def _layout(seen: Seen) -> Iterator[Advice]:
    named = [group for group in seen.types if group.name in ("TransData", "Cast", "TensorMove")]
    yield Advice(
        rule="layout",
        what="time goes into turning tensors from one layout or number format into another",
        gain_ns=seen.layout_ns,
        evidence=tuple(f"{g.name}: {_ms(g.total_ns)} in {g.count} kernels" for g in named),
        setting="channels that are multiples of 16 (model.width=16, 32, ...), and one number "
        "format from the image to the loss (train.amp)",
        disproof="model.width=16 shows as many TransData",
    )


def _float32(seen: Seen) -> Iterator[Advice]:
    if seen.amp not in ("", "off") or seen.simulated:
        return
    yield Advice(
        rule="float32",
        what="convolutions run in float32",
        gain_ns=seen.float32_ns / 2,
        evidence=(f"{_ms(seen.float32_ns)} of a step in float32 on the cube unit",),
        setting="train.amp=fp16 (910A) or bf16 (910B)",
        disproof="the loss with train.amp differs by more than from seed to seed",
    )


def _aicpu(seen: Seen) -> Iterator[Advice]:
    groups = [group for group in seen.types if "AI_CPU" in group.core.upper()]
    if groups:
        yield Advice(
            rule="ai_cpu",
            what="operators run on the card's slow CPU",
            gain_ns=float(sum(group.total_ns for group in groups)),
            evidence=tuple(f"{g.name}: {_ms(g.total_ns)} in {g.count} kernels" for g in groups[:5]),
            setting="other operators, or other number formats, for these",
            disproof="they are gone and the step takes as long",
        )


def _links(seen: Seen) -> Iterator[Advice]:
    if not seen.slow_links:
        return
    slowest, _ = seen.slow_links[0]
    yield Advice(
        rule="slow_link",
        what=f"the {slowest.kind} link from rank {slowest.source} to {slowest.target} is slow",
        gain_ns=_slow_link_ns(seen),
        evidence=tuple(
            f"{link.source} to {link.target}: {link.gb_per_s:.1f} GB/s, others of its kind "
            f"{usual:.1f}"
            for link, usual in seen.slow_links[:3]
        ),
        setting="look at the card and its slot (hccn_tool), and start without it",
        disproof="the link is as fast as others in the next profile",
    )


def _stalls(seen: Seen) -> Iterator[Advice]:
    for rule, found in by_cause(seen.stalls).items():
        what, setting, disproof = STALLS[rule]
        yield Advice(
            rule=rule,
            what=what,
            gain_ns=sum(one.excess_ns for one in found) / max(1, seen.num_steps),
            evidence=stall_evidence(found),
            setting=setting,
            disproof=disproof,
        )


def _memory(seen: Seen) -> Iterator[Advice]:
    memory = seen.memory
    if memory is None:
        return
    if memory.churn.resizes >= OFTEN:
        churn = memory.churn
        yield Advice(
            rule="memory_churn",
            what="the device waits while its memory is given back and asked for again",
            gain_ns=churn.stalled_ns,
            evidence=(
                f"the pool grows or shrinks {churn.resizes:.1f} times in a step, and the device "
                f"idles {_ms(churn.stalled_ns)} meanwhile",
                f"{churn.allocations:.0f} allocations and {churn.frees:.0f} frees in a step",
            ),
            setting="mindspore.runtime.set_memory(init_size=..., increase_size=...) as large as "
            "the peak, batches of one size, and no empty_cache() between steps",
            disproof="reserved memory is flat in the next profile, and the step takes as long",
        )
    if memory.growth_mb > 0:
        yield Advice(
            rule="memory_grows",
            what="memory grows from step to step",
            gain_ns=math.nan,
            evidence=(f"{memory.growth_mb:.0f} MB more at the end of the last step",),
            setting="look for what keeps tensors of each step, such as a list of losses",
            disproof="a longer profile ends at the same memory",
        )
    if memory.gap_share > WASTED:
        yield Advice(
            rule="memory_reserved",
            what="much memory is reserved that no tensor uses",
            gain_ns=math.nan,
            evidence=(
                f"tensors never take {memory.gap_share:.0%} of the {memory.peak_reserved_mb:.0f} "
                "MB that are reserved",
            ),
            setting="mindspore.runtime.set_memory(init_size=..., increase_size=...), or batches of "
            "one size",
            disproof="the same without the first step",
        )


RULES: Sequence[Callable[[Seen], Iterator[Advice]]] = (
    _late_ranks, _uneven, _absent_ranks, _undivided, _data, _beside, _exposed, _host, _idle,
    _layout, _float32, _aicpu, _links, _stalls, _memory,
)  # fmt: skip


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.2f} ms"
