"""Which class number each label becomes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unet_dist.config_file import read_yaml_mapping
from unet_dist.data.convert.annotation import BACKGROUND, IGNORED, did_you_mean
from unet_dist.data.listing import natural_key
from unet_dist.data.sample import IGNORE
from unet_dist.errors import UserError

Others = Literal["refuse", "background", "ignore"]
MOST_CLASSES = 64
"""As data.classes allows, background included."""


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    numbers: Mapping[str, int]
    """Class number of each label; ``IGNORE`` for what is left out."""
    others: Others = "refuse"
    """What becomes of a label that is not listed."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class number, background first; the first label of several."""
        named = {number: label for label, number in [*self.numbers.items()][::-1]}
        return (BACKGROUND, *(named[n] for n in sorted(named) if n not in (0, IGNORE)))

    def number(self, label: str) -> int:
        """Of a label that ``fault`` finds nothing wrong with."""
        if label in (BACKGROUND, IGNORED):
            return 0 if label == BACKGROUND else IGNORE
        rest = IGNORE if self.others == "ignore" else 0
        return self.numbers.get(label, rest)

    def is_other(self, label: str) -> bool:
        return label not in {*self.numbers, BACKGROUND, IGNORED}

    def fault(self, label: str) -> str | None:
        if not self.is_other(label) or self.others != "refuse":
            return None
        return f"the label {label!r:.60} is not listed{did_you_mean(label, list(self.numbers))}"


def list_labels(labels: Sequence[str], others: Others = "refuse") -> LabelMap:
    """Numbers from 1 in the given order; the reserved labels keep their meaning.

    Raises:
        UserError: with repeated, empty or too many labels.
    """
    faults = [f"{label!r} is named twice" for label in {x for x in labels if labels.count(x) > 1}]
    if any(not label.strip() for label in labels):
        faults.append("a label is empty")
    real = [label for label in labels if label not in (BACKGROUND, IGNORED)]
    if not real:
        faults.append("there is no label")
    if len(real) >= MOST_CLASSES:
        faults.append(
            f"{len(real)} labels, but {MOST_CLASSES - 1} are the most: choose by --labels, and by "
            "--others what becomes of the rest"
        )
    if faults:
        raise UserError("labels", faults)
    return LabelMap(numbers={label: n for n, label in enumerate(real, 1)}, others=others)


def all_labels(seen: Iterable[str], known: Sequence[str] = ()) -> LabelMap:
    """Every label: those that are known in their order, the others after them in natural order."""
    new = {*seen} - {BACKGROUND, IGNORED, *known}
    return list_labels([*known, *sorted(new, key=natural_key)])


def read_label_map(path: Path, others: Others = "refuse") -> LabelMap:
    """A YAML mapping of labels to class numbers, 0 for background, ``ignore`` for left out.

    Raises:
        UserError: with every entry that is neither, or with numbers left out between.
    """
    faults, numbers = [], {}
    for label, value in read_yaml_mapping(path).items():
        number = IGNORE if value == "ignore" else value
        if isinstance(number, bool) or not isinstance(number, int):
            faults.append(f"{label}: {value!r:.40} is no class number, and not `ignore`")
        elif not (0 <= number < MOST_CLASSES or number == IGNORE):
            faults.append(f"{label}: {number} is not from 0 to {MOST_CLASSES - 1}")
        else:
            numbers[label] = number
    for label, meaning in ((BACKGROUND, 0), (IGNORED, IGNORE)):
        if numbers.get(label, meaning) != meaning:
            faults.append(f"{label} has a fixed meaning: remove it")
    used = {number for number in numbers.values() if 0 < number < MOST_CLASSES}
    if missing := sorted({*range(1, max(used, default=0))} - used):
        faults.append(f"no label has the number {missing[0]}, though {max(used)} is used")
    if not used and not faults:
        faults.append("no label has a number from 1 on, so nothing would be foreground")
    if faults:
        raise UserError(str(path), faults)
    return LabelMap(numbers=numbers, others=others)
