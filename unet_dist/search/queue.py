"""Which trials want cards, in the order in which they should get them. Pure."""

from collections.abc import Sequence

from unet_dist.search.rungs import Halving
from unet_dist.search.space import CARDS
from unet_dist.search.trials import State, Study, Trial

LOOK_AHEAD = 12
"""New trials that may wait for cards, if they differ in their number of cards, so that cards freed
for one wide trial serve several. With widths of 1, 2, 4 and 8 on 8 cards in rings of four 93 to
97 % of the cards' time is used with halving, and 62 to 72 % with one new trial
(``test_cards_are_busy_while_trials_wait``)."""
OLD = 2 * LOOK_AHEAD
"""Trials made since then, until one that waits comes before all of them, however narrow it is."""


def wanting_cards(study: Study, halving: Halving) -> list[Trial]:
    """Those that an end of their processes threw back, then those to be promoted, then new ones. If
    they differ in their number of cards, the widest of both: wide trials that follow each other
    need the cards cleared once for all of them. Of a population the youngest first, so that its
    members can be compared."""
    trials = study.trials
    waiting = [trial for trial in trials if trial.state is State.WAITING]
    if study.spec.algorithm.schedule == "population":
        paused = [trial for trial in trials if trial.state is State.PAUSED]
        return sorted((*waiting, *paused), key=lambda trial: (trial.epochs, trial.number))
    begun = [trial for trial in waiting if trial.granted]
    others = [*halving.promotable(trials), *new_ones(waiting)]
    if CARDS not in study.spec.space:
        return [*begun, *others]

    def place(trial: Trial) -> tuple[bool, int]:
        width = study.spec.cards_of(trial.params, len(trial.results))
        return trial.number >= len(trials) - OLD, -width

    return [*begun, *sorted(others, key=place)]


def new_ones(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.state is State.WAITING and not trial.granted]


def most_new(study: Study) -> int:
    """New trials that may wait for cards at a time. Without ``cards`` in the space all begin with
    the same number, and the later a point is chosen the more is known."""
    return LOOK_AHEAD if CARDS in study.spec.space else 1
