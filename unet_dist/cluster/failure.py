"""Which rank failed first, and why: read from what the guards and the ranks wrote down."""

import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unet_dist.cluster.codes import explain
from unet_dist.cluster.plan import MPIRUN, LaunchPlan
from unet_dist.cluster.watch import Hang, name_ranks
from unet_dist.heartbeat import read_beat
from unet_dist.runs import AttemptDir, rank_name

LAST_LINES = 20
TAIL_BYTES = 64_000
FULL_BYTES = 64_000
"""With less than this a disk is full: not even the reason of an error finds a place."""
WOULD_REPEAT = frozenset({
    "ImportError", "ModuleNotFoundError", "SyntaxError", "NameError", "TypeError",
    "AttributeError", "AssertionError", "KeyError", "IndexError", "NotImplementedError",
    "FileNotFoundError", "PermissionError", "MemoryError", "TrainingDiverged", "UserError",
})  # fmt: skip
"""Errors of a program or of its input: the next start would only meet them again."""
EXIT_CODES_THAT_REPEAT = {126: "it cannot be executed", 127: "it was not found"}
RACE_S = 0.5
"""Within this, moments don't tell a cause from its victims: a guard hears of a death only when the
kernel has cleaned up after it, and collectives of the peers may have failed by then."""
OF_VICTIMS = (signal.SIGABRT, signal.SIGPIPE, signal.SIGTERM)
"""Signals by which a rank may end because another one has."""
NOBODY = "nobody"
"""Stands for a process where a hang tells no culprit."""
CRASHES = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT")
_LOST_HOST = re.compile(r"^\s*Remote (?:daemon: .* on node|host:)\s+(\S+)", re.MULTILINE)
"""How mpirun (PRRTE 3) names a host that its daemon no longer answers from."""
_EXCEPTION = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|Exit|Interrupt|Diverged|Warning))\b")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The first thing that went wrong; what came after follows from it."""

    rank: int | None
    """None if it was not a rank, but what starts them."""
    reason: str
    kind: str
    """error, exit, signal, hang, host or launcher."""
    exception: str = ""
    """The name of the error's class."""
    place: str = ""
    """Host and card."""
    at: str = ""
    """Phase and step of its last sign of life."""
    user_error: bool = False
    """The user can mend it, and the reason says all."""
    repeats: bool = False
    """Starting again would only meet it again."""
    explained: tuple[str, ...] = ()
    """Codes of HCCL and MindSpore in its log, with their meaning."""
    victims: tuple[str, ...] = ()
    """What became of the other ranks."""
    log: str = ""
    last_lines: tuple[str, ...] = ()


def failure_of_json(value: Mapping[str, Any]) -> Failure:
    """Of another part's launcher, which may be of another version."""
    known = {each.name: value[each.name] for each in fields(Failure) if each.name in value}
    lists = {key: tuple(item) for key, item in known.items() if isinstance(item, list)}
    return Failure(**{"rank": None, "reason": "", "kind": "", **known, **lists})


@dataclass(frozen=True)
class Ending:
    """How one process ended by itself, and not well."""

    name: str
    time: float
    reason: str
    kind: str
    user_error: bool = False
    exception: str = ""
    repeats: bool = False
    by_itself: bool = False
    """By a signal that no failure of another rank brings about."""


def first_failure(
    plan: LaunchPlan,
    attempt: AttemptDir,
    *,
    hang: Hang | None = None,
    otherwise: Ending | None = None,
) -> Failure | None:
    """The lost host or the hang if there was one, else the earliest failure by time, else what
    only the launcher saw; None if all went well."""
    endings = sorted(_endings(attempt), key=lambda ending: ending.time)
    cause = _earliest(attempt, endings) if endings else otherwise
    if otherwise is not None and otherwise.kind == "host":
        cause = otherwise  # ranks that lose their peers may fail before the host is known as lost
    elif hang is not None:
        name = rank_name(hang.ranks[0]) if hang.tells_culprit else NOBODY
        cause = Ending(name, 0.0, hang.reason, "hang")
    if cause is None:
        return None
    rank = rank_of(cause.name)
    log = attempt.log(cause.name)
    lines = tail(log, LAST_LINES if hang is None else 3 * LAST_LINES)
    codes = explain(tail(log, 10_000))
    full = shutil.disk_usage(attempt.path).free < FULL_BYTES
    return Failure(
        rank=rank,
        reason=cause.reason,
        kind=cause.kind,
        exception=cause.exception,
        place=_place(plan, attempt, cause.name),
        at=_last_sign(attempt, rank),
        user_error=cause.user_error,
        repeats=full or cause.repeats or any(code.repeats for code in codes),
        explained=(
            *((f"the disk of {attempt.path} is full: free some space",) if full else ()),
            *(f"{code.code}: {code.text}" for code in codes),
        ),
        victims=_victims(plan, attempt, cause, endings) if cause.name != NOBODY else (),
        log=str(log) if log.exists() else str(attempt.path),
        last_lines=() if cause.user_error else lines,
    )


def _earliest(attempt: AttemptDir, endings: Sequence[Ending]) -> Ending:
    """Of failures at almost the same moment, who failed outside a collective made those inside
    it fail, and who was killed made the others raise errors:

        rank  time  ended by               in a collective
           0  3.01  connection reset       yes
           1  3.02  SIGKILL                no               <- the cause
    """
    close = [ending for ending in endings if ending.time - endings[0].time <= RACE_S]

    def order(ending: Ending) -> tuple[bool, bool, float]:
        rank = rank_of(ending.name)
        beat = read_beat(attempt.heartbeat(rank)) if rank is not None else None
        # MindSpore's scheduler fails when its workers do.
        inside = rank is None or (beat is not None and beat.waiting)
        return inside, not ending.by_itself, ending.time

    return min(close, key=order)


def lost_by_mpirun(plan: LaunchPlan, attempt: AttemptDir) -> Ending | None:
    """The host whose daemon mpirun lost. mpirun ends all ranks then, and with exit code 0."""
    found = _LOST_HOST.search("\n".join(tail(attempt.log(MPIRUN), 10_000)))
    if found is None:
        return None
    host = found[1]
    ranks = {rank_of(start["name"]) for start in attempt.starts() if start["host"] == host}
    slots = [slot for slot in plan.topology.slots if slot.rank in ranks]
    given = {slot.server for slot in slots} - {host}
    name = f"{', '.join(sorted(given))} ({host})" if given else host
    where = f"; {name_ranks(slot.rank for slot in slots)} ran there" if slots else ""
    reason = f"host {name} is lost: it is down or cut off, or mpirun's daemon there ended{where}"
    return Ending(MPIRUN, 0.0, reason, "host")


def _endings(attempt: AttemptDir) -> list[Ending]:
    """A rank's own word for its error, else what its guard saw."""
    told = {}
    for name, error in attempt.errors().items():
        mendable, message = bool(error.get("user_error")), str(error.get("message", ""))
        told[name] = Ending(
            name,
            float(error["time"]),
            message if mendable else _first_line(message),
            "error",
            user_error=mendable,
            exception=str(error.get("kind", "")),
            repeats=mendable or error.get("kind") in WOULD_REPEAT,
        )
    for seen in attempt.exits():
        failed = seen["by"] == "itself" and (seen["code"] or seen["signal"])
        if failed and seen["name"] not in told:
            told[seen["name"]] = _as_seen(attempt, seen)
    return list(told.values())


def _first_line(message: str) -> str:
    """MindSpore's messages run over pages; the log holds all of it."""
    return next((line for line in str(message).splitlines() if line.strip()), "")[:400]


def _as_seen(attempt: AttemptDir, seen: dict[str, Any]) -> Ending:
    name, moment, code, number = seen["name"], float(seen["time"]), seen["code"], seen["signal"]
    if number:
        reason = seen.get("reason") or ended_by(number, int(seen.get("oom_kills", 0)))
        return Ending(name, moment, reason, "signal", by_itself=number not in OF_VICTIMS)
    if code in EXIT_CODES_THAT_REPEAT:
        why = seen.get("reason") or EXIT_CODES_THAT_REPEAT[code]
        return Ending(name, moment, f"could not be started: {why}", "exit", repeats=True)
    exception = last_exception(tail(attempt.log(name), LAST_LINES))
    if exception is None:
        reason = seen.get("reason") or f"ended with exit code {code}"
        return Ending(name, moment, reason, "exit")
    matched = _EXCEPTION.match(exception)
    kind = matched[1] if matched else ""
    repeats = kind in WOULD_REPEAT
    return Ending(name, moment, exception, "error", exception=kind, repeats=repeats)


def last_exception(lines: Sequence[str]) -> str | None:
    """The message below a Python traceback at the end of a log."""
    if not any(line.startswith("Traceback (most recent call last)") for line in lines):
        return None
    found = [line for line in lines if _EXCEPTION.match(line)]
    return found[-1] if found else None


def ended_by(number: int, oom_kills: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if oom_kills and number == signal.SIGKILL:
        hint = " (the kernel ended processes for lack of memory meanwhile: use a smaller batch)"
    elif number == signal.SIGKILL:
        hint = " (from outside, not for lack of memory)"
    else:
        hint = " (a crash in native code)" if name in CRASHES else ""
    return f"ended by {name}{hint}"


def rank_of(name: str) -> int | None:
    return int(name.removeprefix("rank_")) if name.startswith("rank_") else None


def _who(name: str) -> str:
    rank = rank_of(name)
    return name if rank is None else f"rank {rank}"


def _victims(
    plan: LaunchPlan, attempt: AttemptDir, cause: Ending, endings: Sequence[Ending]
) -> tuple[str, ...]:
    """Who failed later, and who was ended because of it."""
    later = [ending for ending in endings if ending.name != cause.name]
    told = {ending.name for ending in (cause, *later)}
    told |= {report["name"] for report in attempt.exits() if report["by"] == "itself"}
    by_launcher = {report["name"] for report in attempt.exits() if report["by"] == "launcher"}
    silent = [slot.rank for slot in plan.topology.slots if rank_name(slot.rank) not in told]
    ended = [rank for rank in silent if rank_name(rank) in by_launcher]
    unknown = [rank for rank in silent if rank not in ended]
    lines = [
        f"{_who(ending.name)}: {'the same' if ending.reason == cause.reason else ending.reason}"
        + (f", {max(0.0, ending.time - cause.time):.1f} s later" if cause.time else "")
        for ending in later
    ]
    if ended:
        lines.append(f"{name_ranks(ended)}: ended by the launcher")
    if unknown:
        lines.append(f"{name_ranks(unknown)}: ended without a report")
    return tuple(lines)


def _place(plan: LaunchPlan, attempt: AttemptDir, name: str) -> str:
    seen = next((seen for seen in attempt.exits() if seen["name"] == name), {})
    host = str(seen.get("host", ""))
    rank = rank_of(name)
    if rank is None or rank >= plan.topology.world:
        return host
    slot = plan.topology.slots[rank]
    if plan.topology.target == "CPU":
        return f"on host {host}, simulated" if host else "simulated"
    return ", ".join(
        filter(
            None,
            (f"on host {host}" if host else "", f"server {slot.server}, card {slot.device_id}"),
        )
    )


def _last_sign(attempt: AttemptDir, rank: int | None) -> str:
    beat = read_beat(attempt.heartbeat(rank)) if rank is not None else None
    if beat is None:
        return ""
    if not beat.step:
        return f"in {beat.phase}"
    return f"in step {beat.step}" if beat.phase == "step" else f"in {beat.phase}, step {beat.step}"


def tail(log: Path, number: int) -> tuple[str, ...]:
    """The last lines of a log, of which only the end is read."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL_BYTES))
            text = stream.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-number:])
