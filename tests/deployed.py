"""Networks with random weights, as runs that have trained would leave them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unet_dist.config import Config, ModelConfig
from unet_dist.config_file import build_config, dump_config
from unet_dist.data.dataset import normalisation, open_dataset
from unet_dist.data.manifest import write_manifest
from unet_dist.data.synthetic import write_synthetic
from unet_dist.deploy.model_file import Metadata
from unet_dist.runs import RunDir, write_text_atomically
from unet_dist.train.checkpoint import Checkpoint, TrainState, save_checkpoint

Weights = dict[str, np.ndarray]


def random_weights(model: ModelConfig, *, in_channels: int, outputs: int, seed: int = 0) -> Weights:
    """By the names of ``UNet``'s parameters; norms and biases are far from 1 and 0."""
    draw = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in _shapes(model, in_channels, outputs):
        if name.endswith("weight"):
            fan_in = shape[1] * shape[2] * shape[3]
            array = draw.normal(0, (2 / fan_in) ** 0.5, shape)
        elif name.endswith(("gamma", "moving_variance")):
            array = draw.uniform(0.5, 1.5, shape)
        else:
            array = draw.uniform(-0.3, 0.3, shape)
        weights[name] = array.astype(np.float32)
    return weights


def _shapes(
    model: ModelConfig, channels: int, outputs: int, prefix: str = ""
) -> Iterator[tuple[str, tuple[int, ...]]]:
    def conv(name: str, into: int, out: int, side: int, *, bias: bool) -> list:  # type: ignore[type-arg]
        found = [(f"{prefix}{name}.weight", (out, into, side, side))]
        return [*found, (f"{prefix}{name}.bias", (out,))] if bias else found

    norm_parts = ["gamma", "beta"]
    if model.norm in ("batch", "sync_batch"):
        norm_parts += ["moving_mean", "moving_variance"]

    def block(name: str, into: int, out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for number, width in ((0, into), (3, out)):
            yield from conv(f"{name}.body.{number}", width, out, 3, bias=False)
            yield from [(f"{prefix}{name}.body.{number + 1}.{part}", (out,)) for part in norm_parts]

    def transposed(name: str, into: int, out: int, side: int) -> list:  # type: ignore[type-arg]
        return [
            (f"{prefix}{name}.weight", (into, out, side, side)),
            (f"{prefix}{name}.bias", (out,)),
        ]

    first, stride = channels, model.stride
    if stride > 1:
        first = channels * stride**2
        yield from conv("stem", channels, first, stride, bias=True)
    widths = [model.width * 2**level for level in range(model.depth + 1)]
    for level, (into, out) in enumerate(zip([first, *widths], widths, strict=False)):
        yield from block(f"encoder.{level}", into, out)
    for level, width in enumerate(widths[:-1]):
        if model.upsample == "transpose":
            yield from transposed(f"upsampling.{level}", 2 * width, width, 2)
        else:
            yield from conv(f"upsampling.{level}.conv", 2 * width, width, 3, bias=True)
        yield from block(f"decoder.{level}", 2 * width, width)
        if model.attention == "gate":
            inner, gate = max(1, width // 2), f"attention.{level}.body"
            yield from conv(f"{gate}.0", 2 * width, inner, 1, bias=False)
            yield from [(f"{prefix}{gate}.1.{part}", (inner,)) for part in norm_parts]
            yield from conv(f"{gate}.3", inner, 1, 1, bias=True)
    if stride == 1:
        yield from conv("head", model.width, outputs, 1, bias=True)
    else:
        yield from transposed("head", model.width, outputs, stride)
    if model.passes == 2 and not prefix:
        yield from _shapes(model, channels + outputs, outputs, "refine.")


def metadata_for(
    model: ModelConfig, *, in_channels: int = 1, classes: int = 2, opset: int = 17
) -> Metadata:
    return Metadata(
        config_sha256="c" * 64,
        checkpoint_sha256="d" * 64,
        classes=classes,
        class_names=tuple(f"class {number}" for number in range(classes)),
        threshold=0.5 if classes == 2 else None,
        mean=(0.5,) * in_channels,
        std=(0.25,) * in_channels,
        in_channels=in_channels,
        size_multiple=model.stride * 2**model.depth,
        precision="float32",
        opset=opset,
        config={},
    )


def untrained_run(folder: Path, *overrides: str) -> tuple[RunDir, Config]:
    """A run on 6 generated images of 48 x 48, with random weights as its best checkpoint."""
    data = folder / "vessels"
    write_synthetic("vessels", data, count=6, size=48, seed=0)
    config = build_config(
        {"data": {"root": str(data), "fov": "file", "fov_masks": "fov"}},
        [
            "model.width=4",
            "model.depth=2",
            "model.norm=batch",
            "evaluate.tile=32",
            "evaluate.threshold=0.4",
            *overrides,
        ],
        where="test",
    )
    run = RunDir(folder / "run")
    run.path.mkdir()
    write_text_atomically(run.config, dump_config(config))
    dataset = open_dataset(config.data, seed=0)
    write_manifest(run.dataset, dataset, normalisation(dataset))
    outputs = 1 if config.data.classes == 2 else config.data.classes
    weights = random_weights(config.model, in_channels=3, outputs=outputs)
    state = TrainState(step=1, best_step=1, best_dice=0.5)
    checkpoint = Checkpoint(state=state, weights=weights, optimizer={}, average={})
    save_checkpoint(run.checkpoints, checkpoint, keep=2, best=True)
    return run, config
