"""A rank that computes nothing, but takes its time as a training does: for ``check_scaling.py``
and the tests of profiles.

It waits for images, computes for so long for each, sums gradients with the other ranks by MPI, and
is profiled by the program's own capture.

    unet-dist launch --simulate 4 --run X -- python tools/light_rank.py X --phases data=60 late=2:60

profiles some steps in which images come 60 ms late, then some in which rank 2 does.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from unet_dist.comm.mpi_comm import MpiCommunicator
from unet_dist.heartbeat import Heartbeat
from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.capture import CapturePlan, Window
from unet_dist.records import RecordWriter
from unet_dist.runs import RunDir
from unet_dist.train.capture import Capture, captured

WARM_UP = 3
"""Steps before those that are profiled."""


class SleepProfiler:
    """In place of MindSpore's: it writes when the rank computed."""

    def __init__(self) -> None:
        self.folder = Path()
        self.spans: list[tuple[int, int]] = []
        self.warmup = 0
        """Steps that are left of it."""

    def start(self) -> None:
        self.spans = []

    def step(self) -> None:
        if self.warmup > 0:
            self.spans, self.warmup = [], self.warmup - 1

    def compute(self, seconds: float) -> None:
        begin = time.time_ns()
        time.sleep(seconds)
        self.spans.append((begin, time.time_ns()))

    def stop(self) -> None:
        path = self.folder / "sleeping" / OUTPUT / "trace_view.json"
        path.parent.mkdir(parents=True)
        track: dict[str, object] = {"pid": 2, "tid": 0}
        head = {"ph": "M", "name": "process_name", **track, "args": {"name": "CPU OP"}}
        spans = [
            {"ph": "X", "name": "Default/net/Conv2D-op0", **track, "ts": us(begin),
             "dur": us(end - begin)}
            for begin, end in self.spans
        ]  # fmt: skip
        path.write_text(json.dumps([head, *spans]))


class Fault:
    """``none``, ``data=MS`` of all ranks, or ``late=RANK:MS``."""

    def __init__(self, text: str) -> None:
        kind, _, value = text.partition("=")
        rank, _, ms = value.rpartition(":")
        self.rank = int(rank) if kind == "late" else -1
        self.data_s = float(ms) / 1e3 if kind == "data" else 0.0
        self.late_s = float(ms) / 1e3 if kind == "late" else 0.0


def us(ns: int) -> str:
    return f"{ns // 1000}.{ns % 1000:03d}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=10, help="that are profiled")
    parser.add_argument("--images", type=int, default=4, help="of a rank")
    parser.add_argument("--fixed-ms", type=float, default=4.0)
    parser.add_argument("--image-ms", type=float, default=4.0)
    parser.add_argument("--phases", nargs="+", type=Fault, default=[Fault("none")])
    parser.add_argument("--kb", default="256", help="of gradients, one after the other of these")
    asked = parser.parse_args()
    comm, run = MpiCommunicator(Heartbeat.of_this_rank()), RunDir(asked.run)
    sums = [np.ones(int(kb) * 256, np.float32) for kb in asked.kb.split(",")]
    seconds = (asked.fixed_ms + asked.images * asked.image_ms) / 1e3
    length = WARM_UP + asked.steps  # of a phase
    plan = CapturePlan.parse(
        f"steps={WARM_UP + 1}:{length},every={length},repeat={len(asked.phases)}", "all"
    )
    profiler = SleepProfiler()

    def make_profiler(folder: Path, window: Window, _: bool) -> SleepProfiler:
        profiler.folder, profiler.warmup = folder, window.warmup
        return profiler

    with (
        RecordWriter(run.records(comm.rank), resume_step=0) as records,
        captured(
            Capture(
                plan=plan, run=run, comm=comm, records=records, simulated=True,
                make_profiler=make_profiler,
            )
        ) as capture,
    ):  # fmt: skip
        for step in range(1, length * len(asked.phases) + 1):
            fault = asked.phases[(step - 1) // length]
            began = time.monotonic()
            time.sleep(fault.data_s)
            capture.step_begins(step, time.monotonic() - began)
            comm.heartbeat.beat("step", step=step)
            time.sleep(fault.late_s if comm.rank == fault.rank else 0)
            profiler.compute(seconds)
            comm.host_sum(sums[step % len(sums)].copy())
            capture.step_ends(step)


if __name__ == "__main__":
    main()
