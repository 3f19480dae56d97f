"""What a rank does in the steps that are profiled, and the folder that a simulated one writes."""

import contextlib
import os
import shutil
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unet_dist.comm import Communicator
from unet_dist.errors import UserError
from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.chrome import read_chrome
from unet_dist.profiling.intervals import merged, of_pairs
from unet_dist.profiling.tables import Collective, Kernels, MemoryCurve, RankProfile, Step
from unet_dist.profiling.trace_tables import times_of
from unet_dist.profiling.write import write_text_folder

MB = 1024 * 1024


@dataclass(kw_only=True)
class Recording:
    """Of one capture, in the order in which it happens."""

    steps: list[Step] = field(default_factory=list)
    waits: list[tuple[int, int]] = field(default_factory=list)
    """For images."""
    memory: list[tuple[int, float]] = field(default_factory=list)
    beside: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    collectives: list[Collective] = field(default_factory=list)
    _number: int = 0
    """Of the step that runs."""
    _begin_ns: int = 0
    _waits_of_step: int = 0
    """Collectives of this step so far."""

    def step_begins(self, number: int, begin_ns: int, now_ns: int) -> None:
        """At the first of these times it began to wait for its images."""
        self._number, self._begin_ns, self._waits_of_step = number, begin_ns, 0
        self.waits.append((begin_ns, now_ns))
        self.memory.append((now_ns, resident_mb()))

    def step_ends(self, now_ns: int) -> None:
        self.steps.append(Step(number=self._number, begin_ns=self._begin_ns, end_ns=now_ns))
        self.memory.append((now_ns, resident_mb()))

    def was_beside(self, name: str, begin_ns: int) -> None:
        """Since then it did what is no part of training."""
        self.beside.setdefault(name, []).append((begin_ns, time.time_ns()))

    def waited(self, what: str, begin_ns: int, end_ns: int, sent_bytes: int | None) -> None:
        # By step, so that ranks whose captures begin at different steps have the same names.
        place, self._waits_of_step = self._waits_of_step, self._waits_of_step + 1
        self.collectives.append(
            Collective(
                name=f"hcom_allReduce_{what.replace(' ', '_')}_{self._number}_{place}",
                group="Group 0",
                step=self._number,
                begin_ns=begin_ns,
                end_ns=end_ns,
                sent_bytes=sent_bytes,
            )
        )


def write_simulated(folder: Path, recording: Recording, comm: Communicator) -> bool:
    """The layout of Ascend's profiler, in place of what MindSpore's wrote into the folder; whether
    that had operators."""
    kernels = _operators(folder, comm.rank)
    write_text_folder(
        folder,
        RankProfile(
            rank=comm.rank,
            source=str(folder),
            format="ascend text",
            simulated=True,
            host=socket.gethostname(),
            world=comm.world,
            steps=tuple(recording.steps),
            kernels=kernels and kernels.with_steps(recording.steps),
            computing=merged(kernels.time_ns) if kernels is not None else merged(),
            communicating=times_of(recording.collectives),
            data_waits=merged(of_pairs(recording.waits)),
            beside={name: merged(of_pairs(each)) for name, each in recording.beside.items()},
            collectives=tuple(recording.collectives),
            memory=(_resident(recording.memory),),
        ),
    )
    return kernels is not None


def _resident(memory: list[tuple[int, float]]) -> MemoryCurve:
    """Of the process, which is all that a simulated card has."""
    sizes = np.array([size for _, size in memory])
    return MemoryCurve(
        component="simulated",
        at_ns=np.array([at for at, _ in memory], np.int64),
        allocated_mb=sizes,
        reserved_mb=np.maximum.accumulate(sizes),
    )


def _operators(folder: Path, rank: int) -> Kernels | None:
    """Of the CPU, as MindSpore's profiler has them; its files are replaced by ours."""
    kernels = None
    for path in sorted(folder.glob(f"**/{OUTPUT}/trace_view.json")):
        with contextlib.suppress(UserError):
            kernels = read_chrome(path, rank).kernels
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    return kernels


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB
