"""How searches are compared, by tables that are made here."""

import math
from pathlib import Path

import pytest

from tools.compare_searches import Table, compare, play, reached_at

EPOCHS = 27
PLAIN, HALVING = "random, full", "random, halving"


def table(early: list[float], final: list[float]) -> Table:
    """Straight learning curves, one for each value of the only setting; an epoch takes 10 s."""
    steps = [epoch / (EPOCHS - 1) for epoch in range(EPOCHS)]
    curves = [
        [first + (last - first) * step for step in steps]
        for first, last in zip(early, final, strict=True)
    ]
    rows = {
        Table.key({"x": x}): {"epoch_s": 10.0, "parameters": 1, "dice": dice}
        for x, dice in enumerate(curves)
    }
    return Table({"x": list(range(len(curves)))}, rows)


def test_what_is_never_reached_is_infinitely_late() -> None:
    progress = [(1.0, 0.5), (3.0, 0.8), (9.0, 0.8)]
    assert reached_at(progress, 0.5) == 1.0
    assert reached_at(progress, 0.7) == 3.0
    assert math.isinf(reached_at(progress, 0.9))


def test_a_search_against_itself_is_once_as_early() -> None:
    told = compare(table([0.0] * 4, [0.1, 0.2, 0.3, 0.4]), range(2), [PLAIN])
    assert told[PLAIN]["earlier"] == told[PLAIN]["reached"] == told[PLAIN]["time"] == 1.0
    assert told[PLAIN]["final"] == pytest.approx(0.4)


def test_a_search_that_is_misled_is_not_rewarded_for_its_early_end() -> None:
    """What begins the worst ends the best, and is never promoted."""
    ends = [0.05 * number for number in range(1, 11)]
    told = compare(
        table([0.5 - end for end in ends], [0.5 + end for end in ends]), range(1), [HALVING]
    )
    assert told[HALVING]["final"] < 0.9
    assert told[HALVING]["time"] < 1.0
    assert told[HALVING]["earlier"] == 0.0
    assert told[HALVING]["reached"] == 0.0


def test_a_search_that_is_led_well_is_earlier() -> None:
    ends = [0.001 * number for number in range(1, 101)]
    told = compare(table(ends, [0.5 + end for end in ends]), range(1), [HALVING])
    assert told[HALVING]["reached"] == 1.0
    assert told[HALVING]["earlier"] > 1.0
    assert told[HALVING]["time"] < 0.5


def test_on_recorded_curves_halving_reaches_the_best_of_random_search_four_times_as_early() -> None:
    """With a first rung and seeds of which it holds; the README has those of which it does not. A
    guard against a change for the worse, no measure."""
    recorded = Table.read(Path(__file__).with_name("curves.json"))
    assert len(recorded.rows) >= 200
    assert recorded.epochs == EPOCHS
    search = "random, halving from 1 epoch"
    told = compare(recorded, range(5), [search])
    assert told[search]["reached"] == 1.0
    assert told[search]["earlier"] >= 4


def test_on_recorded_curves_halving_with_tpe_soon_finds_one_of_the_two_best() -> None:
    """Of 240, with 60 trials, where random points find one of them in 39 % of the searches: so of
    three seeds all in 6 %."""
    recorded = Table.read(Path(__file__).with_name("curves.json"))
    second = sorted(row["dice"][-1] for row in recorded.rows.values())[-2]
    for seed in range(3):
        assert play(recorded, {"points": "tpe"}, seed, trials=60)[-1][1] >= second
