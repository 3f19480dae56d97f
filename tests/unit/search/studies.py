"""Played studies for the tests: curves by formula, on a clock of their own."""

from collections.abc import Callable
from typing import Any

import numpy as np

from unet_dist.search.controller import Controller
from unet_dist.search.executor import Failed
from unet_dist.search.leases import Cards, Lease
from unet_dist.search.played import Curve, InMemory, PlayedTrials
from unet_dist.search.rungs import rungs_of
from unet_dist.search.space import Params
from unet_dist.search.spec import SearchSpec
from unet_dist.search.trials import State, Study, Trial

EPOCHS = 27
SPACE = {
    "train.lr": {"float": [1e-4, 1e-1], "log": True},
    "model.width": {"choice": [4, 8, 16]},
}


def spec_of(**settings: Any) -> SearchSpec:
    return SearchSpec.model_validate({"base": "base.yaml", "space": SPACE, **settings})


def vessel_curve(params: Params) -> Curve:
    """The best is near a rate of 6e-3; wide networks take longer, and learn a little better."""
    rate, width = np.log10(float(params["train.lr"])), int(params["model.width"])
    final = 0.8 - 0.05 * (rate + 2.2) ** 2 + 0.01 * np.log2(width / 4)
    return Curve(
        epoch_s=10.0 * width / 8,
        metrics=[
            {"dice": float(final * (1 - np.exp(-epoch / 5))), "parameters": 1000.0 * width**2}
            for epoch in range(1, EPOCHS + 1)
        ],
    )


def never(trial: Trial, epoch: int, lease: Lease) -> Failed | None:
    return None


def failing(
    state: State, numbers: set[int], *, until: int = 99, reason: str = "planted"
) -> Callable[[Trial, int, Lease], Failed | None]:
    """Trials that fail on their way to a rung, the first ``until`` times."""
    times: dict[int, int] = {}

    def fails(trial: Trial, epoch: int, lease: Lease) -> Failed | None:
        times[trial.number] = times.get(trial.number, 0) + 1
        if trial.number not in numbers or times[trial.number] > until:
            return None
        return Failed(trial=trial.number, state=state, reason=reason)

    return fails


def controller_of(
    spec: SearchSpec,
    *,
    cards: int = 4,
    fails: Callable[[Trial, int, Lease], Failed | None] = never,
    curve: Callable[[Params], Curve] = vessel_curve,
    store: InMemory | None = None,
    stopped: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Controller:
    played = PlayedTrials(curve=curve, start_s=5.0, fails=fails)
    if store is None:
        store = InMemory(clock=lambda: played.now_s)
    return Controller(
        study=Study(spec=spec),
        rungs=rungs_of(spec.algorithm, EPOCHS),
        cards=Cards(number=cards, **settings),
        executor=played,
        store=store,
        stopped=stopped,
    )


def played_study(spec: SearchSpec, **settings: Any) -> Controller:
    controller = controller_of(spec, **settings)
    controller.run()
    return controller


def leases_of(controller: Controller) -> list[tuple[float, float, int, tuple[int, ...]]]:
    """Begin, end, trial and cards, of each time that a trial had cards."""
    assert isinstance(controller.executor, PlayedTrials)
    return controller.executor.log


def states(controller: Controller) -> dict[State, int]:
    found = [trial.state for trial in controller.study.trials]
    return {state: found.count(state) for state in State if state in found}
