import io
import math

import pytest
from rich.console import Console

from tests.unit.search.studies import controller_of, failing, spec_of
from unet_dist.config_file import build_config
from unet_dist.errors import UserError
from unet_dist.search.trials import RungResult, State, Study, Trial
from unet_dist.search.view import View, candidate_text, headline, table_of
from unet_dist.search.winner import (
    SEED,
    best_of,
    candidates,
    name_again,
    retraining,
    seeds_after,
)


def trial(number: int, rate: float, dice: float, *, epoch: int = 27, **settings: object) -> Trial:
    params = {"train.lr": rate, "model.width": 8}
    seed = settings.pop("seed", None)
    if seed is not None:
        params[SEED] = seed  # type: ignore[assignment]
    result = RungResult(epoch=epoch, metrics={"dice": dice, "parameters": 1e3}, clock_s=1.0)
    state = settings.pop("state", State.COMPLETE)
    return Trial(number=number, params=params, results=(result,), granted=epoch, state=state)  # type: ignore[arg-type]


SEARCHED = (
    trial(0, 0.1, 0.70),
    trial(1, 0.01, 0.80),
    trial(2, 0.02, 0.79),
    trial(3, 0.03, 0.99, epoch=3, state=State.PAUSED),
)


def test_the_best_are_trained_again_with_seeds_that_the_search_did_not_have() -> None:
    """They were trained with the seed of the base, whatever chose their points."""
    spec = spec_of(retrain={"top": 2, "seeds": 3}, seed=2)
    top = best_of(spec, Study(spec=spec, trials=SEARCHED))
    again = retraining(spec, top, [], seed=5)
    assert [(point["train.lr"], point[SEED]) for point in again.first] == [
        (rate, seed) for rate in (0.01, 0.02) for seed in (6, 7, 8)
    ]
    assert again.budget.trials == 6
    assert again.algorithm.schedule == "full"
    assert all(again.searched.faults_of(point) == [] for point in again.first)
    assert best_of(spec_of(retrain={"top": 0}), Study(spec=spec, trials=SEARCHED)) == []
    assert best_of(spec, Study(spec=spec)) == []


def test_after_the_largest_seed_comes_the_first() -> None:
    assert seeds_after(2**32 - 2, 3) == (2**32 - 1, 0, 1)
    assert build_config({}, [f"seed={2**32 - 1}"], where="").seed == 2**32 - 1


def test_trials_with_one_point_are_one_candidate() -> None:
    """With one seed they are one training, made twice."""
    trials = (*SEARCHED[:3], trial(3, 0.01, 0.80))
    spec = spec_of(retrain={"top": 2, "seeds": 1})
    study = Study(spec=spec, trials=trials)
    assert [each.number for each in best_of(spec, study)] == [1, 2]
    again = Study(spec=spec, trials=(trial(0, 0.01, 0.81, seed=1), trial(1, 0.02, 0.8, seed=1)))
    # Also where an earlier start chose both.
    found = candidates(spec, [trials[1], trials[3], trials[2]], study, again)
    assert [each.trial for each in found] == [1, 2]


def test_a_new_best_is_trained_again_after_those_of_an_earlier_start() -> None:
    spec = spec_of(retrain={"top": 2, "seeds": 2})
    before = retraining(spec, best_of(spec, Study(spec=spec, trials=SEARCHED)), [], seed=0)
    more = Study(spec=spec, trials=(*SEARCHED, trial(4, 0.05, 0.9)))
    again = retraining(spec, best_of(spec, more), before.first, seed=0)
    assert again.first[:4] == before.first
    assert [(point["train.lr"], point[SEED]) for point in again.first[4:]] == [(0.05, 1), (0.05, 2)]
    assert again.budget.trials == 6
    with pytest.raises(UserError, match=r"again with seed 1, 2 by an earlier .* it would be 8, 9"):
        retraining(spec, best_of(spec, more), before.first, seed=7)


def test_the_winner_has_the_best_mean_not_the_best_seed() -> None:
    spec = spec_of()
    study = Study(spec=spec, trials=SEARCHED)
    seeds = [(0.01, 0.90), (0.01, 0.70), (0.01, 0.71), (0.02, 0.80), (0.02, 0.79), (0.02, 0.81)]
    again = Study(spec=spec, trials=tuple(trial(n, r, d, seed=n) for n, (r, d) in enumerate(seeds)))
    first, second = candidates(spec, [SEARCHED[1], SEARCHED[2]], study, again)
    assert (first.trial, second.trial) == (2, 1)
    assert first.mean == pytest.approx(0.80)
    low, high = first.interval
    # Student's t for 3 values: 4.3027 times the deviation of 0.01 over the root of 3.
    assert high - first.mean == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert low == pytest.approx(2 * first.mean - high)
    assert SEED not in first.params


def test_one_whose_seeds_failed_in_part_does_not_win() -> None:
    spec = spec_of()
    again = Study(
        spec=spec,
        trials=(
            trial(0, 0.01, 0.95, seed=1),
            trial(1, 0.01, 0.10, seed=2, state=State.FAILED_DIVERGED),
            trial(2, 0.02, 0.80, seed=1),
            trial(3, 0.02, 0.81, seed=2),
        ),
    )
    top = [SEARCHED[1], SEARCHED[2]]
    found = candidates(spec, top, Study(spec=spec, trials=SEARCHED), again)
    assert [each.trial for each in found] == [2]
    # Only those that are still among the best count.
    found = candidates(spec, [SEARCHED[1]], Study(spec=spec, trials=SEARCHED), again)
    assert [each.mean for each in found] == [0.95]


def test_without_retraining_the_best_trial_wins_and_has_no_interval() -> None:
    spec = spec_of()
    study = Study(spec=spec, trials=SEARCHED)
    [only] = candidates(spec, best_of(spec, study), study, None)
    assert (only.trial, only.mean) == (1, 0.80)
    assert all(map(math.isnan, only.interval))
    assert only.to_json()["interval"] is None
    assert candidates(spec, [], Study(spec=spec), None) == []


def test_a_result_names_its_seeds_and_what_the_search_had() -> None:
    spec = spec_of()
    study = Study(spec=spec, trials=SEARCHED)

    def told(*seeds: Trial) -> str:
        found = candidates(spec, [SEARCHED[2]], study, Study(spec=spec, trials=seeds))
        return candidate_text(found[0].to_json())

    assert told(trial(0, 0.02, 0.4901, seed=1)) == "0.4901 with seed 1 (in the search 0.79)"
    two = (trial(0, 0.02, 0.79, seed=1), trial(1, 0.02, 0.81, seed=2))
    few = "0.8 (mean of seeds 1, 2, too few for an interval; in the search 0.79)"
    assert told(*two) == few
    # Mean 0.8, and 0.01 over the root of 3 times Student's t for 3 values, 4.3027: 0.0248 off it.
    three = (*two, trial(2, 0.02, 0.80, seed=3))
    assert told(*three) == "0.8 (0.7752 to 0.8248, mean of seeds 1, 2, 3; in the search 0.79)"
    # Mean 0.6, deviation 0.3606: 0.8957 off it, where no Dice lies.
    wide = (trial(0, 0.02, 0.2, seed=1), trial(1, 0.02, 0.9, seed=2), trial(2, 0.02, 0.7, seed=3))
    assert told(*wide) == "0.6 (0 to 1, mean of seeds 1, 2, 3; in the search 0.79)"
    paused = candidates(
        spec, [SEARCHED[3]], study, Study(spec=spec, trials=(trial(0, 0.03, 0.8, seed=1),))
    )
    assert candidate_text(paused[0].to_json()).endswith("(in the search 0.99 after 3 epochs)")
    [without] = candidates(spec, [], study, None)
    assert candidate_text(without.to_json()) == "0.8"


def test_a_seed_goes_by_the_trial_whose_point_it_has() -> None:
    spec = spec_of(retrain={"top": 1, "seeds": 2})
    top = [trial(3, 0.02, 0.8)]
    again = retraining(spec, top, [], {"train.lr": 0.5, "model.width": 8}, seed=0)
    stream = io.StringIO()
    view = View(console=Console(file=stream, width=200))
    failed = failing(State.FAILED_DIVERGED, {1}, reason="too fast")
    searched = controller_of(spec_of(algorithm={"points": "random"}), fails=failed)
    searched.on_change = view.show
    searched.run()
    controller = controller_of(again, fails=failing(State.FAILED_DIVERGED, {1}))
    controller.name = lambda each: name_again(each, top)
    controller.on_change = view.show
    controller.run()
    said = stream.getvalue()
    assert "trial 3, seed 2 failed: diverged: planted" in said
    assert said.count("trial 1 failed") == said.count("trial 1 failed: diverged: too fast") == 1
    assert [controller.name(each) for each in controller.study.trials] == [
        "trial 3, seed 1", "trial 3, seed 2", "the base, seed 1", "the base, seed 2",
    ]  # fmt: skip
    # vessel_curve is best near 6e-3, so 0.02 beats 0.5.
    assert "(trial 3, seed 1, epoch 27)" in headline(controller)
    cells = list(table_of(controller).columns[0].cells)
    assert cells[0] == "3, seed 1"
