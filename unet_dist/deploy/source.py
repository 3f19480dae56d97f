"""What is deployed of a run: its best weights, and what must be known to use them."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.manifest import read_manifest
from unet_dist.deploy.model_file import Metadata, Output
from unet_dist.deploy.untrusted import OF_A_MACHINE, PREDICTS
from unet_dist.errors import UserError
from unet_dist.evaluate.fingerprint import config_sha256
from unet_dist.evaluate.numbering import numbering_of
from unet_dist.runs import RunDir
from unet_dist.train.checkpoint import Arrays, TrainState, load_best, weights_digest
from unet_dist.train.stored_threshold import stored_threshold


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run that is to be deployed."""

    run: RunDir
    config: Config
    dataset: Dataset
    weights: Arrays
    """What evaluation uses: the moving average, and running statistics."""
    state: TrainState
    metadata: Metadata
    """Of the float32 model, its input normalised by whoever calls it."""
    warnings: tuple[str, ...]
    """Of damaged checkpoints that were passed over, and of a training that is not done."""

    def with_options(
        self, *, opset: int, normalises: bool, has_mask: bool, output: Output
    ) -> "Source":
        metadata = replace(
            self.metadata, opset=opset, normalises=normalises, has_mask=has_mask, output=output
        )
        return replace(self, metadata=metadata)


def open_source(run: RunDir, *, opset: int) -> Source:
    """
    Raises:
        UserError: it is no single run, or has no whole checkpoint.
    """
    config = run.load_config()
    if run.is_ensemble():
        names = ", ".join(run.load_members().names)
        raise UserError(str(run.path), f"is several networks: name one of them ({names})")
    dataset, normalisation = read_manifest(run.dataset, config.data)
    checkpoint, warnings = load_best(run.checkpoints)
    if (state := run.state()) in ("running", "stopped", "failed"):
        step = checkpoint.state.step
        warnings.append(f"the run is {state}, not done: its best weights so far are of step {step}")
    threshold, _ = stored_threshold(checkpoint.state, config)
    numbering = numbering_of(run)
    weights = {**checkpoint.weights, **checkpoint.average}
    metadata = Metadata(
        config_sha256=config_sha256(config),
        checkpoint_sha256=weights_digest(weights),
        classes=config.data.classes,
        class_names=config.data.names,
        threshold=threshold,
        mean=normalisation.mean,
        std=normalisation.std,
        in_channels=config.data.in_channels,
        size_multiple=config.model.stride * 2**config.model.depth,
        precision="float32",
        opset=opset,
        numbering=asdict(numbering) if numbering else None,
        config=prediction_settings(config),
    )
    return Source(
        run=run,
        config=config,
        dataset=dataset,
        weights=weights,
        state=checkpoint.state,
        metadata=metadata,
        warnings=tuple(warnings),
    )


def prediction_settings(config: Config) -> dict[str, Any]:
    """What a prediction depends on, where it is not the default: no paths of a machine, nothing
    of the training."""
    wanted = config.model_dump(mode="json", exclude_defaults=True, exclude={"augment", "loss"})
    for key in OF_A_MACHINE:
        wanted.get("data", {}).pop(key, None)
    wanted.get("model", {}).pop("fake_quant", None)
    wanted.get("evaluate", {}).pop("every_epochs", None)
    return {key: wanted[key] for key in PREDICTS if wanted.get(key)}
