"""What a person sees of a study while it runs: a live table, or a line now and then."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from unet_dist.errors import counted
from unet_dist.search.controller import Controller
from unet_dist.search.ending import dropped_of
from unet_dist.search.space import Params, Value
from unet_dist.search.trials import OVER, State, Study, Trial

LINE_EVERY_S = 10.0
LIVE_EVERY_S = 0.5
ROWS = 12


@dataclass(kw_only=True)
class View:
    console: Console
    _live: Live | None = None
    _last: float = -1e9
    _said: str = ""
    _failures: set[str] = field(default_factory=set)
    """Of whom they were told; a trial and a seed may have the same number."""

    def show(self, controller: Controller) -> None:
        now = time.monotonic()
        self._tell_failures(controller)
        if self.console.is_terminal:
            if now - self._last >= LIVE_EVERY_S:
                self._last = now
                if self._live is None:
                    self._live = Live(console=self.console, auto_refresh=False, transient=True)
                    self._live.start()
                self._live.update(table_of(controller), refresh=True)
            return
        if now - self._last < LINE_EVERY_S:
            return
        line = headline(controller)
        if line != self._said:
            self._said, self._last = line, now
            self.console.print(line, markup=False)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _tell_failures(self, controller: Controller) -> None:
        for trial in controller.study.trials:
            name = controller.name(trial)
            if trial.reason and name not in self._failures and trial.state in OVER:
                self._failures.add(name)
                self.console.print(f"{name} {trial.state.value}: {trial.reason}", markup=False)


def headline(controller: Controller) -> str:
    """For example ``12 of 40 trials: 2 running on 4 of 4 cards, 9 paused; best dice 0.801 (trial 7,
    epoch 9); some 14 min left``."""
    study = controller.study
    counts = counts_of(study.trials)
    begun = sum(bool(trial.granted) for trial in study.trials)
    counts.pop(State.WAITING.value, None)
    dropped = dropped_of(study, controller.rungs, is_over=False)
    text = f"{begun} of {counted(study.spec.budget.trials, 'trial')}"
    if counts:
        text += ": " + counts_text(counts, len(dropped))
    text += f"; {controller.cards.busy()} of {controller.cards.number} cards busy"
    best = best_text(study, controller.name)
    text += f"; best {best}" if best else ""
    left = time_left(controller)
    return text + (f"; {left}" if left else "")


def counts_of(trials: Sequence[Trial]) -> dict[str, int]:
    """By the words of ``State``, in its order; those that occur."""
    found = {state.value: sum(trial.state is state for trial in trials) for state in State}
    return {state: number for state, number in found.items() if number}


def counts_text(counts: Mapping[str, int], dropped: int) -> str:
    """For example ``3 complete, 6 dropped by the rungs``.

    Args:
        dropped: those of the paused that no rung promotes any more (``ending.dropped_of``).
    """
    left = {**counts}
    if dropped:
        left[State.PAUSED.value] -= dropped
    texts = [f"{number} {state}" for state, number in left.items() if number]
    return ", ".join([*texts, *([f"{dropped} dropped by the rungs"] if dropped else [])])


def best_text(study: Study, name: Callable[[Trial], str] = lambda trial: trial.name) -> str:
    ordered = study.ranking.best_so_far(study.trials)
    if not ordered:
        return ""
    best = ordered[0]
    result = best.results[-1]
    values = ", ".join(
        f"{each.metric} {number_text(result.metrics.get(each.metric, float('nan')))}"
        for each in study.spec.objectives
    )
    return f"{values} ({name(best)}, epoch {result.epoch})"


def candidate_text(candidate: Mapping[str, Any]) -> str:
    """What one of ``Candidate.to_json`` reached, and how that was measured: for example ``0.4901
    with seed 1 (in the search 0.4712)``, ``0.81 (0.79 to 0.83, mean of seeds 1, 2, 3; in the search
    0.82)``."""
    seeds, notes = candidate.get("seeds", ()), []
    text = number_text(candidate["mean"])
    if candidate["interval"]:
        notes.append("{:.4g} to {:.4g}".format(*candidate["interval"]))
        notes[-1] += f", mean of {seeds_text(seeds)}"
    elif len(seeds) > 1:
        notes.append(f"mean of {seeds_text(seeds)}, too few for an interval")
    elif seeds:
        text += f" with {seeds_text(seeds)}"
    if candidate.get("in_search"):
        value, epoch = candidate["in_search"]
        after = "" if epoch == candidate["epoch"] else f" after {counted(epoch, 'epoch')}"
        notes.append(f"in the search {number_text(value)}{after}")
    return text + (f" ({'; '.join(notes)})" if notes else "")


def seeds_text(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def name_of_candidate(candidate: Mapping[str, Any]) -> str:
    # Summaries of before the base was compared name no candidate.
    return str(candidate.get("name", f"trial {candidate['trial']}"))


def number_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def params_text(params: Params) -> str:
    return " ".join(f"{key}={value_text(value)}" for key, value in params.items())


def value_text(value: Value) -> str:
    """As a configuration takes it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(value_text, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def time_left(controller: Controller) -> str:
    """At the pace of the trials that are over with or paused. A rough guess, made once a tenth of
    them is."""
    study = controller.study
    settled = [t for t in study.trials if t.state in OVER or t.state is State.PAUSED]
    total = study.spec.budget.trials
    if len(settled) < max(3, total / 10) or study.clock_s <= 0:
        return ""
    left_s = study.clock_s * (total - len(settled)) / len(settled)
    if left_s < 60:
        return "less than a minute left" if left_s else ""
    return (
        f"some {left_s / 60:.0f} min left" if left_s < 5400 else f"some {left_s / 3600:.1f} h left"
    )


def table_of(controller: Controller) -> Table:
    study = controller.study
    table = Table(title=headline(controller), title_justify="left", box=None, pad_edge=False)
    names = [objective.metric for objective in study.spec.objectives]
    for name in ("trial", "state", "cards", "epoch", *names, "settings"):
        table.add_column(name)
    running = [trial for trial in study.trials if trial.state is State.RUNNING]
    best = study.ranking.best_so_far([t for t in study.trials if t not in running])
    for trial in [*running, *best][:ROWS]:
        lease = controller.cards.leases.get(trial.number)
        result = trial.results[-1] if trial.results else None
        table.add_row(
            controller.name(trial).removeprefix("trial "),
            trial.state.value,
            ",".join(map(str, lease.cards)) if lease else "",
            f"{trial.epochs} of {trial.granted}"
            if trial.state is State.RUNNING
            else f"{trial.epochs}",
            *(
                number_text(result.metrics[n]) if result and n in result.metrics else ""
                for n in names
            ),
            params_text(trial.params),
        )
    return table
