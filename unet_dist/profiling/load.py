"""Finds the profiles of ranks below folders, and reads each in its format."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from unet_dist.errors import UserError
from unet_dist.profiling.ascend_db import (
    ANALYSIS,
    profiler_db,
    rank_of_db,
    read_analysis_alone,
    read_db_folder,
)
from unet_dist.profiling.ascend_text import (
    OUTPUT,
    output_of,
    rank_of_folder,
    read_text_folder,
)
from unet_dist.profiling.cells import open_table
from unet_dist.profiling.chrome import read_chrome
from unet_dist.profiling.moments import number_of
from unet_dist.profiling.tables import NO_STEP, RankProfile

CLUSTER_TABLE = "cluster_step_trace_time.csv"
TABLES = (".csv", ".db")
TRACES = (".json", ".json.gz")
LARGE_BYTES = 100 << 20
"""Of all profiles: below it a second process would cost more than it saves."""
WORKERS = 2
SHOWN_CAPTURES = 4
DEPTH = 6
"""Folders below a given one that are looked into."""


CAPTURE = re.compile(r"step_(\d+)")
"""Folders of captures of one run (``RunDir.profile``)."""


@dataclass(frozen=True, kw_only=True)
class Found:
    path: Path
    kind: str
    """folder, trace or table."""
    rank: int | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is read of what lies below some folders."""

    found: tuple[Found, ...]
    """In the order of ranks; those without a known one by name."""
    note: str
    """Which of several captures that is; empty with one."""


def find_profiles(paths: Sequence[Path]) -> tuple[Found, ...]:
    """Those of ``choose_capture``."""
    return choose_capture(paths).found


def choose_capture(paths: Sequence[Path]) -> Choice:
    """All profiles below, but of several captures of a run the newest: ranks of different ones
    would be compared as if they had run beside each other.

    Raises:
        UserError: a path is not there, or none holds a profile.
    """
    faults = [f"{path}: there is no such file or folder" for path in paths if not path.exists()]
    if faults:
        raise UserError("DIR", faults)
    found: list[Found] = []
    for path in map(_folder_of, paths):
        found += _below(path) if path.is_dir() else [_file(path)]
    unique = {one.path.resolve(): one for one in found}
    if not unique:
        shown = ", ".join(map(str, paths))
        raise UserError(
            "DIR",
            f"{shown}: no profile is below; it is a folder with {OUTPUT}/, a Chrome trace, or "
            f"{CLUSTER_TABLE}",
        )
    captures: dict[int, list[Found]] = {}
    folders: dict[int, Path] = {}
    for one in unique.values():
        step, folder = _capture_of(one)
        captures.setdefault(step, []).append(one)
        folders.setdefault(step, folder)
    newest = sorted(captures[max(captures)], key=_order)
    return Choice(found=tuple(newest), note=_note_of([folders[step] for step in sorted(folders)]))


def _order(one: Found) -> tuple[bool, int, str]:
    return one.rank is None, one.rank or 0, str(one.path)


def _capture_of(found: Found) -> tuple[int, Path]:
    """Its first step, and its folder. By name, since copies of several servers keep no times; -1
    outside of one."""
    for folder in found.path.absolute().parents:
        match = CAPTURE.fullmatch(folder.name)
        if match:
            depth = len(found.path.absolute().parts) - len(folder.parts)
            return int(match[1]), Path(*found.path.parts[:-depth])
    return -1, found.path.parent


def _note_of(folders: Sequence[Path]) -> str:
    if len(folders) < 2:
        return ""
    *others, newest = folders
    shown = ", ".join(map(str, others[-SHOWN_CAPTURES:]))
    more = f" and {len(others) - SHOWN_CAPTURES} before" if len(others) > SHOWN_CAPTURES else ""
    return (
        f"of {len(folders)} captures the newest is read, {newest}; name another one to read it: "
        f"{shown}{more}"
    )


def _folder_of(path: Path) -> Path:
    """Who names the folder of files, or a table in it, means the rank's folder."""
    is_table = path.is_file() and path.suffix in TABLES and path.name != CLUSTER_TABLE
    if is_table:
        path = path.parent
    return path.resolve().parent if path.resolve().name == OUTPUT else path


def read_profiles(found: Sequence[Found]) -> list[RankProfile]:
    """Large ones two at a time. Ranks that cannot be read at all raise UserError only if there is
    no other."""
    taken = {one.rank for one in found if one.rank is not None}
    free = (number for number in range(len(found) + len(taken)) if number not in taken)
    tasks = [(one, next(free) if one.rank is None else one.rank) for one in found]
    if len(found) > 1 and sum(map(_size, found)) > LARGE_BYTES:
        with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
            results = list(pool.map(_read_or_fault, tasks))
    else:
        results = list(map(_read_or_fault, tasks))
    profiles = [profile for read, _ in results for profile in read]
    faults = [fault for _, told in results for fault in told]
    if not profiles:
        raise UserError("DIR", faults)
    if faults:
        first = profiles[0]
        profiles[0] = replace(first, missing=(*first.missing, *faults))
    return _without_doubles(profiles)


def _read_or_fault(task: tuple[Found, int]) -> tuple[list[RankProfile], list[str]]:
    try:
        return [packed(profile) for profile in read_profile(*task)], []
    except UserError as error:
        return [], [f"{error.where}: {fault}" for fault in error.faults]


def packed(profile: RankProfile) -> RankProfile:
    kernels = profile.kernels
    return profile if kernels is None else replace(profile, kernels=kernels.packed())


def _size(found: Found) -> int:
    path = output_of(found.path) if found.kind == "folder" else found.path
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def read_profile(found: Found, rank: int) -> list[RankProfile]:
    if found.kind == "folder":
        output = output_of(found.path)
        # Of both the text has more: its trace tells the host's side.
        if profiler_db(output) is not None and not (output / "trace_view.json").exists():
            try:
                return [read_db_folder(found.path, output, rank)]
            except UserError as error:
                return [read_analysis_alone(found.path, output, rank, error)]
        if (output / ANALYSIS).is_file() and not any(map(os.path.exists, _texts_of(output))):
            gone = UserError(
                str(output / "ascend_*_profiler_RANK.db"), "is gone: no timeline, and no kernels"
            )
            return [read_analysis_alone(found.path, output, rank, gone)]
        return [read_text_folder(found.path, rank)]
    if found.kind == "trace":
        return [read_chrome(found.path, rank)]
    return read_cluster_table(found.path)


def _texts_of(output: Path) -> list[Path]:
    return [output / "trace_view.json", output / "kernel_details.csv"]


def read_cluster_table(path: Path) -> list[RankProfile]:
    """All ranks of the table that MindStudio writes of a cluster; it has no timelines."""
    rows: dict[int, dict[int, dict[str, float]]] = {}
    faults: list[str] = []
    try:
        with open_table(path, faults, key="Type") as table:
            columns = [c for c in table.columns if c not in ("Step", "Type", "Index")]
            for row in table.rows():
                if row["Type"] == "rank" and row["Index"].isdigit():
                    step = int(row["Step"]) if row["Step"].isdigit() else NO_STEP
                    numbers = {column: number_of(row[column]) for column in columns}
                    rows.setdefault(int(row["Index"]), {})[step] = numbers
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror or error}") from error
    if not rows:
        raise UserError(str(path), "has no row of Type rank")
    return [
        RankProfile(
            rank=rank,
            source=str(path),
            format="cluster table",
            told_steps=steps,
            missing=tuple(faults),
            untold=("the table has no timeline: who is late, and why, is told by its sums alone",),
        )
        for rank, steps in sorted(rows.items())
    ]


def _below(folder: Path) -> list[Found]:
    found, loose = list[Found](), list[Found]()
    for place, folders, files in os.walk(folder):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if depth < DEPTH and not f.startswith("."))
        if OUTPUT in folders:
            found.append(Found(path=here, kind="folder", rank=_rank_of(here)))
            folders.remove(OUTPUT)
            continue
        if CLUSTER_TABLE in files:
            found.append(Found(path=here / CLUSTER_TABLE, kind="table", rank=None))
        elif "kernel_details.csv" in files or profiler_db(here) is not None:
            loose.append(Found(path=here, kind="folder", rank=_rank_of(here)))
    if any(one.kind == "folder" for one in found):
        # The table beside folders says the same of them, with less.
        return [one for one in found if one.kind == "folder"]
    found = found or loose
    if not found:
        found = [
            Found(path=path, kind="trace", rank=None)
            for path in sorted(folder.iterdir())
            if path.name.endswith(TRACES) and "trace" in path.name.lower()
        ]
    return found


def _rank_of(folder: Path) -> int | None:
    rank = rank_of_folder(folder)
    database = profiler_db(output_of(folder))
    return rank_of_db(database) if rank is None and database is not None else rank


def _file(path: Path) -> Found:
    kind = "table" if path.suffix == ".csv" else "trace"
    return Found(path=path, kind=kind, rank=None)


def _without_doubles(profiles: Sequence[RankProfile]) -> list[RankProfile]:
    """Two captures of one rank are not one: the later one is read."""
    by_rank: dict[int, RankProfile] = {}
    for profile in profiles:
        if profile.rank in by_rank:
            left_out = by_rank[profile.rank].source
            note = f"{left_out} is of rank {profile.rank} too, and left out: name one capture"
            profile = replace(profile, missing=(*profile.missing, note))
        by_rank[profile.rank] = profile
    return [by_rank[rank] for rank in sorted(by_rank)]
