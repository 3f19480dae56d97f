from itertools import pairwise

import pytest

from tests.unit.search.studies import SPACE, leases_of, played_study, spec_of
from unet_dist.search.holdings import Holding, busy_share
from unet_dist.search.leases import in_rings_of_four
from unet_dist.search.queue import LOOK_AHEAD, OLD, most_new, wanting_cards
from unet_dist.search.rungs import Halving
from unet_dist.search.trials import Ranking, RungResult, State, Study, Trial

WIDTHS = {"cards": {"choice": [1, 2, 4, 8]}}


@pytest.mark.parametrize(
    ("schedule", "seed"), [*(("halving", seed) for seed in range(6)), ("full", 0), ("hyperband", 0)]
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


def test_the_widest_come_first_but_for_what_waits_too_long() -> None:
    def trial(number: int, width: int, state: State = State.WAITING, dice: float = 0.0) -> Trial:
        result = RungResult(epoch=3, metrics={"dice": dice}, clock_s=0.0)
        return Trial(
            number=number, params={"cards": width}, state=state, granted=3 if dice else 0,
            results=(result,) if dice else (),
        )  # fmt: skip

    def order(*new: Trial) -> list[int]:
        spec = spec_of(space={**SPACE, **WIDTHS})
        begun = [trial(n, 1, State.PAUSED, dice=0.9 - n / 10) for n in range(3)]
        halving = Halving(rungs=(3, 9, 27), reduction=3, ranking=Ranking(spec))
        study = Study(spec=spec, trials=(*begun, *new))
        return [each.number for each in wanting_cards(study, halving)]

    new = [trial(number, {4: 8, 5: 4}.get(number, 1)) for number in range(3, OLD + 1)]
    assert order(*new[:-1])[:4] == [4, 5, 0, 3]
    # One trial more, and the promoted trial 0 has waited too long.
    assert order(*new)[:4] == [0, 4, 5, 3]


def test_new_trials_wait_for_each_other_only_if_their_numbers_of_cards_differ() -> None:
    assert most_new(Study(spec=spec_of(cards=(1, 4)))) == 1
    assert most_new(Study(spec=spec_of(space={**SPACE, **WIDTHS}))) == LOOK_AHEAD
