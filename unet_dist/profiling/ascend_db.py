"""The SQLite files that the profilers write of a rank in place of text, with times in nanoseconds:
``ascend_mindspore_profiler_RANK.db`` or ``ascend_pytorch_profiler_RANK.db``, ``analysis.db``."""

import contextlib
import math
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from unet_dist.errors import UserError
from unet_dist.profiling.ascend_text import NOT_DIVIDED
from unet_dist.profiling.intervals import merged, of_pairs
from unet_dist.profiling.operators import computing_rows
from unet_dist.profiling.sqlite_file import has_table, opened
from unet_dist.profiling.tables import (
    MOST_ROWS,
    NO_STEP,
    Allocation,
    Collective,
    Kernels,
    MemoryCurve,
    RankProfile,
    Step,
    Transfer,
    memory_curves,
)
from unet_dist.profiling.texts import MOST_CHARACTERS
from unet_dist.profiling.trace import CommunicationTask
from unet_dist.profiling.trace_tables import (
    DATA,
    WAITS,
    bubbles_of,
    divided,
    moving_tasks,
    step_at,
    times_of,
)

PROFILER = "ascend_*_profiler*.db"
ANALYSIS = "analysis.db"
MB = 1024.0 * 1024.0
COLUMNS = {
    "Computing": "computing",
    "Communication(Not Overlapped)": "communication_not_overlapped",
    "Overlapped": "overlapped",
    "Communication": "communication",
    "Free": "free",
    "Bubble": "bubble",
    "Preparing": "preparing",
}

Found = TypeVar("Found")


def profiler_db(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(PROFILER))), None)


def read_db_folder(folder: Path, output: Path, rank: int) -> RankProfile:
    """Whatever tables there are; what is missing is named.

    Raises:
        UserError: the file is no database.
    """
    path = profiler_db(output)
    assert path is not None
    missing, untold = list[str](), list[str]()
    with opened(path) as db:

        def table(reader: Callable[..., Found], *arguments: Any, why: str = "") -> Found | None:
            try:
                return reader(db, *arguments)
            except (sqlite3.Error, ValueError, TypeError, KeyError, OverflowError) as error:
                if why:
                    missing.append(f"{path.name}: {why} ({error})")
                return None

        texts = table(_texts, why="no names") or {}
        steps = table(_steps, why="no steps") or ()
        kernels = table(_kernels, texts, steps, why="no times of single kernels")
        tasks = table(_tasks, texts, why="") or []
        collectives = table(_collectives, texts, steps, tasks, why="no collectives") or ()
        memory = table(_memory, texts) or []
        allocations = table(_allocations, texts) or []
        data = table(_data_waits, texts)
    told, transfers = _analysed(output / ANALYSIS, missing, untold)
    untold += _not_asked_for(collectives, memory)
    computing = merged(kernels.time_ns[computing_rows(kernels)]) if kernels else merged()
    return RankProfile(
        rank=rank,
        source=str(folder),
        format="ascend db",
        steps=steps,
        kernels=kernels,
        computing=computing,
        communicating=times_of(collectives),
        transferring=times_of(moving_tasks(tasks)),
        awaiting=times_of([task for task in tasks if task.kind in WAITS]),
        bubbles=bubbles_of(collectives),
        data_waits=merged() if data is None else data,
        collectives=collectives,
        transfers=transfers,
        memory=memory,
        allocations=allocations,
        told_steps=told,
        missing=tuple(missing),
        untold=tuple(untold),
    )


def _not_asked_for(collectives: Sequence[Collective], memory: Sequence[MemoryCurve]) -> list[str]:
    found = []
    if collectives and not any(one.transfer_ns or one.wait_ns for one in collectives):
        found.append(NOT_DIVIDED)
    if not memory:
        found.append("no table MEMORY_RECORD (profile_memory): nothing is said of memory")
    return found


def read_analysis_alone(folder: Path, output: Path, rank: int, fault: UserError) -> RankProfile:
    """What the small file beside a database that cannot be read says of steps and links.

    Args:
        fault: of the database; raised again if there is nothing else.
    """
    missing = [f"{Path(fault.where).name}: {one}" for one in fault.faults]
    untold: list[str] = []
    told, transfers = _analysed(output / ANALYSIS, missing, untold)
    if not told:
        raise fault
    return RankProfile(
        rank=rank,
        source=str(folder),
        format="ascend db",
        transfers=transfers,
        told_steps=told,
        missing=tuple(missing),
        untold=tuple(untold),
        is_cut=True,
    )


def rank_of_db(path: Path) -> int | None:
    try:
        with opened(path) as db:
            found = db.execute("select rankId from RANK_DEVICE_MAP").fetchone()
    except (sqlite3.Error, UserError):
        return None
    return int(found[0]) if found and isinstance(found[0], int) and found[0] >= 0 else None


def _texts(db: sqlite3.Connection) -> dict[int, str]:
    found, characters = {}, 0
    for key, value in db.execute("select id, value from STRING_IDS limit ?", (MOST_ROWS,)):
        characters += len(str(value))
        if characters > MOST_CHARACTERS:
            raise ValueError("more text than fits into memory")
        found[int(key)] = str(value)
    return found


def _steps(db: sqlite3.Connection) -> tuple[Step, ...]:
    rows = db.execute("select id, startNs, endNs from STEP_TIME order by startNs limit 100000")
    return tuple(Step(number=int(i), begin_ns=int(b), end_ns=int(e)) for i, b, e in rows)


def _kernels(db: sqlite3.Connection, texts: dict[int, str], steps: Sequence[Step]) -> Kernels:
    counters: dict[int, dict[str, float]] = {}
    with contextlib.suppress(sqlite3.Error):  # a table of profiler levels 1 and 2
        for task, name, value in db.execute(
            "select globalTaskId, name, value from TASK_PMU_INFO limit ?", (20 * MOST_ROWS,)
        ):
            counters.setdefault(int(task), {})[texts.get(name, "")] = float(value)
    codes: dict[str, int] = {}

    def text_of(key: Any) -> str:
        return key if isinstance(key, str) else texts.get(key, "")

    def code(key: Any) -> int:
        return codes.setdefault(text_of(key), len(codes))

    rows = db.execute(
        "select t.startNs, t.endNs, t.globalTaskId, c.name, c.opType, c.taskType, c.inputShapes, "
        "c.inputDataTypes, c.inputFormats, c.outputShapes, c.outputDataTypes, c.outputFormats "
        "from COMPUTE_TASK_INFO c join TASK t using (globalTaskId) "
        "order by t.startNs limit ?",
        (MOST_ROWS,),
    ).fetchall()
    times = of_pairs((int(row[0]), int(row[1])) for row in rows)
    names = sorted({name for found in counters.values() for name in found if name})
    return Kernels(
        time_ns=times,
        step=np.full(len(rows), NO_STEP, np.int64),
        name=np.array([code(row[3]) for row in rows], np.int32),
        type=np.array([code(row[4]) for row in rows], np.int32),
        core=np.array([code(row[5]) for row in rows], np.int32),
        shapes=np.array([code(texts.get(row[6], "").replace('"', "")) for row in rows], np.int32),
        dtypes=np.array([code(row[7]) for row in rows], np.int32),
        signature=np.array(
            [code("|".join(text_of(c).replace('"', "") for c in row[6:])) for row in rows], np.int32
        ),
        texts=tuple(codes) or ("",),
        counters={
            name: np.array([counters.get(int(row[2]), {}).get(name, math.nan) for row in rows])
            for name in names
        },
    ).with_steps(steps)


def _tasks(db: sqlite3.Connection, texts: dict[int, str]) -> list[CommunicationTask]:
    links = dict(db.execute("select id, name from ENUM_HCCL_LINK_TYPE").fetchall())
    rows = db.execute(
        "select t.startNs, t.endNs, c.taskType, c.linkType, c.size from COMMUNICATION_TASK_INFO c "
        "join TASK t using (globalTaskId) limit ?",
        (MOST_ROWS,),
    )
    return [
        CommunicationTask(
            kind=texts.get(kind, str(kind)),
            begin_ns=int(begin),
            end_ns=int(end),
            link=str(links.get(link, link)),
            sent_bytes=float(size or 0),
        )
        for begin, end, kind, link, size in rows
    ]


def _collectives(
    db: sqlite3.Connection,
    texts: dict[int, str],
    steps: Sequence[Step],
    tasks: Sequence[CommunicationTask],
) -> tuple[Collective, ...]:
    found = []
    ordered = sorted(tasks, key=lambda task: task.begin_ns)
    for name, group, begin, end in db.execute(
        "select opName, groupName, startNs, endNs from COMMUNICATION_OP order by startNs limit ?",
        (MOST_ROWS,),
    ):
        transfer, wait, sent = divided(ordered, None, int(begin), int(end))
        found.append(
            Collective(
                name=texts.get(name, str(name)),
                group=texts.get(group, str(group)),
                step=step_at(steps, int(begin)),
                begin_ns=int(begin),
                end_ns=int(end),
                transfer_ns=transfer,
                wait_ns=wait,
                sent_bytes=sent,
            )
        )
    return tuple(found)


def _memory(db: sqlite3.Connection, texts: dict[int, str]) -> list[MemoryCurve]:
    points: dict[str, list[tuple[int, float, float]]] = {}
    rows = db.execute(
        "select component, timestamp, totalAllocated, totalReserved from MEMORY_RECORD "
        "order by timestamp limit ?",
        (MOST_ROWS,),
    )
    for component, at, allocated, reserved in rows:
        name = texts.get(component, str(component))
        points.setdefault(name, []).append((int(at), _mb(allocated), _mb(reserved)))
    return memory_curves(points)


def _allocations(db: sqlite3.Connection, texts: dict[int, str]) -> list[Allocation]:
    rows = db.execute(
        "select name, size, allocationTime, releaseTime from OP_MEMORY limit ?", (MOST_ROWS,)
    )
    return [
        Allocation(
            operator=texts.get(name, str(name)),
            size_kb=float(size) / 1024,
            begin_ns=int(begin),
            end_ns=None if end is None else int(end),
        )
        for name, size, begin, end in rows
        if begin is not None
    ]


def _data_waits(db: sqlite3.Connection, texts: dict[int, str]) -> Any:
    named = [key for key, text in texts.items() if DATA.search(text)]
    marks = ",".join("?" * len(named[:500]))
    rows = db.execute(
        f"select startNs, endNs from PYTORCH_API where name in ({marks}) limit ?",
        (*named[:500], MOST_ROWS),
    )
    return merged(of_pairs((int(begin), int(end)) for begin, end in rows))


def _analysed(
    path: Path, missing: list[str], untold: list[str]
) -> tuple[dict[int, dict[str, float]], list[Transfer]]:
    """The profiler's own table of steps, and its matrix of links."""
    if not path.is_file():
        missing.append(f"no {ANALYSIS}: no bandwidth of links")
        return {}, []
    told: dict[int, dict[str, float]] = {}
    transfers = []
    try:
        with opened(path) as db:
            db.row_factory = sqlite3.Row
            for row in db.execute("select * from StepTraceTime limit 100000"):
                step = str(row["step"])
                told[int(step) if step.isdigit() else NO_STEP] = {
                    name: float(row[column]) for name, column in COLUMNS.items()
                }
            if not has_table(db, "CommAnalyzerMatrix"):
                untold.append(f"{path.name}: no links (profiler level 0): no bandwidth of them")
                return told, []
            for row in db.execute(
                "select * from CommAnalyzerMatrix where hccl_op_name like '%-total' limit ?",
                (MOST_ROWS,),
            ):
                transfers.append(
                    Transfer(
                        source=int(row["src_rank"]),
                        target=int(row["dst_rank"]),
                        link=str(row["transport_type"]),
                        sent_bytes=float(row["transit_size"]) * 1e6,
                        duration_ns=float(row["transit_time"]) * 1e6,
                        collective=str(row["hccl_op_name"]),
                    )
                )
    except (sqlite3.Error, UserError, ValueError, TypeError, IndexError) as error:
        missing.append(f"{path.name}: cannot be understood: {error}")
    return told, transfers


def _mb(size: Any) -> float:
    return math.nan if size is None else float(size) / MB
