"""Outcomes of ``tools/chaos.py`` as tables of markdown."""

import statistics
from collections.abc import Sequence

from chaos_case import FAULTS, Outcome

TITLES: dict[str, str] = {
    "raise": "raises an error",
    "exit": "exits with 3",
    "kill": "SIGKILL",
    "segv": "SIGSEGV",
    "stall": "stalls",
    "ignore-term": "exits, all ignore SIGTERM",
    "grandchild": "exits, leaves a grandchild",
    "oom": "out of memory",
    "launcher": "launcher SIGKILLed",
}

HEADS = ("cases", "right culprit", "survivors", "median teardown", "longest")


def table(outcomes: Sequence[Outcome]) -> str:
    """One for light ranks, one for trainings; msrun stands beside the light ranks."""
    light = [o for o in outcomes if o.case.engine in ("mpirun", "local")]
    trained = [o for o in outcomes if o.case.engine == "train"]
    msrun = [o for o in outcomes if o.case.engine == "msrun"]
    parts = []
    if light or msrun:
        parts.append(_table("light ranks", light, msrun))
    if trained:
        parts.append(_table("training ranks", trained, []))
    return "\n\n".join(parts)


def _table(kind: str, ours: Sequence[Outcome], msrun: Sequence[Outcome]) -> str:
    heads = [kind, *HEADS, *(f"msrun: {head}" for head in HEADS if msrun)]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for fault, title in TITLES.items():
        some = [outcome for outcome in ours if outcome.case.fault == fault]
        theirs = [outcome for outcome in msrun if outcome.case.fault == fault]
        if some or theirs:
            rows.append([title, *_cells(some), *(_cells(theirs) if msrun else [])])
    rows.append(["**all**", *_cells(ours), *(_cells(msrun) if msrun else [])])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    found = [outcome.detection_s for outcome in ours if outcome.detection_s is not None]
    if found:
        text = f"{statistics.median(found):.1f} s (median), {max(found):.1f} s (longest)"
        lines += ["", f"Hangs were found {text} after they began."]
    return "\n".join(lines)


def _cells(some: Sequence[Outcome]) -> list[str]:
    if not some:
        return ["0", *[""] * (len(HEADS) - 1)]
    named = [outcome.right for outcome in some if outcome.right is not None]
    torn_down = [o.teardown_s for o in some if o.teardown_s is not None]
    median = f"{statistics.median(torn_down):.2f} s" if torn_down else ""
    longest = f"{max(torn_down):.2f} s" if len(torn_down) == len(some) else "never"
    return [
        str(len(some)),
        f"{sum(named)} of {len(named)}" if named else "nobody left to tell",
        str(sum(outcome.survivors for outcome in some)),
        median,
        longest,
    ]


assert TITLES.keys() == FAULTS.keys()
