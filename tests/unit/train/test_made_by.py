import json

import numpy as np
import pytest

from unet_dist.config_file import build_config
from unet_dist.data.dataset import Normalisation
from unet_dist.train.checkpoint import Checkpoint, TrainState
from unet_dist.train.made_by import made_by


def of(*overrides: str, weight: float = 1.0, threshold: float = 0.4) -> dict[str, object]:
    config = build_config({}, list(overrides), where="test")
    checkpoint = Checkpoint(
        state=TrainState(threshold=threshold),
        weights={"w": np.full(3, weight, np.float32)},
        optimizer={},
        average={},
    )
    member = (checkpoint, Normalisation((0.5,), (0.2,)))
    return made_by(config, [member], uncertainty="none")


@pytest.mark.parametrize(
    "override",
    [
        "data.resize=0.5",
        "data.channels=green",
        "data.even_light=20",
        "data.fov=estimate",
        "model.norm=batch",
        "train.amp=fp16",
        "evaluate.tile=128",
        "evaluate.tta=d4",
        "evaluate.threshold=0.2",
    ],
)
def test_what_changes_predictions_changes_what_they_are_made_by(override: str) -> None:
    assert of(override) != of()


def test_weights_and_the_threshold_chosen_count() -> None:
    assert of(weight=2.0) != of()
    assert of(threshold=0.5) != of()


@pytest.mark.parametrize(
    "override", ["data.root=/elsewhere", "data.cache_mb=1", "train.lr=0.1", "evaluate.batch=8"]
)
def test_what_does_not_change_them_is_left_out(override: str) -> None:
    assert of(override) == of()


def test_it_survives_the_way_through_a_file() -> None:
    assert json.loads(json.dumps(of("model.norm=batch"))) == of("model.norm=batch")
