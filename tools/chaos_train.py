"""Real training ranks under ``tools/chaos.py``: signals from outside, at a moment of their own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import chaos_processes as processes
from chaos_case import (
    GRACE_S,
    START_LIMIT_S,
    Case,
    Outcome,
    answer_of,
    judged,
    observe,
    said,
)

from unet_dist.data.synthetic import write_synthetic
from unet_dist.records import read_records
from unet_dist.runs import RunDir, rank_name

RANKS = 2
HANG_LIMIT_S = 10.0
FAULT_STEP = 4
SIGNALS: Mapping[str, int] = {
    "kill": signal.SIGKILL,
    "segv": signal.SIGSEGV,
    "stall": signal.SIGSTOP,
}


def train_cases() -> list[Case]:
    return [
        Case(fault=fault, position=position, ranks=RANKS, engine="train", peers="mpi")
        for fault in SIGNALS
        for position in ("first", "last")
    ]


def run_training(case: Case, session: str, stop: threading.Event) -> Outcome:
    mark = f"{session}/{case.name}/"
    with tempfile.TemporaryDirectory(prefix="chaos_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        run, output = folder / "run", folder / "answer.json"
        write_synthetic("vessels", folder / "data", count=12, size=64, seed=0)
        launcher = processes.start(train_command(folder), mark, output)
        try:
            if not wait_for_step(run, launcher, stop):
                return Outcome(case=case, misses=(f"never came to its fault: {said(output)}",))
            started = run / "attempts/0/processes" / f"{rank_name(case.victim)}.start.json"
            fault = time.time()
            os.kill(json.loads(started.read_text())["pid"], SIGNALS[case.fault])
            ending = observe(
                mark,
                launcher,
                stop,
                fault=fault,
                hangs=case.fault == "stall",
                limit_s=HANG_LIMIT_S,
            )
        finally:
            processes.kill_marked(mark)
            launcher.wait()
        return judged(case, ending, answer_of(output), run, limit_s=HANG_LIMIT_S)


def train_command(folder: Path) -> list[str]:
    return [
        sys.executable, "-m", "unet_dist", "train", str(folder / "data/config.yaml"),
        "data.split.test=0.17", "data.split.val=0.2", "augment.crop=32",
        "augment.crops_per_image=5", "model.width=4", "model.depth=2", "train.epochs=1000",
        "train.batch=4", "evaluate.tile=64", "evaluate.every_epochs=1000",
        "checkpoint.every_epochs=1000", "--simulate", str(RANKS), "--run", str(folder / "run"),
        "--max-restarts", "0", "--hang-limit", f"step={HANG_LIMIT_S:g}",
        "--grace", f"{GRACE_S:g}", "--json",
    ]  # fmt: skip


def wait_for_step(run: Path, launcher: "subprocess.Popen[bytes]", stop: threading.Event) -> bool:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and launcher.poll() is None:
        if stop.is_set():
            raise processes.Interrupted
        records = read_records(RunDir(run).records(0))
        if any(r["kind"] == "step" and r["step"] >= FAULT_STEP for r in records):
            return True
        time.sleep(processes.POLL_S)
    return False
