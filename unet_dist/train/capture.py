"""Profiles of some steps of a training.

Simulated ranks write the layout of Ascend's profiler themselves: MindSpore's profiler shows the
operators of the CPU, and this module adds steps, collectives and waits. On cards MindSpore's
profiler writes all of it.
"""

import contextlib
import os
import shutil
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unet_dist.comm import Communicator
from unet_dist.errors import UserError
from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.capture import CapturePlan, CaptureRequest
from unet_dist.profiling.chrome import read_chrome
from unet_dist.profiling.intervals import merged, of_pairs
from unet_dist.profiling.tables import Collective, Kernels, MemoryCurve, RankProfile, Step
from unet_dist.profiling.trace_tables import times_of
from unet_dist.profiling.write import write_text_folder
from unet_dist.records import RecordWriter, read_records
from unet_dist.runs import RunDir, write_text_atomically

MB = 1024 * 1024
NO_STACKS = "no stacks of Python: MindSpore's profiler has them on cards alone"
USUAL_FROM = 3
"""Steps that a usual length needs."""
USUAL_OF = 20
"""Steps before a capture whose median it is compared with."""


class Profiler(Protocol):
    """MindSpore's own, as far as it is used here."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(kw_only=True)
class Capture:
    """Collects what one rank does in the steps that are asked for."""

    plan: CapturePlan | None
    run: RunDir
    comm: Communicator
    records: RecordWriter
    simulated: bool
    """Whether this rank is no card."""
    make_profiler: Callable[[Path, bool], Profiler]
    """Into a folder, with stacks of Python or without."""
    _until: int = 0
    """The last step of the capture that runs here; 0 without one."""
    _busy_until: int = 0
    """The last step of the newest capture of whichever ranks."""
    _elsewhere: tuple[int, ...] = ()
    """The ranks of a capture that rank 0 takes no part in, and has yet to tell of."""
    _before_elsewhere: int = 0
    """The last step before that one."""
    _folder: Path = field(default_factory=Path)
    _profiler: Profiler | None = None
    _steps: list[Step] = field(default_factory=list)
    _number: int = 0
    """Of the step that runs."""
    _begin_ns: int = 0
    _waits: list[tuple[int, int]] = field(default_factory=list)
    _memory: list[tuple[int, float]] = field(default_factory=list)
    _beside: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _collectives: list[Collective] = field(default_factory=list)
    _waits_of_step: int = 0
    """Collectives of this step so far."""
    _is_first: bool = True
    """Whether no step has ended yet."""
    _lengths: list[float] = field(default_factory=list)
    """Seconds of steps without a capture, the last ones."""
    _answered: int = -1
    _begun: bool = False
    """Whether a step came that the plan asks for, of whichever rank."""
    _note: str = ""
    """What of a wish is not done."""

    def step_begins(self, number: int, waited_s: float) -> None:
        """Its batch has come, after so long a wait."""
        now = time.time_ns()
        self._number, self._begin_ns = number, now - round(waited_s * 1e9)
        self._waits_of_step = 0
        wanted = self._due(number)
        if wanted is not None and number > self._busy_until:
            self._grant(wanted, number)
        if self._until:
            self._waits.append((self._begin_ns, now))
            self._memory.append((now, resident_mb()))

    def step_ends(self, number: int) -> None:
        """With all that follows it: validation, checkpoint."""
        now = time.time_ns()
        # Its ranks wrote it before they took part in the sums of this step.
        if self._elsewhere and number > self._busy_until:
            self._tell_of_elsewhere()
        if not self._until:
            if self._is_first:  # it compiles
                self._is_first = False
                return
            self._lengths = [*self._lengths[1 - USUAL_OF :], (now - self._begin_ns) / 1e9]
            return
        self._steps.append(Step(number=number, begin_ns=self._begin_ns, end_ns=now))
        self._memory.append((now, resident_mb()))
        if number >= self._until:
            self.close()

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Around what is no part of training."""
        begin = time.time_ns()
        yield
        if self._until:
            self._beside.setdefault(name, []).append((begin, time.time_ns()))

    def close(self) -> None:
        """Writes what there is: also if the training ends in the middle."""
        if not self._until:
            self._tell_of_elsewhere()
            self._tell_if_never_begun()
            return
        self.comm.heartbeat.on_wait = None
        self.comm.heartbeat.beat("profile", doing="writing the profile")
        assert self._profiler is not None
        self._profiler.stop()
        self._until = 0
        if self.simulated:
            self._write_simulated()
        missing = "" if self._is_there() else "MindSpore's profiler wrote no files"
        overhead, scatter = self._cost()
        self.records.write(
            "profile",
            step=self._steps[-1].number if self._steps else 0,
            folder=str(self._folder),
            steps=len(self._steps),
            overhead=overhead,
            scatter=scatter,
            fault=missing,
            note=self._note,
        )

    def _cost(self) -> tuple[float | None, float | None]:
        """How much longer steps take than those before, and how much both differ by themselves: the
        range of their middle half. Shares of a usual step."""
        lengths = [(step.end_ns - step.begin_ns) / 1e9 for step in self._steps[1:]]
        if len(self._lengths) < USUAL_FROM or not lengths:
            return None, None
        usual = statistics.median(self._lengths)
        ranges = (
            np.subtract(*np.quantile(each, (0.75, 0.25))) for each in (self._lengths, lengths)
        )
        return statistics.median(lengths) / usual - 1, float(max(ranges)) / usual

    def _tell_if_never_begun(self) -> None:
        if self.plan is None or self._begun or self.comm.rank != 0 or not self._number:
            return
        self.records.write(
            "profile", step=self._number, folder="", steps=0, overhead=None, scatter=None,
            note="",
            fault=f"steps {self.plan.first} to {self.plan.last} were asked for, but the training "
            f"went to step {self._number}",
        )  # fmt: skip

    def _tell_of_elsewhere(self) -> None:
        """The launcher shows what rank 0 records, so it repeats what the first other one says."""
        if not self._elsewhere:
            return
        rank, self._elsewhere = self._elsewhere[0], ()
        told = [
            record
            for record in read_records(self.run.records(rank))
            if record["kind"] == "profile" and record["step"] > self._before_elsewhere
        ]
        if not told:  # the training ends in the middle of the capture
            return
        names = ("step", "folder", "steps", "overhead", "scatter", "fault")
        facts = {name: told[-1][name] for name in names}
        note = "; ".join(filter(None, (f"of rank {rank}, without rank 0", told[-1]["note"])))
        self.records.write("profile", **facts, note=note)

    def _due(self, number: int) -> CapturePlan | CaptureRequest | None:
        """What asks for a capture from this step on."""
        if self.plan is not None and self.plan.begins_at(number):
            self._begun = True
            return self.plan
        request = CaptureRequest.read(self.run.profile_request)
        if request is None or request.number <= self._answered:
            return None
        if not request.first:
            if self.comm.rank == 0:
                first = max(number, self._busy_until) + 1
                if self.plan is not None:
                    first = self.plan.free_from(first, request.steps)
                chosen = replace(request, first=first)
                write_text_atomically(self.run.profile_request, chosen.to_text())
            return None
        if number < request.first:
            return None
        self._answered = request.number
        # One that was granted before this training was started again is over.
        return request if number < request.first + request.steps else None

    def _grant(self, wanted: CapturePlan | CaptureRequest, number: int) -> None:
        self._busy_until = number + wanted.length - 1
        rank = self.comm.rank
        if rank == 0:
            ranks = None if wanted.ranks is None else list(wanted.ranks)
            self.records.write("capture", step=number, until=self._busy_until, ranks=ranks)
        if wanted.covers(rank):
            self._start(number, self._busy_until, stacks=wanted.stacks)
        elif rank == 0:
            self._elsewhere, self._before_elsewhere = wanted.ranks or (), number - 1

    def _start(self, first: int, last: int, *, stacks: bool) -> None:
        self._until = last
        self._note = NO_STACKS if stacks and self.simulated else ""
        self._steps, self._waits, self._collectives, self._memory = [], [], [], []
        self._beside = {}
        self._folder = self.run.profile(first) / f"rank_{self.comm.rank:03d}_ascend_ms"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._profiler = self.make_profiler(self._folder, stacks)
        self._profiler.start()
        self.comm.heartbeat.on_wait = self._waited

    def _waited(self, what: str, begin_ns: int, end_ns: int, sent_bytes: int | None) -> None:
        # By step, so that ranks whose captures begin at different steps have the same names.
        place, self._waits_of_step = self._waits_of_step, self._waits_of_step + 1
        self._collectives.append(
            Collective(
                name=f"hcom_allReduce_{what.replace(' ', '_')}_{self._number}_{place}",
                group="Group 0",
                step=self._number,
                begin_ns=begin_ns,
                end_ns=end_ns,
                sent_bytes=sent_bytes,
            )
        )

    def _write_simulated(self) -> None:
        kernels = self._operators()
        write_text_folder(
            self._folder,
            RankProfile(
                rank=self.comm.rank,
                source=str(self._folder),
                format="ascend text",
                simulated=True,
                host=socket.gethostname(),
                world=self.comm.world,
                steps=tuple(self._steps),
                kernels=kernels and kernels.with_steps(self._steps),
                computing=merged(kernels.time_ns) if kernels is not None else merged(),
                communicating=times_of(self._collectives),
                data_waits=merged(of_pairs(self._waits)),
                beside={name: merged(of_pairs(each)) for name, each in self._beside.items()},
                collectives=tuple(self._collectives),
                memory=(self._resident(),),
            ),
        )

    def _resident(self) -> MemoryCurve:
        """Of the process, which is all that a simulated card has."""
        sizes = np.array([size for _, size in self._memory])
        return MemoryCurve(
            component="simulated",
            at_ns=np.array([at for at, _ in self._memory], np.int64),
            allocated_mb=sizes,
            reserved_mb=np.maximum.accumulate(sizes),
        )

    def _operators(self) -> Kernels | None:
        """Of the CPU, as MindSpore's profiler has them; its files are replaced by ours."""
        kernels = None
        for path in sorted(self._folder.glob(f"**/{OUTPUT}/trace_view.json")):
            with contextlib.suppress(UserError):
                kernels = read_chrome(path, self.comm.rank).kernels
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        return kernels

    def _is_there(self) -> bool:
        return any(self._folder.glob(f"**/{OUTPUT}/trace_view.json"))


def mindspore_profiler(folder: Path, stacks: bool) -> Profiler:
    """Its errors are logged and not raised, so that only the files tell whether it worked."""
    from mindspore import profiler

    from unet_dist.model.target import on_cpu

    activities = [profiler.ProfilerActivity.CPU]
    settings: dict[str, Any] = {}
    if not on_cpu():
        activities.append(profiler.ProfilerActivity.NPU)
        settings = {
            "with_stack": stacks,
            "profile_memory": True,
            "record_shapes": True,
            "experimental_config": profiler._ExperimentalConfig(
                profiler_level=profiler.ProfilerLevel.Level1,
                aic_metrics=profiler.AicoreMetrics.PipeUtilization,
            ),
        }
    made: Profiler = profiler.profile(
        activities=activities,
        start_profile=False,
        on_trace_ready=profiler.tensorboard_trace_handler(str(folder), worker_name="mindspore"),
        **settings,
    )
    return made


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


@contextlib.contextmanager
def captured(capture: Capture) -> Iterator[Capture]:
    """Writes the profile also of a training that ends, or fails, before its last step."""
    try:
        yield capture
    finally:
        capture.close()
