"""Where a model expects the best points: Parzen estimators, a Gaussian process, CMA-ES."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_dist.search.space import Params, Space, Value

Observed = tuple[list[Params], list[float]]
"""Points, and what they cost, the smaller the better."""
NOT_TRIED = 0.01
"""Distance from every point so far, as a share of the space's side."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a model knows of a study."""

    space: Space
    observed: Observed
    pending: Sequence[Params]
    """Points that run, or wait for cards, without any result."""
    tried: Sequence[Params]
    """All points so far, which are not proposed again."""


def _tpe(known: Known, seed: int) -> dict[str, Value]:
    from unet_dist.search.optuna_models import tpe

    return tpe(known, seed)


def _cmaes(known: Known, seed: int) -> dict[str, Value]:
    from unet_dist.search.optuna_models import cmaes

    return cmaes(known, seed)


def _gp(known: Known, seed: int) -> dict[str, Value]:
    """The largest expected improvement (Jones et al., 1998) of a Gaussian process with a Matern
    kernel, in the unit cube of the space. Points that still run count as if they gave what the
    process expects; what was tried is not tried again, since it would give the same."""
    from scipy.stats import norm, qmc
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    rng = np.random.default_rng(seed)
    space, pending = known.space, known.pending
    points, costs = known.observed
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
    # The points that the space makes of them: of choices and integers many are the same.
    candidates = np.array([space.shares_of(space.at(row)) for row in np.vstack([drawn, near])])
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


Model = Callable[[Known, int], dict[str, Value]]
MODELS: Mapping[str, Model] = {"tpe": _tpe, "gp": _gp, "cmaes": _cmaes}
