"""Profiles of some steps of a training.

Simulated ranks write the layout of Ascend's profiler themselves: MindSpore's profiler shows the
operators of the CPU, and ``recording`` adds steps, collectives and waits. On cards MindSpore's
profiler writes all of it. Either keeps nothing of the steps of a warm-up.
"""

import contextlib
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unet_dist.comm import Communicator
from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.capture import CapturePlan, CaptureRequest, Window
from unet_dist.records import RecordWriter, read_records
from unet_dist.runs import RunDir, write_text_atomically
from unet_dist.train.profiler import Profiler
from unet_dist.train.recording import Recording, write_simulated

NO_STACKS = "no stacks of Python: MindSpore's profiler has them on cards alone"
NO_OPERATORS = "no operators: MindSpore's profiler wrote none, its reason is in the rank's log"
USUAL_FROM = 3
"""Steps that a usual length needs."""
USUAL_OF = 20
"""Steps before a capture whose median it is compared with."""


@dataclass(kw_only=True)
class Capture:
    """Collects what one rank does in the steps that are asked for."""

    plan: CapturePlan | None
    run: RunDir
    comm: Communicator
    records: RecordWriter
    simulated: bool
    """Whether this rank is no card."""
    make_profiler: Callable[[Path, Window, bool], Profiler]
    """Into a folder, for these steps, with stacks of Python or without."""
    _window: Window | None = None
    """Of the capture that runs here."""
    _busy_until: int = 0
    """The last step of the newest capture of whichever ranks."""
    _elsewhere: tuple[int, ...] = ()
    """The ranks of a capture that rank 0 takes no part in, and has yet to tell of."""
    _before_elsewhere: int = 0
    """The last step before that one."""
    _folder: Path = field(default_factory=Path)
    _profiler: Profiler | None = None
    _recording: Recording = field(default_factory=Recording)
    _number: int = 0
    """Of the step that runs."""
    _begin_ns: int = 0
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
        due = self._due(number)
        if due is not None and number > self._busy_until:
            self._grant(*due)
        if self._records():
            self.comm.heartbeat.on_wait = self._recording.waited
            self._recording.step_begins(number, self._begin_ns, now)

    def step_ends(self, number: int) -> None:
        """With all that follows it: validation, checkpoint."""
        now = time.time_ns()
        # Its ranks wrote it before they took part in the sums of this step.
        if self._elsewhere and number > self._busy_until:
            self._tell_of_elsewhere()
        if self._window is None:
            if self._is_first:  # it compiles
                self._is_first = False
                return
            self._lengths = [*self._lengths[1 - USUAL_OF :], (now - self._begin_ns) / 1e9]
            return
        if self._records():
            self._recording.step_ends(now)
        if number >= self._window.last:
            self.close()
        else:  # at the end of the warm-up it begins to record, which is thus no part of a step
            assert self._profiler is not None
            self._profiler.step()

    def _records(self) -> bool:
        """Whether this step is kept."""
        return self._window is not None and self._number >= self._window.first

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Around what is no part of training."""
        begin = time.time_ns()
        yield
        if self._records():
            self._recording.was_beside(name, begin)

    def close(self) -> None:
        """Writes what there is: also if the training ends in the middle."""
        if self._window is None:
            self._tell_of_elsewhere()
            self._tell_if_never_begun()
            return
        self.comm.heartbeat.on_wait = None
        self.comm.heartbeat.beat("profile", doing="writing the profile")
        assert self._profiler is not None
        self._profiler.stop()
        was_warm, window, self._window = self._records(), self._window, None
        fault, steps = "", self._recording.steps
        if not was_warm:
            shutil.rmtree(self._folder)
            with contextlib.suppress(OSError):  # the folder of another rank is in it
                self._folder.parent.rmdir()
            fault = f"the training ended in its warm-up, before step {window.first}"
        elif self.simulated:
            fault = self._write_simulated()
        if not fault and not self._is_there():
            fault = "MindSpore's profiler wrote no files"
        overhead, scatter = self._cost(window)
        self.records.write(
            "profile",
            step=steps[-1].number if steps else self._number,
            folder=str(self._folder),
            steps=len(steps),
            overhead=overhead,
            scatter=scatter,
            fault=fault,
            note=self._note,
        )

    def _write_simulated(self) -> str:
        """What went wrong: a disk that is too full for a profile is no reason to end a training,
        as on cards, whose profiler raises nothing either."""
        try:
            if not write_simulated(self._folder, self._recording, self.comm):
                self._note = "; ".join(filter(None, (self._note, NO_OPERATORS)))
        except OSError as error:
            return f"its files could not be written: {error.strerror}"
        return ""

    def _cost(self, window: Window) -> tuple[float | None, float | None]:
        """How much longer steps take than those before, and how much both differ by themselves: the
        range of their middle half. Shares of a usual step."""
        # Without a warm-up the first one holds the profiler's start.
        steps = self._recording.steps[0 if window.warmup else 1 :]
        lengths = [(step.end_ns - step.begin_ns) / 1e9 for step in steps]
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

    def _due(self, number: int) -> tuple[CapturePlan | CaptureRequest, Window] | None:
        """What asks for a capture from this step on."""
        if self.plan is not None and (planned := self.plan.window_at(number)) is not None:
            self._begun = True
            return self.plan, planned
        request = CaptureRequest.read(self.run.profile_request)
        if request is None or request.number <= self._answered:
            return None
        if not request.first:
            if self.comm.rank == 0:
                begin = max(number, self._busy_until) + 1
                if self.plan is not None:
                    begin = self.plan.free_from(begin, request.warmup + request.steps)
                chosen = request.granted_from(begin)
                write_text_atomically(self.run.profile_request, chosen.to_text())
            return None
        if number < request.first - request.warmup:
            return None
        self._answered = request.number
        # One that was granted before this training was started again may be over.
        window = request.window_at(number)
        return None if window is None else (request, window)

    def _grant(self, wanted: CapturePlan | CaptureRequest, window: Window) -> None:
        self._busy_until = window.last
        rank = self.comm.rank
        if rank == 0:
            ranks = None if wanted.ranks is None else list(wanted.ranks)
            self.records.write("capture", step=window.first, until=window.last, ranks=ranks)
        if wanted.covers(rank):
            self._start(window, stacks=wanted.stacks)
        elif rank == 0:
            self._elsewhere, self._before_elsewhere = wanted.ranks or (), window.begin - 1

    def _start(self, window: Window, *, stacks: bool) -> None:
        self._window, self._recording = window, Recording()
        self._note = NO_STACKS if stacks and self.simulated else ""
        self._folder = self.run.profile(window.first) / f"rank_{self.comm.rank:03d}_ascend_ms"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._profiler = self.make_profiler(self._folder, window, stacks)
        self._profiler.start()

    def _is_there(self) -> bool:
        return any(self._folder.glob(f"**/{OUTPUT}/trace_view.json"))


@contextlib.contextmanager
def captured(capture: Capture) -> Iterator[Capture]:
    """Writes the profile also of a training that ends, or fails, before its last step."""
    try:
        yield capture
    finally:
        capture.close()
