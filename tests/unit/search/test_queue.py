from dataclasses import replace
from itertools import pairwise

import pytest

from tests.unit.search.studies import SPACE, leases_of, played_study, spec_of
from unet_dist.search.holdings import Holding, busy_share
from unet_dist.search.leases import in_rings_of_four
from unet_dist.search.queue import LOOK_AHEAD, OLD, most_new, wanting_cards
from unet_dist.search.rungs import Halving
from unet_dist.search.spec import SearchSpec
from unet_dist.search.trials import Ranking, RungResult, State, Study, Trial

WIDTHS = {"cards": {"choice": [1, 2, 4, 8]}}


@pytest.mark.parametrize(
    ("schedule", "seed"), [*(("halving", seed) for seed in range(3)), ("full", 0), ("hyperband", 0)]
)
def test_cards_are_busy_while_trials_wait(schedule: str, seed: int) -> None:
    spec = spec_of(
        space={**SPACE, **WIDTHS}, algorithm={"points": "random", "schedule": schedule},
        budget={"trials": 200}, seed=seed,
    )  # fmt: skip
    log = leases_of(played_study(spec, cards=8, fits=in_rings_of_four))
    assert all(in_rings_of_four(cards) for *_, cards in log)
    for card in range(8):
        spans = sorted((since, until) for since, until, _, cards in log if card in cards)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    first: dict[int, float] = {}
    for since, _, trial, _ in sorted(log):
        first.setdefault(trial, since)
    held = [Holding(trial=t, cards=c, began_s=since, ended_s=until) for since, until, t, c in log]
    assert busy_share(held, 8, until_s=max(first.values())) >= 0.9


def trial(number: int, width: int, *dice: float) -> Trial:
    """New, or with results at the first rungs."""
    results = tuple(
        RungResult(epoch=epoch, metrics={"dice": value}, clock_s=0.0)
        for epoch, value in zip((3, 9), dice, strict=False)
    )
    return Trial(
        number=number, params={"cards": width}, state=State.PAUSED if dice else State.WAITING,
        granted=results[-1].epoch if dice else 0, results=results,
    )  # fmt: skip


def order(spec: SearchSpec, *trials: Trial) -> list[int]:
    halving = Halving(rungs=(3, 9, 27), reduction=3, ranking=Ranking(spec))
    return [each.number for each in wanting_cards(Study(spec=spec, trials=trials), halving)]


def test_the_widest_come_first_but_for_what_waits_too_long() -> None:
    spec = spec_of(space={**SPACE, **WIDTHS})
    begun = [trial(0, 1, 0.9), trial(1, 1, 0.8), trial(2, 1, 0.7)]
    new = [trial(number, {4: 8, 5: 4}.get(number, 1)) for number in range(3, OLD)]
    assert order(spec, *begun, *new)[:4] == [4, 5, 0, 3]
    # One trial more, and the promoted trial 0 has waited too long.
    assert order(spec, *begun, *new, trial(OLD, 1))[:4] == [0, 4, 5, 3]


def test_of_trials_that_differ_only_by_their_rung_the_promoted_come_first() -> None:
    # Trial 30 is promoted to the last rung, 0 to the one before.
    low = [trial(number, 1, 0.9 - number / 100) for number in range(30)]
    high = [trial(30, 1, 0.95, 0.9), trial(31, 1, 0.94, 0.8), trial(32, 1, 0.93, 0.7)]
    new = [trial(number, 1) for number in range(33, 60)]
    without = [replace(each, params={}) for each in (*low, *high, *new)]
    found = order(spec_of(cards=(4, 1)), *without)
    assert found[:2] == [30, 0]
    assert found[-27:] == list(range(33, 60))


def test_new_trials_wait_for_each_other_only_if_their_numbers_of_cards_differ() -> None:
    assert most_new(Study(spec=spec_of(cards=(1, 4)))) == 1
    assert most_new(Study(spec=spec_of(space={**SPACE, **WIDTHS}))) == LOOK_AHEAD
