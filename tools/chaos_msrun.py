"""The faults of ``tools/chaos.py`` under msrun, MindSpore's own launcher, for comparison."""

import os
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import chaos_processes as processes
from chaos_case import AFTER_GRACE_S, FAULTS, START_LIMIT_S, TOOLS, Case, Outcome

from unet_dist.cluster import host

RANKS = 2
LIMIT_S = 150.0
"""Of a stall it takes 30 s to notice, and 30 s more to end."""
_FIRST = re.compile(r"worker (\d+) is the first one timed out")
_PID = re.compile(r"Worker process \d+ exit with exception\. Error code: -?\d+")


def msrun_cases() -> list[Case]:
    return [
        Case(fault=fault, position=position, ranks=RANKS, engine="msrun", peers="mccl")
        for fault in FAULTS
        for position in ("first", "last")
    ]


def run_under_msrun(case: Case, session: str, stop: threading.Event) -> Outcome:
    """Nothing of it is a miss: it is measured, not judged."""
    mark = f"{session}/{case.name}/"
    with tempfile.TemporaryDirectory(prefix="chaos_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        output = folder / "output.txt"
        launcher = processes.start(msrun_command(case, folder), mark, output, path_of_python())
        try:
            if not processes.wait_for_file(folder / "fault", launcher, stop, START_LIMIT_S):
                return Outcome(case=case, said="never came to its fault")
            fault = float((folder / "fault").read_text())
            if case.fault == "launcher":
                fault = time.time()
                launcher.send_signal(signal.SIGKILL)
            ended = processes.wait_for_end(launcher, stop, until=fault + LIMIT_S)
            until = (ended or time.time()) + AFTER_GRACE_S
            gone = processes.wait_until_gone(mark, launcher, stop, until=until)
            survivors = len(processes.marked(mark))
        finally:
            processes.kill_marked(mark)
            launcher.wait()
        text = output.read_text(errors="replace") + output.with_suffix(".err").read_text()
    first = _FIRST.search(text)
    blamed = int(first[1]) if first else None
    heard = [*_PID.findall(text), *([first[0]] if first else [])]
    return Outcome(
        case=case,
        blamed=blamed,
        said="; ".join(dict.fromkeys(heard)),
        right=None if case.fault == "launcher" else blamed == case.victim,
        survivors=survivors,
        teardown_s=max(gone, ended or 0.0) - fault if gone else None,
        answer_s=ended - fault if ended else None,
        code=launcher.returncode,
    )


def msrun_command(case: Case, folder: Path) -> list[str]:
    return [
        str(Path(sys.executable).with_name("msrun")), f"--worker_num={case.ranks}",
        f"--local_worker_num={case.ranks}", f"--master_port={host.free_port()}",
        f"--log_dir={folder / 'logs'}", "--join=True", str(TOOLS / "chaos_msrun_rank.py"),
        str(folder), str(case.victim), case.fault,
    ]  # fmt: skip


def path_of_python() -> dict[str, str]:
    """It starts whatever ``python`` comes first."""
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
