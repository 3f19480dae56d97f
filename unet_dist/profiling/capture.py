"""Which steps of which ranks are profiled: by the command that starts a training, or by a request
to one that runs."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from unet_dist.errors import UserError

PART = re.compile(r"(steps)=(\d+):(\d+)|(warmup|every|repeat)=(\d+)")
RANKS = re.compile(r"all|\d+(,\d+)*")
MOST_STEPS = 1000
"""Of one capture: a step of a card is megabytes."""
USUAL_WARMUP = 1
"""Steps, where there is room for them. On the CPU the profiler's set-up and start take about 5 ms,
which would be part of the first step that is kept; after one step of warm-up 1 ms or less is."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The steps of one capture: the profiler begins, warms up, and keeps first to last."""

    begin: int
    """Equal to ``first`` without a warm-up."""
    first: int
    last: int

    @property
    def warmup(self) -> int:
        return self.first - self.begin

    @property
    def length(self) -> int:
        """Of what is kept."""
        return self.last - self.first + 1


@dataclass(frozen=True, kw_only=True)
class CapturePlan:
    """Steps are numbered from 1, and both ends are profiled."""

    first: int
    last: int
    warmup: int = 0
    """Steps before the first one in which the profiler is there already; they are not kept."""
    every: int = 0
    """Steps from one capture's first one to the next one's."""
    repeat: int = 1
    ranks: tuple[int, ...] | None = None
    """None: all."""
    stacks: bool = False
    """Whether calls of Python are recorded too, which takes time; on cards alone."""

    @classmethod
    def parse(cls, steps: str, ranks: str, *, stacks: bool = False) -> Self:
        """Of ``steps=20:25``, or ``steps=20:25,warmup=2,every=500,repeat=3`` in any order; ``all``
        or ``0,3``.

        Raises:
            UserError: that is none.
        """
        first, last, given = _parts_of(steps)
        every, repeat = given.get("every", 0), max(1, given.get("repeat", 1))
        length = last - first + 1
        warmup = given.get("warmup", 0)
        faults = []
        if not 1 <= first <= last:
            faults.append(f"steps {first} to {last}: the first is 1, and the last comes after it")
        elif warmup >= first:
            faults.append(
                f"warmup={warmup}: no more than {first - 1} steps come before step {first}"
            )
        if length > MOST_STEPS:
            faults.append(f"{length} steps: profile {MOST_STEPS} at the most")
        if repeat > 1 and every < length + warmup:
            before = f" and the {warmup} of its warm-up" if warmup else ""
            faults.append(f"every={every} is less than the {length} steps of a capture{before}")
        if RANKS.fullmatch(ranks) is None:
            faults.append(f"--profile-ranks is {ranks!r}, but must be all or like 0,3")
        if faults:
            raise UserError("--profile", faults)
        if "warmup" not in given:
            room = every - length if repeat > 1 else USUAL_WARMUP
            warmup = min(USUAL_WARMUP, first - 1, room)
        chosen = None if ranks == "all" else tuple(sorted({int(r) for r in ranks.split(",")}))
        return cls(
            first=first, last=last, warmup=warmup, every=every, repeat=repeat, ranks=chosen,
            stacks=stacks,
        )  # fmt: skip

    def covers(self, rank: int) -> bool:
        return self.ranks is None or rank in self.ranks

    def free_from(self, step: int, length: int) -> int:
        """The first step, not before that one, from which so many are in no capture's begin."""
        while begun := [w for each in range(step, step + length) if (w := self.window_at(each))]:
            step = begun[-1].last + 1
        return step

    def check_ranks(self, world: int) -> None:
        """Raises UserError if a rank is to be profiled that there is not."""
        beyond = [rank for rank in self.ranks or () if rank >= world]
        if beyond:
            raise UserError(
                "--profile-ranks",
                f"names rank {', '.join(map(str, beyond))}, but ranks are 0 to {world - 1}",
            )

    def window_at(self, step: int) -> Window | None:
        """The capture whose warm-up or first step this is, as far as it is not over: a training
        that was started again may come into the middle of a warm-up."""
        number = max(0, -((self.first - step) // self.every)) if self.every else 0
        first = self.first + number * self.every
        if number >= self.repeat or not first - self.warmup <= step <= first:
            return None
        return Window(begin=step, first=first, last=first + self.last - self.first)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> Self:
        ranks = tree["ranks"]
        return cls(
            first=int(tree["first"]),
            last=int(tree["last"]),
            warmup=int(tree.get("warmup", 0)),
            every=int(tree["every"]),
            repeat=int(tree["repeat"]),
            ranks=None if ranks is None else tuple(map(int, ranks)),
            stacks=tree.get("stacks") is True,
        )


@dataclass(frozen=True, kw_only=True)
class CaptureRequest:
    """To a training that runs: the next so many steps.

    Rank 0 says from which one on, a step ahead: no rank begins that step before rank 0 has taken
    part in the sum of the step before, so all of them know by then.
    """

    number: int
    """Each one is answered once."""
    steps: int
    warmup: int = 0
    """Steps before them, as in a plan."""
    ranks: tuple[int, ...] | None = None
    stacks: bool = False
    first: int = 0
    """0 until rank 0 has chosen it; after the warm-up."""

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError for what is none."""
        tree = json.loads(text)
        ranks = tree["ranks"]
        return cls(
            number=int(tree["number"]),
            steps=min(MOST_STEPS, max(1, int(tree["steps"]))),
            warmup=min(MOST_STEPS, max(0, int(tree.get("warmup", 0)))),
            ranks=None if ranks is None else tuple(map(int, ranks)),
            stacks=tree.get("stacks") is True,
            first=int(tree.get("first", 0)),
        )

    @classmethod
    def read(cls, path: Path) -> "CaptureRequest | None":
        """None without one, and of a file that is half written or not this program's."""
        try:
            return cls.of_text(path.read_text())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def covers(self, rank: int) -> bool:
        return self.ranks is None or rank in self.ranks

    def granted_from(self, step: int) -> "CaptureRequest":
        """Whose warm-up begins at that step."""
        return replace(self, first=step + self.warmup)

    def window_at(self, step: int) -> Window | None:
        """What is to be captured from this step on; None before it and after it."""
        if not self.first - self.warmup <= step < self.first + self.steps:
            return None
        # Later than the first one only in a training that was started again.
        first = max(step, self.first)
        return Window(begin=step, first=first, last=first + self.steps - 1)


def _parts_of(text: str) -> tuple[int, int, dict[str, int]]:
    """First and last step, and what else is said."""
    steps, given, is_right = [], {}, True
    for part in text.split(","):
        found = PART.fullmatch(part)
        if found is None or found[4] in given:
            is_right = False
        elif found[1]:
            steps.append((int(found[2]), int(found[3])))
        else:
            given[found[4]] = int(found[5])
    if not is_right or len(steps) != 1:
        raise UserError(
            "--profile", f"is {text!r}, but must be like steps=20:25 or "
            "steps=20:25,warmup=2,every=500,repeat=3, each part once",
        )  # fmt: skip
    return *steps[0], given
