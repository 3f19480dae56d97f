"""Plays searches with recorded learning curves on a clock of their own, and compares them.

    tools/compare_searches.py tests/unit/search/curves.json --seeds 20

Four cards, the same number of trials for all. Against random search, whose trials all run to the
end: how many times earlier is its final best reached (the median over seeds; a search that never
reaches it is 0 times earlier), by what share of the seeds, and the area under the regret. Beside
them Optuna's own Hyperband pruner with its TPE, which stops trials but cannot take them up again.
"""

import argparse
import heapq
import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_dist.search.controller import Controller
from unet_dist.search.leases import Cards
from unet_dist.search.played import Curve, InMemory, PlayedTrials
from unet_dist.search.rungs import rungs_of
from unet_dist.search.space import Params
from unet_dist.search.spec import SearchSpec
from unet_dist.search.trials import Study

CARDS, TRIALS = 4, 200
START_EPOCHS = 0.5
"""What the start of a trial's ranks takes, each time, in median epochs."""
FROM_1 = {"min_epochs": 1}
SEARCHES: dict[str, dict[str, Any]] = {
    "random, full": {"points": "random", "schedule": "full"},
    "tpe, full": {"points": "tpe", "schedule": "full"},
    "random, halving": {"points": "random"},
    "random, halving from 1 epoch": {"points": "random", **FROM_1},
    "random, halving from 1 epoch, one in 4": {"points": "random", **FROM_1, "reduction": 4},
    "quasi-random, halving": {"points": "quasi_random"},
    "tpe, halving": {"points": "tpe"},
    "tpe, halving from 1 epoch": {"points": "tpe", **FROM_1},
    "tpe, halving from 1 epoch, one in 4": {"points": "tpe", **FROM_1, "reduction": 4},
    "gp, halving": {"points": "gp"},
    "cmaes, halving": {"points": "cmaes"},
    "random, hyperband": {"points": "random", "schedule": "hyperband"},
    "tpe, hyperband": {"points": "tpe", "schedule": "hyperband"},
}
"""Halving goes on with one in 3, from 3 epochs, unless its name says something else."""
OPTUNA = "Optuna's TPE and Hyperband"


@dataclass(frozen=True)
class Table:
    space: dict[str, list[Any]]
    rows: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "Table":
        tree = json.loads(path.read_text())
        rows = {cls.key(row["params"]): row for row in tree["curves"]}
        return cls(tree["space"], rows)

    @staticmethod
    def key(params: Params) -> str:
        return json.dumps(dict(sorted(params.items())))

    def curve(self, params: Params) -> Curve:
        row = self.rows[self.key(params)]
        return Curve(
            epoch_s=row["epoch_s"],
            metrics=[{"dice": dice, "parameters": row["parameters"]} for dice in row["dice"]],
        )

    @property
    def epochs(self) -> int:
        return len(next(iter(self.rows.values()))["dice"])

    @property
    def start_s(self) -> float:
        return START_EPOCHS * float(statistics.median(r["epoch_s"] for r in self.rows.values()))

    @property
    def best(self) -> float:
        return float(max(row["dice"][-1] for row in self.rows.values()))


Progress = list[tuple[float, float]]
"""Seconds, and the best Dice by then of a trial that was trained to the end."""


def play(table: Table, algorithm: dict[str, Any], seed: int, trials: int = TRIALS) -> Progress:
    spec = SearchSpec.model_validate(
        {
            "base": "table",
            "space": {key: {"choice": values} for key, values in table.space.items()},
            "algorithm": algorithm,
            "budget": {"trials": trials},
            "seed": seed,
        }
    )
    played = PlayedTrials(curve=table.curve, start_s=table.start_s)
    controller = Controller(
        study=Study(spec=spec),
        rungs=rungs_of(spec.algorithm, table.epochs),
        cards=Cards(number=CARDS),
        executor=played,
        store=InMemory(clock=lambda: played.now_s),
        stopped=lambda: False,
    )
    controller.run()
    finished = sorted(
        (trial.results[-1].clock_s, trial.results[-1].metrics["dice"])
        for trial in controller.study.trials
        if trial.epochs == table.epochs
    )
    return best_so_far(finished, played.now_s)


def play_optuna(table: Table, seed: int, trials: int = TRIALS) -> Progress:
    """Its own way: ask, report after each rung's epoch, prune; four workers."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(
            min_resource=3, max_resource=table.epochs, reduction_factor=3
        ),
    )
    queue: list[tuple[float, int, Any, Curve, int]] = []
    finished, asked, now = [], 0, 0.0

    def start(now: float) -> None:
        nonlocal asked
        if asked < trials:
            trial, asked = study.ask(), asked + 1
            params = {key: trial.suggest_categorical(key, v) for key, v in table.space.items()}
            curve = table.curve(params)
            heapq.heappush(queue, (now + table.start_s + curve.epoch_s, asked, trial, curve, 1))

    for _ in range(CARDS):
        start(0.0)
    while queue:
        now, number, trial, curve, epoch = heapq.heappop(queue)
        dice = curve.metrics[epoch - 1]["dice"]
        trial.report(dice, epoch)
        if epoch == table.epochs:
            study.tell(trial, dice)
            finished.append((now, dice))
            start(now)
        elif trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            start(now)
        else:
            heapq.heappush(queue, (now + curve.epoch_s, number, trial, curve, epoch + 1))
    return best_so_far(finished, now)


def best_so_far(finished: Sequence[tuple[float, float]], end_s: float) -> Progress:
    progress: Progress = []
    for clock, dice in finished:
        if not progress or dice > progress[-1][1]:
            progress.append((clock, dice))
    return [*progress, (end_s, progress[-1][1] if progress else 0.0)]


def reached_at(progress: Progress, dice: float) -> float:
    """Infinite if it never is."""
    return next((clock for clock, best in progress if best >= dice), math.inf)


def area(progress: Progress, until_s: float, best: float) -> float:
    """Mean regret until a moment; before the first finished trial it is the best itself."""
    total, last, current = 0.0, 0.0, 0.0
    for clock, dice in progress:
        clock = min(clock, until_s)
        total, last, current = total + (best - current) * (clock - last), clock, dice
    return (total + (best - current) * (until_s - last)) / until_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[*SEARCHES, OPTUNA], metavar="SEARCH")
    asked = parser.parse_args()
    table = Table.read(asked.table)
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    told = compare(table, seeds, asked.only)
    sys.stdout.write(f"{len(table.rows)} curves, the best ends at {table.best:.4f}\n")
    sys.stdout.write(
        "| search | final best | times earlier | reached | mean regret | of its own time |\n"
        "|---|---|---|---|---|---|\n"
    )
    for name, row in told.items():
        sys.stdout.write(
            f"| {name} | {row['final']:.4f} | {row['earlier']:.1f} | {row['reached']:.0%} "
            f"| {row['regret']:.4f} | {row['time']:.2f} |\n"
        )


def compare(
    table: Table, seeds: Sequence[int], searches: Sequence[str] = (*SEARCHES, OPTUNA)
) -> dict[str, dict[str, float]]:
    """For each search medians over seeds; times and areas against random search to the end."""
    player: dict[str, Callable[[int], Progress]] = {
        name: (lambda seed, algorithm=algorithm: play(table, algorithm, seed))
        for name, algorithm in SEARCHES.items()
    } | {OPTUNA: lambda seed: play_optuna(table, seed)}
    chance = [play(table, SEARCHES["random, full"], seed) for seed in seeds]
    told = {}
    for name in searches:
        runs = [player[name](seed) for seed in seeds]
        pairs = list(zip(chance, runs, strict=True))
        reached = [reached_at(run, base[-1][1]) for base, run in pairs]
        told[name] = {
            "final": statistics.median(run[-1][1] for run in runs),
            "earlier": statistics.median(
                reached_at(base, base[-1][1]) / clock
                for (base, _), clock in zip(pairs, reached, strict=True)
            ),
            "reached": sum(map(math.isfinite, reached)) / len(seeds),
            "regret": statistics.median(area(run, base[-1][0], table.best) for base, run in pairs),
            "time": statistics.median(run[-1][0] / base[-1][0] for base, run in pairs),
        }
    return told


if __name__ == "__main__":
    main()
