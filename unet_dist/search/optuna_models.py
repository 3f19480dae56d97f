"""Points of Optuna's samplers. Each time a study is made of what is known, and asked once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, CmaEsSampler, TPESampler
from optuna.trial import TrialState, create_trial

from unet_dist.search.models import Known, Observed
from unet_dist.search.space import Parameter, Params, Space, Value, position_in
from unet_dist.search.storage import distribution_of

CANDIDATES = 256
"""Points that TPE draws from the good ones' density, of which it proposes the best that was not
tried. With Optuna's 24 the best of the recorded curves was found 5 to 9 % later (seeds 0 to 9)."""


def tpe(known: Known, seed: int) -> dict[str, Value]:
    sampler = _UntriedTPE(
        known, seed=seed, n_startup_trials=0, multivariate=True, group=known.space.conditional,
        constant_liar=True, n_ei_candidates=CANDIDATES,
    )  # fmt: skip
    return _asked(known.space, known.observed, known.pending, sampler)


class _UntriedTPE(TPESampler):
    """Proposes the best point that was not tried. In a space of choices the best of all is mostly
    a good trial itself; where such proposals were replaced by random points, nearly all were."""

    def __init__(self, known: Known, **settings: Any) -> None:
        super().__init__(**settings)
        axes = axes_of(known.space)
        self._tried = {
            tuple((key, axes[key].inner(point[key])) for key in sorted(point))
            for point in known.tried
        }

    def _compute_acquisition_func(self, samples: Any, *densities: Any) -> np.ndarray:
        values: np.ndarray = super()._compute_acquisition_func(samples, *densities)
        # Of a conditional space the samples are parts of points, which may well repeat.
        names = sorted(samples)
        rows = zip(*(samples[name].tolist() for name in names), strict=True)
        tried = [tuple(zip(names, row, strict=True)) in self._tried for row in rows]
        return np.where(tried, -np.inf, values)


def cmaes(known: Known, seed: int) -> dict[str, Value]:
    """CMA-ES warm-started anew from the results (Nomura et al., AAAI 2021): without a state of its
    own it survives a kill. Choices and conditional keys, which it cannot move, are drawn at
    random."""
    space, observed = known.space, known.observed
    moved = Space({k: p for k, p in space.parameters.items() if not (p.choice or p.when)})
    chosen: dict[str, Value] = {}
    if len(moved):
        points: list[Params] = [
            {key: point[key] for key in moved.parameters} for point in observed[0]
        ]
        trials = optuna_trials(moved, (points, observed[1]), [])
        sampler = CmaEsSampler(
            seed=seed, source_trials=trials, n_startup_trials=0, warn_independent_sampling=False
        )
        # One trial tells Optuna which keys there are to move.
        best = int(np.argmin(observed[1]))
        chosen = _asked(moved, ([points[best]], [observed[1][best]]), [], sampler)
    shares = np.random.default_rng(seed).random(len(space)).tolist()
    drawn = {
        key: parameter.at(share)
        for (key, parameter), share in zip(space.parameters.items(), shares, strict=True)
    }
    return space.active_of({**drawn, **chosen})


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A parameter as Optuna is told of it. Choices are told apart by their position: Optuna takes
    no lists as values, and 1 is True. Three numbers or more are steps in their order, so that a
    result tells of the next number too."""

    choices: tuple[Value, ...]
    """In the order of the positions; none for a range."""
    kind: BaseDistribution

    @classmethod
    def of(cls, parameter: Parameter) -> "Axis":
        choices = parameter.choice
        if len(choices) > 2 and all(type(each) in (int, float) for each in choices):
            ordered = tuple(sorted(choices))
            return cls(choices=ordered, kind=IntDistribution(0, len(choices) - 1))
        return cls(choices=choices, kind=distribution_of(parameter, range(len(choices))))

    def told(self, value: Value) -> Any:
        return position_in(self.choices, value) if self.choices else value

    def inner(self, value: Value) -> float:
        """As the samples of Optuna's densities are."""
        return float(self.kind.to_internal_repr(self.told(value)))

    def suggested(self, trial: optuna.Trial, key: str) -> Value:
        match self.kind:
            case CategoricalDistribution():
                position = trial.suggest_categorical(key, self.kind.choices)
                assert isinstance(position, int)  # see ``of``
                return self.choices[position]
            case IntDistribution(low=low, high=high, log=log):
                number = trial.suggest_int(key, low, high, log=log)
                return self.choices[number] if self.choices else number
            case FloatDistribution(low=low, high=high, log=log):
                return trial.suggest_float(key, low, high, log=log)
        raise AssertionError(self.kind)


def axes_of(space: Space) -> Mapping[str, Axis]:
    return {key: Axis.of(parameter) for key, parameter in space.parameters.items()}


def optuna_trials(space: Space, observed: Observed, pending: Sequence[Params]) -> list[Any]:
    axes = axes_of(space)

    def frozen(point: Params, **outcome: Any) -> Any:
        return create_trial(
            params={key: axes[key].told(value) for key, value in point.items() if key in axes},
            distributions={key: axes[key].kind for key in point if key in axes},
            **outcome,
        )

    done = [frozen(p, value=c) for p, c in zip(*observed, strict=True)]
    return done + [frozen(point, state=TrialState.RUNNING) for point in pending]


def _asked(
    space: Space, observed: Observed, pending: Sequence[Params], sampler: BaseSampler
) -> dict[str, Value]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    study.add_trials(optuna_trials(space, observed, pending))
    trial, axes = study.ask(), axes_of(space)
    return space.point(lambda key, _: axes[key].suggested(trial, key))
