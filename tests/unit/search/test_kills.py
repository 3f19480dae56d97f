"""A study whose controller and whose ranks are killed again and again."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.search.studies import EPOCHS, controller_of, played_study, spec_of, vessel_curve
from unet_dist.search.controller import Controller
from unet_dist.search.executor import Event, Failed
from unet_dist.search.leases import Lease
from unet_dist.search.played import InMemory, PlayedTrials
from unet_dist.search.spec import SearchSpec
from unet_dist.search.trials import State, Trial

KILLS = 100


class Killed(BaseException):
    pass


class Killable(PlayedTrials):
    """Its controller dies at a random moment: nothing is told any more."""

    dies_after: int = 10**9

    def events(self) -> list[Event]:
        self.dies_after -= 1
        if self.dies_after < 0:
            raise Killed
        return super().events()


class KillableMemory(InMemory):
    """Its controller dies before or after a word to the store."""

    dies_after: int = 10**9
    written: bool = False

    def save(self, trial: Trial) -> None:
        self.dies_after -= 1
        if self.dies_after >= 0 or self.written:
            super().save(trial)
        if self.dies_after < 0:
            raise Killed


class KilledRanks:
    """Of a trial in four, each time it has cards."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.kills = rng, 0

    def __call__(self, trial: Trial, epoch: int, lease: Lease) -> Failed | None:
        if self.rng.random() > 0.25:
            return None
        self.kills += 1
        state, reason = State.FAILED_INFRASTRUCTURE, "ended by SIGKILL"
        return Failed(trial=trial.number, state=state, reason=reason, blames_card=False)


def lead_with_kills(
    spec: SearchSpec, rng: random.Random, fails: KilledRanks
) -> tuple[Controller, int]:
    """A controller after the other, each with what the one before left in the database."""
    clock = [0.0]
    store = KillableMemory(clock=lambda: clock[0])
    kills = 0
    while True:
        controller = controller_of(spec, store=store)
        played = Killable(curve=vessel_curve, start_s=5.0, fails=fails)
        controller.executor = played
        played.dies_after = store.dies_after = 10**9
        if kills < KILLS:
            dying = rng.choice([played, store])
            dying.dies_after = rng.randint(0, 3)
            store.written = rng.random() < 0.5
        store.clock = clock_from(clock[0], played)
        # As ``Database.take_over``: whoever ran is at rest.
        for trial in store.load():
            if trial.state is State.RUNNING:
                store.trials[trial.number] = replace(trial, state=trial.at_rest(EPOCHS))
        try:
            controller.run()
        except Killed:
            kills += 1
            clock[0] = store.clock_s()
            continue
        return controller, kills


def clock_from(base_s: float, played: PlayedTrials) -> Callable[[], float]:
    return lambda: base_s + played.now_s


@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_kills_of_the_controller_change_nothing_of_the_result(seed: int) -> None:
    spec = spec_of(algorithm={"points": "random"}, budget={"trials": 50})
    undisturbed = played_study(spec)
    fails = KilledRanks(random.Random(seed))
    controller, kills = lead_with_kills(spec, random.Random(seed), fails)
    assert kills == KILLS
    assert fails.kills > 20
    trials = controller.study.trials
    assert [t.number for t in trials] == list(range(50))
    assert [t.params for t in trials] == [t.params for t in undisturbed.study.trials]
    assert {t.state for t in trials} == {State.PAUSED, State.COMPLETE}
    for trial in trials:
        epochs = [result.epoch for result in trial.results]
        assert epochs == sorted(set(epochs))
    best = [
        each.study.ranking.best_so_far(each.study.trials)[0] for each in (undisturbed, controller)
    ]
    assert best[0].number == best[1].number
    assert best[0].results[-1].metrics == best[1].results[-1].metrics
