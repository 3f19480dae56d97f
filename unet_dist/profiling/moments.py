"""Moments and durations as profilers write them, without losing nanoseconds.

Microseconds since 1970 have 16 digits before the point, of which a float keeps quarters.
"""

import math
from decimal import Decimal, InvalidOperation

NS_PER_US = 1000
MOST_NS = 1 << 62
"""Moments after the year 2116, which nobody measured, and sums of which int64 has no room for."""
LONGEST_NUMBER = 64
"""Characters: a number with more of them, or such an exponent, is none."""


def ns_of_us(text: object) -> int | None:
    """Nanoseconds of ``1736412474730135.222`` microseconds, whether a string or a number, with a
    tabulator or not; None for ``N/A``, nothing, or what is no number that a clock shows."""
    found = _ns_of_us(text)
    return None if found is None or abs(found) > MOST_NS else found


def _ns_of_us(text: object) -> int | None:
    if isinstance(text, int) and not isinstance(text, bool):
        return text * NS_PER_US
    if isinstance(text, float):
        return round(text * NS_PER_US) if math.isfinite(text) else None
    if isinstance(text, str):
        if len(text) > LONGEST_NUMBER:
            return None
        whole, _, rest = text.strip().partition(".")
        # Nearly always, and fast.
        if whole.isdecimal() and (not rest or rest.isdecimal()):
            part = int(f"{rest[:3]:0<3}") + (len(rest) > 3 and rest[3] >= "5")
            return int(whole) * NS_PER_US + part
    try:
        number = Decimal(str(text).strip())
        # A Decimal of 1e999999999 is made at once, but its whole number would have as many digits.
        if not number.is_finite() or number.adjusted() > LONGEST_NUMBER:
            return None
        return int((number * NS_PER_US).to_integral_value())
    except (InvalidOperation, ValueError):
        return None


def number_of(text: object) -> float:
    """Of a cell; NaN for ``N/A``, nothing, or what is no number."""
    try:
        return float(str(text).strip())
    except ValueError:
        return math.nan
