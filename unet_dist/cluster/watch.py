"""Tells a hang from long work, and the rank that keeps the others waiting from those that wait.

Pure: it is shown beats and moments, and needs no process, file or clock of its own.
"""

import itertools
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from unet_dist.cluster.limits import Limits
from unet_dist.heartbeat import Beat

GAPS_REMEMBERED = 200


@dataclass(frozen=True, kw_only=True)
class Hang:
    ranks: tuple[int, ...]
    """Who keeps the others waiting; all of them if they wait in the same collective."""
    reason: str
    tells_culprit: bool = True
    """False where all that is known is that these ranks are silent."""


@dataclass(kw_only=True)
class _Seen:
    beat: Beat
    since: float


class Watch:
    """Shown every rank's latest beat now and then, says when one of them hangs."""

    def __init__(self, ranks: Iterable[int], limits: Limits, *, now: float) -> None:
        self._limits = limits
        self._seen = {rank: _Seen(beat=Beat(), since=now) for rank in ranks}
        self._gaps: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=GAPS_REMEMBERED))
        self._silent = set(self._seen)

    def see(self, rank: int, beat: Beat | None, now: float) -> None:
        seen = self._seen[rank]
        if beat is None or (beat == seen.beat and rank not in self._silent):
            return
        if rank not in self._silent and not seen.beat.waiting and seen.beat.phase == beat.phase:
            self._gaps[beat.phase].append(now - seen.since)
        self._silent.discard(rank)
        seen.beat, seen.since = beat, now

    def leave_out(self, rank: int) -> None:
        """A rank that has ended keeps nobody waiting."""
        self._seen.pop(rank, None)

    def limit_s(self, phase: str) -> float:
        return self._limits.of_phase(phase, self._gaps[phase])

    def hang(self, now: float) -> Hang | None:
        """The hang at this moment, if there is one.

        Ranks enter collectives in the same order, so those that have entered the fewest and are
        in none are the ones that the others wait for:

            rank  collectives  waiting   silent for
               0           17  yes             64 s
               1           16  no              65 s   <- judged, by the limit of its phase
               2           17  yes             64 s
        """
        judged = {
            rank: seen
            for rank, seen in self._seen.items()
            if seen.beat.phase != "done"
            and (rank not in self._silent or self._limits.start_is_watched)
        }
        if not judged:
            return None
        fewest = min(seen.beat.collectives for seen in judged.values())
        behind = [rank for rank, seen in judged.items() if seen.beat.collectives == fewest]
        working = [rank for rank in behind if not judged[rank].beat.waiting]
        if working:
            return self._overdue(working, judged, now)
        # All that have come this far wait in one collective; if others left it, they are ahead
        # by what the transport sends without waiting.
        since = max(seen.since for seen in judged.values())
        beat = judged[behind[0]].beat
        if now - since <= self.limit_s(beat.phase):
            return None
        return Hang(
            ranks=tuple(behind),
            reason=f"{name_ranks(behind)} wait in {beat.doing or 'a collective'} {_where(beat)} "
            f"since {now - since:.0f} s, and no rank is outside it: it is the connection between "
            "them, or a device",
        )

    def _overdue(self, working: list[int], judged: dict[int, _Seen], now: float) -> Hang | None:
        hung = [
            rank
            for rank in working
            if now - judged[rank].since > self.limit_s(judged[rank].beat.phase)
        ]
        if not hung:
            return None
        # Of ranks that tell nothing of collectives, who is at the lowest step is behind.
        first = min(hung, key=lambda rank: (judged[rank].beat.step, judged[rank].since))
        beat, silent_s = judged[first].beat, now - judged[first].since
        others = [rank for rank, seen in judged.items() if seen.beat.waiting]
        wait = "waits" if len(others) == 1 else "wait"
        waiting = f"; {name_ranks(others)} {wait} for it" if others else ""
        also = [rank for rank in hung if rank != first]
        if not beat.collectives and any(judged[rank].beat.step == beat.step for rank in also):
            return Hang(
                ranks=(first, *also),
                tells_culprit=False,
                reason=f"{name_ranks(hung)} are silent for {silent_s:.0f} s {_where(beat)} (limit "
                f"{self.limit_s(beat.phase):.0f} s); which one the others wait for can only be "
                'told if collectives are in `with heartbeat.waiting("all-reduce"):`. Their stacks '
                "are in their logs",
            )
        return Hang(
            ranks=(first, *also),
            reason=f"no sign of life for {silent_s:.0f} s {_where(beat)}"
            + (f", {beat.doing}" if beat.doing else "")
            + f" (limit {self.limit_s(beat.phase):.0f} s)"
            + (f", like {name_ranks(also)}" if also else "")
            + waiting,
        )


def _where(beat: Beat) -> str:
    if beat.phase == "step" and beat.step:
        return f"in step {beat.step}"
    return f"in phase {beat.phase}" + (f" at step {beat.step}" if beat.step else "")


def name_ranks(ranks: Iterable[int]) -> str:
    """``rank 3``, ``ranks 0-2, 5``."""
    ordered = sorted(ranks)
    runs = []
    for _, group in itertools.groupby(enumerate(ordered), lambda pair: pair[1] - pair[0]):
        members = [rank for _, rank in group]
        runs.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ("rank " if len(ordered) == 1 else "ranks ") + ", ".join(runs)
