"""Beats and moments are made up here, so that hours pass in no time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.cluster.limits import Limits, parse_hang_limits
from unet_dist.cluster.watch import Watch, name_ranks
from unet_dist.errors import UserError
from unet_dist.heartbeat import Beat

STEP_60 = Limits(chosen={"step": 60.0})


def working(step: int, collectives: int, phase: str = "step") -> Beat:
    return Beat(phase=phase, step=step, collectives=collectives)


def waiting(step: int, collectives: int, phase: str = "step") -> Beat:
    beat = working(step, collectives, phase)
    return Beat(**{**vars(beat), "doing": "all-reduce", "waiting": True})


def watch_of(limits: Limits, *beats: Beat | None) -> Watch:
    watch = Watch(range(len(beats)), limits, now=0.0)
    for rank, beat in enumerate(beats):
        watch.see(rank, beat, 0.0)
    return watch


def test_the_rank_that_others_wait_for_is_named_once_its_limit_is_over() -> None:
    watch = watch_of(STEP_60, waiting(5, 17), working(5, 16), waiting(5, 17))
    assert watch.hang(60.0) is None
    hang = watch.hang(60.5)
    assert hang is not None
    assert hang.ranks == (1,)
    assert "no sign of life for 60 s in step 5" in hang.reason
    assert "ranks 0, 2 wait for it" in hang.reason


def test_who_waits_is_not_judged_while_the_other_has_leave_to_take_long() -> None:
    """Rank 0 writes a checkpoint for 20 minutes; the others wait in the next step's collective."""
    watch = watch_of(STEP_60, working(9, 40, "checkpoint"), waiting(10, 41), waiting(10, 41))
    assert watch.hang(1200.0) is None
    hang = watch.hang(1801.0)
    assert hang is not None
    assert hang.ranks == (0,)
    assert "in phase checkpoint" in hang.reason


def test_a_sign_of_life_begins_the_limit_anew() -> None:
    watch = watch_of(STEP_60, waiting(5, 17), working(5, 16))
    watch.see(1, Beat(phase="step", step=5, collectives=16, doing="computing"), 50.0)
    assert watch.hang(109.0) is None
    assert watch.hang(111.0) is not None


def test_all_in_one_collective_is_nobodys_fault_but_the_connections() -> None:
    watch = watch_of(STEP_60, waiting(5, 17), waiting(5, 17))
    hang = watch.hang(61.0)
    assert hang is not None
    assert hang.ranks == (0, 1)
    assert "it is the connection between them" in hang.reason


def test_of_ranks_that_tell_nothing_of_collectives_the_one_at_the_lowest_step_is_named() -> None:
    hang = watch_of(STEP_60, working(6, 0), working(5, 0), working(6, 0)).hang(61.0)
    assert hang is not None
    assert hang.tells_culprit
    assert hang.ranks[0] == 1


def test_nobody_is_blamed_where_all_are_silent_at_one_step_and_tell_nothing() -> None:
    hang = watch_of(STEP_60, working(5, 0), working(5, 0)).hang(61.0)
    assert hang is not None
    assert not hang.tells_culprit
    assert "heartbeat.waiting" in hang.reason


def test_a_rank_without_any_beat_is_the_one_that_has_not_started() -> None:
    watch = watch_of(Limits(), waiting(0, 1, "start"), None)
    assert watch.hang(599.0) is None
    hang = watch.hang(601.0)
    assert hang is not None
    assert hang.ranks == (1,)
    assert "in phase start" in hang.reason


def test_scripts_that_write_no_beats_are_not_judged() -> None:
    watch = watch_of(Limits(start_is_watched=False), None, None)
    assert watch.hang(1e9) is None


def test_who_is_done_is_out_of_the_question() -> None:
    watch = watch_of(STEP_60, Beat(phase="done", collectives=99), working(5, 16))
    hang = watch.hang(61.0)
    assert hang is not None
    assert hang.ranks == (1,)


def test_who_has_ended_is_left_out() -> None:
    watch = watch_of(STEP_60, working(5, 16), waiting(5, 17))
    watch.leave_out(0)
    watch.leave_out(0)
    hang = watch.hang(61.0)
    assert hang is not None
    assert hang.ranks == (1,)


def test_zero_switches_a_limit_off() -> None:
    watch = watch_of(Limits(chosen={"step": 0.0}), waiting(5, 17), working(5, 16))
    assert watch.hang(1e9) is None


def test_the_limit_of_a_step_is_learnt_from_its_beats() -> None:
    watch = Watch([0], Limits(), now=0.0)
    assert watch.limit_s("step") == 600.0
    now = 0.0
    for step in range(1, 8):
        watch.see(0, working(step, step), now)
        now += 6.0
    assert watch.limit_s("step") == 120.0  # 20 x 6 s
    assert watch.hang(now + 119 - 6) is None
    assert watch.hang(now + 121 - 6) is not None


def test_a_learnt_limit_is_never_short_and_never_beyond_what_collectives_wait() -> None:
    limits = Limits()
    assert limits.of_phase("step", [0.01] * 10) == 60.0
    assert limits.of_phase("step", [1000.0] * 10) == 600.0
    assert limits.of_phase("evaluation", [2.0] * 10) == 600.0  # the next image may be larger
    assert limits.of_phase("prediction", [2.0] * 10) == 60.0
    assert limits.of_phase("compile", [0.1] * 10) == 3600.0
    assert limits.of_phase("step", [0.01] * 4) == 600.0


@given(st.lists(st.floats(0, 4000), min_size=1, max_size=30), st.floats(1, 100))
def test_no_gap_seen_before_is_ever_called_a_hang(gaps: list[float], factor: float) -> None:
    limits = Limits()
    if limits.of_phase("validation", gaps) < 1800:
        assert limits.of_phase("validation", gaps) >= max(gaps)


@given(
    st.dictionaries(
        st.sampled_from(["start", "step", "compile", "validation", "x"]), st.floats(0, 1e5)
    )
)
def test_collectives_wait_longer_than_any_limit_and_as_hccl_rounds(
    chosen: dict[str, float],
) -> None:
    limits = Limits(chosen=chosen)
    assert limits.collective_s % 68 == 0
    assert limits.collective_s <= 17340
    for phase in ("start", "step", "compile", "validation", "x"):
        assert limits.collective_s >= min(17340, limits.of_phase(phase))
    assert 120 <= limits.connect_s <= 7200


def test_chosen_limits_are_read_with_all_faults_at_once() -> None:
    assert parse_hang_limits(["step=60", "compile=0"]) == {"step": 60.0, "compile": 0.0}
    with pytest.raises(UserError) as raised:
        parse_hang_limits(["step", "step=-1", "=3", "x=nan", "y=2"])
    assert len(raised.value.faults) == 4
    assert parse_hang_limits(["epoch=9"]) == {"epoch": 9.0}
    with pytest.raises(UserError, match="'stpe' is no phase; there are start, compile, step"):
        parse_hang_limits(["stpe=9"], known_only=True)


def test_ranks_are_named_in_runs() -> None:
    assert name_ranks([3]) == "rank 3"
    assert name_ranks([5, 0, 2, 1]) == "ranks 0-2, 5"
