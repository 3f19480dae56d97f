"""What a check of a server found, and running many checks within one time limit."""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["FAIL", "WARN", "OK", "SKIP"]
VERDICTS: tuple[Verdict, ...] = ("FAIL", "WARN", "OK", "SKIP")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    check: str
    verdict: Verdict
    """SKIP is what could not be seen; it is never called OK."""
    fact: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


Check = Callable[[], Sequence[Finding]]


def ok(check: str, fact: str) -> list[Finding]:
    return [Finding(check=check, verdict="OK", fact=fact)]


def warn(check: str, fact: str, fix: str) -> list[Finding]:
    return [Finding(check=check, verdict="WARN", fact=fact, fix=fix)]


def fail(check: str, fact: str, fix: str) -> list[Finding]:
    return [Finding(check=check, verdict="FAIL", fact=fact, fix=fix)]


def skip(check: str, fact: str, fix: str = "") -> list[Finding]:
    return [Finding(check=check, verdict="SKIP", fact=fact, fix=fix)]


def run_checks(checks: Mapping[str, Check], *, limit_s: float) -> list[Finding]:
    """The findings in the order of the checks, which run side by side.

    A check that does not end in time is passed over: its thread waits on for a file system or a
    driver that is gone, and does not keep the program from ending.
    """
    answers: queue.SimpleQueue[tuple[str, Sequence[Finding]]] = queue.SimpleQueue()

    def run(name: str, check: Check) -> None:
        try:
            answers.put((name, check()))
        except OSError as error:
            answers.put((name, skip(name, f"{error.filename or 'the system'}: {error.strerror}")))

    deadline = time.monotonic() + limit_s
    for name, check in checks.items():
        threading.Thread(target=run, args=(name, check), daemon=True).start()
    found: dict[str, Sequence[Finding]] = {}
    while len(found) < len(checks):
        try:
            name, findings = answers.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            break
        found[name] = findings
    late = f"gave no answer in {limit_s:.1f} s"
    return [finding for name in checks for finding in found.get(name, skip(name, late))]
