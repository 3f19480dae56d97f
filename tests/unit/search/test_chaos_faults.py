"""What the tool that kills searches says of a run that proves less than was asked for."""

from argparse import Namespace

from tools.search_chaos import shortfalls


def asked(**settings: object) -> Namespace:
    return Namespace(**{"kills": 8, "widths": "1,2", "least_busy": 0.9, **settings})


def test_fewer_kills_than_asked_for_are_a_fault() -> None:
    assert shortfalls(asked(), 8, 0.95) == []
    assert shortfalls(asked(), 7, 0.95) == ["7 of 8 kills in 10 studies"]


def test_idle_cards_are_a_fault_where_several_widths_compete() -> None:
    assert shortfalls(asked(), 8, 0.85) == ["the cards were busy for 0.850 of the time, not 0.9"]
    assert shortfalls(asked(widths="1"), 8, 0.85) == []
