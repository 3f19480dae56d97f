"""What a search is asked to do: a YAML file, checked before anything starts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from unet_dist.config import Config
from unet_dist.config_data import NonNegative, Section
from unet_dist.config_file import (
    build_config,
    explain,
    known_keys,
    read_yaml_mapping,
    unknown_key,
)
from unet_dist.errors import UserError
from unet_dist.search.space import CARDS, Parameter, Params, Space, Value

Metric = Literal["dice", "iou", "parameters", "images_per_s", "latency_ms"]
"""Of a trial at a rung: of the validation images; of the network; of the median step of its
training; and of one tile at inference (see ``evaluate.forward``)."""
UNSEARCHABLE = (
    "data.root",
    "data.format",
    "data.classes",
    "data.mask",
    "data.ignore",
    "data.border",
    "data.split.",
    "seed",
    "train.epochs",
    "log.",
    "checkpoint.",
)
"""Keys that would make trials incomparable, such as the epochs, which the rungs are made of, or
have no influence on their results."""
MAX_GRID = 100_000


class Objective(Section):
    metric: Metric
    goal: Literal["maximize", "minimize"] = "maximize"


class Constraint(Section):
    """A limit that the winner keeps; what breaks it comes after all that keep it."""

    metric: Metric
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a constraint needs at_least or at_most")
        return self

    def violation(self, value: float) -> float:
        """0 if it holds, else by how much it does not, as a share of the limit."""
        worst = 0.0
        for limit, excess in (
            (self.at_most, value - (self.at_most or 0.0)),
            (self.at_least, (self.at_least or 0.0) - value),
        ):
            if limit is not None:
                worst = max(worst, excess / max(abs(limit), 1e-9))
        return worst


class AlgorithmSpec(Section):
    """Where the next point comes from, and which trials go on."""

    points: Literal["random", "grid", "quasi_random", "tpe", "gp", "cmaes"] = "tpe"
    """Independent draws; every combination; a Sobol sequence; a tree of Parzen estimators
    (Bergstra et al., NeurIPS 2011); a Gaussian process with expected improvement; CMA-ES."""
    grid_points: int = Field(4, ge=2, le=100)
    """Values of each range in a grid."""
    first_random: int = Field(10, ge=1)
    """Trials with results before a model chooses (tpe, gp, cmaes)."""
    explore: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of later points that are drawn at random all the same (tpe, gp, cmaes)."""
    schedule: Literal["full", "halving", "hyperband", "population"] = "halving"
    """full: every trial to its end. halving: asynchronous successive halving that pauses trials
    and promotes them from their checkpoints (Li et al., MLSys 2020). hyperband: the same with
    brackets that begin later (Li et al., JMLR 2018). population: population-based training, the
    worst of all budget.trials copy the best (Jaderberg et al., arXiv:1711.09846)."""
    min_epochs: int = Field(3, ge=1)
    """Of the first rung (halving, hyperband), or between two exchanges (population). With random
    points fewer may be better, where an epoch takes longer than the start of the ranks."""
    reduction: int = Field(3, ge=2)
    """One in this many goes on to the next rung, which is this many times as long."""


class BudgetSpec(Section):
    """When the search is over, whichever comes first; 0 is no limit."""

    trials: int = Field(40, ge=1)
    """All trials of the study, also those of earlier starts."""
    hours: NonNegative = 0.0
    """Of wall time, over all starts."""
    card_hours: NonNegative = 0.0
    """Cards times the time that they were leased, over all starts."""
    patience: int = Field(0, ge=0)
    """Trials in a row without a new best."""
    memory_gb: NonNegative = 0.0
    """Of a card: trials predicted to need more do not start."""


class RetrainSpec(Section):
    """The best trials, and the base, are trained again with other seeds, and the winner is chosen
    by the mean. It comes after the budget, and is not part of it. All trials of the search have the
    seed of the base; these are the numbers that follow it, so no training counts twice."""

    top: int = Field(3, ge=0)
    """Number of trials; 0 for none: then the winner has one seed."""
    seeds: int = Field(3, ge=1)


class SearchSpec(Section):
    """The whole of a search."""

    base: str
    """Configuration file whose keys hold where the space says nothing; relative to this file."""
    set: tuple[str, ...] = ()
    """``a.b=c`` over the base, for all trials."""
    space: dict[str, Parameter] = Field(min_length=1)
    """Values by key of the configuration, or of ``cards``."""
    cards: tuple[Annotated[int, Field(ge=1)], ...] = Field((1,), min_length=1)
    """Of each trial; several numbers: of its first rung, its second, and so on, the last one
    holding for all further rungs. A trial whose space has ``cards`` keeps that number."""
    objectives: tuple[Objective, ...] = Field((Objective(metric="dice"),), min_length=1)
    constraints: tuple[Constraint, ...] = ()
    algorithm: AlgorithmSpec = AlgorithmSpec()
    budget: BudgetSpec = BudgetSpec()
    retrain: RetrainSpec = RetrainSpec()
    first: tuple[dict[str, Value], ...] = ()
    """Points to try before all others."""
    include_base: bool = True
    """Whether the base itself is the first point, unless its values lie outside the space, and is
    trained again beside the best: so the winner is known to beat it, or not to."""
    seed: int = Field(0, ge=0, lt=2**32)

    @property
    def searched(self) -> Space:
        return Space.of(self.space)

    def cards_of(self, params: Params, rung: int) -> int:
        if CARDS in params:
            width = params[CARDS]
            assert isinstance(width, int)  # see _faults_of
            return width
        return self.cards[min(rung, len(self.cards) - 1)]

    def widths(self) -> tuple[int, ...]:
        """All numbers of cards that a trial may ask for."""
        parameter = self.space.get(CARDS)
        if parameter is None:
            return tuple(sorted(set(self.cards)))
        if parameter.integer:
            return tuple(range(parameter.integer[0], parameter.integer[1] + 1))
        return tuple(sorted(width for width in parameter.choice if isinstance(width, int)))


def load_spec(path: Path, overrides: Sequence[str] = ()) -> SearchSpec:
    """Raises UserError with all faults of the file, and of the configurations it can make.

    Args:
        overrides: ``a.b=c`` for all trials, after those of the file.
    """
    spec = spec_of_tree(read_yaml_mapping(path), path)
    spec = spec.model_copy(update={"set": (*spec.set, *overrides)})
    check_spec(spec, path)
    return spec


def spec_of_tree(tree: Mapping[str, Any], where: Path) -> SearchSpec:
    keys, own = tree.keys(), SearchSpec.model_fields.keys()
    if not {"base", "space"} & keys and keys & (Config.model_fields.keys() - own):
        raise UserError(
            str(where),
            "this is a training configuration, not a search file, which names it as its base "
            f"(base: {where.name}, space: ...)",
        )
    try:
        return SearchSpec.model_validate(tree)
    except ValidationError as error:
        known = [name for name, _ in known_keys(SearchSpec)]
        space = tree.get("space")
        for key in space if isinstance(space, dict) else ():
            fields = Parameter.model_fields.items()
            known += [f"space.{key}.{field.alias or name}" for name, field in fields]
        faults = [
            _ends_of(item, tree) or explain(item, known)
            for item in error.errors()
            # Pydantic counts the items that it has just refused as missing.
            if item["type"] != "too_short" or not item["input"]
        ]
        raise UserError(str(where), faults) from error


def _ends_of(item: Any, tree: Mapping[str, Any]) -> str:
    """What a range with another number of ends than two is told; empty for other errors."""
    match item["loc"]:
        case ("space", str(key), ("float" | "int") as kind, *_) if item["type"] in (
            "missing", "too_long", "too_short", "tuple_type",
        ):  # fmt: skip
            given = tree["space"][key][kind]
            return f"space.{key}: {kind} takes two ends, [lowest, highest], not {given!r:.80}"
    return ""


def check_spec(spec: SearchSpec, where: Path) -> None:
    """What needs the base configuration, which stands relative to ``where``."""
    if faults := _faults_of(spec, where):
        raise UserError(str(where), faults)


def base_tree(spec: SearchSpec, where: Path) -> tuple[dict[str, Any], Path]:
    path = (where.parent / spec.base).resolve()
    return read_yaml_mapping(path), path


def overrides_of(params: Params) -> list[str]:
    """``a.b=c`` for each value, ``cards`` aside; JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in params.items() if key != CARDS]


def _faults_of(spec: SearchSpec, path: Path) -> "list[str]":
    faults: list[str] = []
    names = [name for name, _ in known_keys(Config)]
    try:
        space = spec.searched
    except ValueError as error:
        return str(error).splitlines()
    try:
        tree, base = base_tree(spec, path)
        config = build_config(tree, spec.set, where=str(base))
    except UserError as error:
        return [f"base: {error}"]
    for key, parameter in spec.space.items():
        if key == CARDS:
            if parameter.real or any(
                type(value) is not int or value < 1 for value in parameter.extremes()
            ):
                faults.append("cards: must be whole numbers from 1 up")
            continue
        if key not in names:
            faults.append(f"space: {unknown_key(key, names)}")
        elif key.startswith(UNSEARCHABLE):
            faults.append(f"space: {key}: trials with different values could not be compared")
        else:
            faults += _refused(tree, spec, key, base)
    if CARDS in spec.space and spec.cards != (1,):
        faults.append("cards: is in the space too; say it once")
    if spec.algorithm.schedule in ("halving", "hyperband") and (
        spec.algorithm.min_epochs > config.train.epochs
    ):
        faults.append(
            f"algorithm.min_epochs is {spec.algorithm.min_epochs}, but train.epochs is "
            f"{config.train.epochs}"
        )
    if spec.algorithm.points == "grid" and space.grid_size(spec.algorithm.grid_points) > MAX_GRID:
        faults.append(f"algorithm.points: the grid has more than {MAX_GRID} points")
    for number, point in enumerate(spec.first):
        faults += [f"first, point {number + 1}: {fault}" for fault in space.faults_of(point)]
    if not config.data.split.val and config.data.split.by != "list":
        faults.append(
            "data.split.val is 0: without validation images there is nothing to choose by"
        )
    return faults


def _refused(tree: dict[str, Any], spec: SearchSpec, key: str, base: Path) -> list[str]:
    """What the configuration says to the extremes of a key, each beside the base's other values.
    One that it accepts beside some value of another key of the space, such as the batch that
    accumulation must divide, is judged point by point."""

    def told(params: Params) -> tuple[str, ...]:
        try:
            build_config(tree, [*spec.set, *overrides_of(params)], where=str(base))
        except UserError as error:
            return error.faults
        return ()

    faults = []
    for value in spec.space[key].extremes():
        here = told({key: value})
        if here and all(
            told({other: beside, key: value})
            for other, parameter in spec.space.items()
            if other not in (key, CARDS)
            for beside in parameter.extremes()
        ):
            faults += [f"space: {fault}" for fault in here]
    return faults
