"""The folder that MindSpore (``*_ascend_ms``) and torch_npu (``*_ascend_pt``) write of a rank, as
text; also that of simulated ranks. Columns and units are those of MindSpore 2.7 to 2.10 and of
torch_npu with CANN 7 to 9."""

import csv
import json
import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from unet_dist.errors import UserError
from unet_dist.profiling.cells import open_table
from unet_dist.profiling.chrome import kernels_of
from unet_dist.profiling.cut import by_tables, lost_kernels
from unet_dist.profiling.intervals import merged
from unet_dist.profiling.moments import ns_of_us, number_of
from unet_dist.profiling.operators import computing_rows
from unet_dist.profiling.roofline import SIGNATURE
from unet_dist.profiling.tables import (
    NO_STEP,
    Allocation,
    Kernels,
    MemoryCurve,
    RankProfile,
    Transfer,
    memory_curves,
)
from unet_dist.profiling.texts import Codes, plain
from unet_dist.profiling.trace import Trace, read_trace
from unet_dist.profiling.trace_tables import computing_of, divided, timeline_of
from unet_dist.runs import read_json

OUTPUT = "ASCEND_PROFILER_OUTPUT"
INFO = re.compile(r"profiler_info(?:_(\d{1,9}))?\.json")
RANK = re.compile(r"\d{1,9}")
LARGEST_JSON = 1 << 26
UNDERSTOOD = (
    csv.Error, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What a file raises that is not what its name says."""
NOT_DIVIDED = (
    "no pieces of collectives (profiler level 0): they are not divided into transfer and waiting"
)
NO_TRACE = Trace(tracks=(), tasks=(), names=(), fault="")

Found = TypeVar("Found")


@dataclass(kw_only=True)
class _Folder:
    """Reads one file after the other, and remembers what was missing."""

    path: Path
    missing: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    """What nobody asked the profiler for."""

    def read(
        self, name: str, reader: Callable[[Path, list[str]], Found], *, why: str
    ) -> Found | None:
        """What ``reader`` makes of a file; None if it is not there or cannot be understood.

        Args:
            why: what cannot be told without it; empty if nobody needs to know.
        """
        path = self.path / name
        if not path.is_file():
            if why:
                self.missing.append(f"no {name}: {why}")
            return None
        try:
            return reader(path, self.missing)
        except UserError as error:
            self.missing += [f"{name}: {fault}" for fault in error.faults]
        except json.JSONDecodeError as error:
            self.missing.append(
                f"{name}: is no whole JSON: it ends or is damaged in line {error.lineno}, at "
                f"character {error.colno}"
            )
        except OSError as error:
            self.missing.append(f"{name}: cannot be read: {error.strerror or error}")
        except UNDERSTOOD as error:
            self.missing.append(f"{name}: cannot be understood: {plain(repr(error)[:200])}")
        return None


def output_of(folder: Path) -> Path:
    """Where the files of a rank lie: below its folder, or, if they were copied, in it."""
    inner = folder / OUTPUT
    return inner if inner.is_dir() else folder


def read_text_folder(folder: Path, rank: int) -> RankProfile:
    """Whatever is there; what is not, or is damaged, is named in ``missing``."""
    reading = _Folder(path=output_of(folder))
    about = _about(folder, reading.missing)
    read = reading.read("trace_view.json", _trace, why="no timeline")
    trace = read or NO_TRACE
    table = reading.read("kernel_details.csv", _kernels, why="")
    if not (reading.path / "kernel_details.csv").exists():
        # On the CPU MindSpore writes none.
        is_cpu = bool(trace.tracks) and not trace.of("Ascend Hardware")
        lacks = reading.untold if is_cpu else reading.missing
        lacks.append("no kernel_details.csv: no shapes or counters of kernels")
    shown = kernels_of(trace) if table is None or trace.is_cut else None
    kernels = table if table is not None or shown is None or not len(shown) else shown
    told = reading.read("step_trace_time.csv", _step_times, why="") or {}
    split = reading.read("communication.json", _collectives, why="") or {}
    transfers = reading.read("communication_matrix.json", _transfers, why="") or []
    timeline = timeline_of(trace, split)
    collectives = timeline["collectives"]
    if collectives and not any(one.transfer_ns is not None for one in collectives):
        reading.untold.append(NOT_DIVIDED)
    memory = reading.read("memory_record.csv", _memory, why="") or []
    allocations = reading.read("operator_memory.csv", _allocations, why="") or []
    if not memory and not (reading.path / "memory_record.csv").exists():
        reading.untold.append("no memory_record.csv (profile_memory): nothing is said of memory")
    kernels = kernels and kernels.with_steps(timeline["steps"])
    timeline["computing"] = computing_of(trace)
    timeline["has_timeline"] = read is not None
    if read is None or trace.is_cut:
        by_tables(timeline, trace, table, shown, told, reading.missing)
    elif not len(timeline["computing"]) and kernels is not None:
        timeline["computing"] = merged(kernels.time_ns[computing_rows(kernels)])
    elif table is not None and (lost := lost_kernels(table, timeline["computing"])):
        timeline["is_cut"] = True
        reading.missing.append(lost)
    return RankProfile(
        rank=rank,
        source=str(folder),
        format="ascend text",
        simulated=about.get("simulated") is True,
        host=str(about.get("host", "")),
        world=world if isinstance(world := about.get("world"), int) else 0,
        kernels=kernels,
        transfers=tuple(transfers),
        memory=memory,
        allocations=allocations,
        told_steps=told,
        missing=tuple(reading.missing),
        untold=tuple(reading.untold),
        **timeline,
    )


def rank_of_folder(folder: Path) -> int | None:
    """As profiler_info_RANK.json says; None without one."""
    for path in sorted(folder.glob("profiler_info*.json")):
        named = INFO.fullmatch(path.name)
        if named and named[1]:
            return int(named[1])
    about = _about(folder, [])
    inner = about.get("ms_profiler_info")
    told = about.get("rank_id", inner.get("rank_id") if isinstance(inner, dict) else None)
    if RANK.fullmatch(str(told)):
        return int(str(told))
    # On the CPU MindSpore says it nowhere else.
    for path in sorted(folder.glob("FRAMEWORK/cpu_framework_*.txt")):
        if named := RANK.fullmatch(path.stem.removeprefix("cpu_framework_")):
            return int(named[0])
    return None


def _about(folder: Path, faults: list[str]) -> dict[str, Any]:
    for path in sorted(folder.glob("profiler_info*.json")):
        try:
            return read_json(path)
        except UserError as error:
            faults += [f"{path.name}: {fault}" for fault in error.faults]
        except RecursionError:
            faults.append(f"{path.name}: is nested too deeply")
    return {}


def _trace(path: Path, faults: list[str]) -> Trace:
    trace = read_trace(path)
    faults += [trace.fault] if trace.fault else []
    return trace


def _kernels(path: Path, faults: list[str]) -> Kernels:
    codes = Codes()
    numbers: dict[str, array[int]] = {
        name: array("q")
        for name in ("begin", "end", "step", "name", "type", "core", "shapes", "dtypes",
                     "signature")
    }  # fmt: skip
    with open_table(path, faults, key="Start Time(us)") as table:
        names = [c for c in table.columns if c.startswith(("aic", "aiv", "cube_", "memory_bound"))]
        counters = {name: array("f") for name in names}
        for row in table.rows():
            begin, duration = ns_of_us(row["Start Time(us)"]), ns_of_us(row["Duration(us)"])
            if begin is None or duration is None or duration < 0:
                table.torn += 1
                continue
            step = row["Step Id"]
            kind, core = row["Type"], row["Accelerator Core"]
            values = {
                "begin": begin,
                "end": begin + duration,
                "step": int(step) if step.isdigit() else NO_STEP,
                "name": codes(row["Name"]),
                "type": codes(kind if kind not in ("", "N/A") else row["Name"]),
                "core": codes(core if core not in ("", "N/A") else "unknown"),
                "shapes": codes(row["Input Shapes"].replace('"', "")),
                "dtypes": codes(row["Input Data Types"]),
                "signature": codes("|".join(row[c].replace('"', "") for c in SIGNATURE)),
            }
            for name, value in values.items():
                numbers[name].append(value)
            for name, counts in counters.items():
                counts.append(number_of(row[name]))
        if table.torn and not len(numbers["begin"]):
            raise ValueError("no row has a begin and a duration")
    order = np.argsort(np.array(numbers["begin"], np.int64), kind="stable")

    def column(name: str, kind: Any = np.int64) -> Any:
        return np.array(numbers[name], kind)[order]

    return Kernels(
        time_ns=np.column_stack([column("begin"), column("end")]).reshape(-1, 2),
        step=column("step"),
        name=column("name", np.int32),
        type=column("type", np.int32),
        core=column("core", np.int32),
        shapes=column("shapes", np.int32),
        dtypes=column("dtypes", np.int32),
        texts=codes.texts,
        counters={name: np.array(values)[order] for name, values in counters.items()},
        signature=column("signature", np.int32) if SIGNATURE[3] in table.columns else None,
    )


def _step_times(path: Path, faults: list[str]) -> dict[int, dict[str, float]]:
    found = {}
    with open_table(path, faults, key="Step") as table:
        for row in table.rows():
            step = row["Step"]
            number = int(step) if step.isdigit() else NO_STEP
            found[number] = {
                column: number_of(row[column])
                for column in table.columns
                if column not in ("Step", "Device_id")
            }
    return found


def _collectives(path: Path, _: list[str]) -> dict[str, Mapping[str, Any]]:
    """What communication.json says of each call, by its name without the group."""
    found: dict[str, Mapping[str, Any]] = {}
    for kinds in _json(path).values():
        for operations in kinds.values():
            for name, operation in operations.items():
                if not name.startswith("Total"):
                    divided([], operation, 0, 0)  # raises for what is none
                    found[name.partition("@")[0]] = operation
    return found


def _transfers(path: Path, _: list[str]) -> list[Transfer]:
    found = []
    for kinds in _json(path).values():
        for operations in kinds.values():
            for name, links in operations.items():
                if "-total@" not in name:
                    continue
                for pair, link in links.items():
                    source, _, target = pair.partition("-")
                    found.append(
                        Transfer(
                            source=int(source),
                            target=int(target),
                            link=plain(str(link["Transport Type"])),
                            sent_bytes=float(link["Transit Size(MB)"]) * 1e6,
                            duration_ns=float(link["Transit Time(ms)"]) * 1e6,
                            collective=plain(name.partition("@")[0]),
                        )
                    )
    return found


def _memory(path: Path, faults: list[str]) -> list[MemoryCurve]:
    rows: dict[str, list[tuple[int, float, float]]] = {}
    with open_table(path, faults, key="Timestamp(us)") as table:
        for row in table.rows():
            at = ns_of_us(row["Timestamp(us)"])
            if at is not None:
                numbers = (
                    number_of(row["Total Allocated(MB)"]),
                    number_of(row["Total Reserved(MB)"]),
                )
                rows.setdefault(plain(row["Component"]), []).append((at, *numbers))
    return memory_curves(rows)


def _allocations(path: Path, faults: list[str]) -> list[Allocation]:
    found = []
    with open_table(path, faults, key="Allocation Time(us)") as table:
        for row in table.rows():
            begin = ns_of_us(row["Allocation Time(us)"])
            if begin is not None:
                found.append(
                    Allocation(
                        operator=plain(row["Name"]),
                        size_kb=number_of(row["Size(KB)"]),
                        begin_ns=begin,
                        end_ns=ns_of_us(row["Release Time(us)"]),
                    )
                )
    return found


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"is larger than {LARGEST_JSON >> 20} MiB")
    tree = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    if not isinstance(tree, dict):
        raise ValueError("is no object")
    return tree
