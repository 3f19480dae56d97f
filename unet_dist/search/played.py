"""A study played with recorded or computed curves on a clock of its own: hours in seconds."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from unet_dist.search.executor import Event, Failed, Left, Reached
from unet_dist.search.leases import Lease
from unet_dist.search.space import Params
from unet_dist.search.trials import Trial

IDLE_S = 1.0
"""Passes while nothing runs, such as before a trial is started again."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What a training would show."""

    epoch_s: float
    """Seconds for an epoch, on the cards that the trial has."""
    metrics: Sequence[Mapping[str, float]]
    """After each epoch."""


@dataclass(kw_only=True)
class PlayedTrials:
    """An ``Executor`` whose trials are curves."""

    curve: Callable[[Params], Curve]
    start_s: float = 0.0
    """From the start of the ranks to their first step, each time."""
    fails: Callable[[Trial, int, Lease], Failed | None] = lambda trial, epoch, lease: None
    """Whether a trial fails on its way to an epoch, and how."""
    now_s: float = 0.0
    _queue: list[tuple[float, int, Event]] = field(default_factory=list)
    _order: int = 0
    _running: dict[int, tuple[Trial, Lease]] = field(default_factory=dict)
    log: list[tuple[float, float, int, tuple[int, ...]]] = field(default_factory=list)
    """Begin and end of each time that a trial had cards."""
    _since: dict[int, float] = field(default_factory=dict)
    _epochs: dict[int, int] = field(default_factory=dict)

    def refusal(self, trial: Trial, width: int) -> str:
        return ""

    def start(self, trial: Trial, lease: Lease, *, until_epoch: int) -> None:
        self._running[trial.number] = (trial, lease)
        self._since[trial.number] = self.now_s
        self._train(trial.number, trial.epochs, until_epoch, self.start_s)

    def go_on(self, trial: int, *, until_epoch: int) -> None:
        self._train(trial, self._epochs[trial], until_epoch, 0.0)

    def pause(self, trial: int) -> None:
        self._put(self.now_s, Left(trial=trial))

    def stop(self, trial: int) -> None:
        self._queue = [item for item in self._queue if item[2].trial != trial]
        heapq.heapify(self._queue)
        self._put(self.now_s, Left(trial=trial))

    def events(self) -> list[Event]:
        if not self._queue:
            self.now_s += IDLE_S
            return []
        self.now_s, _, event = heapq.heappop(self._queue)
        if isinstance(event, Left | Failed):
            _, lease = self._running.pop(event.trial)
            self.log.append((self._since.pop(event.trial), self.now_s, event.trial, lease.cards))
        else:
            self._epochs[event.trial] = event.epoch
        return [event]

    def _train(self, number: int, epoch: int, until: int, delay_s: float) -> None:
        trial, lease = self._running[number]
        curve = self.curve(trial.params)
        at = self.now_s + delay_s + (until - epoch) * curve.epoch_s
        failure = self.fails(trial, until, lease)
        if failure is not None:
            self._put(at, failure)
            return
        metrics = dict(curve.metrics[until - 1])
        self._put(at, Reached(trial=number, epoch=until, metrics=metrics))
        if until == len(curve.metrics):
            self._put(at, Left(trial=number))

    def _put(self, at: float, event: Event) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at, self._order, event))


@dataclass(kw_only=True)
class InMemory:
    """A ``Store`` for a played study; what it holds outlives a controller, as a database does."""

    clock: Callable[[], float]
    trials: dict[int, Trial] = field(default_factory=dict)

    def load(self) -> Sequence[Trial]:
        return [self.trials[number] for number in sorted(self.trials)]

    def create(self, trial: Trial) -> bool:
        if trial.number in self.trials:
            return False
        self.trials[trial.number] = trial
        return True

    def claim(self, trial: Trial) -> bool:
        return self.trials[trial.number].state is trial.state

    def save(self, trial: Trial) -> None:
        self.trials[trial.number] = trial

    def lost(self) -> set[int]:
        return set()

    def clock_s(self) -> float:
        return self.clock()
