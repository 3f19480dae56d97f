"""Whether the network can learn one batch by heart: if not, something is wrong before any
question of quality.

It is an ordinary training of a derived configuration: a few parts of training images, the same in
every step, which are scored instead of validation images.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from unet_dist.config import AugmentConfig, Config
from unet_dist.errors import UserError
from unet_dist.evaluate.names import decimals
from unet_dist.launching.datasets import refuse_used
from unet_dist.records import read_records
from unet_dist.runs import RunDir

if TYPE_CHECKING:
    from unet_dist.data.dataset import Dataset

GOAL = 0.95
"""Dice that must be exceeded."""
MOST_STEPS = 400
SCORED_EVERY = 20
STEADY = 0.02
"""Share of the loss by which it must fall in the last quarter to count as falling."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    passed: bool
    dice: float
    goal: float
    steps: int
    advice: tuple[str, ...]
    """What to look at, most telling first; empty if it passed."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        reached = f"Dice {decimals(self.dice)} after {self.steps} steps"
        if self.passed:
            return f"overfit check passed: {reached}; the network learns these images by heart"
        aim = f"but must exceed {self.goal}" if self.dice <= self.goal else "but there are doubts"
        lines = [f"overfit check FAILED: {reached}, {aim}; look at"]
        return "\n".join([*lines, *(f"  - {advice}" for advice in self.advice)])


def batch_for(images: int, world: int) -> int:
    """The smallest number of places that all ranks share; places without an image count
    nothing."""
    return -(-images // world) * world


def overfit_config(config: Config, *, images: int, world: int) -> Config:
    """The same network, loss and learning rate on one batch without augmentation; the data is
    still the whole data set."""
    nothing = {name: 0 for name, field in AugmentConfig.model_fields.items() if name != "flip"}
    augment = AugmentConfig(
        **{**nothing, "flip": False, "crops_per_image": 1, "elastic_smooth": 1.0}
    )
    return _updated(
        config,
        data={"object_size": 0.0},  # the batch is written at the size that it has then
        augment=augment.model_dump(),
        model={"dropout": 0.0},
        train={
            "epochs": MOST_STEPS,
            "batch": batch_for(images, world),
            "accumulation": 1,
            "weight_decay": 0.0,
            "schedule": "constant",
            "ema": 0.0,
            "warmup": 0.05,
        },
        evaluate={
            "every_epochs": SCORED_EVERY,
            "threshold": 0.5 if config.data.classes == 2 else 0.0,
            "tta": "none",
            "structure": "region",
        },
        checkpoint={"every_epochs": MOST_STEPS},
        log={"images": min(images, 8)},
    )


def begin_overfit(
    folder: RunDir, config: Config, *, images: int, world: int, console: Console
) -> tuple[Config, list[str]]:
    """Writes the batch and what the ranks need of it; returns the configuration of the run, and
    what speaks against the masks: they may be mixed up, and a large network learns even those."""
    from unet_dist.data.dataset import normalisation, open_dataset
    from unet_dist.data.manifest import write_manifest
    from unet_dist.data.one_batch import write_one_batch
    from unet_dist.data.readiness import matching_warnings

    refuse_used(folder)
    try:
        whole = _opened(config)
        batch = write_one_batch(whole, images, folder.overfit.resolve(), crop=config.augment.crop)
        dataset = open_dataset(batch.config, seed=config.seed)
        train = dataset.splits.train
        dataset = replace(dataset, splits=replace(dataset.splits, val=train))
        write_manifest(folder.dataset, dataset, normalisation(dataset))
        tile = max(16, *dataset.largest_size())
        doubts = [*batch.contradictions, *matching_warnings(whole)]
    except BaseException:
        folder.discard()
        raise
    for doubt in doubts:
        console.print(f"warning: {doubt}", markup=False)
    number = f"{images} image{'s' if images > 1 else ''}"
    idle = batch_for(images, world) - images
    unused = f" ({idle} of the ranks' places hold no image and count nothing)" if idle else ""
    console.print(
        f"overfit check: {number} ({', '.join(batch.ids[:8])}), the same in every step{unused}, "
        f"until its Dice exceeds {GOAL} or for {MOST_STEPS} steps; masks "
        f"{whole.coding.describe()}",
        markup=False,
    )
    derived = overfit_config(config, images=images, world=world)
    derived = _updated(derived, evaluate={"tile": tile, "batch": 1}, data=batch.config.model_dump())
    return derived, doubts


def _opened(config: Config) -> "Dataset":
    """Reads few of the images; if anything is wrong all of them, to tell every fault at once."""
    from unet_dist.data.check import check_dataset
    from unet_dist.data.dataset import open_dataset

    try:
        return open_dataset(config.data, seed=config.seed)
    except UserError:
        if faults := check_dataset(config.data, seed=config.seed).faults:
            raise UserError(config.data.root or "data.root", faults) from None
        raise


def verdict_of(
    run: RunDir, answer: Mapping[str, Any], goal: float, doubts: Sequence[str]
) -> Verdict:
    """From the final score, the course of the training and what spoke against the masks before."""
    steps = [record for record in read_records(run.records(0)) if record["kind"] == "step"]
    dice = answer["dice"] if answer["dice"] is not None else 0.0
    passed = dice > goal and not doubts
    advice = (
        []
        if passed
        else [*doubts, *advise(steps, answer, run.load_config(), run.picture(answer["split"]))]
    )
    return Verdict(
        passed=passed,
        dice=dice,
        goal=goal,
        steps=steps[-1]["step"],
        advice=tuple(advice),
    )


def advise(
    steps: Sequence[Mapping[str, Any]], answer: Mapping[str, Any], config: Config, picture: Path
) -> list[str]:
    """What the course of the training makes likely, then what is always worth a look."""
    losses = [record["loss"] for record in steps if record["loss"] is not None]
    quarter = max(1, len(losses) // 4)
    first, third, last = (
        statistics.median(part)
        for part in (losses[:10], losses[-2 * quarter : -quarter] or losses, losses[-quarter:])
    )
    lr = config.train.lr
    advice = []
    if last > 0.9 * first:
        advice.append(
            f"train.lr={lr:g}: the loss stayed near {last:.3g} (it began at {first:.3g}); try "
            f"train.lr={lr * 10:g} and train.lr={lr / 10:g}"
        )
    elif last < (1 - STEADY) * third:
        advice.append(
            f"train.lr={lr:g}: the loss was still falling ({third:.3g} to {last:.3g}), so it may "
            f"be too small; try train.lr={lr * 3:g}"
        )
    trained = statistics.median([record["dice"] or 0.0 for record in steps[-10:]])
    scored = answer["pooled"]["dice"] or 0.0
    if trained > scored + 0.05:
        advice.append(
            f"normalisation: in training the Dice was {trained:.3f}, in evaluation {scored:.3f} on "
            f"the same pixels; model.norm={config.model.norm} may differ between the two, try "
            "model.norm=group"
        )
    if (answer["sensitivity"] or 0.0) < 0.05:
        advice.append(
            "the network finds nothing: raise loss.dice or the foreground's loss.class_weights, "
            "and see that data.mask names the foreground"
        )
    if config.data.classes > 2:
        names = config.data.names[1:]
        poor = [
            f"{name} {decimals(one['dice'])}"
            for name, one in zip(names, answer["per_class"], strict=True)
            if (one["dice"] or 0.0) <= GOAL
        ]
        advice.append(f"the classes that it misses: {', '.join(poor)}")
    return [
        *advice,
        f"the picture {picture}: does the truth lie on what the image shows? If not, images and "
        "masks are mixed up, or data.mask means something else",
        f"the size of the network (model.width={config.model.width}, "
        f"model.depth={config.model.depth}), if thin or small structures alone are missing",
    ]


def _updated(config: Config, **sections: Mapping[str, Any]) -> Config:
    """With some keys of some sections changed, checked as a file's would be."""
    tree = config.model_dump()
    for name, values in sections.items():
        tree[name] = {**tree[name], **values}
    return Config.model_validate(tree)
