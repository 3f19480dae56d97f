"""Who had which cards, and when: read from the timeline of a study."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One time that a trial had cards; seconds by the study's clock."""

    trial: int
    cards: tuple[int, ...]
    began_s: float
    ended_s: float

    def card_s(self, until_s: float) -> float:
        """Cards times the seconds it had them, until a moment."""
        return max(0.0, min(self.ended_s, until_s) - self.began_s) * len(self.cards)


def holdings_of(timeline: Iterable[Mapping[str, Any]]) -> list[Holding]:
    """Each lease until its return, in the order of their ends; what was not returned lasts until
    the last word of the timeline."""
    found: list[Holding] = []
    held: dict[int, tuple[float, tuple[int, ...]]] = {}
    last = 0.0

    def end(trial: int, ended_s: float) -> None:
        began_s, cards = held.pop(trial)
        found.append(Holding(trial=trial, cards=cards, began_s=began_s, ended_s=ended_s))

    for record in timeline:
        kind, last = record.get("kind"), float(record.get("clock_s", last))
        # A trial that begins anew had lost its cards with its controller.
        if kind in ("lease", "free") and int(record["trial"]) in held:
            end(int(record["trial"]), last)
        if kind == "lease":
            held[int(record["trial"])] = (last, tuple(map(int, record["cards"])))
    for trial in list(held):
        end(trial, last)
    return found


def busy_share(holdings: Sequence[Holding], cards: int, *, until_s: float | None = None) -> float:
    """Share of the cards' time that was lent, from the first lease until a moment, by default the
    last return; 0 without a lease."""
    begin = min((each.began_s for each in holdings), default=0.0)
    end = max((each.ended_s for each in holdings), default=0.0) if until_s is None else until_s
    used = sum(each.card_s(end) for each in holdings)
    return used / ((end - begin) * cards) if end > begin else 0.0
