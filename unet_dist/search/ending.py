"""When a study is over. Pure."""

from unet_dist.search.trials import OVER, State, Study

BROKEN_AFTER = 3
"""If the first so many trials all fail by the user's error, the base is broken, not the points."""


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


def refuse_broken(study: Study) -> None:
    """Raises StudyBroken if the first trials all fail by what the user can mend."""
    tried = [trial for trial in study.trials if trial.state in OVER or trial.results]
    at_fault = (State.FAILED_USER, State.REFUSED)
    if len(tried) >= min(BROKEN_AFTER, study.spec.budget.trials) and all(
        trial.state in at_fault for trial in tried
    ):
        raise StudyBroken(
            f"the first {len(tried)} trials all fail, so the base is broken: {tried[0].reason}"
        )


def last_reason(study: Study) -> str:
    return next((trial.reason for trial in reversed(study.trials) if trial.reason), "")
