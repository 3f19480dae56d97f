"""A plain Chrome trace as the profile of a rank: of MindSpore on the CPU, or of another program."""

import re
from pathlib import Path

import numpy as np

from unet_dist.profiling.cut import remaining
from unet_dist.profiling.intervals import merged
from unet_dist.profiling.tables import NO_STEP, Kernels, RankProfile
from unet_dist.profiling.trace import Trace, Track, read_trace
from unet_dist.profiling.trace_tables import computing_of, timeline_of

COMPUTES = re.compile(r"Ascend Hardware|CPU OP|GPU \d|stream", re.IGNORECASE)
"""Processes, or threads of them, whose events are kernels."""
IS_COLLECTIVE = re.compile(r"hcom_|nccl|allreduce|all_reduce", re.IGNORECASE)
OPERATOR = re.compile(r"([A-Za-z][A-Za-z0-9]*)-op\d+$")
"""The end of MindSpore's names: ``Default/net/Conv2D-op12`` is a Conv2D."""
IS_NO_WORK = re.compile(r"EVENT_|PROFILING_|NOTIFY|Free$", re.IGNORECASE)


def read_chrome(path: Path, rank: int) -> RankProfile:
    """Raises UserError if it is no trace at all."""
    trace = read_trace(path)
    kernels, timeline = kernels_of(trace), timeline_of(trace)
    computing = computing_of(trace)
    if not len(computing):
        computing = merged(kernels.time_ns)
    missing = [trace.fault] if trace.fault else []
    if not len(computing):
        missing.append("no track of a device: nothing is said of computing")
    kernels = kernels.with_steps(timeline["steps"])
    if trace.is_cut:
        rest = remaining(
            timeline, kernels.time_ns, communicates=False, has_table=False,
            is_by_time=trace.is_by_time,
        )  # fmt: skip
        timeline["steps"] = rest.steps
        missing += [rest.told] if rest.told else []
    return RankProfile(
        rank=rank,
        source=str(path),
        format="chrome trace",
        kernels=kernels if len(kernels) else None,
        computing=computing,
        missing=tuple(missing),
        **timeline,
    )


def _computes(track: Track) -> bool:
    return bool(COMPUTES.search(track.process) or COMPUTES.search(track.thread))


def kernels_of(trace: Trace) -> Kernels:
    """The events on devices, by the names they have."""
    tracks = [track for track in trace.tracks if _computes(track)]
    texts = {"": 0, "unknown": 1}
    times, names = [np.empty((0, 2), np.int64)], [np.empty(0, np.int32)]
    for track in tracks:
        work = np.array(
            [not (IS_NO_WORK.search(n) or IS_COLLECTIVE.search(n)) for n in track.names], np.bool_
        )
        codes = np.array([texts.setdefault(name, len(texts)) for name in track.names], np.int32)
        inside = work[track.name]
        times.append(track.time_ns[inside])
        names.append(codes[track.name[inside]])
    time_ns, name = np.concatenate(times), np.concatenate(names)
    order = np.argsort(time_ns[:, 0], kind="stable")
    time_ns, name = time_ns[order], name[order]
    count = len(name)
    types = np.array([texts.setdefault(_type_of(t), len(texts)) for t in list(texts)], np.int32)
    return Kernels(
        time_ns=time_ns,
        step=np.full(count, NO_STEP, np.int64),
        name=name,
        type=types[name] if count else name,
        core=np.full(count, 1, np.int32),
        shapes=np.zeros(count, np.int32),
        dtypes=np.zeros(count, np.int32),
        texts=tuple(texts),
    )


def _type_of(name: str) -> str:
    found = OPERATOR.search(name)
    return found[1] if found else name
