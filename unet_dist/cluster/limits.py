"""How long a rank may go without a sign of life, and the time limits that follow from that."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from unet_dist.errors import UserError

DEFAULT_S: Mapping[str, float] = {
    "start": 600.0,  # importing over a slow network file system, joining the other ranks
    "compile": 3600.0,
    "step": 600.0,
    "validation": 1800.0,
    "checkpoint": 1800.0,
    "evaluation": 1800.0,
    "prediction": 1800.0,
}
OTHER_PHASE_S = 1800.0
HOST, STOP = "host", "stop"
"""Chosen like phases: the silence of the launcher on another host; the time from a wish to stop to
the end of the ranks."""
HOST_S = 30.0
STOP_S = 1800.0
"""A wish to stop is seen at the next step, and a validation may be on the way to it."""
LEARN_FROM = 5
"""Beats of a phase before its limit is learnt. Some repeat, so a run teaches how long they take;
each start and save may be a different one."""
LEARNT_FACTOR = 20.0
LEARNT_AT_LEAST_S: Mapping[str, float] = {
    "step": 60.0,
    "prediction": 60.0,
    "validation": 600.0,
    "evaluation": 600.0,
}
"""Of the phases that are learnt. Steps, and bands of rows, are alike; images of a validation may be
a hundred times as large as those that it began with."""
HCCL_STEP_S = 68
"""A 910A rounds HCCL_EXEC_TIMEOUT down to multiples of this (CANN, HCCL environment variables)."""
HCCL_EXEC_AT_MOST_S = 17340
HCCL_CONNECT_AT_LEAST_S, HCCL_CONNECT_AT_MOST_S = 120, 7200
"""The values that HCCL_CONNECT_TIMEOUT may have (CANN, HCCL environment variables)."""
AFTER_THE_WATCH_S = 60.0
"""What collectives wait longer than the watch: it finds the culprit, they only the victims."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds without a sign of life in each phase; 0 is never looked at."""

    chosen: Mapping[str, float] = field(default_factory=dict)
    """By the user."""
    grace_s: float = 1.0
    """Between SIGTERM and SIGKILL."""
    start_is_watched: bool = True
    """Whether a rank must show a first beat at all."""

    def of_phase(self, phase: str, gaps_s: Iterable[float] = ()) -> float:
        """The limit of a phase; ``gaps_s`` are the times between beats seen in it so far."""
        if phase in self.chosen:
            return self.chosen[phase] or math.inf
        default = DEFAULT_S.get(phase, OTHER_PHASE_S)
        gaps = list(gaps_s)
        if phase not in LEARNT_AT_LEAST_S or len(gaps) < LEARN_FROM:
            return default
        # Never above the default: a collective gives up a little after that.
        return min(default, max(LEARNT_AT_LEAST_S[phase], LEARNT_FACTOR * max(gaps)))

    @property
    def host_s(self) -> float:
        """Without a sign of life of the launcher on another host."""
        return self.chosen.get(HOST, HOST_S) or math.inf

    @property
    def stop_s(self) -> float:
        """From a wish to stop until the ranks have written their checkpoint."""
        return self.chosen.get(STOP, STOP_S) or math.inf

    @property
    def longest_s(self) -> float:
        """A rank may have to wait this long for another one that is well."""
        return max(OTHER_PHASE_S, *(self.of_phase(phase) for phase in self._phases))

    @property
    def _phases(self) -> list[str]:
        return [phase for phase in {**DEFAULT_S, **self.chosen} if phase not in (HOST, STOP)]

    @property
    def collective_s(self) -> int:
        """How long a collective may wait, as HCCL takes it."""
        wanted = min(self.longest_s + AFTER_THE_WATCH_S, HCCL_EXEC_AT_MOST_S)
        return math.ceil(wanted / HCCL_STEP_S) * HCCL_STEP_S

    @property
    def connect_s(self) -> int:
        """How long HCCL waits for all ranks to be there: some compile longer than others."""
        wanted = self.of_phase("start") + self.of_phase("compile") + AFTER_THE_WATCH_S
        return int(max(HCCL_CONNECT_AT_LEAST_S, min(wanted, HCCL_CONNECT_AT_MOST_S)))

    def describe(self) -> str:
        """One line, printed before a job."""
        phases = (
            f"{phase}{'*' if phase in LEARNT_AT_LEAST_S and phase not in self.chosen else ''} "
            f"{_seconds(self.of_phase(phase))}"
            for phase in self._phases
        )
        return (
            f"limits: silence in {', '.join(phases)} (* less once learnt); HCCL_EXEC_TIMEOUT and "
            f"MS_CPU_COMM_OP_TIMEOUT {self.collective_s} s, HCCL_CONNECT_TIMEOUT "
            f"{self.connect_s} s, SIGTERM to SIGKILL {self.grace_s:g} s"
        )

    def describe_shortly(self) -> str:
        """Of the limits, those that a user meets; ``--dry-run`` prints them all."""
        return (
            f"limits: silence in a step {_seconds(self.of_phase('step'))} (--hang-limit), "
            f"collectives {self.collective_s} s, connections {self.connect_s} s; --dry-run shows "
            "all"
        )


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:g} s"


def parse_hang_limits(items: Iterable[str], *, known_only: bool = False) -> dict[str, float]:
    """``["step=60", "compile=0"]`` to seconds by phase; all faults at once.

    Args:
        known_only: refuse phases that this program's ranks are never in.
    """
    limits: dict[str, float] = {}
    faults = []
    for item in items:
        phase, equals, text = item.partition("=")
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not phase or not equals or not 0 <= seconds < math.inf:
            faults.append(f"{item!r} must be PHASE=SECONDS, such as step=60; 0 is never")
            continue
        if known_only and phase not in (known := (*DEFAULT_S, HOST, STOP)):
            faults.append(f"{phase!r} is no phase; there are {', '.join(known)}")
            continue
        limits[phase] = seconds
    if faults:
        raise UserError("--hang-limit", faults)
    return limits
