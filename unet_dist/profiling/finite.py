"""Numbers for JSON, which has no NaN."""

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """The same tree with null in place of what is no number, and texts as keys."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
