"""Kills whatever belongs to a search, at random, and looks at what becomes of it.

    tools/search_chaos.py --trials 50 --kills 100         # light ranks in place of trainings
    tools/search_chaos.py --trials 200 --widths 1,2,4,8 --cards 8 --kills 0

Led once undisturbed and once with kills, half of them of the controller, which is started again,
half of a rank; study after study until there were as many as asked for. To be the same are the
trials, their points and the best; none may be lost or count twice, no card be lent twice at a time,
no process be left; with several widths the cards are to be busy. Prints JSON; exits with 1
otherwise.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from unet_dist.cli.search import entered
from unet_dist.data.synthetic import write_synthetic
from unet_dist.launching.placement import Placement, Supervision
from unet_dist.records import read_records
from unet_dist.search.folder import StudyDir
from unet_dist.search.holdings import busy_share, holdings_of
from unet_dist.search.site import Site
from unet_dist.search.spec import load_spec
from unet_dist.search.study import SearchJob
from unet_dist.search.study_files import begin_study, load_study, read_study
from unet_dist.search.trials import State, Study, Trial

EPOCHS = 9
HANGS_S = 120
"""No study takes so long, besides three times what it takes undisturbed; else it hangs."""
MOST_STUDIES = 10
LIGHT = Path(__file__).with_name("light_trial.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--cards", type=int, default=4)
    parser.add_argument("--widths", default="1", help="of trials, drawn from these")
    parser.add_argument("--least-busy", type=float, default=0.9, help="with several widths")
    parser.add_argument("--epoch-s", default="0.1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--controllers", type=int, default=1, help="each with its own cards")
    parser.add_argument("--storage", default="", help="URL of a PostgreSQL database, for several")
    parser.add_argument("--keep", type=Path, help="an empty folder for the studies")
    parser.add_argument("--lead", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.lead:
        lead(asked.lead)
        return
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="search_chaos_"))
    told = chaos(folder, asked)
    if not asked.keep:
        shutil.rmtree(folder)
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    sys.exit(bool(told["faults"]))


def chaos(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    os.environ["EPOCH_S"] = asked.epoch_s
    write_synthetic("vessels", folder / "data", count=8, size=32, seed=0)
    started, calm = time.monotonic(), prepared(folder, "calm", asked)
    for process in [led(calm) for _ in range(asked.controllers)]:
        process.wait(10 * HANGS_S)
    calm_s = time.monotonic() - started
    rng, kills = random.Random(asked.seed), {"controller": 0, "rank": 0}
    started, wild = time.monotonic(), list[StudyDir]()
    # A study may be over before it had all its kills: then the next one has the rest.
    while sum(kills.values()) < asked.kills and len(wild) < MOST_STUDIES:
        wild.append(prepared(folder, f"wild_{len(wild)}", asked))
        lead_with_kills(wild[-1], asked, kills, rng, calm_s=calm_s)
    wild_s = time.monotonic() - started
    studies = {each.path.name: read_study(each)[0] for each in (calm, *wild)}
    faults = []
    for each in (calm, *wild):
        faults += faults_of(each, studies[each.path.name], asked)
        faults += differences(studies["calm"], studies[each.path.name])
        if left := living_ranks(each):
            faults.append(f"{each.path.name}: {len(left)} processes are left")
    share = busy(calm, asked.cards)
    return {
        "trials": asked.trials,
        "kills": kills,
        "kills_asked": asked.kills,
        "killed_studies": len(wild),
        "calm_s": round(calm_s, 1),
        "wild_s": round(wild_s, 1),
        "best": {name: best_of(study).number for name, study in studies.items()},
        "busy": round(share, 3),
        "faults": faults + shortfalls(asked, sum(kills.values()), share),
    }


def lead_with_kills(
    study: StudyDir,
    asked: argparse.Namespace,
    kills: dict[str, int],
    rng: random.Random,
    *,
    calm_s: float,
) -> None:
    """Until it is over; counts the kills."""
    pause_s = 2 * calm_s / asked.kills
    processes = [led(study) for _ in range(asked.controllers)]
    while any(process.poll() is None for process in processes):
        time.sleep(rng.uniform(0.2, 1.0) * min(3.0, max(0.3, pause_s)))
        index = rng.randrange(len(processes))
        if sum(kills.values()) >= asked.kills:
            for process in processes:
                process.wait(HANGS_S + 3 * calm_s)
        elif rng.random() < 0.5:
            ranks = living_ranks(study)
            kills["rank"] += bool(ranks) and killed(rng.choice(ranks))
        elif processes[index].poll() is None:
            processes[index].kill()
            processes[index].wait()
            kills["controller"] += 1
            if asked.controllers == 1:
                wait_for_end_of_ranks(study)
            processes[index] = led(study)


def shortfalls(asked: argparse.Namespace, kills: int, share: float) -> list[str]:
    """What makes the answer worth less than it looks."""
    faults = []
    if kills < asked.kills:
        faults.append(f"{kills} of {asked.kills} kills in {MOST_STUDIES} studies")
    if len(widths_of(asked)) > 1 and share < asked.least_busy:
        faults.append(f"the cards were busy for {share:.3f} of the time, not {asked.least_busy}")
    return faults


def widths_of(asked: argparse.Namespace) -> list[int]:
    return [int(width) for width in asked.widths.split(",")]


def best_of(study: Study) -> Trial:
    return study.ranking.best_so_far(study.trials)[0]


def prepared(folder: Path, name: str, asked: argparse.Namespace) -> StudyDir:
    (folder / "base.yaml").write_text(
        yaml.safe_dump(
            {"data": {"root": str(folder / "data")}, "train": {"epochs": EPOCHS, "batch": 8}}
        )
    )
    space: dict[str, Any] = {
        "train.lr": {"float": [1e-4, 1e-1], "log": True},
        "model.width": {"choice": [4, 8, 16]},
    }
    widths = widths_of(asked)
    if len(widths) > 1:
        space["cards"] = {"choice": widths}
    file = folder / f"{name}.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "base": "base.yaml", "space": space, "cards": widths[:1], "retrain": {"top": 0},
                "algorithm": {"points": "random", "min_epochs": 1},
                "budget": {"trials": asked.trials},
            }
        )
    )  # fmt: skip
    study = StudyDir(folder / name)
    study.path.mkdir()
    site = Site(
        placement=Placement(simulate=asked.cards, cores=tuple(range(64))),
        storage=asked.storage,
        study_name=name,
    )
    begin_study(study, load_spec(file), file, site)
    return study


def led(study: StudyDir) -> "subprocess.Popen[bytes]":
    command = [sys.executable, __file__, "--lead", str(study.path)]
    with (study.path / "lead.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def lead(path: Path) -> None:
    """As ``unet-dist search --resume``, with light ranks, and less patience with the dead."""

    from rich.console import Console

    from unet_dist.search import signs

    signs.LOST_AFTER_S, signs.BEAT_EVERY_S = 6.0, 1.0

    study = StudyDir(path)
    spec, site = load_study(study)
    with entered(study, shared=bool(site.storage)):
        job = SearchJob(
            folder=study, spec=spec, site=site, supervise=lambda topology: Supervision(),
            console=Console(), show=lambda controller: None,
            argv=(sys.executable, str(LIGHT)),
        )  # fmt: skip
        job.lead()


def living_ranks(study: StudyDir) -> list[int]:
    """Process ids of light ranks of a study."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes()
            if LIGHT.name.encode() in command and b"guard" not in command:
                environment = (path / "environ").read_bytes()
                if str(study.path).encode() in environment:
                    found.append(int(path.name))
        except OSError:
            continue
    return found


def killed(process: int) -> bool:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_for_end_of_ranks(study: StudyDir) -> None:
    deadline = time.monotonic() + 20
    while living_ranks(study) and time.monotonic() < deadline:
        time.sleep(0.05)


def faults_of(folder: StudyDir, study: Study, asked: argparse.Namespace) -> list[str]:
    name, faults = folder.path.name, []
    if [trial.number for trial in study.trials] != list(range(asked.trials)):
        faults.append(f"{name}: {len(study.trials)} trials")
    for trial in study.trials:
        ended = State.COMPLETE if trial.epochs == EPOCHS else State.PAUSED
        if trial.state is not ended:
            faults.append(f"{name}: trial {trial.number} is {trial.state.value} {trial.reason}")
        epochs = [result.epoch for result in trial.results]
        if epochs != sorted(set(epochs)):
            faults.append(f"{name}: trial {trial.number} has the rungs {epochs}")
    return faults + overlaps(folder)


def overlaps(folder: StudyDir) -> list[str]:
    """Leases of a controller that share a card at a time, by the order of the timeline."""
    cards_of: dict[str, dict[int, list[int]]] = {}
    faults = []
    for record in read_records(folder.timeline):
        held = cards_of.setdefault(record["controller"], {})
        if record["kind"] == "lease":
            taken = {card for cards in held.values() for card in cards}
            if taken & set(record["cards"]):
                faults.append(
                    f"{folder.path.name}: trial {record['trial']} got a card that is taken"
                )
            held[record["trial"]] = record["cards"]
        elif record["kind"] == "free":
            held.pop(record["trial"], None)
    return faults


def busy(folder: StudyDir, cards: int) -> float:
    """Share of the cards' time in use until the last new trial began: as long as work waited."""
    timeline = list(read_records(folder.timeline))
    holdings = holdings_of(timeline)
    first: dict[int, float] = {}
    for each in sorted(holdings, key=lambda each: each.began_s):
        first.setdefault(each.trial, each.began_s)
    controllers = len({record["controller"] for record in timeline if record["kind"] == "lease"})
    return busy_share(holdings, cards * controllers, until_s=max(first.values()))


def differences(calm: Study, wild: Study) -> list[str]:
    faults = [
        f"trial {one.number}: {one.params} became {other.params}"
        for one, other in zip(calm.trials, wild.trials, strict=False)
        if one.params != other.params
    ]
    best = [best_of(study) for study in (calm, wild)]
    if best[0].number != best[1].number or best[0].epochs != best[1].epochs:
        faults.append(f"the best is trial {best[1].number} in place of {best[0].number}")
    return faults


if __name__ == "__main__":
    main()
