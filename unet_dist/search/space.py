"""The space of a search: which values each key of the configuration may take."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

from pydantic import Field, model_validator

from unet_dist.config_data import Section

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]
"""What a key may be set to; a tuple for lists such as ``loss.class_weights``."""
Params = Mapping[str, Value]
CARDS = "cards"
"""The key of a trial's number of cards, which is no key of the configuration."""


class Parameter(Section):
    """The values of one key: ``{float: [1e-4, 1e-1], log: true}``, ``{int: [2, 4]}`` or
    ``{choice: [batch, group]}``."""

    real: tuple[float, float] | None = Field(None, alias="float")
    """Smallest and largest value."""
    integer: tuple[int, int] | None = Field(None, alias="int")
    """Smallest and largest value, both included."""
    choice: tuple[Value, ...] = ()
    """The values themselves."""
    log: bool = False
    """Whether factors count, not differences (float, int)."""
    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    """Only if other keys of the space have one of these values: ``{train.optimizer: [sgd]}``."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [bool(self.real), bool(self.integer), bool(self.choice)]
        if sum(kinds) != 1:
            raise ValueError("needs exactly one of float: [low, high], int: [low, high], choice")
        if self.choice:
            if self.log:
                raise ValueError("log has no effect on choice")
            if len(set(map(_identity, self.choice))) < len(self.choice):
                raise ValueError(f"choice names a value twice: {list(self.choice)}")
            return self
        low, high = self.bounds
        if low == high:
            raise ValueError(
                f"the ends are equal, {low:g}, so there is nothing to search; set it in the base, "
                "and leave the key out of the space"
            )
        if low > high:
            raise ValueError(f"the bounds are [{low:g}, {high:g}]: the first must be the smaller")
        if self.log and low <= 0:
            raise ValueError(f"log needs bounds above 0, but the first is {low:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        bounds = self.real or self.integer
        assert bounds is not None
        return bounds

    def extremes(self) -> tuple[Value, ...]:
        """Values that the configuration must accept if it is to accept all."""
        if self.choice:
            return self.choice
        return tuple(dict.fromkeys(self.real or self.integer or ()))

    def at(self, share: float) -> Value:
        """The value at 0..1 of the way; equal shares of 0..1 for each choice and each integer."""
        if self.choice:
            return self.choice[min(len(self.choice) - 1, int(share * len(self.choice)))]
        low, high = self.bounds
        if self.integer:
            low, high = low - 0.5, high + 0.5
        value = (
            math.exp(_between(math.log(low), math.log(high), share))
            if self.log
            else _between(low, high, share)
        )
        if self.integer:
            return min(self.integer[1], max(self.integer[0], round(value)))
        return min(self.bounds[1], max(self.bounds[0], value))

    def share_of(self, value: Value) -> float:
        """Where a value lies, the inverse of ``at`` up to rounding: of choices the middle."""
        if self.choice:
            return (self.position_of(value) + 0.5) / len(self.choice)
        low, high = self.bounds
        if self.integer:
            low, high = low - 0.5, high + 0.5
        number = float(value)  # type: ignore[arg-type]
        if self.log:
            low, high, number = math.log(low), math.log(high), math.log(number)
        return min(1.0, max(0.0, (number - low) / (high - low))) if high > low else 0.5

    def position_of(self, value: Value) -> int:
        """Of one of the choices."""
        return position_in(self.choice, value)

    def contains(self, value: Value) -> bool:
        if self.choice:
            return _identity(value) in map(_identity, self.choice)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.bounds
        return low <= value <= high and (self.real is not None or value == int(value))

    def grid(self, points: int) -> tuple[Value, ...]:
        """All choices; of a range ``points`` values with equal steps, its bounds among them."""
        if self.choice:
            return self.choice
        low, high = self.bounds
        if self.integer and high - low < points:
            return tuple(range(self.integer[0], self.integer[1] + 1))
        steps = [number / max(1, points - 1) for number in range(points)]
        if self.log:
            values = [math.exp(_between(math.log(low), math.log(high), step)) for step in steps]
        else:
            values = [_between(low, high, step) for step in steps]
        if self.integer:
            return tuple(dict.fromkeys(round(value) for value in values))
        return tuple(dict.fromkeys(min(high, max(low, value)) for value in values))


def position_in(choices: Sequence[Value], value: Value) -> int:
    return list(map(_identity, choices)).index(_identity(value))


def _identity(value: Value) -> tuple[str, Value]:
    """1, 1.0 and True are equal to Python, but not to a configuration."""
    return type(value).__name__, value


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


@dataclass(frozen=True)
class Space:
    """Parameters by key; those that a condition asks about come before it."""

    parameters: Mapping[str, Parameter]

    @classmethod
    def of(cls, parameters: Mapping[str, Parameter]) -> Self:
        """Raises ValueError with one line for each condition that can never hold."""
        faults = list(_bad_conditions(parameters))
        if faults:
            raise ValueError("\n".join(faults))
        ordered: dict[str, Parameter] = {}
        left = dict(parameters)
        while left:
            ready = [key for key, each in left.items() if set(each.when) <= set(ordered)]
            if not ready:
                raise ValueError(f"the conditions of {', '.join(left)} ask about each other")
            ordered |= {key: left.pop(key) for key in ready}
        return cls(ordered)

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def conditional(self) -> bool:
        return any(each.when for each in self.parameters.values())

    def active(self, key: str, chosen: Params) -> bool:
        """Whether a key has a value, given those of the keys before it."""
        when = self.parameters[key].when
        return all(other in chosen and chosen[other] in values for other, values in when.items())

    def point(self, value_of: Callable[[str, Parameter], Value]) -> dict[str, Value]:
        """A value for each key whose condition holds; only those are asked for."""
        point: dict[str, Value] = {}
        for key, parameter in self.parameters.items():
            if self.active(key, point):
                point[key] = value_of(key, parameter)
        return point

    def active_of(self, values: Params) -> dict[str, Value]:
        """Of values of all keys those whose condition holds."""
        return self.point(lambda key, _: values[key])

    def at(self, shares: Sequence[float]) -> dict[str, Value]:
        """The point at 0..1 in each of the parameters, in their order."""
        pairs = zip(self.parameters.items(), shares, strict=True)
        return self.active_of({key: parameter.at(share) for (key, parameter), share in pairs})

    def shares_of(self, point: Params) -> list[float]:
        """The inverse of ``at``; the middle for what a point has no value of."""
        return [
            parameter.share_of(point[key]) if key in point else 0.5
            for key, parameter in self.parameters.items()
        ]

    def faults_of(self, point: Params) -> list[str]:
        """What keeps a point, of another study or of the user, from being one of this space."""
        faults = [f"{key} is not in the space" for key in point if key not in self.parameters]
        for key, parameter in self.parameters.items():
            if not self.active(key, point):
                if key in point:
                    faults.append(f"{key} has a value, but its condition does not hold")
            elif key not in point:
                faults.append(f"{key} is missing")
            elif not parameter.contains(point[key]):
                faults.append(f"{key} is {point[key]!r}, outside the space")
        return faults

    def grid(self, points: int) -> list[dict[str, Value]]:
        """Every combination, those that differ only in what a condition rules out once."""
        axes = [parameter.grid(points) for parameter in self.parameters.values()]
        found: dict[tuple[Any, ...], dict[str, Value]] = {}
        for values in product(*axes):
            point = self.active_of(dict(zip(self.parameters, values, strict=True)))
            found.setdefault(tuple((k, _identity(v)) for k, v in point.items()), point)
        return list(found.values())

    def grid_size(self, points: int) -> int:
        """Of ``grid`` without making it, and without regard to conditions."""
        return math.prod(len(parameter.grid(points)) for parameter in self.parameters.values())


def _bad_conditions(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    for key, parameter in parameters.items():
        for other, values in parameter.when.items():
            if other not in parameters:
                yield f"{key}: when asks about {other}, which is not in the space"
                continue
            for value in values:
                if not parameters[other].contains(value):
                    yield f"{key}: when asks for {other} = {value!r}, which it never is"
