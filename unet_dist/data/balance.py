"""How the parts of a split are filled: with classes, and with enough images for an interval."""

import math
from collections.abc import Mapping, Sequence

from unet_dist.config_data import SplitConfig
from unet_dist.data.facts import ClassBalance
from unet_dist.data.sample import IGNORE, Sample
from unet_dist.data.splits import Splits, cut_stacks

TYPICAL_SPREAD = 0.05
"""Standard deviation of the Dice between images that is reckoned with before anything is trained;
0.03 was measured on CHASE_DB1."""
WIDEST = 0.03
"""Half-width of the 95 % interval from which a part is called small: fewer than 14 images."""
NORMAL_95 = 1.96
"""Standard errors to either side, of very many values."""
SMALLEST_SAMPLE = 3
"""Fewer images, or patients where one has several, have no bootstrap interval and no p
(``evaluate/table.py``, ``compare.py``)."""


def class_balance(
    parts: Mapping[str, Sequence[Sample]],
    pixels_of_id: Mapping[str, Mapping[int, int]],
    names: Sequence[str],
) -> dict[str, dict[str, ClassBalance]]:
    """Of each part and class; a part without images has no classes.

    Args:
        pixels_of_id: pixels of each class, ``IGNORE`` besides, by the sample's id.
    """
    balance = {}
    for part, samples in parts.items():
        counts = [pixels_of_id[sample.id] for sample in samples if sample.id in pixels_of_id]
        total = sum(n for each in counts for class_, n in each.items() if class_ != IGNORE)
        balance[part] = {
            name: ClassBalance(
                share=sum(each.get(number, 0) for each in counts) / max(total, 1),
                images=sum(each.get(number, 0) > 0 for each in counts),
            )
            for number, name in enumerate(names)
            if counts
        }
    return balance


def missing_classes(balance: Mapping[str, Mapping[str, ClassBalance]]) -> list[str]:
    """Warnings on classes that one part lacks and another has."""
    somewhere = {
        name for classes in balance.values() for name, one in classes.items() if one.images
    }
    what_follows = {
        "train": "it cannot be learnt",
        "val": "the best epoch is chosen without it",
        "test": "its Dice will not be defined",
    }
    return [
        f"{part} has no pixel of {', '.join(missing)}: {what_follows[part]}; choose another "
        "data.split (by: list says which image is where)"
        for part, classes in balance.items()
        if (missing := [name for name in classes if name in somewhere and not classes[name].images])
    ]


def interval_warnings(splits: Splits, config: SplitConfig, *, folds: bool) -> list[str]:
    """Warnings on parts too small for the interval of their mean Dice.

    Fewer than ``SMALLEST_SAMPLE`` images have no interval at all. With n images it reaches about
    t(n - 1) * s / sqrt(n) to either side, where s is how much the Dice differs between images; with
    s = ``TYPICAL_SPREAD`` more than ``WIDEST`` is worth a warning. The images of a patient count
    once, as they do in the interval.

    Args:
        folds: all folds are trained, so that each image beside the test validates.
    """
    purpose = {
        "val": "epochs and settings that differ less cannot be told apart on it",
        "test": "smaller differences between runs mean nothing",
    }
    warnings = []
    for part, what in purpose.items():
        samples = splits.parts()[part]
        number = len({sample.group for sample in samples})
        units = "images" if number == len(samples) else "patients"
        if 0 < number < SMALLEST_SAMPLE:
            warnings.append(
                f"{part} has {number} of the {SMALLEST_SAMPLE} {units} that an interval of the "
                f"Dice needs at least; {_how_to_enlarge(part, splits, config, folds=folds)}"
            )
        elif number and (half := half_width(number)) > WIDEST:
            warnings.append(
                f"{part} has {number} {units}: the 95 % interval of their mean Dice will reach "
                f"about {half:.2f} to either side (if the Dice differs by {TYPICAL_SPREAD} between "
                f"{units}), so {what}; " + _how_to_enlarge(part, splits, config, folds=folds)
            )
    return warnings


def stack_warnings(splits: Splits) -> list[str]:
    """Warnings on stacks whose slices count as if each were a patient (``cut_stacks``)."""
    trained = {(sample.image.path, sample.image.page) for sample in splits.train}
    judged = [*splits.val, *splits.test]
    warnings = []
    for path in cut_stacks([*splits.train, *judged]):
        pages = [sample.image.page for sample in judged if sample.image.path == path]
        beside = sum((path, page - 1) in trained or (path, page + 1) in trained for page in pages)
        warnings.append(
            f"the slices of {path.name} are of one specimen but each counts by itself: intervals "
            "hold for more slices of this specimen, and are too narrow for others; "
            f"{beside} of {len(pages)} slices that validate or test lie beside one that trains"
        )
    return warnings


def _how_to_enlarge(part: str, splits: Splits, config: SplitConfig, *, folds: bool) -> str:
    """What gives a part more images where it is divided by this rule: not every key has a say."""
    own = part in {sample.subset for samples in splits.parts().values() for sample in samples}
    listed = f"list more images under {part} in {config.file}"
    number = len({sample.group for sample in [*splits.train, *splits.val]})
    total = number + len({sample.group for sample in splits.test})
    # With folds all beside the test validate; otherwise one of them at least has to train.
    cross = f"train with --folds {min(5, number)}" if number >= SMALLEST_SAMPLE else ""
    if part == "test":
        if config.rule == "list":
            return listed
        if own and config.rule in ("official", "auto"):
            fixed = "these are all of the data set's own test"
            if folds or not cross:
                return fixed
            return f"{fixed}, so {cross} to measure on the others too"
        return "raise data.split.test" if total >= SMALLEST_SAMPLE + 2 else "add images"
    if not cross:
        drawn = config.rule in ("ratio", "order") and total >= SMALLEST_SAMPLE
        fewer = ", or lower data.split.test and train with --folds" if drawn else ""
        return f"the {number} beside the test are too few for it in all, so add images{fewer}"
    if config.by == "fold":
        return f"train all folds with --folds {config.folds}"
    if number <= SMALLEST_SAMPLE or (config.by == "official" and own):
        return cross
    return f"{listed if config.by == 'list' else 'raise data.split.val'}, or {cross}"


def half_width(number: int, spread: float = TYPICAL_SPREAD, *, among: int = 1) -> float:
    """Of the 95 % interval of a mean over so many images; ``among`` as of ``student_95``."""
    return student_95(number, among=among) * spread / math.sqrt(number)


def student_95(number: int, *, among: int = 1) -> float:
    """Standard errors that the 95 % interval of a mean of so many values, 2 at least, reaches to
    either side; of so many means at once all intervals hold (Bonferroni)."""
    from scipy.stats import t  # half a second that most commands do without

    return float(t.ppf(1 - 0.025 / among, number - 1))
