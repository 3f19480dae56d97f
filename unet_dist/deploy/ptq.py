"""Post-training quantisation: from a run and some of its training images to 8 bits.

Ranges are learnt on training images; which layers stay in float32 is decided on validation images,
as everything else is. Test images are not seen.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.deploy.compact import shorten
from unet_dist.deploy.functions import folded
from unet_dist.deploy.model_file import LEAST_OPSET_OF_FUNCTIONS, Metadata, content_of
from unet_dist.deploy.observe import Observer, observe
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.parity import Tell, untold
from unet_dist.deploy.qdq import Activations, Layer, groups_of, layers_of, quantise
from unet_dist.deploy.ranges import Calibration, Range
from unet_dist.deploy.runtime import DeployedNetwork, Runtime, Session, session_of
from unet_dist.deploy.source import Source
from unet_dist.evaluate.metrics import quality, score_image
from unet_dist.evaluate.predictor import Network, Predictor

Bias = NDArray[np.float32]
Layout = Literal["auto", "plain", "compact"]
"""plain: operators alone, which every program reads. compact: see ``functions``; OpenVINO reads it
through this program alone. auto: compact if plain is too large a file."""
TIMED_RUNS = 15


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to quantise."""

    method: Literal["ptq", "qat"] = "ptq"

    calibrate: int = 32
    """Training images."""
    calibration: Calibration = "minmax"
    activations: Activations = "u8"
    max_drop: float = 0.005
    """Of the Dice."""
    max_size: float = 0.258
    """Share of the float32 file."""
    runtime: Runtime = "openvino"
    """By which Dice and speed are measured."""
    correct_bias: bool = True
    layout: Layout = "auto"


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A float32 network and all that is needed to make 8 bits of any of its layers."""

    model: onnx.ModelProto
    metadata: Metadata
    layers: Sequence[Layer]
    ranges: Mapping[str, Range]
    corrections: Mapping[str, Bias]
    inputs: Sequence[NDArray[np.float32]]
    """Some tiles, as the model sees them."""
    images: int
    """That ranges were learnt on, or were begun from if a training learnt them."""
    activations: Activations
    epochs: int | None = None
    """Of the training that learnt the ranges, if one did."""
    taught_by: Network | None = None
    """What training computed with 8 bits, if it did."""

    def quantised(self, float_layers: Sequence[str]) -> onnx.ModelProto:
        return quantise(
            self.model,
            self.ranges,
            activations=self.activations,
            float_layers=frozenset(float_layers),
            corrections=self.corrections,
        )

    def network(self, model: onnx.ModelProto, runtime: Runtime) -> DeployedNetwork:
        return DeployedNetwork(self.session(model, runtime), self.metadata)

    def session(self, model: onnx.ModelProto, runtime: Runtime) -> Session:
        return session_of(model.SerializeToString(), runtime)


def calibrate(source: Source, options: Options, *, tell: Tell = untold) -> Calibrated:
    """Observes the float32 network on training images."""
    model = build_model(source.weights, source.config.model, source.metadata)
    layers = layers_of(model)
    groups = groups_of(model, [layer.input for layer in layers])
    tensors = [tensor for group in groups for tensor in group]
    observer = Observer(model, source.metadata, tensors)
    samples = evenly(source.dataset.splits.train, options.calibrate)
    on_image = partial(tell, "learning ranges: {} training images")
    observe(observer, source.config, source.dataset, samples, on_image=on_image)
    found = observer.tensors
    corrections = {
        layer.name: layer.shift(found[layer.input].channel_means)
        for layer in layers
        if layer.bias is not None and options.correct_bias
    }
    return Calibrated(
        model=model,
        metadata=replace(source.metadata, precision="int8"),
        layers=layers,
        ranges={name: one.range(options.calibration) for name, one in found.items()},
        corrections=corrections,
        inputs=observer.inputs,
        images=len(samples),
        activations=options.activations,
    )


def evenly(samples: Sequence[Sample], number: int) -> list[Sample]:
    """So many of them, from all over the list."""
    number = min(number, len(samples))
    return [samples[index * len(samples) // number] for index in range(number)]


def sensitivities(made: Calibrated, *, tell: Tell = untold) -> dict[str, float]:
    """Mean squared error of the output, if that layer alone is of 8 bits; the worst first."""
    plain = made.session(made.model, "onnxruntime")
    expected = [plain.run(x) for x in made.inputs]
    names = [layer.name for layer in made.layers]
    errors = {}
    for number, name in enumerate(names):
        tell("rounding each layer alone: {} layers", number, len(names))
        alone = made.quantised([other for other in names if other != name])
        session = made.session(alone, "onnxruntime")
        errors[name] = statistics.fmean(
            float(np.square(session.run(x) - y).mean())
            for x, y in zip(made.inputs, expected, strict=True)
        )
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def fewest_float_layers(worst_first: Sequence[str], is_good: Callable[[int], bool]) -> int:
    """How many of the layers must stay in float32, the worst first: doubled until it is good, then
    halved back. All of them if that is not enough."""
    if is_good(0):
        return 0
    bad, good = 0, 1
    while good < len(worst_first) and not is_good(good):
        bad, good = good, min(2 * good, len(worst_first))
    while good - bad > 1:
        middle = (bad + good) // 2
        if is_good(middle):
            good = middle
        else:
            bad = middle
    return good


def dice_of(
    network: Network,
    config: Config,
    dataset: Dataset,
    samples: Sequence[Sample],
    threshold: float | None,
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """Mean over the images, as the run's evaluation computes it; NaN if none counts."""
    predictor = Predictor(config, [network])
    found = []
    for number, sample in enumerate(samples):
        on_image(number, len(samples))
        truth = dataset.read_native(sample)
        prob_hwk = predictor.of_sample(dataset, sample)
        score = score_image(sample.id, prob_hwk, truth.target_hw, truth.fov_hw)
        found.append(quality(score.counts, threshold).dice)
    defined = [dice for dice in found if not np.isnan(dice)]
    return statistics.fmean(defined) if defined else float("nan")


def seconds_of(sessions: Sequence[Session], x_nchw: NDArray[np.float32]) -> list[float]:
    """Of one call of each, the least, which other work on the machine disturbs least; in turns."""
    times: list[list[float]] = [[] for _ in sessions]
    for session in sessions:
        session.run(x_nchw)
    for _ in range(TIMED_RUNS):
        for session, own in zip(sessions, times, strict=True):
            started = time.perf_counter()
            session.run(x_nchw)
            own.append(time.perf_counter() - started)
    return [min(own) for own in times]


def file_of(model: onnx.ModelProto, layout: Layout, *, largest: float) -> bytes:
    """With short names.

    Args:
        largest: number of bytes that auto may take for a plain file.
    """
    plain = content_of(shorten(model))
    opset = next(one.version for one in model.opset_import if not one.domain)
    if (
        layout == "plain"
        or opset < LEAST_OPSET_OF_FUNCTIONS
        or (layout == "auto" and len(plain) <= largest)
    ):
        return plain
    compact = shorten(folded(model))
    onnx.checker.check_model(compact, full_check=True)
    content = content_of(compact)
    return min(plain, content, key=len) if layout == "auto" else content
