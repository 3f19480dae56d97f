from dataclasses import replace

import numpy as np
import pytest

from tests.unit.search.studies import EPOCHS, played_study, spec_of
from unet_dist.search.ending import dropped_of
from unet_dist.search.played import Curve
from unet_dist.search.rungs import (
    Halving,
    copied,
    exchange,
    fewest_for_last,
    first_rung_of,
    may_reach_last,
    perturbed,
    rungs_of,
)
from unet_dist.search.space import Params
from unet_dist.search.spec import AlgorithmSpec
from unet_dist.search.trials import Ranking, RungResult, State, Study, Trial


def algorithm(**settings: object) -> AlgorithmSpec:
    return AlgorithmSpec.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "epochs", "rungs"),
    [
        ({"schedule": "full"}, 27, (27,)),
        ({"min_epochs": 3}, 27, (3, 9, 27)),
        ({"min_epochs": 3}, 30, (3, 9, 27, 30)),
        ({"min_epochs": 1, "reduction": 4}, 20, (1, 4, 16, 20)),
        ({"min_epochs": 9}, 9, (9,)),
        ({"schedule": "population", "min_epochs": 10}, 25, (10, 20, 25)),
    ],
)
def test_rungs(settings: dict[str, object], epochs: int, rungs: tuple[int, ...]) -> None:
    assert rungs_of(algorithm(**settings), epochs) == rungs


def trial(number: int, *dice: float, state: State = State.PAUSED, first_rung: int = 0) -> Trial:
    results = tuple(
        RungResult(epoch=epoch, metrics={"dice": value}, clock_s=0.0)
        for epoch, value in zip((3, 9, 27), dice, strict=False)
    )
    epochs = results[-1].epoch if results else 0
    return Trial(
        number=number, params={"train.lr": 0.01, "model.width": 8}, state=state, results=results,
        granted=epochs, first_rung=first_rung,
    )  # fmt: skip


HALVING = Halving(rungs=(3, 9, 27), reduction=3, ranking=Ranking(spec_of()))


def test_one_in_three_is_promoted_and_the_highest_rung_comes_first() -> None:
    trials = [trial(0, 0.5), trial(1, 0.7), trial(2, 0.6)]
    assert [each.number for each in HALVING.promotable(trials)] == [1]
    assert HALVING.promotable(trials[:2]) == []
    trials += [trial(3, 0.8, 0.81), trial(4, 0.8, 0.83), trial(5, 0.8, 0.82)]
    # Of the lowest rung 6 trials: two may go on, which are 3 and 4, or 5 at the same value, and
    # these are further already.
    assert [each.number for each in HALVING.promotable(trials)] == [4]


def test_what_was_not_measured_keeps_no_limit() -> None:
    constraints = [{"metric": "latency_ms", "at_most": 10.0}]
    ranking = Ranking(spec_of(constraints=constraints))

    def measured(number: int, **metrics: float) -> Trial:
        result = RungResult(epoch=3, metrics=metrics, clock_s=0.0)
        return Trial(number=number, params={}, results=(result,))

    trials = [
        measured(0, dice=0.9), measured(1, dice=0.8, latency_ms=99.0),
        measured(2, dice=0.1, latency_ms=9.0), measured(3, dice=0.95),
    ]  # fmt: skip
    assert [each.number for each in ranking.best_first(trials, 3)] == [2, 1, 3, 0]


def test_a_trial_goes_on_at_once_if_it_is_among_the_best() -> None:
    others = [trial(0, 0.5), trial(1, 0.6)]
    good, bad = trial(2, 0.7, state=State.RUNNING), trial(2, 0.55, state=State.RUNNING)
    assert HALVING.goes_on(good, [*others, good])
    assert not HALVING.goes_on(bad, [*others, bad])


def test_a_late_bracket_is_not_judged_before_its_first_rung() -> None:
    late = trial(2, 0.1, state=State.RUNNING, first_rung=1)
    assert HALVING.goes_on(late, [trial(0, 0.5), trial(1, 0.6), late])
    # And it takes nobody's place in the rung that does not judge it.
    trials = [trial(0, 0.5), trial(1, 0.6), trial(3, 0.9, first_rung=1)]
    assert [each.number for each in HALVING.promotable(trials)] == [3]


def test_a_late_bracket_that_paused_all_the_same_goes_on() -> None:
    late = trial(2, 0.1, first_rung=1)
    assert HALVING.promotable([trial(0, 0.5), late]) == [late]


def test_a_copied_checkpoint_is_of_the_epoch_that_was_compared() -> None:
    worst, best = trial(0, 0.1), trial(1, 0.8, 0.9)
    space, ranking = spec_of().searched, Ranking(spec_of())
    chosen = exchange(worst, [worst, best], space, ranking, seed=0, keep=frozenset())
    assert chosen is not None
    assert copied(worst, chosen).copied_from == (1, 3)


def test_brackets_of_hyperband_get_their_shares() -> None:
    brackets = [first_rung_of(algorithm(schedule="hyperband"), n, 3) for n in range(170)]
    # n / (s + 1) * 3^s for s = 2, 1, 0 halvings: 9, 4.5 and 3 of 16.5.
    assert [brackets.count(bracket) for bracket in range(3)] == pytest.approx([93, 46, 31], abs=1)
    assert {first_rung_of(algorithm(), number, 3) for number in range(9)} == {0}


def test_the_worst_of_a_population_copies_the_best_and_changes_it() -> None:
    space, ranking = spec_of().searched, Ranking(spec_of())
    population = [trial(number, 0.1 * number) for number in range(5)]
    assert exchange(population[1], population, space, ranking, seed=0, keep=frozenset()) is None
    chosen = exchange(
        population[0], population, space, ranking, seed=0, keep=frozenset({"model.width"})
    )
    assert chosen is not None
    assert chosen.source.number == 4
    assert chosen.params["model.width"] == 8
    # A fifth of three decades either way.
    factor = float(chosen.params["train.lr"]) / 0.01
    assert factor == pytest.approx(10**0.6) or factor == pytest.approx(10**-0.6)


def test_an_exchange_takes_the_values_that_made_the_result_that_was_compared() -> None:
    """The source has copied another meanwhile, and has its values by now."""
    space, ranking = spec_of().searched, Ranking(spec_of())
    made_by = {"train.lr": 0.01, "model.width": 16}
    best = trial(1, 0.8)
    best = replace(best, results=(replace(best.results[0], params=made_by),))
    best = replace(best, params={"train.lr": 0.01, "model.width": 4})
    worst = trial(0, 0.1)
    chosen = exchange(worst, [worst, best], space, ranking, seed=0, keep=frozenset({"model.width"}))
    assert chosen is not None
    assert chosen.params["model.width"] == 16


def test_changed_values_stay_in_the_space() -> None:
    space = spec_of().searched
    rng = np.random.default_rng(0)
    for _ in range(100):
        point = perturbed({"train.lr": 0.09, "model.width": 4}, space, rng, frozenset())
        assert space.faults_of(point) == []


@pytest.mark.parametrize(
    ("trials", "each_better", "complete"),
    [(4, True, 0), (5, True, 1), (8, False, 0), (9, False, 1)],
)
def test_so_many_trials_bring_one_to_the_last_rung(
    trials: int, each_better: bool, complete: int
) -> None:
    """Rungs 3, 9, 27, one in 3: the luckiest order needs 1 + 2 * 2, the unluckiest 3 * 3."""
    order: dict[object, int] = {}

    def curve(params: Params) -> Curve:
        place = order.setdefault(params["train.lr"], len(order))
        dice = 0.1 + 0.01 * (place if each_better else -place)
        return Curve(epoch_s=1.0, metrics=[{"dice": dice}] * EPOCHS)

    settings = {"points": "random", "min_epochs": 3}
    spec = spec_of(algorithm=settings, budget={"trials": trials})
    study = played_study(spec, cards=1, curve=curve).study
    assert sum(each.state is State.COMPLETE for each in study.trials) == complete
    assert fewest_for_last(spec.algorithm, 3) == (5, 9)
    assert may_reach_last(spec.algorithm, trials, 3) == (trials >= 5)
    # Of a study that is over every paused trial was left behind.
    paused = {each.number for each in study.trials if each.state is State.PAUSED}
    assert dropped_of(study, (3, 9, 27), is_over=False) == paused
    more = Study(spec=spec_of(algorithm=settings, budget={"trials": 20}), trials=study.trials)
    assert dropped_of(more, (3, 9, 27), is_over=False) == frozenset()
    assert dropped_of(more, (3, 9, 27), is_over=True) == paused


def test_other_schedules_train_trials_to_the_end_and_hyperband_has_brackets_that_do() -> None:
    assert may_reach_last(algorithm(schedule="full"), 1, 1)
    assert may_reach_last(algorithm(schedule="population"), 2, 9)
    hyperband = algorithm(schedule="hyperband")
    firsts = [first_rung_of(hyperband, number, 3) for number in range(9)]
    # A trial whose bracket is judged at the last rung alone trains to the end.
    assert may_reach_last(hyperband, firsts.index(2) + 1, 3)
    assert not may_reach_last(hyperband, firsts.index(2), 3)
