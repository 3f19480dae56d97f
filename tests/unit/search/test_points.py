from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import IntDistribution

from tests.unit.search.studies import EPOCHS, spec_of
from unet_dist.search.importance import importances
from unet_dist.search.models import MODELS, Known
from unet_dist.search.optuna_models import axes_of
from unet_dist.search.points import next_point, observations
from unet_dist.search.space import Params
from unet_dist.search.spec import SearchSpec
from unet_dist.search.trials import RungResult, State, Study, Trial

SPACE = {
    "train.lr": {"float": [1e-4, 1e-1], "log": True},
    "train.optimizer": {"choice": ["adamw", "sgd"]},
    "train.momentum": {"float": [0.5, 0.99], "when": {"train.optimizer": ["sgd"]}},
    "model.depth": {"int": [1, 6]},
}
ALL = ["random", "quasi_random", "grid", "tpe", "gp", "cmaes"]


def quality(params: Params) -> float:
    """Best at a rate of 1e-2 and depth 4."""
    rate, depth = np.log10(float(params["train.lr"])), int(params["model.depth"])
    return float(1 - 0.2 * (rate + 2) ** 2 - 0.03 * (depth - 4) ** 2)


def study_of(spec: SearchSpec, number: int, *, epoch: int = EPOCHS) -> Study:
    """A study whose first trials are done."""
    trials: tuple[Trial, ...] = ()
    for index in range(number):
        point = next_point(Study(spec=spec, trials=trials), index)
        assert point is not None
        assert spec.searched.faults_of(point) == []
        result = RungResult(epoch=epoch, metrics={"dice": quality(point)}, clock_s=0.0)
        trials += (
            Trial(
                number=index, params=point, state=State.COMPLETE, results=(result,), granted=epoch
            ),
        )
    return Study(spec=spec, trials=trials)


def spec_with(points: str, **settings: object) -> SearchSpec:
    return spec_of(space=SPACE, algorithm={"points": points, "explore": 0.0}, **settings)


@pytest.mark.parametrize("points", ALL)
def test_points_lie_in_the_space_and_do_not_depend_on_the_process(points: str) -> None:
    spec = spec_with(points)
    first, again = study_of(spec, 12), study_of(spec, 12)
    assert [t.params for t in first.trials] == [t.params for t in again.trials]
    other = study_of(spec_with(points, seed=1), 12)
    assert [t.params for t in first.trials] != [t.params for t in other.trials]


@pytest.mark.parametrize(("points", "seeds"), [("tpe", 3), ("gp", 1), ("cmaes", 3)])
def test_models_come_closer_than_chance(points: str, seeds: int) -> None:
    def late(kind: str, number: int) -> float:
        studies = [study_of(spec_with(kind, seed=seed), 24) for seed in range(number)]
        return float(np.mean([[quality(t.params) for t in s.trials[12:]] for s in studies]))

    assert late(points, seeds) > late("random", 10) + 0.05


def test_a_low_discrepancy_sequence_covers_the_space_evenly() -> None:
    spec = spec_of(space={"a": {"float": [0, 1]}} | {"train.lr": SPACE["train.lr"]},
                   algorithm={"points": "quasi_random"})  # fmt: skip
    values = [float(next_point(Study(spec=spec), n)["a"]) for n in range(32)]  # type: ignore[index]
    assert sorted(int(value * 32) for value in values) == list(range(32))


def test_a_grid_has_every_combination_once() -> None:
    spec = spec_of(space=SPACE, algorithm={"points": "grid", "grid_points": 2})
    points = []
    while (point := next_point(Study(spec=spec), len(points))) is not None:
        points.append(tuple(sorted(point.items())))
    # 2 rates, 2 depths, and adamw or sgd with 2 momenta.
    assert len(points) == len(set(points)) == 2 * 2 * 3


def test_trials_are_compared_where_both_have_a_result() -> None:
    """After 3 epochs 0 beats all; after 9 epochs 2 beats 1, whatever was before; 3 beats none. That
    1 and 2 were promoted before 0 was there does not make them better."""

    def trial(number: int, **dice: float) -> Trial:
        results = tuple(
            RungResult(epoch=int(epoch[1:]), metrics={"dice": value}, clock_s=0.0)
            for epoch, value in dice.items()
        )
        return Trial(number=number, params={"n": number}, state=State.PAUSED, results=results)

    trials = (
        trial(0, e3=0.9),
        trial(1, e3=0.5, e9=0.6),
        trial(2, e3=0.4, e9=0.7),
        trial(3, e3=0.1),
    )
    # However good it was at a rung before it diverged.
    diverged = replace(trial(4, e3=0.9, e9=0.9), state=State.FAILED_DIVERGED)
    broken = Trial(number=5, params={"n": 5}, state=State.FAILED_INFRASTRUCTURE)
    study = Study(spec=spec_of(), trials=(*trials, diverged, broken))
    observed = observations(study, least=4)
    assert observed is not None
    assert [point["n"] for point in observed[0]] == [0, 2, 1, 3, 4]
    assert observed[1] == [0, 0.25, 0.5, 0.75, 1.0]
    assert observations(study, least=5) is None


def test_a_trial_is_either_observed_or_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(spec_with("quasi_random"), 12)
    running = [replace(trial, state=State.RUNNING) for trial in study.trials[:2]]
    begun = [replace(study.trials[2], state=State.RUNNING, results=())]
    study = Study(spec=spec_with("tpe"), trials=(*running, *begun, *study.trials[3:]))
    asked = []

    def model(known: Known, seed: int) -> Params:
        asked.append((known.observed[0], known.pending))
        return {}

    monkeypatch.setitem(MODELS, "tpe", model)  # type: ignore[arg-type]
    next_point(study, 12)
    ((points, pending),) = asked
    assert len(points) == 11
    assert all(trial.params in points for trial in running)
    assert pending == [begun[0].params]


def test_the_setting_that_matters_is_the_most_important() -> None:
    study = study_of(spec_with("quasi_random"), 40)
    shares = importances(study)
    assert max(shares, key=lambda key: shares[key]) == "train.lr"
    assert "train.momentum" not in shares
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(study_of(spec_with("random"), 3)) == {}


@pytest.mark.parametrize("points", ["tpe", "gp"])
def test_a_model_repeats_no_trial_while_others_are_left(points: str) -> None:
    spec = SearchSpec.model_validate(
        {
            "base": "base.yaml",
            "space": {"model.depth": {"int": [1, 4]}, "model.norm": {"choice": ["batch", "group"]}},
            "algorithm": {"points": points, "first_random": 1, "explore": 0.0},
        }
    )
    tried: tuple[Trial, ...] = ()
    for number in range(8):
        point = next_point(Study(spec=spec, trials=tried), number)
        assert point is not None
        assert point not in [trial.params for trial in tried], number
        result = RungResult(epoch=3, metrics={"dice": 0.1 * number}, clock_s=float(number))
        done = Trial(number=number, params=point, state=State.COMPLETE, results=(result,))
        tried = (*tried, done)


def test_where_the_best_is_tried_already_a_model_proposes_the_best_of_the_others() -> None:
    """Beside the best point one is left, and three in the corners far from it."""

    def dice(depth: int, width: int) -> float:
        return -((depth - 3) ** 2) - (width - 3) ** 2

    side = range(6)
    spec = spec_of(
        space={"model.depth": {"int": [0, 5]}, "model.width": {"choice": list(reversed(side))}},
        algorithm={"points": "tpe", "explore": 0.0},
    )
    left = [(3, 4), (0, 0), (5, 0), (0, 5)]
    points = [(a, b) for a in side for b in side if (a, b) not in left]
    tried = tuple(
        Trial(
            number=number,
            params={"model.depth": a, "model.width": b},
            state=State.COMPLETE,
            results=(RungResult(epoch=3, metrics={"dice": dice(a, b)}, clock_s=0),),
        )
        for number, (a, b) in enumerate(points)
    )
    for seed in range(5):
        study = Study(spec=spec.model_copy(update={"seed": seed}), trials=tried)
        assert next_point(study, len(tried)) == {"model.depth": 3, "model.width": 4}


def test_choices_that_are_numbers_are_steps_in_their_order() -> None:
    axes = axes_of(
        spec_of(space={
            "a": {"choice": [8, 2, 4.0]}, "b": {"choice": [4, 2]}, "c": {"choice": [True, 2, 4]},
            "d": {"choice": ["x", "y", "z"]},
        }).searched
    )  # fmt: skip
    assert [axes["a"].told(value) for value in (8, 2, 4.0)] == [2, 0, 1]
    assert [isinstance(axes[key].kind, IntDistribution) for key in "abcd"] == [True] + [False] * 3
    assert [axes["b"].told(value) for value in (4, 2)] == [0, 1]


@pytest.mark.parametrize("points", ["tpe", "gp", "cmaes"])
@pytest.mark.parametrize("number", [1, 2, 9, 11])
def test_a_model_may_be_asked_for_after_very_few_results(points: str, number: int) -> None:
    algorithm = {"points": points, "first_random": 1, "explore": 0.0}
    spec = spec_of(space=SPACE, algorithm=algorithm)
    assert next_point(study_of(spec, number), number) is not None
