"""One case of ``tools/chaos.py``: a fault, in one of N light ranks, under ``unet-dist launch``."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chaos_processes as processes

from unet_dist.records import read_records
from unet_dist.runs import RunDir

TOOLS = Path(__file__).parent
FAULTS: Mapping[str, str] = {
    "raise": "ValueError: planted",
    "exit": "exit code 3",
    "kill": "SIGKILL",
    "segv": "SIGSEGV",
    "stall": "hang: ",
    "ignore-term": "exit code 3",
    "grandchild": "exit code 3",
    "oom": "MemoryError",
    "launcher": "",
}
"""What the answer must say of each, after its kind; nobody is left to say anything of a killed
launcher."""
POSITIONS = ("first", "middle", "last")
ENGINES = ("mpirun", "local")
GRACE_S = 1.0
HANG_LIMIT_S = 2.0
HANG_LATE_S = 2.0
"""A hang is to be found this soon after its limit."""
LAUNCHER_S = 2.0
"""The ranks of a killed launcher are to be gone by then."""
AFTER_GRACE_S = 5.0
"""What lives longer than this after the grace period is a survivor."""
START_LIMIT_S = 90.0


@dataclass(frozen=True, kw_only=True)
class Case:
    fault: str
    position: str
    ranks: int
    engine: str
    """mpirun or local; train and msrun for the comparisons."""
    peers: str = "notice"

    @property
    def victim(self) -> int:
        return {"first": 0, "middle": self.ranks // 2, "last": self.ranks - 1}[self.position]

    @property
    def name(self) -> str:
        return f"{self.engine}-{self.ranks}-{self.position}-{self.fault}-{self.peers}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    case: Case
    blamed: int | None = None
    said: str = ""
    right: bool | None = None
    """Whether the right rank and the right reason were named; None where nobody is left to."""
    survivors: int = 0
    detection_s: float | None = None
    """Of a hang, from the fault."""
    teardown_s: float | None = None
    """From the fault, or the detection of a hang, until no process of the job was left; None if
    that never came."""
    answer_s: float | None = None
    """From the fault until the launcher had answered and ended."""
    code: int | None = None
    misses: tuple[str, ...] = ()
    """Criteria that were not met."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What was measured from outside after a fault."""

    fault: float
    gone: float | None
    answered: float | None
    survivors: int
    code: int | None


def run_case(case: Case, session: str, stop: threading.Event) -> Outcome:
    mark = f"{session}/{case.name}/"
    with tempfile.TemporaryDirectory(prefix="chaos_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        output = folder / "answer.json"
        launcher = processes.start(launch_command(case, folder), mark, output)
        try:
            if not processes.wait_for_file(folder / "fault", launcher, stop, START_LIMIT_S):
                return Outcome(case=case, misses=(f"never came to its fault: {said(output)}",))
            fault = float((folder / "fault").read_text())
            if case.fault == "launcher":
                fault = time.time()
                launcher.send_signal(signal.SIGKILL)
            ending = observe(mark, launcher, stop, fault=fault, hangs=case.fault == "stall")
        finally:
            processes.kill_marked(mark)
            launcher.wait()
        return judged(case, ending, answer_of(output), folder / "run", limit_s=HANG_LIMIT_S)


def launch_command(case: Case, folder: Path) -> list[str]:
    where = ["--simulate", str(case.ranks)]
    if case.engine == "local":
        table = folder / "table.json"
        table.write_text(json.dumps(table_of(case.ranks)))
        where = ["--rank-table", str(table)]
    return [
        sys.executable, "-m", "unet_dist", "launch", *where, "--run", str(folder / "run"),
        "--grace", f"{GRACE_S:g}", "--hang-limit", f"step={HANG_LIMIT_S:g}", "--tee", "", "--json",
        "--", "python", str(TOOLS / "chaos_rank.py"), str(folder), str(case.ranks),
        str(case.victim), case.fault, case.peers,
    ]  # fmt: skip


def table_of(ranks: int) -> dict[str, Any]:
    """One server with a card for each rank; a light rank touches none of them."""
    cards = [
        {"device_id": str(rank), "device_ip": f"192.168.{100 + rank}.10", "rank_id": str(rank)}
        for rank in range(ranks)
    ]
    servers = [{"server_id": "10.0.0.1", "device": cards}]
    return {"version": "1.0", "server_count": "1", "server_list": servers, "status": "completed"}


def observe(
    mark: str,
    launcher: "subprocess.Popen[bytes]",
    stop: threading.Event,
    *,
    fault: float,
    hangs: bool,
    limit_s: float = HANG_LIMIT_S,
) -> Ending:
    """Watches the job go, for as long as it may take at most."""
    until = fault + GRACE_S + AFTER_GRACE_S
    if hangs:
        until += limit_s + HANG_LATE_S
    gone = processes.wait_until_gone(mark, launcher, stop, until=until)
    answered = processes.wait_for_end(launcher, stop, until=max(until, time.time() + 2))
    return Ending(
        fault=fault,
        gone=gone,
        answered=answered,
        survivors=len(processes.marked(mark)),
        code=launcher.returncode,
    )


def judged(
    case: Case, ending: Ending, answer: Mapping[str, Any], run: Path, *, limit_s: float
) -> Outcome:
    failure = answer.get("failure") or {}
    blamed, reason = failure.get("rank"), f"{failure.get('kind')}: {failure.get('reason')}"
    misses = [f"{ending.survivors} processes survived"] if ending.survivors else []
    right = None
    if case.fault != "launcher":
        right = blamed == case.victim and FAULTS[case.fault] in reason
        if not right:
            misses.append(f"blamed rank {blamed}: {reason}")
    since, detection_s = ending.fault, None
    if case.fault == "stall":
        since = hang_found(run) or ending.fault
        detection_s = since - ending.fault
        if not 0 < detection_s <= limit_s + HANG_LATE_S:
            misses.append(f"hang found after {detection_s:.1f} s")
    teardown_s = ending.gone - since if ending.gone else None
    if case.fault == "launcher" and (teardown_s is None or teardown_s > LAUNCHER_S):
        misses.append(f"ranks of a killed launcher lived for {teardown_s or AFTER_GRACE_S:.1f} s")
    return Outcome(
        case=case,
        blamed=blamed,
        said=reason,
        right=right,
        survivors=ending.survivors,
        detection_s=detection_s,
        teardown_s=teardown_s,
        answer_s=ending.answered - ending.fault if ending.answered else None,
        code=ending.code,
        misses=tuple(misses),
    )


def hang_found(run: Path) -> float | None:
    found = (r["time"] for r in read_records(RunDir(run).timeline) if r["kind"] == "hang")
    return next(found, None)


def answer_of(output: Path) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(output.read_text())
    except ValueError:
        return {}  # a killed launcher says nothing
    return answer


def said(output: Path) -> str:
    text = output.read_text(errors="replace") + output.with_suffix(".err").read_text(
        errors="replace"
    )
    return text[-1000:]
