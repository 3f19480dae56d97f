import pytest

from unet_dist.search.holdings import Holding, busy_share, holdings_of

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
