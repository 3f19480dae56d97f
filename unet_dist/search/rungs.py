"""Which trials go on: asynchronous successive halving, Hyperband, population-based training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unet_dist.search.space import CARDS, Params, Space, Value
from unet_dist.search.spec import AlgorithmSpec
from unet_dist.search.trials import Ranking, State, Trial


def rungs_of(algorithm: AlgorithmSpec, epochs: int) -> tuple[int, ...]:
    """Epochs after which trials are judged, the last being all of them.

    ``min_epochs`` times powers of ``reduction``; with a population every ``min_epochs``.
    """
    if algorithm.schedule == "full":
        return (epochs,)
    if algorithm.schedule == "population":
        return (*range(algorithm.min_epochs, epochs, algorithm.min_epochs), epochs)
    found, epoch = [], algorithm.min_epochs
    while epoch < epochs:
        found.append(epoch)
        epoch *= algorithm.reduction
    return (*found, epochs)


def first_rung_of(algorithm: AlgorithmSpec, number: int, num_rungs: int) -> int:
    """The bracket of a trial: 0 but for hyperband, whose brackets get trials in the proportions
    of Hyperband, where bracket s of n has about n / (s + 1) * reduction^s of them."""
    if algorithm.schedule != "hyperband":
        return 0
    # Bracket 0 halves the most often; s counts the halvings.
    shares = [
        num_rungs / (halvings + 1) * algorithm.reduction**halvings
        for halvings in range(num_rungs - 1, -1, -1)
    ]
    total = sum(shares)
    given = [0] * num_rungs
    for index in range(number + 1):
        # The bracket that is farthest behind its share, so that any number of trials is divided
        # well and the same number always has the same bracket.
        bracket = max(
            range(num_rungs), key=lambda b: (shares[b] / total * (index + 1) - given[b], -b)
        )
        given[bracket] += 1
    return bracket


def fewest_for_last(algorithm: AlgorithmSpec, num_rungs: int, *, first: int = 0) -> tuple[int, int]:
    """Trials of a bracket that can bring one to the last rung, and that surely do.

    A rung promotes nothing before it has ``reduction`` results, then at the best every newcomer,
    so ``reduction - 1`` stay behind; of all its results it promotes one in ``reduction`` at least.
    """
    steps = num_rungs - 1 - first
    return 1 + steps * (algorithm.reduction - 1), algorithm.reduction**steps


def may_reach_last(algorithm: AlgorithmSpec, trials: int, num_rungs: int) -> bool:
    """Whether so many trials can bring one to the last rung."""
    if algorithm.schedule not in ("halving", "hyperband"):
        return True
    counts = [0] * num_rungs
    for number in range(trials):
        bracket = first_rung_of(algorithm, number, num_rungs)
        counts[bracket] += 1
        if counts[bracket] >= fewest_for_last(algorithm, num_rungs, first=bracket)[0]:
            return True
    return False


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Decisions of one bracket; trials of other brackets are not compared with."""

    rungs: tuple[int, ...]
    reduction: int
    ranking: Ranking

    def promotable(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials that should go on: those that are among the best ``1 / reduction`` of their rung
        and wait there, of the highest rung first, and of a rung the best first."""
        found: list[Trial] = []
        paused = [trial for trial in trials if trial.state is State.PAUSED]
        for index in range(len(self.rungs) - 2, -1, -1):
            there = [trial for trial in paused if trial.epochs == self.rungs[index]]
            if not there:
                continue
            waits = {trial.number for trial in there}
            found += [trial for trial in self._chosen(trials, index) if trial.number in waits]
            # A bracket that is not judged here yet paused for other reasons, and just goes on.
            found += [trial for trial in there if trial.first_rung > index]
        return found

    def goes_on(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        """Whether a trial that has just finished a rung, not the last, is among its best."""
        index = self.rungs.index(trial.epochs)
        if index < trial.first_rung:
            return True
        return any(each.number == trial.number for each in self._chosen(trials, index))

    def _chosen(self, trials: Sequence[Trial], index: int) -> list[Trial]:
        by_bracket: dict[int, list[Trial]] = {}
        for trial in trials:
            if trial.result_at(self.rungs[index]) is not None and trial.first_rung <= index:
                by_bracket.setdefault(trial.first_rung, []).append(trial)
        chosen: list[Trial] = []
        for members in by_bracket.values():
            best = self.ranking.best_first(members, self.rungs[index])
            chosen += best[: len(members) // self.reduction]
        # Of one bracket they are in order.
        return self.ranking.best_first(chosen, self.rungs[index]) if len(by_bracket) > 1 else chosen


KEPT = (
    "model.", "data.", "train.batch", "train.accumulation", "train.optimizer", "train.amp",
    "augment.crop", CARDS,
)  # fmt: skip
"""Keys that a copied checkpoint fixes: the shapes of weights and moments, and what a step is."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a member of a population that is among the worst does next."""

    source: Trial
    params: Params


def exchange(
    trial: Trial,
    population: Sequence[Trial],
    space: Space,
    ranking: Ranking,
    *,
    seed: int,
    keep: frozenset[str],
) -> Exchange | None:
    """The worst fifth of those that came as far take the weights of one of the best fifth, and its
    values changed: each by a fifth of its range either way, or a choice drawn anew with a
    probability of 1/4 (Jaderberg et al. perturb by factors of 0.8 and 1.2).

    Args:
        keep: keys that the weights depend on, such as ``model.width``.
    """
    ordered = ranking.best_first(population, trial.epochs)
    fifth = math.ceil(len(ordered) / 5)
    if len(ordered) < 2 or trial.number not in {each.number for each in ordered[-fifth:]}:
        return None
    rng = np.random.default_rng([seed, trial.number, trial.epochs])
    source = ordered[int(rng.integers(fifth))]
    if source.number == trial.number:
        return None
    return Exchange(
        source=source, params=perturbed(source.params_at(trial.epochs), space, rng, keep)
    )


def perturbed(
    params: Params, space: Space, rng: np.random.Generator, keep: frozenset[str]
) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for key, parameter in space.parameters.items():
        step, anew, share = rng.choice([-0.2, 0.2]), rng.random() < 0.25, rng.random()
        if key not in params:
            values[key] = parameter.at(share)
        elif key in keep:
            values[key] = params[key]
        elif parameter.choice:
            values[key] = parameter.at(share) if anew else params[key]
        else:
            moved = parameter.share_of(params[key]) + step
            values[key] = parameter.at(min(1.0, max(0.0, moved)))
    return space.active_of(values)


def copied(trial: Trial, chosen: Exchange) -> Trial:
    """The member after the exchange: its own history, another's weights and values."""
    return replace(trial, params=chosen.params, copied_from=(chosen.source.number, trial.epochs))
