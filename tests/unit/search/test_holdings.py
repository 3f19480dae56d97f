import pytest

from unet_dist.search.holdings import Holding, busy_share, cards_of, holdings_of

TIMELINE = [
    {"kind": "start"},
    {"kind": "lease", "trial": 0, "cards": [0, 1], "clock_s": 10.0},
    {"kind": "lease", "trial": 1, "cards": [2], "clock_s": 15.0},
    {"kind": "rung", "trial": 0, "clock_s": 18.0},
    {"kind": "free", "trial": 0, "clock_s": 20.0},
    {"kind": "lease", "trial": 0, "cards": [0], "clock_s": 25.0},
    {"kind": "free", "trial": 7, "clock_s": 26.0},  # its lease was lost with a full disk
    # Trial 1 lost its card with its controller.
    {"kind": "lease", "trial": 1, "cards": [1], "clock_s": 30.0},
    {"kind": "free", "trial": 1, "clock_s": 40.0},
]


def holding(trial: int, cards: tuple[int, ...], began_s: float, ended_s: float) -> Holding:
    return Holding(trial=trial, cards=cards, began_s=began_s, ended_s=ended_s)


def test_a_lease_lasts_until_its_return_or_the_last_word() -> None:
    assert holdings_of(TIMELINE) == [
        holding(0, (0, 1), 10, 20),
        holding(1, (2,), 15, 30),
        holding(1, (1,), 30, 40),
        holding(0, (0,), 25, 40),
    ]
    assert holdings_of([]) == []


def lease(controller: str, trial: int, clock_s: float) -> dict[str, object]:
    return {
        "kind": "lease", "controller": controller, "trial": trial, "cards": [0],
        "clock_s": clock_s,
    }  # fmt: skip


def start(controller: str, cards: int = 4) -> dict[str, object]:
    return {"kind": "start", "controller": controller, "cards": cards}


def test_a_new_controller_of_a_host_ends_the_leases_of_the_one_before() -> None:
    timeline = [
        start("here:1"), lease("here:1", 0, 10), lease("there:1", 1, 20),
        # Killed; trial 0 starts again long after.
        start("here:2"), lease("here:2", 2, 25), lease("here:2", 0, 90), lease("there:1", 3, 100),
    ]  # fmt: skip
    found = holdings_of(timeline)
    ended = {(each.trial, each.began_s): each.ended_s for each in found}
    assert ended == {(0, 10): 20, (1, 20): 100, (2, 25): 100, (0, 90): 100, (3, 100): 100}
    assert {each.trial: each.place for each in found} == {
        0: "here", 1: "there", 2: "here", 3: "there",
    }  # fmt: skip


def test_a_controller_that_comes_back_under_its_old_name_had_lost_its_cards() -> None:
    timeline = [start("here:1"), lease("here:1", 0, 10), lease("here:1", 1, 30), start("here:1"),
                lease("here:1", 2, 40)]  # fmt: skip
    assert [(each.trial, each.ended_s) for each in holdings_of(timeline)] == [
        (0, 30), (1, 30), (2, 40),
    ]  # fmt: skip


def test_controllers_beside_each_other_on_a_host_have_cards_of_their_own() -> None:
    timeline = [
        start("here:1", 2), lease("here:1", 0, 0), start("here:2", 4), lease("here:2", 1, 0),
        {"kind": "free", "controller": "here:1", "trial": 0, "clock_s": 10.0},
    ]  # fmt: skip
    found = holdings_of(timeline)
    assert {each.trial: each.place for each in found} == {0: "here", 1: "here (2)"}
    # Each used one card all the time.
    assert cards_of(timeline) == {"here": 2, "here (2)": 4}
    assert busy_share(found, 6) == pytest.approx(2 / 6)


def test_cards_that_no_start_tells_of_are_those_that_were_lent() -> None:
    assert cards_of(TIMELINE) == {"": 3}
    assert cards_of([{"kind": "start", "controller": "here:1"}]) == {"here": 0}


def test_card_time_counts_each_card_until_the_moment_that_is_asked_for() -> None:
    assert [holding(0, (0, 1), 10, 20).card_s(now) for now in (5, 10, 15, 20, 99)] == [
        0, 0, 10, 20, 20,
    ]  # fmt: skip


def test_busy_is_the_share_of_all_cards() -> None:
    found = holdings_of(TIMELINE)
    # 20 + 15 + 10 + 15 card-seconds of 3 cards for 30 s; until 20 s it is 20 + 5 of 3 for 10 s.
    assert busy_share(found, 3) == pytest.approx(60 / 90)
    assert busy_share(found, 3, until_s=20) == pytest.approx(25 / 30)
    assert busy_share([], 3) == 0
