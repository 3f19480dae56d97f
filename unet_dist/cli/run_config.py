"""The configuration of a run that is to go on, and whether it can."""

from pathlib import Path

from unet_dist.config import Config
from unet_dist.config_file import build_config, known_keys, read_yaml_mapping, value_of
from unet_dist.errors import UserError
from unet_dist.runs import RunDir

FIXED_SECTIONS = ("data.", "model.")
FIXED_KEYS = (
    "seed",
    "augment.crops_per_image",
    "train.batch",
    "train.optimizer",
    "train.amp",
    "train.ema",
    "train.start_from",
)
MOVABLE_KEYS = ("data.root", "data.cache_mb")


def config_of_run(folder: RunDir, overrides: list[str]) -> Config:
    """The run's configuration with overrides, which change it for good: train.epochs=100."""
    before = folder.load_config()
    after = build_config(read_yaml_mapping(folder.config), overrides, where=str(folder.config))
    fixed = [
        key
        for key, _ in known_keys()
        if key in FIXED_KEYS or key.startswith(FIXED_SECTIONS)
        if key not in MOVABLE_KEYS and value_of(before, key) != value_of(after, key)
    ]
    if fixed:
        raise UserError(
            str(folder.path),
            [f"{key} cannot change when a run is resumed; start a new run" for key in fixed],
        )
    refuse_structure(after)
    return after


def refuse_structure(config: Config) -> None:
    """Raises UserError if the masks cannot have ``evaluate.structure``, before anything is written
    or started: the ranks would find it out, and a run would keep it."""
    if config.evaluate.structure in ("auto", "region"):
        return  # every mask has these
    from unet_dist.evaluate.structure import check_structure  # NumPy, which --help does without

    check_structure(config)


def refuse_folder(target: Path, what: str) -> None:
    """Raises UserError if a folder was given in place of the configuration of a new run.

    Args:
        what: that goes on if the folder holds it, such as ``a run``.
    """
    if not target.is_dir():
        return
    folder = RunDir(target)
    if not (folder.dataset.exists() or folder.status.exists()):
        # As data synth and data convert leave them.
        for file in (folder.config, target / "data.yaml"):
            if file.is_file():
                raise UserError(str(target), f"is a folder without a run: unet-dist train {file}")
    raise UserError(str(target), f"is a folder; to go on with {what}, add --resume")
