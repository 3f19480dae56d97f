"""What was trained, ready to predict: the best weights of a run, or of all members of an ensemble,
and the threshold that goes with them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from unet_dist.comm import Communicator
from unet_dist.config import Config
from unet_dist.data.dataset import Dataset, Normalisation
from unet_dist.data.manifest import read_manifest
from unet_dist.errors import UserError
from unet_dist.evaluate.forward import Member, new_predictor
from unet_dist.evaluate.on_ranks import score_samples, threshold_for
from unet_dist.evaluate.predictor import Predictor
from unet_dist.evaluate.score import ThresholdSource
from unet_dist.records import RecordWriter
from unet_dist.runs import RunDir, read_json
from unet_dist.train.checkpoint import TrainState, load_best, weights_digest
from unet_dist.train.stored_threshold import stored_threshold


@dataclass(frozen=True, kw_only=True)
class Trained:
    predictor: Predictor[Member]
    threshold: float | None
    """None: the most probable of several classes."""
    source: ThresholdSource
    step: int
    """Of the checkpoint; of an ensemble, the last of all members'."""
    weights_sha256: str
    """Over the names and values of all weights."""
    members: tuple[dict[str, Any], ...] = ()
    """Name and ``checkpoint_step`` of each member of an ensemble."""


def load_trained(
    run: RunDir, config: Config, normalisation: Normalisation, records: RecordWriter
) -> Trained:
    """Of a run, or of a folder of runs that are all finished.

    Raises:
        UserError: there is no whole checkpoint, or a member is not finished.
    """
    if not run.is_ensemble():
        predictor = new_predictor(config, [normalisation])
        state, digest = _load_best(predictor, 0, run, records)
        threshold, source = stored_threshold(state, config)
        return Trained(
            predictor=predictor,
            threshold=threshold,
            source=source,
            step=state.step,
            weights_sha256=digest,
        )
    run.check_members()
    chosen = read_json(run.threshold)
    trained = _load_ensemble(run, config, records)
    if config.data.classes > 2 or config.evaluate.threshold > 0:
        threshold, source = threshold_for(config, [])
    else:
        try:
            threshold, source = float(chosen["threshold"]), chosen["threshold_source"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(str(run.threshold), f"holds no threshold: {error!r}") from error
    return replace(trained, threshold=threshold, source=source)


def choose_for_ensemble(
    run: RunDir,
    config: Config,
    dataset: Dataset,
    records: RecordWriter,
    comm: Communicator,
    *,
    on_image: Callable[[int, int], None],
) -> Trained:
    """The ensemble with the threshold of the best mean Dice over all validation images, each
    predicted by members that were not trained on it."""
    trained = _load_ensemble(run, config, records)
    if trained.source == "default":
        return choose_anew(trained, config, dataset, comm, on_image=on_image)
    return trained


def choose_anew(
    trained: Trained,
    config: Config,
    dataset: Dataset,
    comm: Communicator,
    *,
    on_image: Callable[[int, int], None],
) -> Trained:
    """With the threshold that fits the views of this configuration; as it is if no image
    validates."""
    if not dataset.splits.val:
        return trained
    samples = dataset.splits.val
    scores = score_samples(trained.predictor, dataset, samples, comm, on_image=on_image)
    threshold, source = threshold_for(config, scores)
    return replace(trained, threshold=threshold, source=source)


def _load_ensemble(run: RunDir, config: Config, records: RecordWriter) -> Trained:
    """With the configured threshold, or a half."""
    members = run.load_members()
    runs = run.networks()
    manifests = [read_manifest(each.dataset, each.load_config().data) for each in runs]
    predictor = new_predictor(config, [normalisation for _, normalisation in manifests])
    if members.vary == "fold":
        predictor.left_out_by = {
            sample.id: number
            for number, (dataset, _) in enumerate(manifests)
            for sample in dataset.splits.val
        }
    loaded = [_load_best(predictor, number, each, records) for number, each in enumerate(runs)]
    threshold, source = stored_threshold(TrainState(), config)
    return Trained(
        predictor=predictor,
        threshold=threshold,
        source=source,
        step=max(state.step for state, _ in loaded),
        weights_sha256=hashlib.sha256("".join(d for _, d in loaded).encode()).hexdigest(),
        members=tuple(
            {"name": name, "checkpoint_step": state.step}
            for name, (state, _) in zip(members.names, loaded, strict=True)
        ),
    )


def _load_best(
    predictor: Predictor[Member], number: int, run: RunDir, records: RecordWriter
) -> tuple[TrainState, str]:
    """Loads the best weights of a run into a member; its state, and a digest of the weights."""
    checkpoint, warnings = load_best(run.checkpoints)
    for warning in warnings:
        records.write("warning", step=checkpoint.state.step, message=warning)
    weights = {**checkpoint.weights, **checkpoint.average}
    predictor.members[number].load(weights)
    return checkpoint.state, weights_digest(weights)
