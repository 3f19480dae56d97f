"""The next point to try. Each is a function of the study and of the trial's number alone, so a
controller that was killed goes on with the same points."""

import warnings
from collections.abc import Sequence

import numpy as np

from unet_dist.search.models import MODELS, Known, Observed
from unet_dist.search.space import Params, Space, Value
from unet_dist.search.trials import BAD_REGION, State, Study, Trial

FEWEST = {"cmaes": 10}
"""Results that a model needs whatever is asked for: CMA-ES begins from the best tenth of them."""
MODEL_TRIES, RANDOM_TRIES = 3, 100
"""Proposals that may repeat a trial, of a space of choices, before one is drawn at random: a trial
that repeats another one tells nothing new."""


def next_point(study: Study, number: int) -> dict[str, Value] | None:
    """The point of a new trial; None if there is none left (a grid that is done)."""
    spec, space = study.spec, study.spec.searched
    if number < len(spec.first):
        return dict(spec.first[number])
    rng = np.random.default_rng([spec.seed, number])
    points = spec.algorithm.points
    number -= len(spec.first)
    if points == "grid":
        grid = [p for p in space.grid(spec.algorithm.grid_points) if p not in spec.first]
        order = np.random.default_rng(spec.seed).permutation(len(grid))
        return grid[order[number]] if number < len(grid) else None
    if points == "quasi_random":
        return space.at(_sobol(len(space), number, spec.seed))
    model = MODELS.get(points)
    if model is None:
        return space.at(rng.random(len(space)).tolist())
    tried = [trial.params for trial in study.trials]
    if rng.random() < spec.algorithm.explore:
        return _untried(space, tried, rng)
    least = max(spec.algorithm.first_random, FEWEST.get(points, 1))
    observed = observations(study, least=least)
    if observed is None:
        # Spread evenly until there is something to learn from.
        return space.at(_sobol(len(space), number, spec.seed))
    seed = int(rng.integers(2**31))
    begun = (State.RUNNING, State.WAITING)
    pending = [t.params for t in study.trials if t.state in begun and not t.results]
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        # Of arguments whose behaviour the tests hold.
        warnings.simplefilter("ignore", ExperimentalWarning)
        known = Known(space=space, observed=observed, pending=pending, tried=tried)
        for attempt in range(MODEL_TRIES):
            point = model(known, seed + attempt)
            if point not in tried:
                return point
    return _untried(space, tried, rng)


def _untried(space: Space, tried: Sequence[Params], rng: np.random.Generator) -> dict[str, Value]:
    """Drawn at random; where nearly all is tried, any point."""
    for _ in range(RANDOM_TRIES):
        point = space.at(rng.random(len(space)).tolist())
        if point not in tried:
            break
    return point


def observations(study: Study, *, least: int) -> Observed | None:
    """What every trial costs: its place among all, 0 for the best to 1.

    Two trials are compared at the highest rung that both have a result of, and who loses more
    comparisons has the later place; so results of different rungs, several objectives and broken
    constraints make one order. That the one went further than the other does not count by itself:
    the first trials are promoted for want of better ones. (BOHB, Falkner et al., ICML 2018, models
    the highest rung with enough results alone.) Points that failed by their own fault cost 1,
    however good they were at the rungs before.
    """
    bad = [t for t in study.trials if t.state in BAD_REGION]
    judged = [t for t in study.trials if t.state not in BAD_REGION and t.results]
    if len(judged) < least:
        return None
    lost = _comparisons_lost(study, judged)
    ordered = [judged[index] for index in np.argsort(lost, kind="stable")]
    places = [number / len(ordered) for number in range(len(ordered))]
    points = [trial.params_at(trial.epochs) for trial in (*ordered, *bad)]
    return points, [*places, *([1.0] * len(bad))]


def _comparisons_lost(study: Study, trials: Sequence[Trial]) -> np.ndarray:
    """By trial. Trials that reach a rung have passed all before it."""
    furthest = np.array([trial.epochs for trial in trials])
    shared = np.minimum(furthest[:, None], furthest[None, :])
    lost = np.zeros(len(trials), dtype=int)
    index_of = {trial.number: index for index, trial in enumerate(trials)}
    for epoch in np.unique(furthest):
        place = np.zeros(len(trials), dtype=int)
        there = [trial for trial in trials if trial.result_at(epoch) is not None]
        for number, trial in enumerate(study.ranking.best_first(there, epoch)):
            place[index_of[trial.number]] = number
        lost += ((shared == epoch) & (place[:, None] > place[None, :])).sum(axis=1)
    return lost


def _sobol(dimensions: int, number: int, seed: int) -> Sequence[float]:
    """Point ``number`` of a scrambled Sobol sequence."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    if number:  # SciPy fails on 0
        sequence.fast_forward(number)
    return list(map(float, sequence.random(1)[0]))
