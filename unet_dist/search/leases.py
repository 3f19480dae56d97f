"""Cards lent to trials: all that a trial needs, or none. Pure: it starts nothing."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

RING = 4
"""Cards of a ring of a 910A server."""
FAILURES_UNTIL_ASIDE = 2
"""Infrastructure failures of different trials, without a result in between, after which a card is
set aside."""

Fits = Callable[[Sequence[int]], bool]
"""Whether a chip lets these cards, numbers of ``Cards``, make a job."""


@dataclass(frozen=True)
class Lease:
    trial: int
    cards: tuple[int, ...]
    epochs: int = 0
    """From its begin, or from the rung where the trial went on, until it may leave."""


def anywhere(cards: Sequence[int]) -> bool:
    return True


def in_rings_of_four(cards: Sequence[int]) -> bool:
    """The rule of a 910A server, whose cards 0-3 and 4-7 are rings: 1, 2 or 4 cards of one ring,
    or all 8 (rule R15 of ``cluster/tables``). Simulated cards obey it too."""
    rings = {card // RING for card in cards}
    whole = len(rings) == 2 and len(cards) == 8
    return whole or (len(rings) == 1 and len(cards) in (1, 2, 4))


@dataclass(kw_only=True)
class Cards:
    """Who has which cards. Wide trials are not starved: the first that waits and does not fit has
    cards reserved for it once others have been let past it for ``patience`` starts.

    Reserved cards that are free would be idle until the longest trial on the others leaves. So
    trials with fewer epochs to go than that one still start there. Each of them is shorter than
    one that is there already, so the row of them ends, and the head starts."""

    number: int
    fits: Fits = anywhere
    patience: int = 4
    per_server: int = 8
    """A trial's cards are of one server."""
    leases: dict[int, Lease] = field(default_factory=dict)
    """By trial."""
    aside: set[int] = field(default_factory=set)
    """Cards that failed too often."""
    failures: dict[int, list[int]] = field(default_factory=dict)
    """Trials that an infrastructure failure ended since the last result, by card."""
    waiting: int | None = None
    """The trial at the head, that cards are, or may be, reserved for."""
    _passed: int = 0
    """How often others were let past it."""
    _reserved: tuple[int, ...] = ()

    def free(self) -> list[int]:
        busy = {card for lease in self.leases.values() for card in lease.cards}
        return [card for card in self._usable() if card not in busy]

    def busy(self) -> int:
        return sum(len(lease.cards) for lease in self.leases.values())

    def possible(self, width: int) -> bool:
        """Whether so many cards could ever make a job."""
        return self._group(self._usable(), width) is not None

    def take(
        self, trial: int, width: int, *, epochs: int = 0, without: Sequence[int] = ()
    ) -> Lease | None:
        """The cards for a trial, or None. To be asked in the order in which trials should start;
        after a None the next in the order may be asked.

        Args:
            epochs: until it may leave.
            without: cards where the trial failed before; used only if no group, free or busy, is
                without them.
        """
        assert trial not in self.leases
        allowed = self.free()
        if self.waiting != trial and epochs >= self._longest_awaited():
            allowed = [card for card in allowed if card not in self._reserved]
        group = self._group([card for card in allowed if card not in without], width)
        elsewhere = [card for card in self._usable() if card not in without]
        if group is None and self._group(elsewhere, width) is None:
            group = self._group(allowed, width)
        if group is None:
            if self.waiting is None:
                self.waiting, self._passed = trial, 0
            elif self.waiting == trial and not self._reserved and self._passed >= self.patience:
                self._reserve(width, elsewhere)
            return None
        self._passed += 1
        self.give_up(trial)
        lease = Lease(trial, tuple(group), epochs)
        self.leases[trial] = lease
        return lease

    def _reserve(self, width: int, elsewhere: Sequence[int]) -> None:
        """For the head, the group of which the most are free; the trials that have the others
        leave sooner or later.

        Args:
            elsewhere: cards where it did not fail.
        """
        free = set(self.free())
        groups = list(self._groups(elsewhere, width)) or list(self._groups(self._usable(), width))
        if groups:
            self._reserved = max(groups, key=lambda group: len(free & set(group)))

    def wanted(self, trial: int) -> bool:
        """Whether a wider trial waits for cards of this one's."""
        lease = self.leases[trial]
        return len(self._reserved) > len(lease.cards) and self._is_awaited(lease)

    def _is_awaited(self, lease: Lease) -> bool:
        return not set(self._reserved).isdisjoint(lease.cards)

    def _longest_awaited(self) -> int:
        """Epochs of the longest lease that the head waits for."""
        return max(
            (each.epochs for each in self.leases.values() if self._is_awaited(each)), default=0
        )

    def go_on(self, trial: int, epochs: int) -> None:
        """It keeps its cards for so many more epochs."""
        self.leases[trial] = replace(self.leases[trial], epochs=epochs)

    def give_up(self, trial: int) -> None:
        """It no longer waits."""
        if self.waiting == trial:
            self.waiting, self._reserved = None, ()

    def end(self, trial: int) -> None:
        """Frees the cards, which says nothing of them."""
        del self.leases[trial]

    def worked(self, trial: int) -> None:
        """Its cards brought it to a rung: what failed there before is forgiven."""
        for card in self.leases[trial].cards:
            self.failures.pop(card, None)

    def fail(self, trial: int, bad: int | None) -> None:
        """The end by a failure of the infrastructure, which counts against the card it came from.
        Of several cards without a known culprit none is counted against: most are innocent, and a
        card that is bad fails narrow trials too, or is named some time.

        Args:
            bad: the card of the rank that failed first, if it is known.
        """
        cards = self.leases[trial].cards
        self.end(trial)
        culprit = cards[0] if len(cards) == 1 else bad
        if culprit is None:
            return
        against = self.failures.setdefault(culprit, [])
        if trial not in against:
            against.append(trial)
        if len(against) >= FAILURES_UNTIL_ASIDE:
            self.aside.add(culprit)
            self._reserved = ()

    def _usable(self) -> list[int]:
        return [card for card in range(self.number) if card not in self.aside]

    def _group(self, cards: Sequence[int], width: int) -> tuple[int, ...] | None:
        return next(self._groups(cards, width), None)

    def _groups(self, cards: Sequence[int], width: int) -> Iterator[tuple[int, ...]]:
        """Groups that fit, those first that leave whole rings whole: from the ring with the fewest
        of the cards."""
        in_ring = Counter(card // RING for card in cards)
        servers = sorted({card // self.per_server for card in cards})
        for server in servers:
            here = [card for card in cards if card // self.per_server == server]
            here.sort(key=lambda card: (in_ring[card // RING], card))
            yield from filter(self.fits, combinations(here, width))
