"""The ONNX file: what it holds beside the network."""

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.deployed import metadata_for, random_weights
from unet_dist.config import ModelConfig
from unet_dist.deploy.compact import shorten
from unet_dist.deploy.model_file import Metadata
from unet_dist.deploy.onnx_graph import build_model, layer_names
from unet_dist.deploy.qdq import LAYERS
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession

MODEL = ModelConfig(width=4, depth=1, norm="batch")
IMAGE = np.random.default_rng(0).random((2, 1, 13, 10), np.float32)


def run(metadata: Metadata, image: np.ndarray) -> list[np.ndarray]:
    outputs = 1 if metadata.classes == 2 else metadata.classes
    weights = random_weights(MODEL, in_channels=1, outputs=outputs)
    model = build_model(weights, MODEL, metadata)
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})


def test_normalisation_inside_is_that_outside() -> None:
    metadata = metadata_for(MODEL)  # mean 0.5, deviation 0.25
    (outside,) = run(metadata, (IMAGE - 0.5) / 0.25)
    (inside,) = run(replaced(metadata, normalises=True), IMAGE)
    np.testing.assert_allclose(inside, outside, atol=1e-6)


@pytest.mark.parametrize("output", ["probability", "logits"])
def test_the_mask_is_what_the_threshold_says(output: str) -> None:
    (probability,) = run(metadata_for(MODEL), IMAGE)
    middle = float(probability.mean())
    metadata = replaced(metadata_for(MODEL), threshold=middle, has_mask=True, output=output)
    first, mask = run(metadata, IMAGE)
    np.testing.assert_array_equal(mask, probability[:, 0] >= np.float32(middle))
    assert 0 < mask.mean() < 1
    assert mask.dtype == np.uint8
    assert (first.min() < 0) == (output == "logits")


def test_the_mask_of_several_classes_is_the_most_probable_one() -> None:
    metadata = replaced(metadata_for(MODEL, classes=3), has_mask=True)
    probability, mask = run(metadata, IMAGE)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(mask, probability.argmax(axis=1))


@pytest.mark.parametrize("classes", [2, 3])
def test_logits_become_probabilities_outside(classes: int) -> None:
    metadata = metadata_for(MODEL, classes=classes)
    (expected,) = run(metadata, (IMAGE - 0.5) / 0.25)
    weights = random_weights(MODEL, in_channels=1, outputs=1 if classes == 2 else classes)
    metadata = replaced(metadata, output="logits")
    content = build_model(weights, MODEL, metadata).SerializeToString()
    network = DeployedNetwork(OnnxRuntimeSession(content, threads=1), metadata)
    np.testing.assert_allclose(network.forward(IMAGE), expected, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        ModelConfig(width=4, depth=2, norm="group", stride=2, passes=2),
        ModelConfig(width=4, depth=2, norm="instance", upsample="resize", passes=2),
        ModelConfig(width=4, depth=2, norm="batch", attention="gate", passes=2),
    ],
)
def test_layers_are_named_in_the_order_of_the_graph(model: ModelConfig) -> None:
    weights = random_weights(model, in_channels=1, outputs=1)
    built = build_model(weights, model, metadata_for(model))
    convolutions = [node for node in built.graph.node if node.op_type in LAYERS]
    assert layer_names(model) == [node.name for node in convolutions]


def test_short_names_change_nothing_else() -> None:
    weights = random_weights(MODEL, in_channels=1, outputs=1)
    model = build_model(weights, MODEL, metadata_for(MODEL))
    short = shorten(model)
    names = [name for node in short.graph.node for name in node.output]
    assert all(len(name) == 1 for name in names if name != "probability")
    assert [one.key for one in short.metadata_props] == [one.key for one in model.metadata_props]
    results = [
        onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"image": IMAGE})[0]
        for one in (model, short)
    ]
    np.testing.assert_array_equal(*results)
    parameters = sum(array.size for name, array in weights.items() if "moving" not in name)
    assert len(short.SerializeToString()) < 4 * parameters + 2600


def replaced(metadata: Metadata, **changes: object) -> Metadata:
    return Metadata(**{**metadata.to_json(), **changes})
