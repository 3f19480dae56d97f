"""Settings that were changed though nothing reads them as the other settings stand."""

from unet_dist.config import Config
from unet_dist.config_file import value_of

DEFAULTS = Config()


def idle_settings(config: Config) -> list[str]:
    """A warning for each key that is not at its default and has no effect, with the reason."""
    return [
        f"{key} is {value_of(config, key)!r}, which has no effect: {reason}"
        for keys, has_effect, reason in _conditions(config)
        if not has_effect
        for key in keys
        if value_of(config, key) != value_of(DEFAULTS, key)
    ]


def _conditions(config: Config) -> list[tuple[tuple[str, ...], bool, str]]:
    """Keys, whether something reads them, and why not otherwise."""
    data, split, train, evaluate = config.data, config.data.split, config.train, config.evaluate
    retina, membranes = data.is_retina, data.format == "isbi2012"
    two_classes = data.classes == 2
    drawn = {"ratio", "fold"} & {split.by, split.rule}
    structure = evaluate.structure
    if structure == "auto" and two_classes and (retina or membranes):
        structure = "partition" if membranes else "tubular"
    return [
        (
            ("data.images", "data.masks", "data.mask_suffix", "data.fov_masks"),
            data.format in ("folder", "labelmap"),
            f"data.format {data.format} knows its own folders",
        ),
        (("data.fov_masks",), data.fov == "file" or retina, f"data.fov is {data.fov}, not file"),
        (("data.observer",), retina, f"data.format {data.format} has one observer"),
        (("data.even_curve",), data.even_light > 0, "data.even_light is 0"),
        (
            ("data.split.folds", "data.split.fold"),
            split.by == "fold",
            f"data.split.by is {split.by}, not fold",
        ),
        (
            ("data.split.file",),
            split.rule in ("list", "order"),
            f"data.split.by is {split.by}, which reads no file",
        ),
        (("data.split.seed",), bool(drawn), f"data.split.by is {split.by}, which draws nothing"),
        (
            ("data.split.val",),
            split.by in ("ratio", "order", "official"),
            f"data.split.by is {split.by}, which says itself what validates",
        ),
        (
            ("data.split.test",),
            split.by in ("ratio", "order") or (split.by == "fold" and split.rule != "list"),
            f"data.split.by is {split.by}, which says itself what is kept for the test",
        ),
        (("augment.elastic_smooth",), config.augment.elastic > 0, "augment.elastic is 0"),
        (("loss.class_weights",), config.loss.cross_entropy > 0, "loss.cross_entropy is 0"),
        (("train.momentum",), train.optimizer == "sgd", "train.optimizer is adamw"),
        (("train.min_lr",), train.schedule == "cosine", "train.schedule is constant"),
        (
            ("train.loss_scale", "train.loss_scale_window"),
            train.amp == "fp16",
            f"train.amp is {train.amp}, not fp16",
        ),
        (
            ("evaluate.min_object",),
            structure in ("auto", "objects"),
            f"evaluate.structure is {structure}, not objects",
        ),
        (
            ("evaluate.cell_smoothing",),
            structure in ("auto", "partition") and (membranes or structure != "auto"),
            f"evaluate.structure is {structure}, not partition",
        ),
    ]
