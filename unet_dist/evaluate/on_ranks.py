"""Evaluation shared between ranks: each image is scored once, and every rank knows all scores."""

from collections.abc import Callable, Mapping, Sequence

from unet_dist.comm import Communicator, gather_objects
from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.evaluate.candidates import best_candidate, foreground_scores, partition_scores
from unet_dist.evaluate.fingerprint import (
    AVERAGING,
    FileDigests,
    Fingerprint,
    config_sha256,
    data_sha256,
    versions,
)
from unet_dist.evaluate.forward import Predictor
from unet_dist.evaluate.measures import Decision, Structure
from unet_dist.evaluate.metrics import ImageScore, pack_scores, unpack_scores
from unet_dist.evaluate.results import ImageResult, measure_sample
from unet_dist.evaluate.score import EvalSummary, Protocol, ThresholdSource, shard, summarise
from unet_dist.evaluate.thresholds import choose_threshold, snap_threshold


def score_samples(
    predictor: Predictor,
    dataset: Dataset,
    samples: Sequence[Sample],
    comm: Communicator,
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[ImageScore]:
    """The scores of all samples, on every rank."""
    mine = shard(samples, comm.rank, comm.world)
    scores = []
    for number, sample in enumerate(mine, start=1):
        scores.append(predictor.score(dataset, sample))
        on_image(number, len(mine))
    gathered = comm.all_gather(pack_scores(scores))
    return [score for part in gathered for score in unpack_scores(part)]


def threshold_for(
    config: Config, validation: Sequence[ImageScore]
) -> tuple[float | None, ThresholdSource]:
    """The configured threshold, else the best on validation images; None for several classes."""
    if config.data.classes > 2:
        return None, "argmax"
    if config.evaluate.threshold > 0:
        return snap_threshold(config.evaluate.threshold), "configured"
    return choose_threshold(validation), "validation"


def decide(
    structure: Structure,
    predictor: Predictor,
    dataset: Dataset,
    comm: Communicator,
    *,
    threshold: float | None,
    source: ThresholdSource,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Decision:
    """All thresholds of the final evaluation. Those of cells and of objects with a border class
    are chosen on the validation images, which are predicted again for it; without such images,
    or if one is configured, the threshold of the foreground, or a half, serves them too."""
    config, validation = predictor.config, dataset.splits.val
    structure_threshold, structure_source = threshold, source
    if source == "argmax":
        structure_threshold, structure_source = 0.5, "default"
    criterion = {"partition": partition_scores, "objects": foreground_scores}.get(structure)
    fitted = structure == "partition" or (structure == "objects" and source == "argmax")
    if fitted and validation and source != "configured":
        assert criterion is not None
        mine, scores = shard(validation, comm.rank, comm.world), []
        on_image(0, len(mine))
        for number, sample in enumerate(mine, start=1):
            prob_hwk = predictor.of_sample(dataset, sample)
            scores.append([sample.id, criterion(prob_hwk, dataset.read_native(sample))])
            on_image(number, len(mine))
        gathered = sorted(item for part in gather_objects(comm, scores) for item in part)
        structure_threshold = best_candidate([values for _, values in gathered])
        structure_source = "validation"
    return Decision(
        structure=structure,
        threshold=threshold,
        source=source,
        structure_threshold=structure_threshold if criterion else None,
        structure_source=structure_source,
        min_object=config.evaluate.min_object,
    )


def measure_samples(
    predictor: Predictor,
    dataset: Dataset,
    samples: Sequence[Sample],
    decision: Decision,
    comm: Communicator,
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[ImageResult]:
    """Everything that is measured of all samples, on every rank, in the order of their ids."""
    mine = shard(samples, comm.rank, comm.world)
    digests, results = FileDigests(), []
    on_image(0, len(mine))
    for number, sample in enumerate(mine, start=1):
        prob_hwk = predictor.of_sample(dataset, sample)
        results.append(measure_sample(dataset, sample, prob_hwk, decision, digests).to_json())
        on_image(number, len(mine))
    gathered = (tree for part in gather_objects(comm, results) for tree in part)
    return sorted(map(ImageResult.from_json, gathered), key=lambda result: result.id)


def observer_of(config: Config) -> str:
    """Whose masks are the truth; empty for data sets with one observer."""
    return config.data.observer if config.data.format in ("drive", "chasedb1", "stare") else ""


def summary_of(
    config: Config,
    split: str,
    scores: Sequence[ImageScore],
    threshold: float | None,
    source: ThresholdSource,
    *,
    groups: Mapping[str, str] | None = None,
) -> EvalSummary:
    data = config.data
    protocol = Protocol(
        split=split,
        observer=observer_of(config),
        fov=data.fov,
        classes=data.classes,
        resize=data.resize,
        tile=config.evaluate.tile,
        overlap=config.evaluate.overlap,
    )
    return summarise(
        scores, threshold=threshold, threshold_source=source, protocol=protocol, groups=groups
    )


def fingerprint_of(
    config: Config,
    split: str,
    results: Sequence[ImageResult],
    decision: Decision,
    *,
    checkpoint_step: int,
    weights_sha256: str,
) -> Fingerprint:
    return Fingerprint(
        split=split,
        images=tuple(result.id for result in results),
        data_sha256=data_sha256(result.sha256 for result in results),
        observer=observer_of(config),
        fov=config.data.fov,
        classes=config.data.classes,
        averaging=AVERAGING,
        structure=decision.structure,
        min_object=decision.min_object,
        threshold=decision.threshold,
        threshold_source=decision.source,
        structure_threshold=decision.structure_threshold,
        structure_threshold_source=decision.structure_source,
        checkpoint_step=checkpoint_step,
        weights_sha256=weights_sha256,
        config_sha256=config_sha256(config),
        versions=versions(),
    )
