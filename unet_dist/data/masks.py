"""What the numbers in the masks mean: recognised over the whole data set, never guessed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_dist.config_data import DataConfig
from unet_dist.data.sample import IGNORE
from unet_dist.errors import UserError

Kind = Literal["binary", "inverted", "labels", "instances", "instances_border"]
TWO_VALUED = ("binary", "inverted")

_SHOWN = 8
"""How many values or files a message names."""


@dataclass(frozen=True, kw_only=True)
class MaskCoding:
    """How a data set's mask values become class numbers."""

    kind: Kind
    classes: int
    values: tuple[int, ...]
    """Every value seen in any mask, ascending."""
    shares: Mapping[int, float]
    """Share of all pixels that each value has."""
    ignore: int = -1
    """Value that becomes ``IGNORE``; -1 for none."""
    border: float = 0.0
    """Width of the borders, a share of each object's depth; 0 for one pixel."""

    @property
    def foreground_share(self) -> float:
        """Share of the pixels, ignored ones aside, that are not background."""
        ignored = self.shares.get(self.ignore, 0.0)
        zero = self.shares.get(0, 0.0)
        foreground = zero if self.kind == "inverted" else 1 - zero - ignored
        return foreground / (1 - ignored) if ignored < 1 else 0.0

    def describe(self) -> str:
        """One line, such as ``binary: 0 is background, 255 is foreground (12.3 % of pixels)``."""
        share = f"({100 * self.foreground_share:.1f} % of pixels)"
        others = [value for value in self.values if value not in (0, self.ignore)]
        if self.kind == "binary":
            return f"binary: 0 is background, {_listed(others)} is foreground {share}"
        if self.kind == "inverted":
            return f"inverted: {_listed(others)} is background, 0 is foreground {share}"
        if self.kind == "labels":
            ignored = f", {self.ignore} is left out" if self.ignore >= 0 else ""
            return (
                f"labels: class numbers 0 to {self.classes - 1}, 0 is background{ignored}; "
                f"the other classes are {share[1:-1]}"
            )
        objects = f"0 is background, object numbers up to {max(self.values)}"
        if self.kind == "instances":
            return f"instances: {objects} are foreground {share}"
        return f"instances_border: {objects}; class 1 inside, 2 on their borders {share}"


def count_values(indices_hw: NDArray[np.integer]) -> dict[int, int]:
    """Pixels of each value."""
    if indices_hw.size and indices_hw.min() >= 0 and indices_hw.max() < 1 << 16:
        counts = np.bincount(indices_hw.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, numbers = np.unique(indices_hw, return_counts=True)
    return {int(value): int(number) for value, number in zip(values, numbers, strict=True)}


def recognise(values_per_mask: Mapping[str, Mapping[int, int]], config: DataConfig) -> MaskCoding:
    """What the values mean, from the pixel counts of every value in every mask (by name).

    Raises:
        UserError: with the values and the keys to set, if the meaning is not plain.
    """
    totals: dict[int, int] = {}
    for counts in values_per_mask.values():
        for value, number in counts.items():
            totals[value] = totals.get(value, 0) + number
    where = f"masks of {config.root}"
    if not totals:
        raise UserError(where, "there is no mask to recognise the coding from")
    kind = _resolve(frozenset(totals), config, where)
    if faults := _faults(kind, values_per_mask, config):
        raise UserError(where, faults)
    pixels = sum(totals.values())
    return MaskCoding(
        kind=kind,
        classes=config.classes,
        values=tuple(sorted(totals)),
        shares={value: totals[value] / pixels for value in sorted(totals)},
        ignore=config.ignore,
        border=config.border,
    )


def expected_kind(config: DataConfig) -> Kind | None:
    """The kind that the configuration fixes before any mask is read; None if values decide."""
    if config.mask != "auto":
        return config.mask
    if config.format == "isbi2012" and config.classes == 2:
        return "inverted"  # 0 is membrane, the structure sought
    if config.has_objects:
        return "instances_border" if config.has_border_class else "instances"
    return None


def decode(
    indices_hw: NDArray[np.integer], coding: MaskCoding, *, where: str = "mask"
) -> NDArray[np.uint8]:
    """Class numbers, with ``IGNORE`` where the mask has the ignored value."""
    if unknown := unknown_values(count_values(indices_hw), coding):
        raise UserError(
            where,
            f"value {_listed(unknown)} is none of the data set's ({coding.describe()}): "
            "was the mask changed since the run began?",
        )
    if coding.kind == "inverted":
        return np.asarray(indices_hw == 0, np.uint8)
    if coding.kind == "labels":
        table = np.arange(max(coding.classes, coding.ignore + 1)).astype(np.uint8)
        if coding.ignore >= 0:
            table[coding.ignore] = IGNORE
        return np.asarray(table[indices_hw], np.uint8)
    inside = np.asarray(indices_hw != 0, np.uint8)
    if coding.kind == "instances_border":
        inside += object_borders(indices_hw, coding.border)
    return inside


def unknown_values(counts: Mapping[int, int], coding: MaskCoding) -> list[int]:
    """Values that the coding has no meaning for, ascending."""
    if coding.kind in ("instances", "instances_border"):
        return sorted(value for value in counts if value < 0)
    allowed = {*range(coding.classes), coding.ignore} - {-1}
    return sorted(set(counts) - (allowed if coding.kind == "labels" else set(coding.values)))


def object_borders(numbers_hw: NDArray[np.integer], width: float = 0.0) -> NDArray[np.bool_]:
    """Object pixels that have a neighbour (of 4) of another number, background included, and those
    that are as near to them as a share of their object's depth.

    So a border is 1 pixel wide against the background and 2 where two objects touch, one of
    each, or more of a large object; the frame of the image ends no object.

    Args:
        width: a pixel's depth is its distance to the object's outermost pixels and 1, and an
            object's is its deepest pixel's. Pixels up to this share of it are border, but not the
            deepest unless they touch another object. 0 for the outermost ones alone, of which an
            object may consist.
    """
    border = _beside_others(numbers_hw)
    if not width or not border.any():
        return border
    depth_hw = ndimage.distance_transform_edt(~border) + 1
    numbers, index_hw = np.unique(numbers_hw, return_inverse=True)
    index_hw = index_hw.reshape(numbers_hw.shape)
    deepest_hw = ndimage.maximum(depth_hw, index_hw, np.arange(len(numbers)))[index_hw]
    border |= (depth_hw <= width * deepest_hw) & (numbers_hw != 0)
    kept_hw = (depth_hw < deepest_hw) | _beside_others(numbers_hw, objects_alone=True)
    return np.asarray(border & kept_hw)


def _beside_others(
    numbers_hw: NDArray[np.integer], *, objects_alone: bool = False
) -> NDArray[np.bool_]:
    """Object pixels with a neighbour of another number, or of another object's."""
    found_hw = np.zeros(numbers_hw.shape, np.bool_)
    for numbers, found in ((numbers_hw, found_hw), (numbers_hw.T, found_hw.T)):
        differ = numbers[1:] != numbers[:-1]
        if objects_alone:
            differ &= (numbers[1:] != 0) & (numbers[:-1] != 0)
        found[1:] |= differ
        found[:-1] |= differ
    return np.asarray(found_hw & (numbers_hw != 0))


def _resolve(values: frozenset[int], config: DataConfig, where: str) -> Kind:
    kind = expected_kind(config)
    if kind is not None:
        return kind
    if config.classes > 2:
        if config.format != "labelmap" and max(values) < config.classes and min(values) >= 0:
            return "labels"
    elif 0 in values and len(values) <= 2 and min(values) >= 0:
        return "binary"
    raise UserError(where, _unclear(values, config))


def _unclear(values: frozenset[int], config: DataConfig) -> str:
    """Why mask: auto gives up, and which keys would settle it."""
    seen = f"the values are {_listed(sorted(values))} ({len(values)} of them)"
    advice = []
    rest = sorted(values - {255})
    if 1 < len(rest) <= 64 and rest == list(range(len(rest))):
        ignore = " data.ignore=255" if 255 in values else ""
        advice.append(f"data.mask=labels data.classes={len(rest)}{ignore} if they are classes")
    if config.classes == 2 and 0 in values and len(values) > 2:
        advice.append("data.mask=instances if each number is one object")
    if len(values) > 16 and max(values) <= 255:
        advice.append("save them again as PNG if they are a smeared JPEG or a scaled mask")
    if 0 not in values:
        advice.append("0 must be the background: renumber them")
    elif config.classes > 2:
        advice.append(f"renumber them to class numbers 0 to {config.classes - 1}")
    return f"{seen}, whose meaning for data.classes={config.classes} is not plain; " + "; ".join(
        advice or ["set data.mask to their meaning"]
    )


def _faults(
    kind: Kind, values_per_mask: Mapping[str, Mapping[int, int]], config: DataConfig
) -> list[str]:
    seen = sorted({value for counts in values_per_mask.values() for value in counts})
    if kind in TWO_VALUED and len(seen) == 1:
        return [f"every pixel of every mask is {seen[0]}: there is nothing to tell apart"]
    if kind in ("instances", "instances_border") and seen == [0]:
        return ["every pixel of every mask is 0: there is no object"]
    faulty = {
        name: odd
        for name, counts in values_per_mask.items()
        if (odd := _odd_values(kind, counts, config))
    }
    if not faulty:
        return []
    odd_values = sorted({value for odd in faulty.values() for value in odd})
    names = list(faulty)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    rule = {
        "labels": f"class numbers 0 to {config.classes - 1}"
        + (f" and the ignored {config.ignore}" if config.ignore >= 0 else "")
        + ": set data.classes or data.ignore, or renumber them",
        "instances": "0 and positive object numbers: renumber them",
        "instances_border": "0 and positive object numbers: renumber them",
    }.get(
        kind,
        "0 and one other value in each mask: save a smeared or scaled mask again as PNG, or "
        "set data.mask to labels or instances",
    )
    return [
        f"value {_listed(odd_values)} in {', '.join(names[:_SHOWN])}{more}; "
        f"data.mask={kind} allows {rule}"
    ]


def _odd_values(kind: Kind, counts: Mapping[int, int], config: DataConfig) -> list[int]:
    if kind == "labels":
        return sorted(
            value for value in counts if not 0 <= value < config.classes and value != config.ignore
        )
    if kind in TWO_VALUED:
        positive = sorted(value for value in counts if value > 0)
        return sorted(value for value in counts if value < 0) + (
            positive if len(positive) > 1 else []
        )
    return sorted(value for value in counts if value < 0)


def _listed(values: list[int]) -> str:
    if len(values) <= _SHOWN:
        return ", ".join(map(str, values))
    head = ", ".join(map(str, values[: _SHOWN - 2]))
    return f"{head}, ... {values[-1]}"
