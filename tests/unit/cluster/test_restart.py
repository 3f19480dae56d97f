from dataclasses import replace

import pytest

from unet_dist.cluster.failure import Failure
from unet_dist.cluster.restart import Ended, RestartPolicy, decide

KILLED = Failure(rank=1, reason="ended by SIGKILL", kind="signal")
CARD = ("10.0.0.1", 1)


def ended(step: int, *, failure: Failure = KILLED, world: int = 4) -> Ended:
    return Ended(failure=failure, world=world, device=CARD, step=step)


def test_delays_double_while_nothing_moves_and_begin_anew_with_progress() -> None:
    policy = RestartPolicy(max_restarts=9, without_progress=9, first_delay_s=2, longest_delay_s=7)
    steps = [0, 0, 0, 0, 50, 50]
    delays = [
        decide(policy, [ended(step) for step in steps[:number]]).delay_s
        for number in range(1, len(steps) + 1)
    ]
    assert delays == [2, 4, 7, 7, 2, 4]


def test_no_more_restarts_than_allowed() -> None:
    policy = RestartPolicy(max_restarts=2)
    assert decide(policy, [ended(10), ended(20)]).restart
    decision = decide(policy, [ended(10), ended(20), ended(30)])
    assert not decision.restart
    assert "--max-restarts is 2" in decision.reason


def test_it_is_given_up_after_failures_without_progress() -> None:
    policy = RestartPolicy(max_restarts=100, without_progress=2)
    assert decide(policy, [ended(10), ended(10)]).restart
    decision = decide(policy, [ended(10), ended(10), ended(10)])
    assert not decision.restart
    assert "3 failures without progress beyond step 10" in decision.reason
    assert decide(policy, [ended(10), ended(10), ended(20)]).restart


@pytest.mark.parametrize("change", [{"user_error": True}, {"repeats": True}])
def test_what_would_only_repeat_is_not_started_again(change: dict[str, bool]) -> None:
    decision = decide(RestartPolicy(), [ended(10, failure=replace(KILLED, **change))])
    assert not decision.restart
    assert "would only repeat" in decision.reason


def test_a_card_that_failed_twice_is_left_out_only_if_fewer_ranks_are_allowed() -> None:
    allowed = RestartPolicy(min_ranks=2)
    assert decide(allowed, [ended(10)]).leave_out is None
    assert decide(allowed, [ended(10), ended(20)]).leave_out == CARD
    assert decide(RestartPolicy(), [ended(10), ended(20)]).leave_out is None
    # With fewer ranks the numbers mean other cards: a first failure there is a first one.
    assert decide(allowed, [ended(10), ended(20, world=2)]).leave_out is None
