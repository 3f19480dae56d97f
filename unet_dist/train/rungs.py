"""At a rung of a search all ranks wait for one answer, and read it from the same file: so they go
on together, or leave together at the same step, without a collective of their own."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from unet_dist.heartbeat import Heartbeat
from unet_dist.runs import RunDir

POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """Epochs after which a trial is judged by whoever leads the search."""

    epochs: Sequence[int]
    """Ascending; the last epoch of the training is not among them."""

    def epoch_at(self, step: int, steps_per_epoch: int) -> int | None:
        """The rung that this step finishes."""
        epoch, rest = divmod(step, steps_per_epoch)
        return epoch if rest == 0 and epoch in self.epochs else None


NO_RUNGS = Rungs(epochs=())


def goes_on(run: RunDir, epoch: int, step: int, heartbeat: Heartbeat) -> bool:
    """Waits for the answer, for as long as it takes: a leader that dies takes its ranks along."""
    while (answer := run.answer(epoch)) is None:
        heartbeat.beat("rung", step=step, doing="waiting for the search's answer")
        time.sleep(POLL_S)
    return answer
