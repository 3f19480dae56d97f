import math
from decimal import Decimal

import pytest

from unet_dist.profiling.moments import ns_of_us, number_of


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1736412474730135.222", 1736412474730135222),
        ("1736412474730135.222\t", 1736412474730135222),
        (Decimal("1736412474730135.222"), 1736412474730135222),
        ("1736412474730135", 1736412474730135000),
        (1736412474730135, 1736412474730135000),
        ("828.33653125", 828337),
        ("0.0004", 0),
        ("0.0005", 1),
        (55.161, 55161),
        ("-3.5", -3500),
        ("1e3", 1000000),
    ],
)
def test_nanoseconds_are_kept(text, ns):
    assert ns_of_us(text) == ns


@pytest.mark.parametrize("text", ["", "N/A", None, "nan", math.inf, True, "12.3.4", [1]])
def test_what_is_no_moment_is_none(text):
    assert ns_of_us(text) is None


def test_a_cell_without_a_number_is_nan():
    assert math.isnan(number_of("N/A"))
    assert number_of(" 3.5\t") == 3.5
