"""Time and memory that `unet-dist profile analyze` takes for large traces that it makes itself.

    tools/bench_profile.py --mb 1000              # one rank, one core
    tools/bench_profile.py --mb 100 --ranks 64    # two workers
    tools/bench_profile.py --folders DIR... --beside ENVIRONMENT/bin/msprof-analyze

Of the analysis in a process of its own: seconds, megabytes a second, and the largest resident
memory of it and its workers together. With ``--beside``, those of msprof-analyze's advisor and
cluster analysis too, on a copy of the same folder, since they write into it.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from unet_dist.profiling.ascend_text import OUTPUT

STEP_NS = 100_000_000
KERNELS = 400
"""Of a step."""
ANALYZE = (sys.executable, "-m", "unet_dist", "profile", "analyze")
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty folder for the traces")
    parser.add_argument(
        "--folders", type=Path, nargs="+", help="real profiles in place of made ones"
    )
    parser.add_argument("--beside", type=Path, help="the program msprof-analyze")
    asked = parser.parse_args()
    if asked.folders:
        rows = [row for folder in asked.folders for row in compared(folder, asked.beside)]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="bench_profile_"))
    for rank in range(asked.ranks):
        write_rank(folder / f"rank{rank}_ascend_ms", rank, asked.mb * 1_000_000)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    run = measured([*ANALYZE, str(folder), "--json"])
    if not asked.keep:
        shutil.rmtree(folder)
    told = {
        "ranks": asked.ranks,
        "mb": round(size / 1e6),
        "seconds": round(run.seconds, 1),
        "mb_per_s": round(size / 1e6 / run.seconds, 1),
        "peak_mb": round(run.peak_mb),
        "verdict": json.loads(run.output)["verdict"],
    }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


def compared(folder: Path, beside: Path | None) -> list[dict[str, object]]:
    """A row for each program that analyses the folder."""
    programs = {"unet-dist profile analyze": [*ANALYZE, str(folder)]}
    with tempfile.TemporaryDirectory(prefix="bench_profile_") as scratch:
        copy = Path(shutil.copytree(folder, Path(scratch) / "profile"))
        if beside:
            # It refuses files that others may write, unless forced.
            there = ["-d", str(copy), "--force"]
            programs |= {
                "msprof-analyze advisor": [str(beside), "advisor", "all", "-l", "en", *there],
                "msprof-analyze cluster": [str(beside), "cluster", "-m", "all", *there],
            }
        rows = []
        for name, command in programs.items():
            runs = [measured(command, cwd=scratch) for _ in range(ROUNDS)]
            rows.append(
                {
                    "folder": folder.name,
                    "program": name,
                    "seconds": round(statistics.median(run.seconds for run in runs), 1),
                    "peak_mb": round(max(run.peak_mb for run in runs)),
                    "last_lines": runs[-1].output.splitlines()[-30:],
                }
            )
    return rows


@dataclass(frozen=True, kw_only=True)
class Measured:
    seconds: float
    peak_mb: float
    """Largest sum of the resident memory of the process and its children."""
    output: str


def measured(command: list[str], cwd: str | None = None) -> Measured:
    peak, page, started = 0.0, resource.getpagesize() / 1e6, time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, cwd=cwd)
        while process.poll() is None:
            total = 0
            for pid in (process.pid, *children(process.pid)):
                try:
                    total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except OSError:
                    continue
            peak = max(peak, total * page)
            time.sleep(0.2)
        seconds = time.monotonic() - started
        output.seek(0)
        return Measured(seconds=seconds, peak_mb=peak, output=output.read())


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def write_rank(folder: Path, rank: int, size: int) -> None:
    """A trace as an Ascend card's: kernels with their arguments, calls of the host, counters."""
    (folder / OUTPUT).mkdir(parents=True)
    (folder / f"profiler_info_{rank}.json").write_text(json.dumps({"rank_id": rank}))
    names = {1: "Python", 2: "CANN", 3: "Ascend Hardware", 4: "HCCL", 5: "Overlap Analysis"}
    heads = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
        for pid, name in names.items()
    ]
    heads += [
        {"ph": "M", "name": "thread_name", "pid": 5, "tid": 0, "args": {"name": "Computing"}},
        {"ph": "M", "name": "thread_name", "pid": 4, "tid": 0, "args": {"name": "Group 0 C"}},
    ]
    with (folder / OUTPUT / "trace_view.json").open("w") as file:
        file.write("[" + ",".join(json.dumps(head) for head in heads))
        step = 0
        while file.tell() < size:
            file.write("," + ",".join(step_events(step, rank)))
            step += 1
        file.write("]")


def step_events(step: int, rank: int) -> list[str]:
    begin = 1_736_412_474_000_000_000 + step * STEP_NS
    found = [event(f"ProfilerStep#{step}", 1, begin, STEP_NS - 1000)]
    for number in range(KERNELS):
        at = begin + 10_000_000 + number * 200_000
        more = {"Task Type": "KERNEL_AICORE", "Stream Id": 2, "Task Id": number, "Batch Id": 0}
        name = f"Default/network/down_{number % 5}/Conv2D-op{number % 97}"
        found += [
            event(
                "AscendCL@aclopCompileAndExecuteV2",
                2,
                at - 150_000,
                90_000,
                {"connection_id": number},
            ),
            event(name, 3, at, 150_000, {**more, "connection_id": number}),
            event("Computing", 5, at, 150_000),
        ]
    found.append(event(f"hcom_allReduce_{step}", 4, begin + 90_500_000 + 1000 * rank, 5_000_000))
    return found


def event(
    name: str, pid: int, at: int, length: int, more: "dict[str, object] | None" = None
) -> str:
    told = {"ph": "X", "name": name, "pid": pid, "tid": 0, "ts": f"{at // 1000}.{at % 1000:03d}",
            "dur": f"{length / 1000:.3f}"}  # fmt: skip
    return json.dumps({**told, "args": more} if more else told)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
