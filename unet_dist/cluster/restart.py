"""Whether a failed job starts again, when, and without which card. Pure: it is told what was."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unet_dist.cluster.failure import Failure


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    max_restarts: int = 3
    without_progress: int = 2
    """Failures in a row from the same checkpoint after which it is given up."""
    first_delay_s: float = 1.0
    """Doubled with every failure without progress. A card's communication process takes some
    10 s to leave (EJ0001), so it is more on cards."""
    longest_delay_s: float = 60.0
    min_ranks: int = 0
    """With fewer ranks than at the start, but at least these, it may go on; 0: never."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A failed attempt."""

    failure: Failure
    world: int
    device: tuple[str, int] | None
    """Server and card of the rank that failed first."""
    step: int
    """Of the newest checkpoint when it ended."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    restart: bool
    reason: str
    delay_s: float = 0.0
    leave_out: tuple[str, int] | None = None
    """Server and card that failed twice, to go on without."""


def decide(policy: RestartPolicy, history: Sequence[Ended]) -> Decision:
    """What follows the last failure of ``history``, oldest first."""
    last = history[-1]
    restarts = len(history) - 1
    if last.failure.user_error or last.failure.repeats:
        return Decision(restart=False, reason="not restarted: the next start would only repeat it")
    if restarts >= policy.max_restarts:
        text = f"not restarted: --max-restarts is {policy.max_restarts}"
        return Decision(restart=False, reason=text)
    stuck = 0
    for ended in reversed(history):
        if ended.step != last.step:
            break
        stuck += 1
    # A first failure before any checkpoint is no proof that nothing moves.
    if stuck > policy.without_progress:
        return Decision(
            restart=False,
            reason=f"not restarted: {stuck} failures without progress beyond step {last.step}",
        )
    delay_s = min(policy.longest_delay_s, policy.first_delay_s * 2 ** (stuck - 1))
    leave_out = _bad_card(history) if policy.min_ranks else None
    where = f"from step {last.step}" if last.step else "from the beginning"
    return Decision(
        restart=True,
        reason=f"restart {restarts + 1} of {policy.max_restarts} {where} in {delay_s:g} s",
        delay_s=delay_s,
        leave_out=leave_out,
    )


def _bad_card(history: Sequence[Ended]) -> tuple[str, int] | None:
    """The card of the last failure, if it failed before with as many ranks."""
    last = history[-1]
    same = [ended.device for ended in history if ended.world == last.world]
    return last.device if last.device and Counter(same)[last.device] >= 2 else None
