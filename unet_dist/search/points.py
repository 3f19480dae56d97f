"""The next point to try. Each is a function of the study and of the trial's number alone, so a
controller that was killed goes on with the same points."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unet_dist.search.space import Parameter, Params, Space, Value
from unet_dist.search.trials import BAD_REGION, State, Study

Observed = tuple[list[Params], list[float]]
"""Points, and what they cost, the smaller the better."""


FEWEST = {"cmaes": 10}
"""Results that a model needs whatever is asked for: CMA-ES begins from the best tenth of them."""
MODEL_TRIES, RANDOM_TRIES = 3, 100
"""Proposals that may repeat a trial, of a space of choices, before one is drawn at random: a trial
that repeats another one tells nothing new."""
NOT_TRIED = 0.01
"""Distance from every point so far, as a share of the space's side."""


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
    if model is None or rng.random() < spec.algorithm.explore:
        return space.at(rng.random(len(space)).tolist())
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
        tried = [trial.params for trial in study.trials]
        for attempt in range(MODEL_TRIES):
            point = model(space, observed, pending, seed + attempt)
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

    Trials that went furthest come first, since what was not promoted was found worse; so results
    of different rungs, several objectives and broken constraints make one order. (BOHB, Falkner et
    al., ICML 2018, models the highest rung with enough results alone, and keeps proposing what a
    lower rung turns down; see ``tools/compare_searches.py``.) Points that failed by their own fault
    cost 1, however good they were at the rungs before.
    """
    bad = [t for t in study.trials if t.state in BAD_REGION]
    ordered = study.ranking.best_so_far(t for t in study.trials if t.state not in BAD_REGION)
    if len(ordered) < least:
        return None
    places = [number / len(ordered) for number in range(len(ordered))]
    points = [trial.params_at(trial.epochs) for trial in (*ordered, *bad)]
    return points, [*places, *([1.0] * len(bad))]


def _sobol(dimensions: int, number: int, seed: int) -> Sequence[float]:
    """Point ``number`` of a scrambled Sobol sequence."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    if number:  # SciPy fails on 0
        sequence.fast_forward(number)
    return list(map(float, sequence.random(1)[0]))


def _tpe(
    space: Space, observed: Observed, pending: Sequence[Params], seed: int
) -> dict[str, Value]:
    import optuna

    return _ask_optuna(
        space,
        observed,
        pending,
        optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=0, multivariate=True, group=space.conditional,
            constant_liar=True,
        ),
    )  # fmt: skip


def _cmaes(
    space: Space, observed: Observed, pending: Sequence[Params], seed: int
) -> dict[str, Value]:
    """CMA-ES warm-started anew from the results (Nomura et al., AAAI 2021): without a state of its
    own it survives a kill. Choices and conditional keys, which it cannot move, are drawn at
    random."""
    import optuna

    moved = Space({k: p for k, p in space.parameters.items() if not (p.choice or p.when)})
    chosen: dict[str, Value] = {}
    if len(moved):
        points: list[Params] = [
            {key: point[key] for key in moved.parameters} for point in observed[0]
        ]
        trials = optuna_trials(moved, (points, observed[1]), [])
        sampler = optuna.samplers.CmaEsSampler(
            seed=seed, source_trials=trials, n_startup_trials=0, warn_independent_sampling=False
        )
        # One trial tells Optuna which keys there are to move.
        best = int(np.argmin(observed[1]))
        chosen = _ask_optuna(moved, ([points[best]], [observed[1][best]]), [], sampler)
    shares = np.random.default_rng(seed).random(len(space)).tolist()
    drawn = {
        key: parameter.at(share)
        for (key, parameter), share in zip(space.parameters.items(), shares, strict=True)
    }
    return space.active_of({**drawn, **chosen})


def _gp(space: Space, observed: Observed, pending: Sequence[Params], seed: int) -> dict[str, Value]:
    """The largest expected improvement (Jones et al., 1998) of a Gaussian process with a Matern
    kernel, in the unit cube of the space. Points that still run count as if they gave what the
    process expects; what was tried is not tried again, since it would give the same."""
    from scipy.stats import norm, qmc
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    rng = np.random.default_rng(seed)
    points, costs = observed
    x = np.array([space.shares_of(point) for point in points])
    y = np.array(costs)
    kernel = ConstantKernel(1.0) * Matern(np.full(len(space), 0.5), (0.05, 20.0), nu=2.5)
    process = GaussianProcessRegressor(
        kernel + WhiteKernel(0.01, (1e-5, 1.0)), normalize_y=True, random_state=seed % 2**31
    )
    _fit_quietly(process, x, y)
    if pending:
        waiting = np.array([space.shares_of(point) for point in pending])
        x, y = np.vstack([x, waiting]), np.concatenate([y, process.predict(waiting)])
        process.set_params(kernel=process.kernel_, optimizer=None)
        _fit_quietly(process, x, y)
    drawn = qmc.Sobol(len(space), rng=rng).random(512)
    near = x[np.argsort(y)[:5]].repeat(40, axis=0)
    near = np.clip(near + rng.normal(0, 0.08, near.shape), 0, 1)
    candidates = np.vstack([drawn, near])
    apart = np.abs(candidates[:, None, :] - x[None, :, :]).max(axis=2).min(axis=1)
    candidates = candidates[apart > NOT_TRIED] if (apart > NOT_TRIED).any() else candidates
    mean, deviation = process.predict(candidates, return_std=True)
    deviation = np.maximum(deviation, 1e-9)
    gain = (y.min() - mean) / deviation
    expected = deviation * (gain * norm.cdf(gain) + norm.pdf(gain))
    return space.at(candidates[int(np.argmax(expected))])


def _fit_quietly(process: Any, x: np.ndarray, y: np.ndarray) -> None:
    """A length at its bound says that a parameter does not matter, which is no fault."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(x, y)


Model = Callable[[Space, Observed, Sequence[Params], int], dict[str, Value]]
MODELS: Mapping[str, Model] = {"tpe": _tpe, "gp": _gp, "cmaes": _cmaes}


def optuna_trials(space: Space, observed: Observed, pending: Sequence[Params]) -> list[Any]:
    """Choices are told apart by their position: Optuna takes no lists as values, and 1 is True."""
    from optuna.trial import TrialState, create_trial

    from unet_dist.search.storage import distribution_of

    def frozen(point: Params, **outcome: Any) -> Any:
        keys = {key: each for key, each in space.parameters.items() if key in point}
        return create_trial(
            params={
                key: each.position_of(point[key]) if each.choice else point[key]
                for key, each in keys.items()
            },
            distributions={
                key: distribution_of(each, range(len(each.choice))) for key, each in keys.items()
            },
            **outcome,
        )

    done = [frozen(p, value=c) for p, c in zip(*observed, strict=True)]
    return done + [frozen(point, state=TrialState.RUNNING) for point in pending]


def _ask_optuna(
    space: Space,
    observed: Observed,
    pending: Sequence[Params],
    sampler: Any,
) -> dict[str, Value]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    study.add_trials(optuna_trials(space, observed, pending))
    trial = study.ask()

    def suggested(key: str, parameter: Parameter) -> Value:
        if parameter.choice:
            positions = list(range(len(parameter.choice)))
            return parameter.choice[trial.suggest_categorical(key, positions)]
        if parameter.integer:
            return trial.suggest_int(key, *parameter.integer, log=parameter.log)
        return trial.suggest_float(key, *parameter.bounds, log=parameter.log)

    return space.point(suggested)
