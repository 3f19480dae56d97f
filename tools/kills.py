"""Kills ranks of a real training at random moments, and compares what comes of it with a training
that was left alone: the weights must be the same to the last bit.

    python tools/kills.py                    # 20 kills, 2 simulated ranks, some 5 minutes
    python tools/kills.py --kills 3 --json   # for the tests

Kills fall on random moments, on the moment a checkpoint is being written, and on validations. The
training restarts by itself each time; nothing but SIGKILLs is done to it.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from unet_dist.data.synthetic import write_synthetic
from unet_dist.heartbeat import read_beat
from unet_dist.launching.job import newest_step
from unet_dist.records import read_records
from unet_dist.runs import AttemptDir, RunDir, read_json

RANKS = 2
WHENS = ("random", "checkpoint", "validation", "random")
LONGEST_WAIT_S = 120.0
SETTINGS = (
    "data.split.test=0.17", "data.split.val=0.2", "augment.crop=32", "augment.crops_per_image=3",
    "model.width=4", "model.depth=2", "model.norm=batch", "model.dropout=0.2", "train.batch=4",
    "evaluate.tile=64",
)  # fmt: skip


@dataclass(frozen=True)
class Kill:
    attempt: int
    rank: int
    when: str
    phase: str
    step: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=0, help="default: 30, and 25 for each kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    epochs = asked.epochs or 30 + 25 * asked.kills
    with tempfile.TemporaryDirectory() as folder:
        report = compare(Path(folder), asked.kills, epochs, random.Random(asked.seed))
    print(json.dumps(report) if asked.json else describe(report))
    sys.exit(0 if report["equal"] and report["num_kills"] == asked.kills else 1)


def compare(folder: Path, num_kills: int, epochs: int, rng: random.Random) -> dict[str, object]:
    data = folder / "vessels"
    write_synthetic("vessels", data, count=12, size=64, seed=0)
    command = [
        sys.executable, "-m", "unet_dist", "train", str(data / "config.yaml"), *SETTINGS,
        f"train.epochs={epochs}", "--simulate", str(RANKS), "--max-restarts", str(num_kills),
    ]  # fmt: skip
    kills: list[Kill] = []
    killed, alone = folder / "killed", folder / "alone"
    with (folder / "log").open("w") as log:
        subprocess.run([*command, "--run", alone], stdout=log, stderr=log, check=True)
        training = subprocess.Popen([*command, "--run", killed], stdout=log, stderr=log)
        try:
            for number in range(num_kills):
                kill = kill_one(RunDir(killed), number, rng, lambda: training.poll() is None)
                if kill is None:
                    break
                kills.append(kill)
            code = training.wait(600)
        finally:
            training.kill()
    left, right = digests(RunDir(killed)), digests(RunDir(alone))
    return {
        "equal": code == 0 and left == right,
        "exit_code": code,
        "steps": newest_step(RunDir(alone).checkpoints),
        "checkpoints_compared": len(right),
        "num_kills": len(kills),
        "kills": [asdict(kill) for kill in kills],
        "log": (folder / "log").read_text()[-3000:] if code else "",
    }


def kill_one(
    run: RunDir, number: int, rng: random.Random, lives: Callable[[], bool]
) -> Kill | None:
    """Kills a rank of attempt ``number``; None if the training ended before."""
    attempt, rank = run.attempt(number), rng.randrange(RANKS)
    when = WHENS[number % len(WHENS)]
    before = newest_step(run.checkpoints)

    def progressed() -> bool:
        return newest_step(run.checkpoints) > before

    # One start in four is killed on its way up, the others must move on or it is given up.
    if number % 4 == 3:
        ready = wait_for(lambda: attempt.heartbeat(rank).exists(), lives)
    else:
        ready = wait_for(progressed, lives)
    if not ready:
        return None
    if when == "checkpoint":
        rank = 0
        ready = wait_for(lambda: any(run.checkpoints.glob(".step_*.partial")), lives, poll_s=0.0)
    elif when == "validation":
        ready = wait_for(lambda: phase_of(attempt, rank) == "validation", lives, poll_s=0.0)
    else:
        time.sleep(rng.uniform(0, 2))
    if not ready or not lives():
        return None
    beat = read_beat(attempt.heartbeat(rank))
    started = attempt.processes / f"rank_{rank:03d}.start.json"
    os.kill(int(read_json(started)["pid"]), signal.SIGKILL)
    wait_for(lambda: attempt.ended.exists(), lives)
    return Kill(number, rank, when, beat.phase if beat else "", beat.step if beat else 0)


def phase_of(attempt: AttemptDir, rank: int) -> str:
    beat = read_beat(attempt.heartbeat(rank))
    return beat.phase if beat else ""


def wait_for(
    condition: Callable[[], bool], lives: Callable[[], bool], *, poll_s: float = 0.01
) -> bool:
    deadline = time.monotonic() + LONGEST_WAIT_S
    while lives() and time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(poll_s)
    return False


def digests(run: RunDir) -> dict[int, str]:
    """SHA-256 of weights, optimiser and average at each checkpoint."""
    records = read_records(run.records(0))
    return {r["step"]: r["sha256"] for r in records if r["kind"] == "checkpoint"}


def describe(report: dict[str, object]) -> str:
    kills = report["kills"]
    assert isinstance(kills, list)
    lines = [
        f"attempt {kill['attempt']}: rank {kill['rank']} killed in phase {kill['phase']} of step "
        f"{kill['step']} ({kill['when']})"
        for kill in kills
    ]
    verdict = "the same bits" if report["equal"] else f"DIFFERENT\n{report['log']}"
    return "\n".join(
        [
            *lines,
            f"{report['num_kills']} kills, {report['steps']} steps; weights, optimiser and average "
            f"at {report['checkpoints_compared']} checkpoints: {verdict}",
        ]
    )


if __name__ == "__main__":
    main()
