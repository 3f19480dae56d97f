"""Trials that fail, and what becomes of their study and of the cards."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.unit.search.studies import (
    controller_of,
    failing,
    leases_of,
    played_study,
    spec_of,
    states,
)
from unet_dist.search.controller import Controller
from unet_dist.search.ending import StudyBroken
from unet_dist.search.executor import Failed
from unet_dist.search.leases import Lease
from unet_dist.search.played import InMemory
from unet_dist.search.setbacks import OUTSIDE_TRIES
from unet_dist.search.spec import SearchSpec
from unet_dist.search.trials import State, Trial

RANDOM = {"points": "random"}


def test_one_bad_trial_ends_alone() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 9})
    for state in (State.FAILED_DIVERGED, State.FAILED_MEMORY, State.FAILED_USER):
        controller = played_study(spec, fails=failing(state, {2, 5}))
        assert [t.number for t in controller.study.trials if t.state is state] == [2, 5]
        assert controller.study.trials[2].reason == "planted"
        assert len(controller.study.trials) == 9
        assert len(leases_of(controller)) >= 9
        assert controller.cards.aside == set()


def test_a_broken_base_ends_the_study_at_once() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 40})
    controller = controller_of(spec, fails=failing(State.FAILED_USER, set(range(40))), cards=2)
    with pytest.raises(StudyBroken, match="planted"):
        controller.run()
    assert len(controller.study.trials) <= 5


def test_a_broken_base_ends_the_study_when_all_that_ran_have_told() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 40})
    controller = controller_of(spec, fails=failing(State.FAILED_USER, set(range(40))), cards=8)
    with pytest.raises(StudyBroken, match=r"first (8|9|10) trials all fail.*planted"):
        controller.run()
    assert states(controller) == {State.FAILED_USER: len(controller.study.trials)}
    assert controller.cards.leases == {}
    assert controller.mine == set()


def test_three_bad_trials_do_not_end_a_study_whose_others_still_run() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 12})
    controller = played_study(spec, fails=failing(State.FAILED_USER, {0, 1, 2}), cards=4)
    assert [t.number for t in controller.study.trials if not t.results] == [0, 1, 2]
    assert len(controller.study.trials) == 12


def test_a_study_whose_base_was_mended_goes_on_where_it_broke() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 9})
    broken = controller_of(spec, fails=failing(State.FAILED_USER, set(range(9))), cards=1)
    with pytest.raises(StudyBroken):
        broken.run()
    assert isinstance(broken.store, InMemory)
    again = played_study(spec, store=broken.store)
    assert states(again)[State.FAILED_USER] == 3
    assert len(again.study.trials) == 9


def test_infrastructure_failures_are_tried_again_elsewhere() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 6})
    fails = failing(State.FAILED_INFRASTRUCTURE, {1}, until=1)
    controller = played_study(spec, fails=fails, cards=3)
    trial = controller.study.trials[1]
    assert trial.state in (State.PAUSED, State.COMPLETE)
    assert trial.tries == 0  # forgiven, since it got on
    held = [cards for _, _, number, cards in leases_of(controller) if number == 1]
    assert held[0] != held[1]
    assert trial.bad_cards == tuple(f"here:{card}" for card in held[0])


def test_infrastructure_that_fails_always_gives_the_trial_up() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 6})
    controller = played_study(spec, fails=failing(State.FAILED_INFRASTRUCTURE, {1}), cards=8)
    assert controller.study.trials[1].state is State.FAILED_INFRASTRUCTURE
    assert controller.study.trials[1].tries == 3


def test_what_the_infrastructure_ended_is_taken_up_by_the_next_start() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 3})
    fails = failing(State.FAILED_INFRASTRUCTURE, {1}, until=3)
    before = played_study(spec, fails=fails, cards=8)
    assert before.study.trials[1].state is State.FAILED_INFRASTRUCTURE
    assert isinstance(before.store, InMemory)
    again = played_study(spec, store=before.store, cards=8)
    assert again.study.trials[1].state in (State.PAUSED, State.COMPLETE)
    assert not again.study.trials[1].reason


def test_a_trial_that_is_killed_from_outside_is_started_again_more_often() -> None:
    times = []

    def fails(trial: Trial, epoch: int, lease: Lease) -> Failed | None:
        times.append(trial.number)
        if trial.number != 1 or times.count(1) > 15:
            return None
        state = State.FAILED_INFRASTRUCTURE
        return Failed(trial=1, state=state, reason="ended by SIGKILL", blames_card=False)

    controller = played_study(spec_of(algorithm=RANDOM, budget={"trials": 6}), fails=fails)
    trial = controller.study.trials[1]
    assert trial.state in (State.PAUSED, State.COMPLETE)
    assert trial.bad_cards == ()
    assert controller.cards.aside == set()


def test_what_is_not_the_fault_of_a_card_is_given_more_and_more_time() -> None:
    def fails(trial: Trial, epoch: int, lease: Lease) -> Failed | None:
        state = State.FAILED_INFRASTRUCTURE
        return Failed(trial=0, state=state, reason="the launcher", blames_card=False)

    controller = controller_of(spec_of(algorithm=RANDOM, budget={"trials": 1}), fails=fails)
    assert controller.run() == "all trials are done"
    assert controller.trial(0).state is State.FAILED_INFRASTRUCTURE
    log = leases_of(controller)
    assert len(log) == OUTSIDE_TRIES == 20
    pauses = [after[0] - before[1] for before, after in pairwise(log)]
    # At once, then twice as long each time, to a minute; a played clock moves by whole seconds.
    told = [0, 1, 2, 4, 8, 16, 32, *[60] * 12]
    assert all(due <= pause < due + 2 for pause, due in zip(pauses, told, strict=True))


def test_others_run_while_a_trial_waits_for_its_next_try() -> None:
    fails = failing(State.FAILED_INFRASTRUCTURE, {0}, until=5)

    def outside(trial: Trial, epoch: int, lease: Lease) -> Failed | None:
        failed = fails(trial, epoch, lease)
        return None if failed is None else replace(failed, blames_card=False)

    spec = spec_of(algorithm=RANDOM, budget={"trials": 6})
    controller = played_study(spec, fails=outside, cards=1)
    trial = controller.trial(0)
    assert trial.state in (State.PAUSED, State.COMPLETE)
    assert trial.not_before_s == 0.0  # forgiven, since it got on
    order = [number for _, _, number, _ in leases_of(controller)]
    assert order[:2] == [0, 0]
    assert order[2] != 0


def test_a_bad_card_is_set_aside_and_the_study_goes_on() -> None:
    def fails(trial: Trial, epoch: int, lease: Lease) -> Failed | None:
        if 1 not in lease.cards:
            return None
        state = State.FAILED_INFRASTRUCTURE
        return Failed(trial=trial.number, state=state, reason="card", card=1)

    controller = played_study(spec_of(algorithm=RANDOM, budget={"trials": 12}), fails=fails)
    assert controller.cards.aside == {1}
    assert not [t for t in controller.study.trials if t.state is State.FAILED_INFRASTRUCTURE]


def test_neither_a_kill_from_outside_nor_a_lost_claim_forgives_a_card() -> None:
    times, claims = [0], [0]

    def fails(trial: Trial, epoch: int, lease: Lease) -> Failed | None:
        if 0 not in lease.cards:
            return None
        times[0] += 1
        return Failed(
            trial=trial.number, state=State.FAILED_INFRASTRUCTURE, reason="card 0",
            card=0, blames_card=times[0] % 2 == 1,
        )  # fmt: skip

    class Contested(InMemory):
        def claim(self, trial: Trial) -> bool:
            claims[0] += 1
            return claims[0] % 2 == 1 and super().claim(trial)

    spec = spec_of(algorithm=RANDOM, budget={"trials": 12})
    controller = played_study(spec, fails=fails, cards=2, store=Contested(clock=lambda: 0.0))
    assert controller.cards.aside == {0}
    assert times == [3]


def test_a_wide_trial_that_nobody_knows_the_culprit_of_sets_no_card_aside() -> None:
    fails = failing(State.FAILED_INFRASTRUCTURE, {0, 1, 2, 3}, until=1)
    spec = spec_of(algorithm=RANDOM, budget={"trials": 6}, cards=(2,))
    controller = played_study(spec, fails=fails, cards=4)
    assert controller.cards.aside == set()
    assert all(len(controller.study.trials[number].bad_cards) == 2 for number in range(4))


def test_a_study_without_a_usable_card_ends() -> None:
    def fails(trial: Trial, epoch: int, lease: Lease) -> Failed | None:
        return Failed(trial=trial.number, state=State.FAILED_INFRASTRUCTURE, reason="no power")

    with pytest.raises(StudyBroken, match=r"2 of 2 cards were set aside .*no power"):
        controller_of(spec_of(algorithm=RANDOM), fails=fails, cards=2).run()


def refusing(spec: SearchSpec, why: str) -> Controller:
    controller = controller_of(spec)
    controller.executor.refusal = (  # type: ignore[method-assign]
        lambda trial, width: why if trial.params["model.width"] == 16 else ""
    )
    return controller


@pytest.mark.parametrize("seed", range(20))
def test_what_the_configuration_refuses_never_starts(seed: int) -> None:
    controller = refusing(spec_of(algorithm=RANDOM, budget={"trials": 9}, seed=seed), "too large")
    controller.run()
    refused = [t for t in controller.study.trials if t.state is State.REFUSED]
    assert refused == [t for t in controller.study.trials if t.params["model.width"] == 16]
    assert not {t.number for t in refused} & {number for _, _, number, _ in leases_of(controller)}


def test_a_space_of_which_every_point_is_refused_is_told() -> None:
    spec = spec_of(algorithm=RANDOM, budget={"trials": 9}, space={"model.width": {"choice": [16]}})
    with pytest.raises(StudyBroken, match="all 9 trials are refused: too large"):
        refusing(spec, "too large").run()
