"""The winner: the best trials trained again with several seeds, chosen by the mean of what the
validation images say. The test images are never looked at."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unet_dist.data.balance import half_width
from unet_dist.search.space import Parameter, Params, Value
from unet_dist.search.spec import AlgorithmSpec, BudgetSpec, RetrainSpec, SearchSpec
from unet_dist.search.trials import Ranking, RungResult, State, Study, Trial

SEED = "seed"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A point, and what it reached with each seed."""

    trial: int
    """Of the search."""
    params: Params
    values: tuple[float, ...]
    """Of the first objective, by seed."""
    metrics: dict[str, float]
    """Means over the seeds."""
    epoch: int

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % for the mean over seeds, by Student's t; undefined with one seed."""
        if len(self.values) < 2:
            return math.nan, math.nan
        half = half_width(len(self.values), statistics.stdev(self.values))
        return self.mean - half, self.mean + half

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "trial": self.trial,
            "params": dict(self.params),
            "values": list(self.values),
            "mean": self.mean,
            "interval": None if math.isnan(low) else [low, high],
            "metrics": self.metrics,
            "epoch": self.epoch,
        }


def best_of(spec: SearchSpec, study: Study) -> list[Trial]:
    """The trials to be trained again."""
    ordered = study.ranking.best_so_far(study.trials)
    return [t for t in ordered if t.state is not State.RUNNING][: spec.retrain.top]


def retraining(spec: SearchSpec, top: Sequence[Trial], known: Sequence[Params]) -> SearchSpec:
    """A study of its own: each of the best trials with each seed, to the end.

    Args:
        known: points that it has already, of an earlier start; they keep their numbers.
    """
    seeds = tuple(range(spec.seed + 1, spec.seed + 1 + spec.retrain.seeds))
    wanted = [{**values_of(trial), SEED: seed} for trial in top for seed in seeds]
    points = [dict(point) for point in known]
    points += [point for point in wanted if point not in points]
    return spec.model_copy(
        update={
            "space": {**spec.space, SEED: Parameter(choice=seeds)},
            "first": tuple(points),
            "algorithm": AlgorithmSpec(points="random", schedule="full"),
            "budget": BudgetSpec(trials=len(points), memory_gb=spec.budget.memory_gb),
            "retrain": RetrainSpec(top=0),
        }
    )


def candidates(
    spec: SearchSpec, top: Sequence[Trial], study: Study, again: Study | None
) -> list[Candidate]:
    """The best first: those of the best that were trained again, or without any the best trial."""
    metric = spec.objectives[0].metric
    found: list[Candidate] = []
    for trial in top:
        seeds = [
            each
            for each in (again.trials if again else ())
            if each.state is State.COMPLETE
            and metric in each.results[-1].metrics
            and without_seed(each) == values_of(trial)
        ]
        if seeds:
            found.append(_candidate(spec, trial.number, seeds))
    if not found:
        ordered = study.ranking.best_so_far(study.trials)
        usable = [trial for trial in ordered if metric in trial.results[-1].metrics]
        found = [_candidate(spec, trial.number, [trial]) for trial in usable[:1]]
    most = max((len(each.values) for each in found), default=0)
    # One whose seeds failed in part is no winner beside those whose seeds all came to the end.
    found = [each for each in found if len(each.values) == most]
    return _ranked(spec, found)


def values_of(trial: Trial) -> dict[str, Value]:
    """That made its last result."""
    return dict(trial.params_at(trial.epochs))


def without_seed(trial: Trial) -> dict[str, Value]:
    return {key: value for key, value in values_of(trial).items() if key != SEED}


def _candidate(spec: SearchSpec, number: int, trials: Sequence[Trial]) -> Candidate:
    results = [trial.results[-1].metrics for trial in trials]
    names = sorted(set.intersection(*(set(each) for each in results)))
    return Candidate(
        trial=number,
        params=without_seed(trials[0]),
        values=tuple(each[spec.objectives[0].metric] for each in results),
        metrics={name: statistics.fmean(each[name] for each in results) for name in names},
        epoch=trials[0].epochs,
    )


def _ranked(spec: SearchSpec, found: Sequence[Candidate]) -> list[Candidate]:
    """As trials are ranked, by the means."""
    as_trials = [
        Trial(
            number=number,
            params=each.params,
            results=(RungResult(epoch=1, metrics=each.metrics, clock_s=0.0),),
        )
        for number, each in enumerate(found)
    ]
    return [found[trial.number] for trial in Ranking(spec).best_first(as_trials, 1)]
