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


def table(outcomes: Sequence[Outcome]) -> str:
    """One for light ranks, one for trainings; msrun stands beside the light ranks."""
    light = [o for o in outcomes if o.case.engine in ("mpirun", "local")]
    trained = [o for o in outcomes if o.case.engine == "train"]
    msrun = {o.case.fault: o for o in outcomes if o.case.engine == "msrun"}
    parts = []
    if light or msrun:
        parts.append(_table("light ranks", light, msrun))
    if trained:
        parts.append(_table("training ranks", trained, {}))
    return "\n\n".join(parts)


def _table(kind: str, ours: Sequence[Outcome], msrun: dict[str, Outcome]) -> str:
    heads = [kind, "cases", "right culprit", "survivors", "teardown: median", "longest"]
    heads += ["msrun blames", "survivors", "teardown"] if msrun else []
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for fault, title in TITLES.items():
        some = [outcome for outcome in ours if outcome.case.fault == fault]
        if some or fault in msrun:
            rows.append([title, *_ours(some), *(_msruns(msrun.get(fault)) if msrun else [])])
    if ours:
        rows.append(["**all**", *_ours(ours), *[""] * (3 if msrun else 0)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    found = [outcome.detection_s for outcome in ours if outcome.detection_s is not None]
    if found:
        text = f"{statistics.median(found):.1f} s (median), {max(found):.1f} s (longest)"
        lines += ["", f"Hangs were found {text} after they began."]
    return "\n".join(lines)


def _ours(some: Sequence[Outcome]) -> list[str]:
    if not some:
        return ["0", "", "", "", ""]
    named = [outcome.right for outcome in some if outcome.right is not None]
    torn_down = [o.teardown_s for o in some if o.teardown_s is not None]
    return [
        str(len(some)),
        f"{sum(named)} of {len(named)}" if named else "nobody is left to tell",
        str(sum(outcome.survivors for outcome in some)),
        f"{statistics.median(torn_down):.2f} s" if torn_down else "never",
        f"{max(torn_down):.2f} s" if len(torn_down) == len(some) else "never",
    ]


def _msruns(outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return ["", "", ""]
    blamed = "nobody" if outcome.blamed is None else f"worker {outcome.blamed}"
    if outcome.right is not None:
        blamed += " (right)" if outcome.right else " (wrong)"
    teardown = "never" if outcome.teardown_s is None else f"{outcome.teardown_s:.0f} s"
    return [blamed, str(outcome.survivors), teardown]


assert TITLES.keys() == FAULTS.keys()
