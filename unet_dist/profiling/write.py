"""Writes a profile in the layout of MindSpore's profiler (``*_ascend_ms``), as simulated ranks do:
every program that reads Ascend's profiles reads theirs, and what is simulated says so."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.intervals import Intervals, gaps, merged, without
from unet_dist.profiling.operators import by_type
from unet_dist.profiling.roofline import SIGNATURE
from unet_dist.profiling.steps import StepParts, step_parts
from unet_dist.profiling.tables import NO_STEP, Collective, Kernels, RankProfile
from unet_dist.runs import write_files_atomically

HOST, DEVICE, HCCL, OVERLAP = 1, 10, 11, 12
"""Process numbers of the trace."""
PLANE = 1


def write_text_folder(folder: Path, profile: RankProfile) -> None:
    """All files at once: a reader sees them complete, or not at all."""
    texts = {
        f"profiler_info_{profile.rank}.json": _json(_about(profile)),
        f"{OUTPUT}/trace_view.json": _json(list(trace_events(profile))),
        f"{OUTPUT}/step_trace_time.csv": _csv(map(_step_row, step_parts(profile))),
        f"{OUTPUT}/communication.json": _json(_communication(profile)),
        f"{OUTPUT}/communication_matrix.json": _json(_matrix(profile)),
    }
    if profile.kernels is not None:
        texts[f"{OUTPUT}/kernel_details.csv"] = _csv(_kernel_rows(profile.kernels))
        texts[f"{OUTPUT}/op_statistic.csv"] = _csv(_type_rows(profile.kernels))
    if profile.allocations:
        texts[f"{OUTPUT}/operator_memory.csv"] = _csv(_allocation_rows(profile))
    if profile.memory:
        texts[f"{OUTPUT}/memory_record.csv"] = _csv(_memory_rows(profile))
    write_files_atomically(
        {folder / name: text.encode() for name, text in texts.items()}, durable=False
    )


def _about(profile: RankProfile) -> dict[str, Any]:
    return {
        "rank_id": profile.rank,
        "simulated": profile.simulated,
        "host": profile.host,
        "world": profile.world,
        "ms_profiler_info": {"rank_id": profile.rank, "device_id": profile.rank},
    }


def trace_events(profile: RankProfile) -> Iterable[dict[str, Any]]:
    """Of a Chrome trace, as MindSpore's profiler lays it out."""
    for pid, name in (
        (HOST, "MindSpore"), (DEVICE, "Ascend Hardware"), (HCCL, "Communication"),
        (OVERLAP, "Overlap Analysis"),
    ):  # fmt: skip
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
    threads = [
        (HCCL, 0, "Group 0 Communication"), (HCCL, PLANE, "Plane 0"), (OVERLAP, 0, "Computing"),
        (OVERLAP, 1, "Communication"), (OVERLAP, 2, "Communication(Not Overlapped)"),
        (OVERLAP, 3, "Free"),
    ]  # fmt: skip
    for pid, tid, name in threads:
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}
    for step in profile.steps:
        yield _span(f"ProfilerStep#{step.number}", HOST, 0, step.begin_ns, step.end_ns)
    for begin, end in profile.data_waits.tolist():
        yield _span("data_wait", HOST, 0, begin, end)
    for name, intervals in (*profile.beside.items(), ("compile", profile.compiling)):
        for begin, end in intervals.tolist():
            yield _span(name, HOST, 0, begin, end)
    if profile.kernels is not None:
        names = profile.kernels.of(profile.kernels.name)
        for name, (begin, end) in zip(names, profile.kernels.time_ns.tolist(), strict=True):
            yield _span(name, DEVICE, 0, begin, end)
    for one in profile.collectives:
        yield _span(one.name, HCCL, 0, one.begin_ns, one.end_ns)
    for kind, intervals in (("Memcpy", profile.transferring), ("Notify_Wait", profile.awaiting)):
        for begin, end in intervals.tolist():
            task = _span(kind, HCCL, PLANE, begin, end)
            task["args"] = {
                "task type": kind, "transport type": "SDMA",
                "link type": "SIMULATED" if profile.simulated else "SDMA",
                "src rank": profile.rank, "dst rank": 0,
                "size(Byte)": 1 if kind == "Memcpy" else 0,
            }  # fmt: skip
            yield task
    yield from _overlap(profile)


def _overlap(profile: RankProfile) -> Iterable[dict[str, Any]]:
    busy = merged(profile.computing, profile.communicating)
    free = gaps(busy, int(busy[0, 0]), int(busy[-1, 1])) if len(busy) else busy
    lanes: Sequence[tuple[str, Intervals]] = (
        ("Computing", profile.computing),
        ("Communication", profile.communicating),
        ("Communication(Not Overlapped)", without(profile.communicating, profile.computing)),
        ("Free", free),
    )
    for tid, (name, intervals) in enumerate(lanes):
        for begin, end in intervals.tolist():
            yield _span(name, OVERLAP, tid, begin, end)


def _span(name: str, pid: int, tid: int, begin: int, end: int) -> dict[str, Any]:
    event = {"ph": "X", "name": name, "pid": pid, "tid": tid}
    return {**event, "ts": _us(begin), "dur": _us(end - begin)}


def _us(ns: int) -> str:
    """Microseconds with all nanoseconds, which a float cannot hold."""
    return f"{ns // 1000}.{ns % 1000:03d}"


def _step_row(parts: StepParts) -> dict[str, Any]:
    exposed = parts.exposed_ns
    device = parts.step_ns - parts.preparing_ns - parts.unattributed_ns
    return {
        "Step": "" if parts.step == NO_STEP else parts.step,
        "Computing": _us(parts.computing_ns),
        "Communication(Not Overlapped)": _us(exposed),
        "Overlapped": _us(parts.overlapped_ns),
        "Communication": _us(exposed + parts.overlapped_ns),
        "Free": _us(parts.free_ns + parts.data_ns),
        "Stage": _us(device - parts.bubble_ns),
        "Bubble": _us(parts.bubble_ns),
        "Communication(Not Overlapped and Exclude Receive)": _us(exposed - parts.bubble_ns),
        "Preparing": _us(parts.preparing_ns),
    }


def _kernel_rows(kernels: Kernels) -> Iterable[dict[str, Any]]:
    columns = {
        "Name": kernels.of(kernels.name),
        "Type": kernels.of(kernels.type),
        "Accelerator Core": kernels.of(kernels.core),
        "Input Shapes": kernels.of(kernels.shapes),
        "Input Data Types": kernels.of(kernels.dtypes),
    }
    signatures = [] if kernels.signature is None else kernels.of(kernels.signature)
    last_end = None
    for place, (begin, end) in enumerate(kernels.time_ns.tolist()):
        wait, last_end = 0 if last_end is None else max(0, begin - last_end), end
        step = int(kernels.step[place])
        if signatures:
            shapes = dict(zip(SIGNATURE, signatures[place].split("|"), strict=True))
        else:
            shapes = {name: columns[name][place] for name in SIGNATURE[:2]}
        yield {
            "Step Id": "" if step == NO_STEP else step,
            "Name": columns["Name"][place],
            "Type": columns["Type"][place],
            "Accelerator Core": columns["Accelerator Core"][place],
            # A tabulator keeps spreadsheets from rounding it.
            "Start Time(us)": f"{_us(begin)}\t",
            "Duration(us)": _us(end - begin),
            "Wait Time(us)": _us(wait),
            "Block Num": 1,
            **shapes,
            **{name: repr(float(values[place])) for name, values in kernels.counters.items()},
        }


def _type_rows(kernels: Kernels) -> Iterable[dict[str, Any]]:
    for group in by_type(kernels):
        yield {
            "OP Type": group.name,
            "Core Type": group.core,
            "Count": group.count,
            "Total Time(us)": _us(group.total_ns),
            "Avg Time(us)": _us(group.total_ns // group.count),
            "Max Time(us)": _us(group.longest_ns),
            "Ratio(%)": f"{100 * group.share:.3f}",
        }


def _memory_rows(profile: RankProfile) -> Iterable[dict[str, Any]]:
    for curve in profile.memory:
        points = zip(
            curve.at_ns.tolist(), curve.allocated_mb.tolist(), curve.reserved_mb.tolist(),
            strict=True,
        )  # fmt: skip
        for at, allocated, reserved in points:
            yield {
                "Component": curve.component,
                "Timestamp(us)": f"{_us(at)}\t",
                "Total Allocated(MB)": allocated,
                "Total Reserved(MB)": reserved,
                "Total Active(MB)": allocated,
                "Device Type": f"simulated:{profile.rank}" if profile.simulated else "NPU:0",
            }


def _allocation_rows(profile: RankProfile) -> Iterable[dict[str, Any]]:
    for one in profile.allocations:
        yield {
            "Name": one.operator,
            "Size(KB)": one.size_kb,
            "Allocation Time(us)": f"{_us(one.begin_ns)}\t",
            "Release Time(us)": "" if one.end_ns is None else f"{_us(one.end_ns)}\t",
            "Device Type": f"simulated:{profile.rank}" if profile.simulated else "NPU:0",
        }


def _communication(profile: RankProfile) -> dict[str, Any]:
    steps: dict[str, dict[str, Any]] = {}
    for one in profile.collectives:
        of_step = steps.setdefault(f"step{_number(one)}", {"p2p": {}, "collective": {}})
        of_step["collective"][f"{one.name}@{one.group or '0'}"] = _operation(one)
    return steps


def _operation(one: Collective) -> dict[str, Any]:
    transfer, wait = (one.transfer_ns or 0) / 1e6, (one.wait_ns or 0) / 1e6
    elapse, size = one.duration_ns / 1e6, (one.sent_bytes or 0) / 1e6
    link = {
        "Transit Size(MB)": size,
        "Transit Time(ms)": transfer,
        "Bandwidth(GB/s)": size / transfer if transfer else 0,
        "Large Packet Ratio": 0,
        "Size Distribution": {str(size): [1, transfer]} if size else {},
    }
    nothing: dict[str, Any] = {**dict.fromkeys(link, 0), "Size Distribution": {}}
    return {
        "Communication Time Info": {
            "Start Timestamp(us)": one.begin_ns / 1000,
            "Elapse Time(ms)": elapse,
            "Transit Time(ms)": transfer,
            "Wait Time(ms)": wait,
            "Synchronization Time(ms)": wait,
            "Idle Time(ms)": max(0.0, elapse - transfer - wait),
            "Wait Time Ratio": wait / (wait + transfer) if wait + transfer else 0,
            "Synchronization Time Ratio": wait / (wait + transfer) if wait + transfer else 0,
        },
        "Communication Bandwidth Info": {
            "RDMA": nothing, "HCCS": link, "PCIE": nothing, "SDMA": link, "SIO": nothing,
        },
    }  # fmt: skip


def _matrix(profile: RankProfile) -> dict[str, Any]:
    links = {
        f"{one.source}-{one.target}": {
            "Transport Type": one.link,
            "Transit Size(MB)": one.sent_bytes / 1e6,
            "Transit Time(ms)": one.duration_ns / 1e6,
            "Bandwidth(GB/s)": one.sent_bytes / one.duration_ns if one.duration_ns else 0,
            "op_name": one.collective,
        }
        for one in profile.transfers
    }
    steps = {f"step{_number(one)}" for one in profile.collectives} or {"step"}
    first = min(steps)
    return {
        step: {"p2p": {}, "collective": {"allreduce-total@0": links} if step == first else {}}
        for step in sorted(steps)
    }


def _number(one: Collective) -> str:
    return "" if one.step == NO_STEP else str(one.step)


def _json(tree: Any) -> str:
    return json.dumps(tree, separators=(",", ":")) + "\n"


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    listed = list(rows)
    text = io.StringIO()
    if listed:
        writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(listed)
    return text.getvalue()
