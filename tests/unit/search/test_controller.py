from dataclasses import replace
from itertools import pairwise

import pytest

from tests.unit.search.studies import (
    EPOCHS,
    controller_of,
    leases_of,
    played_study,
    spec_of,
    states,
    vessel_curve,
)
from unet_dist.search.controller import Controller
from unet_dist.search.executor import Reached
from unet_dist.search.played import Curve, InMemory
from unet_dist.search.space import Params
from unet_dist.search.trials import State, Trial

RANDOM = {"points": "random"}


@pytest.mark.parametrize("schedule", ["full", "halving", "hyperband", "population"])
@pytest.mark.parametrize("points", ["random", "quasi_random", "tpe"])
def test_a_study_runs_to_its_end(schedule: str, points: str) -> None:
    spec = spec_of(algorithm={"points": points, "schedule": schedule}, budget={"trials": 30})
    controller = played_study(spec)
    assert len(controller.study.trials) == 30
    assert set(states(controller)) <= {State.PAUSED, State.COMPLETE}
    assert states(controller)[State.COMPLETE] >= 1
    best = controller.study.ranking.best_so_far(controller.study.trials)[0]
    assert best.epochs == EPOCHS
    assert best.results[-1].metrics["dice"] > 0.75
    if schedule in ("full", "population"):
        assert states(controller) == {State.COMPLETE: 30}


def test_halving_takes_a_fraction_of_the_time() -> None:
    trials = {"trials": 27}
    full = played_study(spec_of(algorithm={**RANDOM, "schedule": "full"}, budget=trials))
    halving = played_study(spec_of(algorithm=RANDOM, budget=trials))
    # Without early mistakes: 27 * 3 + 9 * 6 + 3 * 18 epochs in place of 27 * 27, thus a quarter.
    used = [sum(t.card_s for t in each.study.trials) for each in (full, halving)]
    assert used[1] < 0.4 * used[0]
    reached = [len([t for t in halving.study.trials if t.epochs >= rung]) for rung in (3, 9, 27)]
    assert reached[0] == 27
    assert 9 <= reached[1] <= 14
    assert 3 <= reached[2] <= 7


def test_no_card_is_lent_twice_at_a_time() -> None:
    spec = spec_of(
        space={"train.lr": {"float": [1e-4, 0.1], "log": True}, "model.width": {"choice": [4, 8]},
               "cards": {"choice": [1, 2, 4]}},
        algorithm=RANDOM, budget={"trials": 40},
    )  # fmt: skip
    controller = played_study(spec, cards=8)
    log = leases_of(controller)
    for card in range(8):
        spans = sorted((since, until) for since, until, _, cards in log if card in cards)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    widths = {trial.number: trial.params["cards"] for trial in controller.study.trials}
    assert all(len(cards) == widths[number] for _, _, number, cards in log)
    assert controller.cards.leases == {}


def test_later_rungs_may_take_more_cards() -> None:
    controller = played_study(spec_of(algorithm=RANDOM, budget={"trials": 9}, cards=(1, 2)))
    widths: dict[int, list[int]] = {}
    for _, _, number, cards in leases_of(controller):
        widths.setdefault(number, []).append(len(cards))
    assert all(held[0] == 1 and set(held[1:]) <= {2} for held in widths.values())
    assert any(len(held) > 1 for held in widths.values())


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ({"hours": 0.05}, "budget.hours"),
        ({"card_hours": 0.1}, "budget.card_hours"),
        ({"patience": 5}, "budget.patience"),
    ],
)
def test_budgets_end_a_study(budget: dict[str, float], why: str) -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 500, **budget})
    controller = controller_of(spec)
    assert controller.run().startswith(why)
    assert len(controller.study.trials) < 100
    assert controller.cards.leases == {}
    assert not states(controller).get(State.RUNNING)
    used = sum(trial.card_s for trial in controller.study.trials) / 3600
    # The clock of a played study jumps from rung to rung.
    assert used <= budget.get("card_hours", 99) * 1.3


def test_a_trial_too_many_of_another_controller_waits_until_more_are_asked_for() -> None:
    store = InMemory(clock=lambda: 0.0)
    controller = controller_of(spec_of(algorithm=RANDOM, budget={"trials": 4}), store=store)
    point = {"train.lr": 0.01, "model.width": 8}
    for number in range(5):
        store.trials[number] = Trial(number=number, params=point)
    controller.run()
    assert [trial.number for trial in controller.study.trials] == [0, 1, 2, 3]
    assert store.trials[4].state is State.WAITING
    more = controller_of(spec_of(algorithm=RANDOM, budget={"trials": 5}), store=store)
    more.run()
    assert store.trials[4].state in (State.PAUSED, State.COMPLETE)


class TakenOver(InMemory):
    """Another controller has taken trial 1, and is done with it."""

    taken: bool = False

    def take(self, controller: Controller) -> None:
        if 1 in controller.mine and not self.taken:
            self.taken = True
            self.trials[1] = replace(controller.trial(1), state=State.FAILED_USER, reason="other")

    def save(self, trial: Trial) -> None:
        if not (self.taken and trial.number == 1):
            super().save(trial)

    def lost(self) -> set[int]:
        return {1} if self.taken else set()


def test_the_ranks_of_a_trial_that_another_controller_took_over_stop() -> None:
    store = TakenOver(clock=lambda: 0.0)
    first = [{"train.lr": 0.01, "model.width": 4}, {"train.lr": 0.01, "model.width": 16}]
    spec = spec_of(algorithm=RANDOM, budget={"trials": 2}, first=first)
    controller = controller_of(spec, store=store)
    controller.on_change = store.take
    controller.run()
    [(began, ended, _, _)] = [lease for lease in leases_of(controller) if lease[2] == 1]
    # When the other trial reaches its rung; its own is 5 s for the start and 3 epochs of 20 s.
    assert ended - began == 5 + 3 * 5
    assert controller.trial(1).reason == "other"
    assert controller.cards.leases == {}


def test_every_result_of_a_population_has_the_values_that_made_it() -> None:
    algorithm = {**RANDOM, "schedule": "population", "min_epochs": 3}
    controller = played_study(spec_of(algorithm=algorithm, budget={"trials": 10}))
    moved = [trial for trial in controller.study.trials if trial.copied_from is not None]
    assert moved
    for trial in controller.study.trials:
        for result in trial.results:
            made_by = vessel_curve(trial.params_at(result.epoch)).metrics[result.epoch - 1]
            assert result.metrics == made_by
    assert any(trial.params_at(3) != trial.params for trial in moved)


def test_points_to_try_first_come_first() -> None:
    first = [{"train.lr": 0.005, "model.width": 8}, {"train.lr": 0.006, "model.width": 16}]
    controller = played_study(spec_of(first=first, algorithm=RANDOM, budget={"trials": 4}))
    assert [dict(trial.params) for trial in controller.study.trials[:2]] == first


def test_a_grid_ends_when_it_is_done() -> None:
    controller = played_study(
        spec_of(algorithm={"points": "grid", "grid_points": 3, "schedule": "full"})
    )
    points = [tuple(sorted(trial.params.items())) for trial in controller.study.trials]
    assert len(points) == len(set(points)) == 9


def test_a_killed_trial_is_not_judged_twice() -> None:
    """A controller that died between a rung and its answer finds the trial paused."""
    at_rung = Trial(number=0, params={}, granted=3)
    result = Reached(trial=0, epoch=3, metrics={"dice": 0.5})
    assert at_rung.at_rest(EPOCHS) is State.WAITING
    from unet_dist.search.trials import RungResult

    judged = at_rung.with_result(
        RungResult(epoch=result.epoch, metrics=result.metrics, clock_s=1.0)
    )
    assert judged.at_rest(EPOCHS) is State.PAUSED
    assert replace(judged, granted=9).at_rest(EPOCHS) is State.WAITING


def test_a_hundred_trials_take_less_than_ten_seconds() -> None:
    import time

    started = time.process_time()
    played_study(spec_of(budget={"trials": 100}))
    assert time.process_time() - started < 10


def test_constraints_come_before_the_objective() -> None:
    spec = spec_of(
        algorithm={**RANDOM, "schedule": "full"}, budget={"trials": 20},
        constraints=[{"metric": "parameters", "at_most": 70_000}],
    )  # fmt: skip
    controller = played_study(spec)
    best = controller.study.ranking.best_so_far(controller.study.trials)
    kept = [trial.params["model.width"] != 16 for trial in best]
    assert kept == sorted(kept, reverse=True)
    assert True in kept
    assert False in kept


def test_several_objectives_keep_their_front() -> None:
    def curve(params: Params) -> Curve:
        width = int(params["model.width"])
        metrics = {"dice": 0.5 + 0.1 * width / 16, "parameters": float(width)}
        return Curve(epoch_s=1.0, metrics=[metrics] * EPOCHS)

    spec = spec_of(
        objectives=[{"metric": "dice"}, {"metric": "parameters", "goal": "minimize"}],
        algorithm=RANDOM, budget={"trials": 27},
    )  # fmt: skip
    controller = played_study(spec, curve=curve)
    finished = {t.params["model.width"] for t in controller.study.trials if t.epochs == EPOCHS}
    assert finished == {4, 8, 16}
