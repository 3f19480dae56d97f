"""Which steps of which ranks are profiled: by the command that starts a training, or by a request
to one that runs."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from unet_dist.errors import UserError

STEPS = re.compile(r"steps=(\d+):(\d+)(?:,every=(\d+))?(?:,repeat=(\d+))?")
RANKS = re.compile(r"all|\d+(,\d+)*")
MOST_STEPS = 1000
"""Of one capture: a step of a card is megabytes."""


@dataclass(frozen=True, kw_only=True)
class CapturePlan:
    """Steps are numbered from 1, and both ends are profiled."""

    first: int
    last: int
    every: int = 0
    """Steps from one capture's begin to the next one's."""
    repeat: int = 1
    ranks: tuple[int, ...] | None = None
    """None: all."""
    stacks: bool = False
    """Whether calls of Python are recorded too, which takes time; on cards alone."""

    @classmethod
    def parse(cls, steps: str, ranks: str, *, stacks: bool = False) -> Self:
        """Of ``steps=20:25``, ``steps=20:25,every=500,repeat=3``; ``all`` or ``0,3``.

        Raises:
            UserError: that is none.
        """
        found, faults = STEPS.fullmatch(steps), []
        if found is None:
            raise UserError(
                "--profile", f"is {steps!r}, but must be like steps=20:25 or "
                "steps=20:25,every=500,repeat=3",
            )  # fmt: skip
        first, last, every, repeat = (int(part or 0) for part in found.groups())
        if not 1 <= first <= last:
            faults.append(f"steps {first} to {last}: the first is 1, and the last comes after it")
        if last - first >= MOST_STEPS:
            faults.append(f"{last - first + 1} steps: profile {MOST_STEPS} at the most")
        if repeat > 1 and every <= last - first:
            faults.append(f"every={every} must exceed the {last - first + 1} steps of a capture")
        if RANKS.fullmatch(ranks) is None:
            faults.append(f"--profile-ranks is {ranks!r}, but must be all or like 0,3")
        if faults:
            raise UserError("--profile", faults)
        chosen = None if ranks == "all" else tuple(sorted({int(r) for r in ranks.split(",")}))
        return cls(
            first=first, last=last, every=every, repeat=max(1, repeat), ranks=chosen, stacks=stacks
        )

    def covers(self, rank: int) -> bool:
        return self.ranks is None or rank in self.ranks

    def free_from(self, step: int, length: int) -> int:
        """The first step, not before that one, from which so many are in no capture's begin."""
        while begun := [each for each in range(step, step + length) if self.begins_at(each)]:
            step = begun[-1] + self.length
        return step

    def check_ranks(self, world: int) -> None:
        """Raises UserError if a rank is to be profiled that there is not."""
        beyond = [rank for rank in self.ranks or () if rank >= world]
        if beyond:
            raise UserError(
                "--profile-ranks",
                f"names rank {', '.join(map(str, beyond))}, but ranks are 0 to {world - 1}",
            )

    def begins_at(self, step: int) -> bool:
        number, rest = divmod(step - self.first, self.every) if self.every else (0, 0)
        if not self.every:
            return step == self.first
        return rest == 0 and 0 <= number < self.repeat

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> Self:
        ranks = tree["ranks"]
        return cls(
            first=int(tree["first"]),
            last=int(tree["last"]),
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
    ranks: tuple[int, ...] | None = None
    stacks: bool = False
    first: int = 0
    """0 until rank 0 has chosen it."""

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

    @property
    def length(self) -> int:
        return self.steps
