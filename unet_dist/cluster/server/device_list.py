"""Lists of cards as people write them: ``0-7``, ``0,2,4,6``, ``4-7``, ``[0,8)``."""

import re
from collections.abc import Iterable

from unet_dist.errors import UserError

MOST_CARDS = 64
"""Of one server: no Ascend server has more (a 950 one counts up to 64)."""

HALF_OPEN = re.compile(r"\[\s*([0-9]{1,6})\s*,\s*([0-9]{1,6})\s*\)", re.ASCII)
SPAN = re.compile(r"([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?", re.ASCII)


def parse_device_list(text: str, *, where: str = "--devices") -> tuple[int, ...]:
    """The cards of a list, in rising order; ``[0,8)`` is the way hccl_tools.py writes 0-7.

    Raises:
        UserError: not a list, or a card twice, or more cards than a server has.
    """
    half_open = HALF_OPEN.fullmatch(text.strip())
    if half_open:
        spans = [(int(half_open[1]), int(half_open[2]) - 1)]
    else:
        parts = [SPAN.fullmatch(part.strip()) for part in text.split(",")]
        if not all(parts):
            raise UserError(
                where, f"is {text!r}, but must be a list of cards such as 0-7, 0,2,4,6 or [0,8)"
            )
        spans = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    faults = [f"{first}-{last} has no card" for first, last in spans if last < first]
    faults += [
        f"card {last} is beyond the {MOST_CARDS} of the largest server"
        for _, last in spans
        if last >= MOST_CARDS
    ]
    if faults:
        raise UserError(where, faults)
    cards = [card for first, last in spans for card in range(first, last + 1)]
    twice = sorted({card for card in cards if cards.count(card) > 1})
    if twice:
        raise UserError(where, f"{text!r} names card {format_device_list(twice)} more than once")
    return tuple(sorted(cards))


def format_device_list(cards: Iterable[int]) -> str:
    """The shortest list: (0, 1, 2, 3, 6) is ``0-3,6``."""
    spans: list[list[int]] = []
    for card in sorted(set(cards)):
        if spans and card == spans[-1][1] + 1:
            spans[-1][1] = card
        else:
            spans.append([card, card])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
