"""Changed settings that nothing reads are told."""

from pathlib import Path

import pytest

from unet_dist.config import Config
from unet_dist.config_file import build_config, load_config
from unet_dist.idle import idle_settings

CONFIGS = Path(__file__).parents[3] / "configs"


def idle_keys(*overrides: str) -> list[str]:
    config = build_config({}, overrides, where="test")
    return [warning.partition(" ")[0] for warning in idle_settings(config)]


@pytest.mark.parametrize(
    ("change", "reader"),
    [
        ("train.momentum=0.5", "train.optimizer=sgd"),
        ("train.min_lr=0.5", "train.schedule=cosine"),
        ("train.loss_scale=2", "train.amp=fp16"),
        ("train.loss_scale_window=2", "train.amp=fp16"),
        ("augment.elastic_smooth=9", "augment.elastic=1"),
        ("loss.class_weights=[1, 2]", "loss.cross_entropy=1"),
        ("data.even_curve=asinh", "data.even_light=40"),
        ("data.observer=second", "data.format=chasedb1"),
        ("data.mask_suffix=_m", "data.format=folder"),
        ("data.split.fold=1", "data.split.by=fold"),
        ("data.split.folds=4", "data.split.by=fold"),
        ("data.split.file=a.csv", "data.split.by=order"),
        ("data.split.seed=3", "data.split.by=ratio"),
        ("data.split.val=0.5", "data.split.by=official"),
        ("data.split.test=0.5", "data.split.by=order"),
        ("evaluate.min_object=3", "evaluate.structure=objects"),
        ("evaluate.cell_smoothing=3", "evaluate.structure=partition"),
    ],
)
def test_a_changed_setting_is_idle_only_without_its_reader(change: str, reader: str) -> None:
    others = [
        "train.optimizer=adamw", "train.schedule=constant", "augment.elastic=0",
        "loss.cross_entropy=0", "data.even_light=0", "data.format=stare", "data.fov=none",
        "evaluate.structure=region", "data.split.by=list", "data.split.file=l.yaml",
    ]  # fmt: skip
    if change.startswith("data.split.file"):
        others[-2:] = ["data.split.by=official"]
    key = change.partition("=")[0]
    if key == "data.observer":
        others[5] = "data.format=folder"
    assert key in idle_keys(*others, change)
    assert key not in idle_keys(*others, change, reader)


def test_defaults_are_never_idle() -> None:
    assert idle_settings(Config()) == []


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_known_configuration_sets_what_nothing_reads(path: Path) -> None:
    if not path.stem.startswith("search_"):
        assert idle_settings(load_config(path)) == []


def test_the_reason_is_given() -> None:
    config = build_config({}, ["train.momentum=0.5"], where="test")
    [warning] = idle_settings(config)
    assert warning == "train.momentum is 0.5, which has no effect: train.optimizer is adamw"
