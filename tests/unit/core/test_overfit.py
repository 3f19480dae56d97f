from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from unet_dist.config import Config
from unet_dist.config_file import dump_config, load_config
from unet_dist.data.dataset import open_dataset
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.launching.overfit import Verdict, advise, batch_for, begin_overfit, overfit_config
from unet_dist.runs import RunDir

ANSWER: dict[str, Any] = {
    "dice": 0.5, "sensitivity": 0.5, "pooled": {"dice": 0.5}, "per_class": [{"dice": 0.5}],
}  # fmt: skip


def steps(losses: list[float], dice: float = 0.5) -> list[dict[str, float]]:
    return [{"loss": loss, "dice": dice} for loss in losses]


def advice(records: list[dict[str, float]], config: Config | None = None, **answer: Any) -> str:
    told = advise(records, {**ANSWER, **answer}, config or Config(), Path("report.png"))
    assert "the picture report.png" in "\n".join(told)
    return told[0]


def test_all_faults_of_a_data_set_are_told_before_one_batch_is_learnt(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_synthetic("nuclei", root, count=5, size=32, seed=0)
    (root / "masks/nuclei-0000.png").unlink()
    broken = root / "images/nuclei-0001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    config = load_config(root / "config.yaml")
    with pytest.raises(UserError) as caught:
        begin_overfit(folder, config, images=1, world=1, console=Console(quiet=True))
    missing, truncated = caught.value.faults
    assert missing.startswith("nuclei-0000.png has no mask")
    assert truncated.startswith(f"{broken}: cannot be decoded")


def test_a_batch_of_numbered_objects_has_their_borders_and_size(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_synthetic("nuclei", root, count=5, size=64, seed=0)
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    bordered = ["data.mask=instances_border", "data.classes=3", "data.border=0.4"]
    wanted = [*bordered, "data.object_size=24", "augment.crop=32"]
    config = load_config(root / "config.yaml", wanted)
    whole = open_dataset(config.data, seed=config.seed)
    quiet = Console(quiet=True)
    begun, _ = begin_overfit(folder, config, images=1, world=1, console=quiet)
    batch = open_dataset(begun.data, seed=0)
    [sample] = batch.splits.train
    target_hw = batch.read(sample).target_hw
    [origin] = [one for one in whole.splits.train if one.id in sample.id]
    assert target_hw.shape == (32, 32)
    seen_hw = whole.read(origin).target_hw
    windows = np.lib.stride_tricks.sliding_window_view(seen_hw, (32, 32))
    assert (windows == target_hw).all(axis=(2, 3)).any()
    assert set(np.unique(target_hw)) == {0, 1, 2}


@pytest.mark.parametrize(("images", "world", "batch"), [(1, 1, 1), (1, 4, 4), (5, 4, 8), (8, 4, 8)])
def test_all_ranks_share_the_batch(images: int, world: int, batch: int) -> None:
    assert batch_for(images, world) == batch


def test_the_configuration_is_the_users_without_all_that_is_random() -> None:
    config = Config(
        model={"width": 4, "dropout": 0.5}, train={"lr": 0.01, "batch": 6, "accumulation": 3},
        loss={"class_weights": [1, 2]}, evaluate={"tta": "d4"}, data={"resize": 0.5},
    )  # fmt: skip
    derived = overfit_config(config, images=3, world=2)
    assert (derived.train.batch, derived.train.accumulation, derived.train.lr) == (4, 1, 0.01)
    assert derived.train.weight_decay == derived.train.ema == derived.model.dropout == 0
    changes = derived.augment.model_dump(exclude={"crops_per_image", "elastic_smooth"})
    assert not any(changes.values())
    assert derived.evaluate.tta == "none"
    assert (derived.loss, derived.data, derived.model.width) == (config.loss, config.data, 4)


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("organs", []),
        ("nuclei", ["data.mask=instances_border", "data.classes=3", "evaluate.threshold=0.4"]),
        ("nuclei", ["evaluate.structure=objects"]),
    ],
)
def test_the_written_configuration_is_a_valid_one(
    tmp_path: Path, kind: str, overrides: list[str]
) -> None:
    root = tmp_path / "set"
    write_synthetic(kind, root, count=5, size=32, seed=0)
    config = load_config(root / "config.yaml", overrides)
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    derived, _ = begin_overfit(folder, config, images=2, world=1, console=Console(quiet=True))
    (tmp_path / "run.yaml").write_text(dump_config(derived))
    assert load_config(tmp_path / "run.yaml") == derived
    assert derived.evaluate.structure == "region"


def test_the_learning_rate_is_suspected_if_the_loss_stayed_or_still_falls() -> None:
    stayed = advice(steps([1.0] * 100))
    assert "train.lr=0.002: the loss stayed near 1 (it began at 1)" in stayed
    assert "try train.lr=0.02 and train.lr=0.0002" in stayed
    falls = advice(steps([1 - i / 200 for i in range(100)]))
    assert "the loss was still falling" in falls
    assert "train.lr" not in advice(steps([1.0] * 25 + [0.2] * 75))


def test_normalisation_is_suspected_if_training_is_better_than_evaluation() -> None:
    learnt = [1.0] * 25 + [0.2] * 75
    config = Config(model={"norm": "batch"})
    told = advice(steps(learnt, dice=0.99), config)
    assert "in training the Dice was 0.990, in evaluation 0.500" in told
    assert "model.norm=batch" in told


def test_nothing_found_and_missed_classes_are_told() -> None:
    learnt = steps([1.0] * 25 + [0.2] * 75)
    assert "the network finds nothing" in advice(learnt, sensitivity=0.01)
    config = Config(data={"classes": 3, "class_names": ["no", "liver", "lesion"]})
    per_class = [{"dice": 0.99}, {"dice": None}]
    assert advice(learnt, config, per_class=per_class).endswith("misses: lesion undefined")


def test_the_verdict_says_what_was_reached() -> None:
    facts: dict[str, Any] = {"dice": 0.97, "goal": 0.95, "steps": 40}
    assert (
        "passed: Dice 0.9700 after 40 steps" in Verdict(passed=True, advice=(), **facts).to_text()
    )
    failed = Verdict(passed=False, advice=("the masks",), **{**facts, "dice": 0.5})
    assert failed.to_text().endswith("must exceed 0.95; look at\n  - the masks")
    assert failed.to_json()["advice"] == ("the masks",)
    doubted = Verdict(passed=False, advice=("the masks",), **facts)
    assert "Dice 0.9700 after 40 steps, but there are doubts" in doubted.to_text()
