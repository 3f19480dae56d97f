"""Faults on purpose: does the supervisor name the right rank, and leave no process behind?

    python tools/chaos.py                        # 9 faults x 3 ranks x N = 2, 4, 8 x 2 engines
    python tools/chaos.py --quick                # N = 4, the middle rank
    python tools/chaos.py --faults kill,stall --ranks 8 --engines local
    python tools/chaos.py --faults none --train --msrun    # real trainings; msrun beside it

Ranks are simulated on this machine. Exits 1 if a case misses a criterion.
"""

import argparse
import json
import os
import secrets
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import chaos_processes as processes
from chaos_case import ENGINES, FAULTS, POSITIONS, Case, Outcome, run_case
from chaos_msrun import msrun_cases, run_under_msrun
from chaos_table import table
from chaos_train import run_training, train_cases

TEARDOWN_MEDIAN_S = 2.0
RANKS = ("2", "4", "8")
PEERS = ("notice", "wait")

Runner = Callable[[Case, str, threading.Event], Outcome]


def main() -> None:
    options = parsed()
    if options.quick:
        options.ranks, options.positions = ["4"], ["middle"]
    cases: list[tuple[Case, Runner]] = [(case, run_case) for case in matrix(options)]
    cases += [(case, run_training) for case in train_cases() if options.train]
    cases += [(case, run_under_msrun) for case in msrun_cases() if options.msrun]
    print(f"{len(cases)} cases, {options.jobs} at a time, {os.cpu_count()} cores", flush=True)
    outcomes = run_all(cases, options.jobs)
    ours = [outcome for outcome in outcomes if outcome.case.engine != "msrun"]
    print(f"\n{table(outcomes)}")
    missed = [outcome for outcome in ours if outcome.misses]
    for outcome in missed:
        print(f"missed: {outcome.case.name}: {'; '.join(outcome.misses)}")
    torn_down = [outcome.teardown_s for outcome in ours if outcome.teardown_s is not None]
    median_s = statistics.median(torn_down) if torn_down else 0.0
    if median_s > TEARDOWN_MEDIAN_S:
        print(f"missed: the median teardown takes {median_s:.2f} s")
    if options.json:
        written = [asdict(outcome) for outcome in outcomes]
        options.json.write_text(json.dumps(written, indent=2) + "\n")
    if len(outcomes) < len(cases):
        sys.exit(130)
    sys.exit(bool(missed) or median_s > TEARDOWN_MEDIAN_S)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    lists = {
        "--ranks": RANKS, "--faults": (*FAULTS, "none"), "--positions": POSITIONS,
        "--engines": ENGINES, "--peers": PEERS,
    }  # fmt: skip
    for option, values in lists.items():
        default = [value for value in values if value != "none"]
        parser.add_argument(option, type=chosen(values), default=default, help=",".join(values))
    parser.add_argument("--quick", action="store_true", help="N = 4, the middle rank")
    parser.add_argument("--train", action="store_true", help="real trainings as well")
    parser.add_argument("--msrun", action="store_true", help="the same faults under msrun")
    parser.add_argument("--jobs", type=int, default=2, help="cases at the same time")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    return parser.parse_args()


def chosen(values: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        items = text.split(",")
        if unknown := [item for item in items if item not in values]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(values)}")
        return [item for item in items if item != "none"]

    return parse


def matrix(options: argparse.Namespace) -> list[Case]:
    return [
        Case(fault=fault, position=position, ranks=int(ranks), engine=engine, peers=peers)
        for ranks in options.ranks
        for engine in options.engines
        for peers in options.peers
        for position in options.positions
        for fault in options.faults
    ]


def run_all(cases: list[tuple[Case, Runner]], jobs: int) -> list[Outcome]:
    """Those that were finished; Ctrl-C or SIGTERM ends the others and cleans up after them."""
    session, stop = secrets.token_hex(8), threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)

    def run_one(case: Case, runner: Runner) -> tuple[Outcome, float] | None:
        started = time.monotonic()
        if stop.is_set():
            return None
        try:
            return runner(case, session, stop), time.monotonic() - started
        except processes.Interrupted:
            return None

    outcomes: list[Outcome] = []
    try:
        with ThreadPoolExecutor(jobs) as pool:
            under_way = [pool.submit(run_one, case, runner) for case, runner in cases]
            try:
                for future in as_completed(under_way):
                    if (done := future.result()) is not None:
                        outcomes.append(done[0])
                        tell(len(outcomes), len(cases), *done)
            finally:
                stop.set()  # after an error, those that have not begun shall not
    finally:
        processes.kill_marked(session)
    return sorted(outcomes, key=lambda outcome: [case for case, _ in cases].index(outcome.case))


def tell(number: int, of: int, outcome: Outcome, took_s: float) -> None:
    teardown = f"{outcome.teardown_s:5.2f} s" if outcome.teardown_s is not None else "never"
    verdict = "; ".join(outcome.misses) or ("ok" if outcome.right is not False else "wrong")
    print(
        f"[{number:3}/{of}] {outcome.case.name:36} blamed {outcome.blamed!s:4} teardown "
        f"{teardown}, {outcome.survivors} survivors, {took_s:4.1f} s: {verdict}",
        flush=True,
    )


if __name__ == "__main__":
    main()
