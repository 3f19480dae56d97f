"""The data set of a run, checked before any rank starts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from unet_dist.config import Config
from unet_dist.config_data import SplitConfig
from unet_dist.errors import UserError, counted
from unet_dist.profiling.capture import CapturePlan
from unet_dist.progress import counter
from unet_dist.runs import RunDir

if TYPE_CHECKING:
    from unet_dist.data.dataset import Dataset


def begin_run(folder: RunDir, config: Config, console: Console) -> None:
    """Checks the whole data set and writes down what the ranks need of it; a faulty data set
    leaves no run behind."""
    from unet_dist.data.dataset import normalisation
    from unet_dist.data.manifest import write_manifest

    refuse_used(folder)
    try:
        dataset, warnings = _checked(config, console)
        write_manifest(folder.dataset, dataset, normalisation(dataset), warnings=warnings)
    except BaseException:
        folder.discard()
        raise
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)
    sizes = {part: len(samples) for part, samples in dataset.splits.parts().items()}
    console.print(
        f"{counted(sizes['train'], 'image')} to train, {sizes['val']} to validate, "
        f"{sizes['test']} to test; masks {dataset.coding.describe()}",
        markup=False,
    )


def begin_ensemble(folder: RunDir, configs: Mapping[str, Config], console: Console) -> None:
    """The same for several runs of one configuration, by name, and for the folder of all of them.

    There an image validates if a member left it out of its training: with folds each one beside
    the test, with seeds those that validate in all of them."""
    from unet_dist.data.dataset import normalisation
    from unet_dist.data.listing import natural_key
    from unet_dist.data.manifest import write_manifest
    from unet_dist.data.splits import Splits, are_folds, split_samples

    refuse_used(folder)
    members = {name: folder.member(name) for name in configs}
    first, *others = configs.values()
    try:
        whole, warnings = _checked(first, console, [config.data.split for config in others])
        samples = [sample for part in whole.splits.parts().values() for sample in part]
        for name, config in configs.items():
            members[name].path.mkdir()
            splits = split_samples(samples, config.data.split, seed=config.seed)
            divided = replace(whole, config=config.data, splits=splits)
            write_manifest(members[name].dataset, divided, normalisation(divided))
        together, norm = whole, normalisation(whole)
        # Seeds of a configuration that is itself a fold all train on the rest.
        if are_folds([config.data.split for config in configs.values()]):
            beside = (*whole.splits.train, *whole.splits.val)
            ordered = tuple(sorted(beside, key=lambda sample: natural_key(sample.id)))
            trained = Splits(train=ordered, val=(), test=())
            norm = normalisation(replace(whole, splits=trained))
            held_out = Splits(train=(), val=ordered, test=whole.splits.test)
            together = replace(whole, splits=held_out)
        write_manifest(folder.dataset, together, norm, warnings=warnings)
    except BaseException:
        for member in members.values():
            member.discard()
        folder.discard()
        raise
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)
    splits = whole.splits
    console.print(
        f"{counted(len(splits.train) + len(splits.val), 'image')} to train and to validate, "
        f"{len(splits.test)} to test; masks {whole.coding.describe()}",
        markup=False,
    )


def check_capture(folder: RunDir, config: Config, capture: CapturePlan, console: Console) -> None:
    """Raises UserError if the training that the folder was begun for ends before the capture."""
    from unet_dist.data.loader import steps_per_epoch
    from unet_dist.data.manifest import read_manifest

    dataset, _ = read_manifest(folder.dataset, config.data)
    crops = len(dataset.splits.train) * config.augment.crops_per_image
    total = config.train.epochs * steps_per_epoch(crops, config.train.batch)
    wanted = f"steps {capture.first} to {capture.last}"
    if capture.first > total:
        raise UserError("--profile", f"asks for {wanted}, but the training has {total}")
    if capture.last > total:
        console.print(
            f"warning: --profile asks for {wanted}, but the training has {total}", markup=False
        )
    begins = [capture.first + number * capture.every for number in range(capture.repeat)]
    late = sum(begin > total for begin in begins)
    if late:
        console.print(
            f"warning: {late} of the {capture.repeat} captures of --profile begin after step "
            f"{total}, the training's last", markup=False,
        )  # fmt: skip


def refuse_used(folder: RunDir) -> None:
    """A run needs a folder of its own."""
    if folder.config.exists():
        raise UserError(
            str(folder.path),
            f"already holds a run; go on with `unet-dist train {folder.path} --resume`, or "
            "choose another --run",
        )
    if any(path.name != ".lock" for path in folder.path.iterdir()):
        raise UserError(str(folder.path), "is not empty, and not a run; choose another --run")


def _checked(
    config: Config, console: Console, other_splits: Sequence[SplitConfig] = ()
) -> "tuple[Dataset, tuple[str, ...]]":
    """The data set without a fault, and warnings."""
    from unet_dist.data.readiness import check_for_training
    from unet_dist.evaluate.structure import structure_of

    with counter(console, "checking images") as count_images:
        report, dataset = check_for_training(
            config, on_progress=count_images, other_splits=other_splits
        )
    if dataset is None:
        raise UserError(config.data.root or "data.root", report.faults)
    structure_of(config, dataset.coding)  # what the end would refuse, the start does
    return dataset, report.warnings
