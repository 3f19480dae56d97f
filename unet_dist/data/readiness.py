"""Whether a data set is ready for a training as it is configured: warnings with what to do."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from unet_dist.config import AugmentConfig, Config
from unet_dist.config_data import SplitConfig
from unet_dist.data.balance import interval_warnings, stack_warnings
from unet_dist.data.check import check_and_open
from unet_dist.data.dataset import Dataset, ImageCache, resized
from unet_dist.data.facts import DatasetReport
from unet_dist.data.images import image_size, read_indices
from unet_dist.data.masks import decode
from unet_dist.data.matching import BY_CHANCE, share_that_fits
from unet_dist.data.splits import are_folds
from unet_dist.data.thin import Kept, kept_centre_lines
from unet_dist.data.windows import busiest_window
from unet_dist.idle import idle_settings

LEAST_KEPT = 0.75
"""Share of the centre lines below which thin structures count as destroyed. Through the default
augmentation lines of one pixel keep 0.88 at full and 0.39 at half resolution, lines of two pixels
1.00 and 0.91. CHASE_DB1 at half resolution, which still trains to the second observer's Dice, keeps
0.81."""
MATCHED_IMAGES = 12
EXAMINED_MASKS = 4
EXAMINED_SIDE = 512
"""Side of the part of each mask that is looked at, in pixels of the file."""


def check_for_training(
    config: Config,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    other_splits: Sequence[SplitConfig] = (),
) -> tuple[DatasetReport, Dataset | None]:
    """``check_and_open``, with the warnings that depend on how it is to be trained."""
    report, dataset = check_and_open(
        config.data, seed=config.seed, on_progress=on_progress, other_splits=other_splits
    )
    if dataset is None:
        return report, None
    # Of folds every image beside the test validates.
    folds = are_folds([config.data.split, *other_splits])
    judged = replace(dataset.splits, val=()) if folds else dataset.splits
    more = [
        *idle_settings(config),
        *interval_warnings(judged, config.data.split, folds=folds),
        *stack_warnings(dataset.splits),
        *crop_warnings(config.augment, dataset),
        *thin_warnings(config, dataset),
        *matching_warnings(dataset),
    ]
    return replace(report, warnings=(*report.warnings, *more)), dataset


def matching_warnings(dataset: Dataset) -> list[str]:
    """Warns where masks fit other images as well as their own (``share_that_fits``), looking at
    some images of the commonest size."""
    samples = [sample for part in dataset.splits.parts().values() for sample in part]
    sizes = [image_size(sample.image) for sample in samples]
    [(commonest, number)] = Counter(sizes).most_common(1)
    alike = [sample for sample, size in zip(samples, sizes, strict=True) if size == commonest]
    once = replace(dataset, cache=ImageCache(0))
    share = share_that_fits([once.read_native(s) for s in alike[:: -(-number // MATCHED_IMAGES)]])
    if share is None or share > BY_CHANCE:
        return []
    return [
        f"masks look mixed up: only {share:.0%} of the images change more along the outlines of "
        "their own mask than along those of other masks; look at pictures of both "
        "(unet-dist data check CONFIG --picture FILE.png)"
    ]


def crop_warnings(augment: AugmentConfig, dataset: Dataset) -> list[str]:
    """A crop larger than an image is filled with its mirror image."""
    if dataset.config.object_size:  # some small ones are the price of objects of one size
        return []
    factor = dataset.config.resize
    sizes = [resized(image_size(sample.image), factor) for sample in dataset.splits.train]
    small = [size for size in sizes if min(size) < augment.crop]
    if not small:
        return []
    height, width = min(small, key=min)
    after = f" after data.resize={factor:g}" if factor != 1 else ""
    return [
        f"augment.crop={augment.crop} is larger than {len(small)} of {len(sizes)} training images "
        f"(the smallest: {height} x {width}{after}), so the rest of the crop is their mirror "
        f"image; set augment.crop={min(height, width)}, or a larger data.resize"
    ]


def thin_warnings(config: Config, dataset: Dataset) -> list[str]:
    """Warns of a class of whose centre lines less than ``LEAST_KEPT`` comes through resize and
    augmentation (``kept_centre_lines``), measured on some training masks."""
    train = dataset.splits.train
    targets = []
    for sample in train[:: -(-len(train) // EXAMINED_MASKS)]:
        assert sample.mask is not None  # samples of a split have one
        if config.data.object_size:
            target_hw = replace(dataset, cache=ImageCache(0)).read(sample).target_hw
        else:
            target_hw = decode(read_indices(sample.mask), dataset.coding, where=sample.id)
        targets.append(target_hw[busiest_window(target_hw, EXAMINED_SIDE)])
    warnings = []
    for number, name in enumerate(dataset.config.names[1:], start=1):
        kept = kept_centre_lines(
            targets, number, resize=config.data.resize, config=config.augment, seed=config.seed
        )
        if kept is not None and kept.augmented < LEAST_KEPT:
            warnings.append(_thin_warning(name, kept, config))
    return warnings


def _thin_warning(name: str, kept: Kept, config: Config) -> str:
    factor = config.data.resize
    if kept.resized < (1 + LEAST_KEPT) / 2:  # the resize does its half of the harm or more
        return (
            f"thin structures of {name} break: data.resize={factor:g} leaves {kept.resized:.0%} "
            f"of their centre lines in the masks, and the augmentation {kept.augmented:.0%}; "
            f"what is thinner than {1 / factor:.2g} pixels is lost, so set data.resize nearer to 1"
        )
    spatial = ("rotate", "scale", "elastic")
    used = [f"augment.{key}=0" for key in spatial if getattr(config.augment, key)]
    wider = f"data.resize={min(2 * factor, 4):g}"
    if config.data.object_size:
        wider = f"data.object_size={2 * config.data.object_size:g}"
    return (
        f"thin structures of {name} break: the augmentation leaves {kept.augmented:.0%} of their "
        f"centre lines in the masks; make them wider by {wider}, or set {' '.join(used)}"
    )
