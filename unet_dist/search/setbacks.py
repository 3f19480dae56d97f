"""What becomes of a trial whose ranks failed: over, or thrown back for another try. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from unet_dist.search.executor import Failed
from unet_dist.search.trials import State, Trial

INFRASTRUCTURE_TRIES = 3
"""Starts of a trial without progress before failures of the infrastructure end it, until the
search itself is started again."""
OUTSIDE_TRIES = 20
"""The same for what is nobody's fault here, such as a SIGKILL from outside."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


def after_failure(
    trial: Trial,
    event: Failed,
    *,
    final_epoch: int,
    host: str,
    cards: Iterable[int],
    clock_s: float,
) -> Trial:
    """
    Args:
        host: where it ran.
        cards: that it had.
        clock_s: of the study, now.
    """
    if trial.epochs == final_epoch:
        return replace(trial, state=State.COMPLETE)  # it had said all
    if event.state is not State.FAILED_INFRASTRUCTURE:
        return replace(trial, state=event.state, reason=event.reason)
    suspects = cards if event.card is None else (event.card,)
    named = {f"{host}:{card}" for card in suspects} if event.blames_card else set()
    tries = trial.tries + 1
    again = tries < (INFRASTRUCTURE_TRIES if event.blames_card else OUTSIDE_TRIES)
    return replace(
        trial,
        state=trial.at_rest(final_epoch) if again else event.state,
        tries=tries,
        bad_cards=tuple(sorted({*trial.bad_cards, *named})),
        reason=event.reason,
        # On other cards it may work at once; what is not the card's fault needs time to pass.
        not_before_s=0.0 if event.blames_card else clock_s + pause_s(tries),
    )


def pause_s(tries: int) -> float:
    """Before the next start, after so many in vain: none, then 1, 2, 4, ... 60 s, 13 minutes in
    all, in which a full disk or a server that was started anew may have been mended."""
    return 0.0 if tries < 2 else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (tries - 2))


def bad_cards_at(trial: Trial, host: str) -> list[int]:
    """Cards of a host where it failed before."""
    named = [name.rpartition(":") for name in trial.bad_cards]
    return [int(card) for where, _, card in named if where == host]
