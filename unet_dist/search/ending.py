"""When a study is over. Pure."""

from collections.abc import Sequence

from unet_dist.search.leases import Cards
from unet_dist.search.queue import wanting_cards
from unet_dist.search.rungs import Halving
from unet_dist.search.trials import OVER, State, Study

BROKEN_AFTER = 3
"""If so many trials and all others fail by the user's error, the base is broken, not the points."""


class StudyBroken(Exception):
    """No trial can work: the base configuration, the data set or the cards are to blame."""


def budget_used(study: Study) -> str:
    """Which part of the budget is used up; empty if none is."""
    budget = study.spec.budget
    if budget.hours and study.clock_s >= budget.hours * 3600:
        return f"budget.hours: {budget.hours:g} are over"
    if budget.card_hours and study.card_s >= budget.card_hours * 3600:
        return f"budget.card_hours: {budget.card_hours:g} are used"
    if budget.patience and without_better(study) >= budget.patience:
        return f"budget.patience: {budget.patience} trials without a new best"
    return ""


def without_better(study: Study) -> int:
    """Trials with results since the best one was found, by the time of their first result; a trial
    that a later rung shows to be the best counts from there."""
    judged = [trial for trial in study.trials if trial.results]
    if not judged:
        return 0
    since = study.ranking.best_so_far(judged)[0].results[-1].clock_s
    return sum(trial.results[0].clock_s > since for trial in judged)


def in_doubt(study: Study) -> bool:
    """Whether all trials that are decided failed by what the user can mend, and they are enough to
    doubt the base: then nothing new starts until those that still run have told.

    A refusal does not count: the base was accepted before the start, so the point is to blame.
    """
    decided = [t for t in study.trials if t.state in OVER and t.state is not State.REFUSED]
    return (
        len(decided) >= min(BROKEN_AFTER, study.spec.budget.trials)
        and all(trial.state is State.FAILED_USER for trial in decided)
        and not any(trial.results for trial in study.trials)
    )


def refuse_broken(study: Study) -> None:
    """Raises StudyBroken if a study is in doubt, and no trial runs that could remove it."""
    if in_doubt(study) and not any(trial.state is State.RUNNING for trial in study.trials):
        failed = [trial for trial in study.trials if trial.state is State.FAILED_USER]
        raise StudyBroken(
            f"the first {len(failed)} trials all fail, so the base is broken: {failed[0].reason}"
        )


def refuse_empty(study: Study) -> None:
    """Raises StudyBroken if the configuration refuses every trial."""
    if study.trials and all(trial.state is State.REFUSED for trial in study.trials):
        raise StudyBroken(f"all {len(study.trials)} trials are refused: {last_reason(study)}")


def how_it_ended(study: Study, cards: Cards, halving: Halving) -> str:
    """Why nothing is left to do.

    Raises:
        StudyBroken: nothing could be done at all.
    """
    refuse_empty(study)
    aside = len(cards.aside)
    stuck = len(wanting_cards(study, halving))
    if not aside or not (stuck or len(study.trials) < study.spec.budget.trials):
        return "all trials are done"
    why = (
        f"{aside} of {cards.number} cards were set aside after failures of the "
        f"infrastructure ({last_reason(study)}), and {stuck} trials need more"
    )
    if not any(trial.results for trial in study.trials):
        raise StudyBroken(why)
    return why


def dropped_of(study: Study, rungs: Sequence[int], *, is_over: bool) -> frozenset[int]:
    """Numbers of the paused trials that no rung promotes any more.

    Args:
        is_over: whether the study is known to make no trials any more, such as a grid that is done.
    """
    if study.spec.algorithm.schedule not in ("halving", "hyperband"):
        return frozenset()
    moving = any(trial.state in (State.WAITING, State.RUNNING) for trial in study.trials)
    if not is_over and (moving or len(study.trials) < study.spec.budget.trials):
        return frozenset()
    reduction = study.spec.algorithm.reduction
    halving = Halving(rungs=tuple(rungs), reduction=reduction, ranking=study.ranking)
    goes_on = {trial.number for trial in halving.promotable(study.trials)}
    if goes_on and not is_over:
        return frozenset()  # each of them is a newcomer to the next rung
    paused = {trial.number for trial in study.trials if trial.state is State.PAUSED}
    return frozenset(paused - goes_on)


def last_reason(study: Study) -> str:
    return next((trial.reason for trial in reversed(study.trials) if trial.reason), "")
