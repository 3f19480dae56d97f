"""Errors that the user can mend, how they are worded, and the exit codes of the program."""

from collections.abc import Sequence

EXIT_DONE = 0
EXIT_JOB_FAILED = 1
EXIT_ASKED_WRONGLY = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Something the user can mend: where it is, and every fault found there.

    ``str()`` of one fault is ``where: fault``; of several, a heading and one line for each.
    """

    def __init__(self, where: str, faults: str | Sequence[str]) -> None:
        self.where = where
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__(where, self.faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return f"{self.where}: {self.faults[0]}"
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        return f"{self.where}: {len(self.faults)} problems\n{lines}"


class RunBusy(UserError):
    """Another job is working in the run folder, or has not written yet what is needed of it."""


class TrainingDiverged(Exception):
    """The loss or the gradients stopped being numbers; a restart would only repeat it."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 card``, ``2 cards``."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def one_of(option: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        names = " or ".join(filter(None, allowed))
        raise UserError(option, f"is {value!r}, but must be {names}")
    return value
