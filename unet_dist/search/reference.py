"""The base configuration beside the trials: the first of them, and what the winner is held against,
so that nobody takes a winner for better than the default unless it is."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unet_dist.config import Config
from unet_dist.config_file import value_of
from unet_dist.data.balance import half_width
from unet_dist.errors import counted
from unet_dist.search.space import CARDS, Parameter, Params, Space, Value
from unet_dist.search.spec import SearchSpec
from unet_dist.search.trials import Study
from unet_dist.search.view import number_text
from unet_dist.search.winner import (
    FEWEST,
    Candidate,
    best_of,
    bounds_of,
    candidate_at,
    values_of,
)

UNKNOWN = "whether the winner beats the base is not known: the base has no result to compare"


def base_point(space: Space, config: Config) -> dict[str, Value]:
    """The values of the base, which may lie outside the space (``Space.faults_of``). Of cards,
    which no configuration tells, the fewest."""

    def value(key: str, parameter: Parameter) -> Any:
        if key == CARDS:
            return min(parameter.extremes(), key=lambda cards: int(cards))  # type: ignore[arg-type]
        return _as_in_space(value_of(config, key), parameter)

    return space.point(value)


def with_base_first(spec: SearchSpec, config: Config) -> SearchSpec:
    """The base is the first point to try, unless it is left out, said, or outside the space."""
    point = base_point(spec.searched, config)
    if not spec.include_base or point in spec.first or spec.searched.faults_of(point):
        return spec
    return spec.model_copy(update={"first": (point, *spec.first)})


def reference_of(spec: SearchSpec, config: Config) -> Params | None:
    """What is trained again beside the best: the base as a point, without values if it is outside
    the space."""
    if not spec.include_base:
        return None
    point = base_point(spec.searched, config)
    return {} if spec.searched.faults_of(point) else point


def base_note(spec: SearchSpec, config: Config) -> str:
    """Why the base is no trial; empty if it is one, or was not asked for."""
    faults = spec.searched.faults_of(base_point(spec.searched, config))
    if not (faults and spec.include_base):
        return ""
    after = (
        "; it is trained beside the best with all seeds"
        if spec.retrain.top
        else ", and retrain.top is 0, so nothing tells whether the winner beats it"
    )
    return f"note: the base configuration is no trial ({'; '.join(faults)}){after}"


def _as_in_space(value: Any, parameter: Parameter) -> Any:
    """As the space writes it: a configuration has 1.0 where a search file may say 1."""
    if parameter.choice:
        same = [
            choice
            for choice in parameter.choice
            if choice == value and isinstance(choice, bool) == isinstance(value, bool)
        ]
        return same[0] if same else value
    whole = isinstance(value, float) and value.is_integer() and parameter.integer is not None
    return int(value) if whole else value


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The winner against the base, by the first objective."""

    winner: Candidate
    base: Candidate
    """At the same epoch."""
    sign: float
    """1 if more is better, else -1."""
    among: int = 1
    """Candidates that the winner was chosen from by these very seeds, which makes the best of them
    look better than it is."""
    is_alone: bool = False
    """The base is the winner only since nothing else came as far yet."""
    is_final: bool = True
    """Nothing is left that may become the best: no trial, and no seed."""

    @property
    def gains(self) -> list[float]:
        """By how much the winner is better, with each seed that both were trained with."""
        # Results of the search itself have a value, and no seed.
        base = dict(zip(self.base.seeds, self.base.values, strict=False))
        pairs = zip(self.winner.seeds, self.winner.values, strict=False)
        return [self.sign * (value - base[seed]) for seed, value in pairs if seed in base]

    @property
    def gain(self) -> float:
        return self.sign * (self.winner.mean - self.base.mean)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % for the mean gain, by Student's t over the seeds, widened for the choice among
        several; undefined with fewer than ``FEWEST`` seeds."""
        gains = self.gains
        if len(gains) < FEWEST:
            return math.nan, math.nan
        mean, half = (
            statistics.fmean(gains),
            half_width(len(gains), statistics.stdev(gains), among=self.among),
        )
        lowest, highest = bounds_of(self.winner.metric)
        most = highest - lowest  # infinite for what has no bounds
        return max(-most, mean - half), min(most, mean + half)

    @property
    def verdict(self) -> str:
        if self.is_alone:
            return "only the base has " + (
                "all its seeds so far" if self.winner.seeds else "a result so far"
            )
        if self.winner.is_base:
            if not self.is_final:
                return "no trial beats the base so far: it is the best so far"
            return "no trial beats the base: it is the winner"
        who = "the winner" if self.is_final else "the best so far"
        if not self.gain > 0:
            return f"{who} does not beat the base"
        if len(self.gains) < 2:
            return f"{who} beats the base with the one seed that was tried"
        if len(self.gains) < FEWEST and min(self.gains) > 0:
            return f"{who} beats the base with both seeds, which are too few to be sure"
        if self.interval[0] > 0:
            return f"{who} beats the base"
        return f"{who} beats the base by less than seeds differ"

    @property
    def text(self) -> str:
        """For example ``the winner beats the base (base 0.78; gain 0.02, 95 % 0.01 to 0.03 over 3
        seeds)``."""
        parts = [f"base {number_text(self.base.mean)}"]
        if not self.winner.is_base:
            (low, high), gain = self.interval, f"gain {number_text(self.gain)}"
            if not math.isnan(low):
                gain += f", 95 % {low:.4g} to {high:.4g} over {len(self.gains)} seeds"
                gain += f" as the best of {self.among}" if self.among > 1 else ""
            elif len(self.gains) > 1:
                gain += f" over {len(self.gains)} seeds, too few for an interval"
            parts.append(gain)
        if not self.base.seeds:
            parts.append(f"after {counted(self.base.epoch, 'epoch')}")
        return f"{self.verdict} ({'; '.join(parts)})"

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            **self.base.to_json(),
            "gain": self.gain,
            "gain_interval": None if math.isnan(low) else [low, high],
            "verdict": self.verdict,
            "text": self.text,
        }


def against_base(
    spec: SearchSpec,
    study: Study,
    found: Sequence[Candidate],
    base: Params | None,
    *,
    is_final: bool = True,
) -> Comparison | None:
    """None without a base, or if it and the winner have no results that can be compared.

    Args:
        found: the winner first (``winner.candidates``).
        is_final: whether the search is over, not stopped.
    """
    if base is None or not found:
        return None
    sign = 1.0 if spec.objectives[0].goal == "maximize" else -1.0
    winner = found[0]
    if winner.seeds:
        again = [each for each in found if each.is_base]
        others = any(values_of(trial) != base for trial in best_of(spec, study))
        alone = others and again == list(found)
        if not again:
            return None
        among = max(1, len(found) - len(again))
        return Comparison(
            winner=winner, base=again[0], sign=sign, among=among, is_alone=alone, is_final=is_final
        )
    trials = [trial for trial in study.trials if trial.results and values_of(trial) == base]
    if not trials or winner.trial is None:
        return None
    # It may have paused before the end: then both are taken where it did.
    epoch = trials[0].epochs
    best = candidate_at(spec, study.trials[winner.trial], epoch, base)
    there = candidate_at(spec, trials[0], epoch, base)
    if best is None or there is None:
        return None
    alone = winner.is_base and not any(
        trial.results and values_of(trial) != base for trial in study.trials
    )
    return Comparison(winner=best, base=there, sign=sign, is_alone=alone, is_final=is_final)
