"""Trials as jobs on leased cards: each is a run like any other, led by a thread of its own."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from rich.console import Console

from unet_dist.cluster.failure import Failure
from unet_dist.cluster.interruptions import STOP_SIGNALS, Interruptions
from unet_dist.cluster.topology import Topology
from unet_dist.config import Config
from unet_dist.config_file import dump_config
from unet_dist.errors import RunBusy, UserError
from unet_dist.launching.job import Job, JobResult
from unet_dist.launching.placement import Placement, Supervision, check_fit
from unet_dist.runs import RunDir, write_text_atomically
from unet_dist.search.copying import copy_checkpoint
from unet_dist.search.executor import Event, Failed, Left, Reached
from unet_dist.search.leases import Lease
from unet_dist.search.rung_results import RungReader
from unet_dist.search.trials import State, Trial

LOOK_EVERY_S = 0.1
BUSY_FOR_S, BUSY_LOOK_EVERY_S = 60.0, 1.0
"""The last ranks in a folder are waited for, whoever started them, and so is a checkpoint that is
to be copied: else all tries of a trial would be over within seconds."""
OUT_OF_MEMORY = (
    "for lack of memory meanwhile",
    "memory of the card or the host is exhausted",
    "the card's memory is exhausted",
    "MemoryError",
)
"""In what ``cluster/failure.py`` and ``cluster/codes.py`` say of a failure."""
DISK_FULL = "free some space"
"""In what ``train/checkpoint.py`` and ``cluster/failure.py`` say of a full disk."""
FROM_OUTSIDE = ("ended by SIGKILL", "ended by SIGTERM")
"""Somebody did it; the card is not to blame."""


@dataclass(kw_only=True)
class _Running:
    trial: Trial
    lease: Lease
    run: RunDir
    interruptions: Interruptions
    results: RungReader
    future: "Future[JobResult] | None" = None
    until_epoch: int = 0
    seen: set[int] = field(default_factory=set)
    """Rungs that were told."""


@dataclass(kw_only=True)
class TrialJobs:
    """An ``Executor`` of real ranks."""

    folder: Callable[[int], RunDir]
    """Of a trial."""
    config: Callable[[Trial], Config]
    """Raises UserError if the point makes none."""
    begin: Callable[[RunDir, Config], None]
    """Writes what the ranks need to know of the data set."""
    place: Callable[[Lease, RunDir], Placement]
    supervise: Callable[[Topology], Supervision]
    rungs: Sequence[int]
    target: str
    """CPU or Ascend."""
    memory_of: Callable[[Config, int], float]
    """Predicted GB of a card, of so many."""
    memory_gb: float = 0.0
    argv: Sequence[str] = ()
    """A command in place of this program's ranks."""
    hurried: Callable[[], bool] = lambda: False
    """Whether the user asked a second time: then nobody waits for checkpoints."""
    _running: dict[int, _Running] = field(default_factory=dict)
    _refusals: dict[tuple[int, int], str] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=256, thread_name_prefix="trial")
    )

    def refusal(self, trial: Trial, width: int) -> str:
        key = (trial.number, width)
        if key not in self._refusals:
            self._refusals[key] = self._refusal(trial, width)
        return self._refusals[key]

    def _refusal(self, trial: Trial, width: int) -> str:
        try:
            config = self.config(trial)
            check_fit(config, width, self.target)
        except UserError as error:
            return "; ".join(error.faults)
        needed = self.memory_of(config, width)
        if self.memory_gb and needed > self.memory_gb:
            return (
                f"needs some {needed:.1f} GB of a card, but budget.memory_gb is {self.memory_gb:g}"
            )
        return ""

    def start(self, trial: Trial, lease: Lease, *, until_epoch: int) -> None:
        run = self.folder(trial.number)
        for epoch in self.rungs[:-1]:
            if epoch < until_epoch:
                run.write_answer(epoch, True)
            else:
                run.answer_file(epoch).unlink(missing_ok=True)
        running = _Running(
            trial=trial,
            lease=lease,
            run=run,
            interruptions=Interruptions(told=True),
            results=RungReader(path=run.records(0), rungs=self.rungs),
            until_epoch=until_epoch,
            seen={each.epoch for each in trial.results},
        )
        self._running[trial.number] = running
        running.future = self._pool.submit(self._lead, running)

    def go_on(self, trial: int, *, until_epoch: int) -> None:
        running = self._running.get(trial)
        if running is not None:  # else it has just ended
            running.run.write_answer(running.until_epoch, True)
            running.until_epoch = until_epoch

    def pause(self, trial: int) -> None:
        running = self._running.get(trial)
        if running is not None:
            running.run.write_answer(running.until_epoch, False)

    def stop(self, trial: int) -> None:
        running = self._running.get(trial)
        if running is None:
            return  # it has just ended by itself
        running.interruptions.received.append(STOP_SIGNALS[0])
        if (
            running.run.answer(running.until_epoch) is None
            and running.until_epoch != self.rungs[-1]
        ):
            # It may wait there already, or come there before it hears of the stop.
            running.run.write_answer(running.until_epoch, False)

    def events(self) -> list[Event]:
        found: list[Event] = []
        if self.hurried():
            for running in self._running.values():
                asked = running.interruptions.received
                asked += [STOP_SIGNALS[0]] * (2 - len(asked))
        for number, running in list(self._running.items()):
            assert running.future is not None
            ended = running.future.done()
            found += self._new_results(running)
            if ended:
                del self._running[number]
                found.append(self._how_it_ended(running))
        if not found:
            time.sleep(LOOK_EVERY_S)
        return found

    def running(self) -> bool:
        return bool(self._running)

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    def _lead(self, running: _Running) -> JobResult:
        deadline = time.monotonic() + BUSY_FOR_S
        while True:
            try:
                return self._led(running)
            except RunBusy:
                if running.interruptions.received or time.monotonic() > deadline:
                    raise
                time.sleep(BUSY_LOOK_EVERY_S)

    def _led(self, running: _Running) -> JobResult:
        """Raises RunBusy before anything is started."""
        run = running.run
        with run.locked():
            config = self.config(running.trial)
            if running.trial.copied_from is not None:
                source, epoch = running.trial.copied_from
                copy_checkpoint(self.folder(source), run, epoch=epoch, mark=f"{source} {epoch}")
            if not run.dataset.exists():
                self.begin(run, config)
            write_text_atomically(run.config, dump_config(config))
            placement = self.place(running.lease, run)
            with (run.path / "launcher.log").open("a") as log:
                job = Job(
                    run=run,
                    what={
                        "kind": "train",
                        "resume": run.next_attempt() > 0 or running.trial.copied_from is not None,
                        "split": "",
                        "rungs": list(self.rungs[:-1]),
                        "trial": True,
                    },
                    placement=placement,
                    supervision=self.supervise(placement.topology()),
                    console=Console(file=log, force_terminal=False, soft_wrap=True),
                    argv=self.argv,
                    interruptions=running.interruptions,
                )
                return job.lead()

    def _new_results(self, running: _Running) -> list[Event]:
        new = [
            (epoch, metrics)
            for epoch, metrics in running.results.poll().items()
            if epoch not in running.seen and epoch <= running.until_epoch
        ]
        running.seen |= {epoch for epoch, _ in new}
        number = running.trial.number
        return [Reached(trial=number, epoch=epoch, metrics=metrics) for epoch, metrics in new]

    def _how_it_ended(self, running: _Running) -> Event:
        assert running.future is not None
        number, error = running.trial.number, running.future.exception()
        if isinstance(error, UserError) and not isinstance(error, RunBusy):
            return Failed(trial=number, state=State.FAILED_USER, reason=str(error))
        if isinstance(error, Exception):
            # It came from the launcher itself, not from a rank on a card.
            told = isinstance(error, OSError | RunBusy)
            reason = str(error) if told else f"the launcher: {error!r}"
            state = State.FAILED_INFRASTRUCTURE
            return Failed(trial=number, state=state, reason=reason, blames_card=False)
        if error is not None:
            raise error
        result = running.future.result()
        if result.failure is None:
            return Left(trial=number)
        return Failed(
            trial=number,
            state=state_of(result.failure),
            reason=result.failure.reason,
            card=_card_of(result.failure, running.lease),
            blames_card=blames_card(result.failure),
        )


def state_of(failure: Failure) -> State:
    """Whose fault a failure is: of the point, of the user's input, or of the machine."""
    told = (failure.reason, failure.exception, *failure.explained)
    if failure.exception == "TrainingDiverged":
        return State.FAILED_DIVERGED
    if any(sign in text for sign in OUT_OF_MEMORY for text in told):
        return State.FAILED_MEMORY
    if any(DISK_FULL in text for text in told):
        return State.FAILED_INFRASTRUCTURE
    if failure.user_error or failure.repeats:
        return State.FAILED_USER
    return State.FAILED_INFRASTRUCTURE


def blames_card(failure: Failure) -> bool:
    told = (failure.reason, *failure.explained)
    return not (failure.reason.startswith(FROM_OUTSIDE) or any(DISK_FULL in text for text in told))


def _card_of(failure: Failure, lease: Lease) -> int | None:
    known = failure.rank is not None and failure.rank < len(lease.cards)
    return lease.cards[failure.rank] if known and failure.rank is not None else None
