"""Trials: what was tried, how far it came, and which of them are better."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from unet_dist.search.space import Params, Value
from unet_dist.search.spec import SearchSpec


class State(StrEnum):
    WAITING = "waiting"
    """For cards: it was not started, or an infrastructure failure threw it back."""
    RUNNING = "running"
    PAUSED = "paused"
    """At a rung, with a checkpoint, until it is promoted."""
    COMPLETE = "complete"
    REFUSED = "refused"
    """By the configuration, or as it needs more memory than a card has."""
    FAILED_USER = "failed: input"
    FAILED_MEMORY = "failed: out of memory"
    FAILED_DIVERGED = "failed: diverged"
    FAILED_INFRASTRUCTURE = "failed: infrastructure"


OVER = frozenset(set(State) - {State.WAITING, State.RUNNING, State.PAUSED})
BAD_REGION = frozenset({State.REFUSED, State.FAILED_MEMORY, State.FAILED_DIVERGED})
"""The point itself is to blame, so the neighbourhood is better avoided."""


@dataclass(frozen=True, kw_only=True)
class RungResult:
    epoch: int
    metrics: Mapping[str, float]
    """By ``spec.Metric``; what was not measured is missing."""
    clock_s: float
    """Of the study, over all its starts, when the result came."""
    params: Params | None = None
    """The values that made it, since members of a population change theirs; None in older studies:
    those of the trial."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the space and its way through the rungs. A trial is a run folder."""

    number: int
    """0, 1, ... Its folder, and what its randomness is made of."""
    params: Params
    state: State = State.WAITING
    first_rung: int = 0
    """The bracket of hyperband: the rung where it is first judged."""
    results: tuple[RungResult, ...] = ()
    """Of each rung that it finished, ascending."""
    copied_from: tuple[int, int] | None = None
    """Trial and epoch whose checkpoint it began with (population)."""
    granted: int = 0
    """Epochs that it was allowed, the next rung's once it is promoted; 0 before its first start.
    Written before it goes on: so after a kill nobody judges it twice, or forgets to."""
    tries: int = 0
    """Failures of the infrastructure."""
    bad_cards: tuple[str, ...] = ()
    """Where they were, ``HOST:CARD``; it is started elsewhere."""
    not_before_s: float = 0.0
    """By the study's clock: it is not started again earlier, after such a failure."""
    reason: str = ""
    """Of its failure."""
    card_s: float = 0.0
    """Cards times the seconds it had them, before the lease that it has now."""
    width: int = 0
    """Cards of its last lease."""
    leased_at_s: float | None = None
    """By the study's clock, while it has cards."""

    @property
    def name(self) -> str:
        return f"trial {self.number}"

    @property
    def epochs(self) -> int:
        return self.results[-1].epoch if self.results else 0

    def at_rest(self, final_epoch: int) -> State:
        """Its state once nobody works on it."""
        if self.epochs == final_epoch:
            return State.COMPLETE
        return State.PAUSED if self.granted and self.epochs >= self.granted else State.WAITING

    def used_s(self, clock_s: float) -> float:
        """Cards times the seconds it had them, with those that it has at this moment."""
        since = self.leased_at_s
        return self.card_s + (0.0 if since is None else max(0.0, clock_s - since) * self.width)

    def result_at(self, epoch: int) -> RungResult | None:
        for each in self.results:  # asked a million times by a played study
            if each.epoch == epoch:
                return each
        return None

    def params_at(self, epoch: int) -> Params:
        """The values that made the result there."""
        result = self.result_at(epoch)
        return self.params if result is None or result.params is None else result.params

    def with_result(self, result: RungResult) -> "Trial":
        """The same for a result that is there already: a rung counts once, however often a
        trial was started again."""
        if self.result_at(result.epoch) is not None:
            return self
        # Failures before it are forgiven, since the trial gets on.
        forgiven = replace(self, tries=0, reason="", not_before_s=0.0)
        return replace(forgiven, results=(*self.results, result))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> "Trial":
        """Raises KeyError, TypeError or ValueError if ``to_json`` did not write it."""
        copied = tree["copied_from"]
        return cls(
            number=int(tree["number"]),
            params=_params(tree["params"]),
            state=State(tree["state"]),
            first_rung=int(tree["first_rung"]),
            results=tuple(
                RungResult(
                    epoch=int(each["epoch"]),
                    metrics={key: float(value) for key, value in each["metrics"].items()},
                    clock_s=float(each["clock_s"]),
                    params=None if each.get("params") is None else _params(each["params"]),
                )
                for each in tree["results"]
            ),
            copied_from=(int(copied[0]), int(copied[1])) if copied else None,
            granted=int(tree["granted"]),
            tries=int(tree["tries"]),
            bad_cards=tuple(map(str, tree["bad_cards"])),
            not_before_s=float(tree.get("not_before_s", 0.0)),
            reason=str(tree["reason"]),
            card_s=float(tree["card_s"]),
            width=int(tree["width"]),
            leased_at_s=None if tree["leased_at_s"] is None else float(tree["leased_at_s"]),
        )


def _params(tree: Mapping[str, Any]) -> Params:
    return {key: _value(value) for key, value in tree.items()}


def _value(value: Any) -> Value:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Ranking:
    """Which results are better. With several objectives: the fronts of Pareto, and within a front
    those first that lie far from the ones before (as Schmucker et al., arXiv:2106.12639)."""

    spec: SearchSpec

    def best_first(self, trials: Iterable[Trial], epoch: int) -> list[Trial]:
        """The trials with a result at this epoch."""
        judged = [
            (self._violation_of(result), self._costs_of(result), trial.number, trial)
            for trial in trials
            if (result := trial.result_at(epoch)) is not None
        ]
        judged.sort(key=lambda each: each[:3])
        if len(self.spec.objectives) == 1:
            return [trial for *_, trial in judged]
        costs = {number: cost for _, cost, number, _ in judged}
        kept = [trial for broken, *_, trial in judged if broken == 0]
        others = [trial for broken, *_, trial in judged if broken > 0]
        ordered: list[Trial] = []
        for front in fronts(kept, costs):
            ordered += _spread_first(front, costs)
        return ordered + others

    def costs(self, trial: Trial, epoch: int) -> tuple[float, ...]:
        """One number for each objective, the smaller the better; infinite without a value."""
        return self._costs_of(trial.result_at(epoch))

    def _costs_of(self, result: RungResult | None) -> tuple[float, ...]:
        costs = []
        for objective in self.spec.objectives:
            value = result.metrics.get(objective.metric) if result else None
            sign = -1.0 if objective.goal == "maximize" else 1.0
            costs.append(float("inf") if value is None or value != value else sign * value)
        return tuple(costs)

    def violation(self, trial: Trial, epoch: int) -> float:
        """0 if all constraints hold; infinite if one was not measured, since nobody knows."""
        return self._violation_of(trial.result_at(epoch))

    def _violation_of(self, result: RungResult | None) -> float:
        if not self.spec.constraints:
            return 0
        metrics = result.metrics if result else {}
        return sum(
            each.violation(metrics[each.metric]) if each.metric in metrics else math.inf
            for each in self.spec.constraints
        )

    def best_so_far(self, trials: Iterable[Trial]) -> list[Trial]:
        """All trials with results: those that went furthest first, each group the best first."""
        remaining = [trial for trial in trials if trial.results]
        ordered: list[Trial] = []
        for epoch in sorted({trial.epochs for trial in remaining}, reverse=True):
            ordered += self.best_first([t for t in remaining if t.epochs == epoch], epoch)
        return ordered


Costs = Mapping[int, tuple[float, ...]]
"""By the number of the trial."""


def fronts(trials: Sequence[Trial], costs: Costs) -> list[list[Trial]]:
    """Trials that no other beats in all objectives; then the same of the rest; and so on."""
    left, found = list(trials), []
    while left:
        front = [
            trial
            for trial in left
            if not any(dominates(costs[other.number], costs[trial.number]) for other in left)
        ]
        found.append(front)
        left = [trial for trial in left if trial not in front]
    return found


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Not worse in any, and better in some."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _spread_first(front: Sequence[Trial], costs: Costs) -> list[Trial]:
    """Begins with the best in the first objective; then always the one farthest from all before,
    by the ranges of the front."""
    left = sorted(front, key=lambda trial: (costs[trial.number], trial.number))
    if not left:
        return []
    axes = list(zip(*(costs[trial.number] for trial in left), strict=True))
    spans = [(max(axis) - min(axis)) or 1.0 for axis in axes]

    def distance(one: Trial, other: Trial) -> float:
        pairs = zip(costs[one.number], costs[other.number], spans, strict=True)
        return sum(((a - b) / span) ** 2 for a, b, span in pairs if a != b)

    ordered = [left.pop(0)]
    while left:
        farthest = max(
            left, key=lambda trial: (min(distance(trial, each) for each in ordered), -trial.number)
        )
        left.remove(farthest)
        ordered.append(farthest)
    return ordered


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything known, at one moment. Decisions are functions of it."""

    spec: SearchSpec
    trials: tuple[Trial, ...] = ()
    """By number, without gaps."""
    clock_s: float = 0.0
    """How long controllers worked, over all starts."""
    ranking: Ranking = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranking", Ranking(self.spec))

    @property
    def card_s(self) -> float:
        """Card-seconds so far, of all trials of all starts."""
        return sum(trial.used_s(self.clock_s) for trial in self.trials)
