import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.cluster.server.device_list import format_device_list, parse_device_list
from unet_dist.errors import UserError


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        ("0-7", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("0,2,4,6", (0, 2, 4, 6)),
        ("4-7", (4, 5, 6, 7)),
        ("[0,8)", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("[8, 16)", (8, 9, 10, 11, 12, 13, 14, 15)),  # hccl_tools.py reads this as 8 and 6
        (" 6 , 0 - 1 ", (0, 1, 6)),
    ],
)
def test_each_way_to_write_a_list(text: str, cards: tuple[int, ...]) -> None:
    assert parse_device_list(text) == cards


@given(st.sets(st.integers(0, 63), min_size=1))
def test_a_list_survives_writing_and_reading(cards: set[int]) -> None:
    assert parse_device_list(format_device_list(cards)) == tuple(sorted(cards))


@given(st.integers(0, 63), st.integers(1, 64))
def test_the_half_open_form_leaves_out_its_end(first: int, end: int) -> None:
    if first < end:
        assert parse_device_list(f"[{first},{end})") == tuple(range(first, end))
    else:
        with pytest.raises(UserError, match="has no card"):
            parse_device_list(f"[{first},{end})")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a list of cards"),
        ("0-", "must be a list of cards"),
        ("a", "must be a list of cards"),
        ("[0,8]", "must be a list of cards"),
        ("7-0", "7-0 has no card"),
        ("0,1,1", "names card 1 more than once"),
        ("0-3,2-4", "names card 2-3 more than once"),
        ("0-999999", "card 999999 is beyond the 64"),
        ("\u0664", "must be a list of cards"),
    ],
)
def test_what_is_no_list_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_device_list(text)


@given(st.text())
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    try:
        cards = parse_device_list(text)
    except UserError:
        return
    assert cards == tuple(sorted(set(cards)))
