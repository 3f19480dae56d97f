"""The winner: the best trials trained again with several seeds, chosen by the mean of what the
validation images say. The test images are never looked at.

All trials of a search are trained with the seed of the base configuration. The seeds of the
retraining are those that follow it, so no result that made a trial one of the best counts again;
the base has the same seeds, to be compared seed by seed.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unet_dist.data.balance import half_width
from unet_dist.errors import UserError
from unet_dist.search.space import Parameter, Params, Value
from unet_dist.search.spec import AlgorithmSpec, BudgetSpec, RetrainSpec, SearchSpec
from unet_dist.search.trials import Ranking, RungResult, State, Study, Trial

SEED = "seed"
SEEDS = 2**32
"""How many there are (``Config.seed``)."""
FEWEST = 3
"""Seeds that an interval is told of: Student's t over two reaches 12.7 standard errors to either
side, so it holds nearly anything."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A point, and what it reached with each seed."""

    trial: int | None
    """Of the search; None for a base that was no trial of it."""
    params: Params
    values: tuple[float, ...]
    """Of the first objective, by seed."""
    seeds: tuple[int, ...] = ()
    """That it was trained again with; none for the result of the search itself."""
    is_base: bool = False
    """Whether it is the base configuration."""
    metrics: dict[str, float]
    """Means over the seeds."""
    epoch: int
    metric: str = ""
    """The first objective."""
    runs: tuple[int, ...] = ()
    """By seed, the number of its training (``StudyDir.retrained``)."""
    in_search: tuple[float, int] | None = None
    """The first objective and the epoch where the search itself left it, before other seeds; None
    if it had no such result, or if that is all there is."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def name(self) -> str:
        """For example ``trial 7``, ``trial 0, the base``."""
        if self.trial is None:
            return "the base"
        return f"trial {self.trial}" + (", the base" if self.is_base else "")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % for the mean over seeds, by Student's t, as far as the metric can lie there;
        undefined with fewer than ``FEWEST`` seeds."""
        if len(self.values) < FEWEST:
            return math.nan, math.nan
        half = half_width(len(self.values), statistics.stdev(self.values))
        lowest, highest = bounds_of(self.metric)
        return max(lowest, self.mean - half), min(highest, self.mean + half)

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "trial": self.trial,
            "name": self.name,
            "is_base": self.is_base,
            "params": dict(self.params),
            "values": list(self.values),
            "seeds": list(self.seeds),
            "runs": list(self.runs),
            "in_search": list(self.in_search) if self.in_search else None,
            "mean": self.mean,
            "interval": None if math.isnan(low) else [low, high],
            "metrics": self.metrics,
            "epoch": self.epoch,
        }


def bounds_of(metric: str) -> tuple[float, float]:
    """Where its values can lie."""
    return (0.0, 1.0) if metric in ("dice", "iou") else (-math.inf, math.inf)


def best_of(spec: SearchSpec, study: Study) -> list[Trial]:
    """The trials to be trained again. Of several with one point, which repeat one training, the
    best."""
    ordered = study.ranking.best_so_far(study.trials)
    return _distinct([t for t in ordered if t.state is not State.RUNNING])[: spec.retrain.top]


def _distinct(trials: Sequence[Trial]) -> list[Trial]:
    """The first of each point."""
    found: list[Trial] = []
    for trial in trials:
        if values_of(trial) not in map(values_of, found):
            found.append(trial)
    return found


def seeds_after(seed: int, number: int) -> tuple[int, ...]:
    """Those of the retraining, where the search had ``seed``; after the largest comes 0."""
    return tuple((seed + step) % SEEDS for step in range(1, number + 1))


def retraining(
    spec: SearchSpec,
    top: Sequence[Trial],
    known: Sequence[Params],
    base: Params | None = None,
    *,
    seed: int,
) -> SearchSpec:
    """A study of its own: each of the best trials with each seed, to the end, then the base.

    Args:
        seed: that the search had.
        known: points that it has already, of an earlier start; they keep their numbers.
        base: the base configuration as a point, or without any value if it is outside the space.

    Raises:
        UserError: known points have other seeds, and a database keeps the choice of a key.
    """
    seeds = seeds_after(seed, spec.retrain.seeds)
    if strange := sorted({str(point[SEED]) for point in known} - set(map(str, seeds))):
        raise UserError(
            "retrain.seeds",
            f"the best were trained again with seed {', '.join(strange)} by an earlier start, but "
            f"now it would be {', '.join(map(str, seeds))}: set it as it was, or begin a new study",
        )
    chosen = [values_of(trial) for trial in top] + ([] if base is None else [dict(base)])
    points = [dict(point) for point in known]
    for point in ({**values, SEED: seed} for values in chosen for seed in seeds):
        if point not in points:
            points.append(point)
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
    spec: SearchSpec,
    top: Sequence[Trial],
    study: Study,
    again: Study | None,
    base: Params | None = None,
) -> list[Candidate]:
    """The best first: those of the best that were trained again, and the base among them, or
    without any the best trial."""
    metric = spec.objectives[0].metric
    wanted: list[tuple[Trial | None, Params]] = [
        (trial, values_of(trial)) for trial in _distinct(top)
    ]
    if base is not None and base not in [values for _, values in wanted]:
        tried = [trial for trial in study.trials if values_of(trial) == base]
        wanted.append((tried[0] if tried else None, base))
    found: list[Candidate] = []
    for trial, values in wanted:
        seeds = [
            each
            for each in (again.trials if again else ())
            if each.state is State.COMPLETE
            and metric in each.results[-1].metrics
            and without_seed(each) == values
        ]
        if seeds:
            found.append(_of_seeds(spec, trial, seeds, is_base=values == base))
    if not found:
        for trial in study.ranking.best_so_far(study.trials):
            if (best := candidate_at(spec, trial, trial.epochs, base)) is not None:
                return [best]
    most = max((len(each.values) for each in found), default=0)
    # One whose seeds failed in part is no winner beside those whose seeds all came to the end.
    found = [each for each in found if len(each.values) == most]
    return _ranked(spec, found)


def name_again(trial: Trial, searched: Sequence[Trial]) -> str:
    """Of a trial of ``retraining``, by whose point it has: for example ``trial 3, seed 1``; its own
    number is that of its folder alone.

    Args:
        searched: the trials of the search, those first that are trained again.
    """
    same = [each.number for each in searched if values_of(each) == without_seed(trial)]
    return (
        f"trial {same[0]}, seed {_seed_of(trial)}" if same else f"the base, seed {_seed_of(trial)}"
    )


def values_of(trial: Trial) -> dict[str, Value]:
    """That made its last result."""
    return dict(trial.params_at(trial.epochs))


def without_seed(trial: Trial) -> dict[str, Value]:
    return {key: value for key, value in values_of(trial).items() if key != SEED}


def candidate_at(
    spec: SearchSpec, trial: Trial, epoch: int, base: Params | None
) -> Candidate | None:
    """A trial of the search itself; None if it has no value there."""
    result, metric = trial.result_at(epoch), spec.objectives[0].metric
    if result is None or metric not in result.metrics:
        return None
    params = dict(trial.params_at(epoch))
    return Candidate(
        trial=trial.number,
        params=params,
        values=(result.metrics[metric],),
        metrics=dict(result.metrics),
        metric=metric,
        epoch=epoch,
        is_base=params == base,
    )


def _of_seeds(
    spec: SearchSpec, searched: Trial | None, trials: Sequence[Trial], *, is_base: bool
) -> Candidate:
    """
    Args:
        searched: the trial of the search whose point they have, if it is one of them.
    """
    results = [trial.results[-1].metrics for trial in trials]
    names = sorted(set.intersection(*(set(each) for each in results)))
    metric = spec.objectives[0].metric
    return Candidate(
        trial=searched.number if searched else None,
        params=without_seed(trials[0]),
        values=tuple(each[metric] for each in results),
        seeds=tuple(_seed_of(trial) for trial in trials),
        runs=tuple(trial.number for trial in trials),
        metric=metric,
        metrics={name: statistics.fmean(each[name] for each in results) for name in names},
        epoch=trials[0].epochs,
        is_base=is_base,
        in_search=_last_of(searched, metric) if searched else None,
    )


def _last_of(trial: Trial, metric: str) -> tuple[float, int] | None:
    value = trial.results[-1].metrics.get(metric) if trial.results else None
    return None if value is None else (value, trial.epochs)


def _seed_of(trial: Trial) -> int:
    seed = trial.params[SEED]
    assert isinstance(seed, int)  # see retraining
    return seed


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
