"""Moments and durations as profilers write them, without losing nanoseconds.

Microseconds since 1970 have 16 digits before the point, of which a float keeps quarters.
"""

import math
from decimal import Decimal, InvalidOperation

NS_PER_US = 1000


def ns_of_us(text: object) -> int | None:
    """Nanoseconds of ``1736412474730135.222`` microseconds, whether a string or a number, with a
    tabulator or not; None for ``N/A``, nothing, or what is no number."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text * NS_PER_US
    if isinstance(text, float):
        return round(text * NS_PER_US) if math.isfinite(text) else None
    if isinstance(text, str):
        whole, _, rest = text.strip().partition(".")
        if whole.isdigit() and (not rest or rest.isdigit()):  # nearly always, and fast
            part = int(f"{rest[:3]:0<3}") + (len(rest) > 3 and rest[3] >= "5")
            return int(whole) * NS_PER_US + part
    try:
        number = Decimal(str(text).strip()) * NS_PER_US
        return int(number.to_integral_value()) if number.is_finite() else None
    except (InvalidOperation, ValueError):
        return None


def us_of_ns(moment_ns: float) -> float:
    return moment_ns / NS_PER_US


def ms_of_ns(moment_ns: float) -> float:
    return moment_ns / 1e6


def number_of(text: object) -> float:
    """Of a cell; NaN for ``N/A``, nothing, or what is no number."""
    try:
        return float(str(text).strip())
    except ValueError:
        return math.nan
