"""What a training with 8 bits starts from and leaves, against ONNX Runtime."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

from tests.deployed import random_weights, untrained_run
from unet_dist.config import ModelConfig
from unet_dist.config_file import build_config, dump_config
from unet_dist.deploy.folding import fold_batch_norms
from unet_dist.deploy.native import native_network
from unet_dist.deploy.qat import agreement, learned, progress_of, qat_config, write_start
from unet_dist.deploy.source import Source, open_source, prediction_settings
from unet_dist.errors import UserError
from unet_dist.runs import write_json, write_text_atomically


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    run, _ = untrained_run(tmp_path_factory.mktemp("qat"), "model.passes=2", "model.attention=gate")
    return open_source(run, opset=17)


def test_folding_a_norm_is_its_scale_and_shift() -> None:
    weights = random_weights(ModelConfig(width=2, depth=1, norm="batch"), in_channels=1, outputs=1)
    folded = fold_batch_norms(weights)
    conv, norm = "encoder.0.body.3", "encoder.0.body.4"
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    factor = gamma / np.sqrt(variance + 1e-5)
    for channel in range(2):
        expected = weights[f"{conv}.weight"][channel] * factor[channel]
        assert np.allclose(folded[f"{conv}.weight"][channel], expected)
    assert np.allclose(folded[f"{conv}.bias"], beta - mean * factor)
    assert not [name for name in folded if name.startswith(f"{norm}.")]


def test_group_norms_are_not_folded() -> None:
    weights = random_weights(ModelConfig(width=2, depth=1, norm="group"), in_channels=1, outputs=1)
    assert fold_batch_norms(weights) == weights


def trained_as_started(source: Source, folder: Path) -> Source:
    """What a training of no steps would leave."""
    start = folder / "start.safetensors"
    write_start(source, start, images=2)
    return replace(source, config=qat_config(source.config, start, 1), weights=load_file(start))


def test_a_gate_and_its_decoder_read_the_same_features_at_one_scale(
    source: Source, tmp_path: Path
) -> None:
    """As deployed, where one tensor of 8 bits serves both."""
    started = trained_as_started(source, tmp_path).weights
    for name in ("attention.0", "refine.attention.1"):
        gate, decoder = (
            [started[f"{cell}.body.0.rounded_input.{end}"].item() for end in ("low", "high")]
            for cell in (name, name.replace("attention", "decoder"))
        )
        assert gate == decoder
        assert gate[0] < 0 < gate[1]


def test_mindspore_rounds_as_the_model_of_8_bits_does(source: Source, tmp_path: Path) -> None:
    trained = trained_as_started(source, tmp_path)
    made = learned(trained, start_images=2)
    settings = onnxruntime.SessionOptions()
    # Else its kernels of 8 bits round in ways of their own.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = made.quantised([]).SerializeToString()
    session = onnxruntime.InferenceSession(model, settings, ["CPUExecutionProvider"])
    image_hwc = source.dataset.read(source.dataset.splits.train[0]).image_hwc
    x_nchw = image_hwc[None, :32, :32].transpose(0, 3, 1, 2)
    mean, std = (
        np.array(each, np.float32)[:, None, None]
        for each in (source.metadata.mean, source.metadata.std)
    )
    [deployed] = session.run(None, {"image": (x_nchw - mean) / std})
    rounding, plain = (native_network(each).forward(x_nchw) for each in (trained, source))
    # Random weights amplify what rounds at a half to the other side.
    assert np.abs(deployed - rounding).mean() < np.abs(deployed - plain).mean() / 2


def test_networks_agree_where_they_say_the_same(source: Source) -> None:
    network = native_network(source)

    class Opposite:
        def forward(self, image_nchw: np.ndarray) -> np.ndarray:
            return 1 - network.forward(image_nchw)

    about = (source.config, source.dataset, source.dataset.splits.val, 0.5)
    assert agreement([network, network], *about) == 1
    assert agreement([network, Opposite()], *about) < 0.01


def test_the_training_is_a_tenth_without_batch_norms(source: Source, tmp_path: Path) -> None:
    config = qat_config(source.config, tmp_path / "start", 0)
    assert (config.train.epochs, source.config.train.epochs) == (6, 60)
    assert config.train.lr == pytest.approx(source.config.train.lr / 10)
    assert (config.model.norm, config.model.fake_quant) == ("none", True)
    assert qat_config(source.config, tmp_path / "start", 3).train.epochs == 3


def test_a_model_of_8_bits_is_used_without_its_training(source: Source, tmp_path: Path) -> None:
    config = qat_config(source.config, tmp_path / "start", 1)
    read = build_config(prediction_settings(config), [], where="metadata")
    assert (read.model.norm, read.model.fake_quant) == ("none", False)


def test_a_training_is_taken_up_only_if_it_is_the_same(source: Source, tmp_path: Path) -> None:
    run = replace(source.run, path=tmp_path / "qat")
    config = qat_config(source.config, tmp_path / "start", 0)
    assert progress_of(run, config) == "new"
    run.path.mkdir()
    write_text_atomically(run.config, dump_config(config))
    assert progress_of(run, config) == "begun"
    write_json(run.status, {"state": "done"})
    assert progress_of(run, config) == "done"
    with pytest.raises(UserError, match="other settings"):
        progress_of(run, qat_config(source.config, tmp_path / "start", 2))
