"""What a controller needs of others: somebody who runs trials, and somewhere to keep them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from unet_dist.search.leases import Lease
from unet_dist.search.trials import State, Trial


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A trial finished a rung, and waits for an answer unless it was the last."""

    trial: int
    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Left:
    """No process of the trial is left: it paused, was complete, or was asked to stop."""

    trial: int


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The same, after a failure."""

    trial: int
    state: State
    reason: str
    card: int | None = None
    """Which of its cards failed first, if that is known."""
    blames_card: bool = True
    """Whether the card may be the reason (infrastructure)."""


Event = Reached | Left | Failed


class Executor(Protocol):
    """Runs trials: processes, or recorded curves."""

    def refusal(self, trial: Trial, width: int) -> str:
        """Why a trial cannot even start; empty if it can."""

    def start(self, trial: Trial, lease: Lease, *, until_epoch: int) -> None: ...

    def go_on(self, trial: int, *, until_epoch: int) -> None:
        """Answers ``Reached``."""

    def pause(self, trial: int) -> None:
        """Answers ``Reached``: the checkpoint is written, the ranks leave, ``Left`` follows."""

    def stop(self, trial: int) -> None:
        """At the next step, with a checkpoint; ``Left`` follows."""

    def events(self) -> list[Event]:
        """What happened, after waiting a moment if nothing did."""


class Store(Protocol):
    """Where trials are kept; other controllers may write there too."""

    def load(self) -> Sequence[Trial]:
        """All trials, by number."""

    def create(self, trial: Trial) -> bool:
        """Adds a waiting trial; False, and nothing is added, if another controller has taken its
        number."""

    def claim(self, trial: Trial) -> bool:
        """Makes a waiting or paused trial this controller's; False if another was faster."""

    def save(self, trial: Trial) -> None:
        """A trial of this controller's; not written if it is lost."""

    def lost(self) -> set[int]:
        """Trials of this controller's that others have taken over, as it was silent for too long
        (suspended, or cut off)."""

    def clock_s(self) -> float:
        """How long controllers worked on the study, over all starts."""
