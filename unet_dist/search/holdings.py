"""Who had which cards, and when: read from the timeline of a study."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One time that a trial had cards; seconds by the study's clock."""

    trial: int
    cards: tuple[int, ...]
    began_s: float
    ended_s: float
    place: str = ""
    """Whose cards they are: each controller counts its own from 0."""

    def card_s(self, until_s: float) -> float:
        """Cards times the seconds it had them, until a moment."""
        return max(0.0, min(self.ended_s, until_s) - self.began_s) * len(self.cards)


def holdings_of(timeline: Iterable[Mapping[str, Any]]) -> list[Holding]:
    """Each lease until its return, in the order of their ends; what was not returned lasts until
    another controller starts in the place of a dead one, or the last word of the timeline."""
    records = list(timeline)
    found: list[Holding] = []
    held: dict[int, Holding] = {}
    places, last = _Places(records), 0.0

    def end(trial: int) -> None:
        found.append(replace(held.pop(trial), ended_s=last))

    for index, record in enumerate(records):
        kind, last = record.get("kind"), float(record.get("clock_s", last))
        place = places.of(index)
        if kind == "start":
            for trial in [trial for trial, each in held.items() if each.place == place]:
                end(trial)
        # A trial that begins anew had lost its cards with its controller.
        if kind in ("lease", "free") and int(record["trial"]) in held:
            end(int(record["trial"]))
        if kind == "lease":
            trial, cards = int(record["trial"]), tuple(map(int, record["cards"]))
            held[trial] = Holding(trial=trial, cards=cards, began_s=last, ended_s=last, place=place)
    for trial in list(held):
        end(trial)
    return found


class _Places:
    """Where controllers are: a host, since one that starts there after the death of another has the
    same cards; a place of its own beside one that still has words to say."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._controllers = [str(record.get("controller", "")) for record in records]
        self._last_word = {name: index for index, name in enumerate(self._controllers)}
        self._places: dict[str, str] = {}

    def of(self, index: int) -> str:
        """Of a record's controller; to be asked in the order of the records."""
        name = self._controllers[index]
        if name not in self._places:
            taken = {self._places[each] for each in self._places if self._last_word[each] > index}
            host = name.rpartition(":")[0]
            numbered = (f"{host} ({number})" for number in count(2))
            self._places[name] = next(each for each in chain([host], numbered) if each not in taken)
        return self._places[name]


def cards_of(timeline: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Of each place the number of its cards; where no start tells it, those up to the last that was
    lent."""
    records = list(timeline)
    places, found = _Places(records), dict[str, int]()
    for index, record in enumerate(records):
        place, number = places.of(index), 0
        if record.get("kind") == "start":
            number = int(record.get("cards", 0))
        elif record.get("kind") == "lease":
            number = 1 + max(map(int, record["cards"]))
        found[place] = max(found.get(place, 0), number)
    return found


def busy_share(holdings: Sequence[Holding], cards: int, *, until_s: float | None = None) -> float:
    """Share of the cards' time that was lent, from the first lease until a moment, by default the
    last return; 0 without a lease.

    Args:
        cards: of all places.
    """
    begin = min((each.began_s for each in holdings), default=0.0)
    end = max((each.ended_s for each in holdings), default=0.0) if until_s is None else until_s
    used = sum(each.card_s(end) for each in holdings)
    return used / ((end - begin) * cards) if end > begin else 0.0
