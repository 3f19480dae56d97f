"""Trainings that start from the weights of another."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.light import Alone
from unet_dist.config import Config
from unet_dist.config_file import build_config
from unet_dist.errors import UserError
from unet_dist.launching.placement import check_fit
from unet_dist.model.unet import build_unet
from unet_dist.runs import RunDir
from unet_dist.train.checkpoint import Checkpoint, TrainState, save_checkpoint
from unet_dist.train.starting import starting_weights
from unet_dist.train.state import restore
from unet_dist.train.step import TrainStep

SHAPES = {"a": (2,), "b": (1, 2)}
WEIGHTS = {"a": np.zeros(2, np.float32), "b": np.ones((1, 2), np.float32)}


def test_of_a_run_the_averaged_weights_are_taken(tmp_path: Path) -> None:
    average = {"b": np.full((1, 2), 7, np.float32)}
    made = Checkpoint(state=TrainState(), weights=WEIGHTS, optimizer={}, average=average)
    save_checkpoint(RunDir(tmp_path).checkpoints, made, keep=1, best=True)
    assert starting_weights(tmp_path, SHAPES)["b"].tolist() == [[7, 7]]


def test_every_parameter_that_does_not_fit_is_named(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(3, np.float32), "d": np.zeros(1, np.float32)}, file)
    with pytest.raises(UserError) as caught:
        starting_weights(file, SHAPES)
    told = str(caught.value)
    assert "b: not there" in told
    assert "d: the network has no such parameter" in told
    assert "a: (3,) in place of (2,)" in told


def test_a_file_that_holds_no_weights_is_told(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        starting_weights(tmp_path / "w.safetensors", SHAPES)


def test_what_is_not_there_is_told_before_any_rank_starts(tmp_path: Path) -> None:
    config = build_config({}, [f"train.start_from={tmp_path / 'none'}"], where="test")
    with pytest.raises(UserError, match="neither a file nor a run folder"):
        check_fit(config, 1, "CPU")


def test_a_new_training_starts_from_them(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    config = Config.model_validate(
        {"model": {"width": 2, "depth": 1}, "train": {"start_from": str(file)}}
    )

    def net_of(seed: int):  # type: ignore[no-untyped-def]
        return build_unet(config.model, in_channels=1, classes=2, seed=seed)

    other = {name: p.asnumpy() for name, p in net_of(1).parameters_dict().items()}
    save_file(other, file)
    net = net_of(0)
    step = TrainStep(net, loss=config.loss, train=config.train, comm=Alone())
    restore(net, step, None, config, Alone())
    for name, parameter in net.parameters_dict().items():
        assert np.array_equal(parameter.asnumpy(), other[name])
    assert all(
        np.array_equal(step.averaged_weights()[n], other[n]) for n in step.averaged_weights()
    )
