"""The final evaluation, shared between ranks: everything that is measured of each image.

Only this and what it imports needs scikit-image, for whose import no training should wait.
"""

from collections.abc import Callable, Sequence
from typing import Any

from unet_dist.comm import Communicator
from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.masks import MaskCoding
from unet_dist.data.sample import Sample
from unet_dist.evaluate.candidates import (
    DEFAULT_DEPTH,
    DEFAULT_PROBABILITY,
    choose,
    judge_cells,
    judge_objects,
)
from unet_dist.evaluate.fingerprint import (
    AVERAGING,
    FileDigests,
    Fingerprint,
    config_sha256,
    data_sha256,
    versions,
)
from unet_dist.evaluate.measures import Decision
from unet_dist.evaluate.on_ranks import observer_of, over_ranks
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.evaluate.results import ImageResult, measure_sample
from unet_dist.evaluate.score import ThresholdSource
from unet_dist.evaluate.structure import DIVISION, Structure
from unet_dist.evaluate.thresholds import snap_threshold


def decide(
    structure: Structure,
    predictor: Predictor[Network],
    dataset: Dataset,
    comm: Communicator,
    *,
    threshold: float | None,
    source: ThresholdSource,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Decision:
    """All thresholds of the final evaluation. The depth of cells, and the threshold of objects with
    a border class unless one is configured, are chosen on the validation images, which are
    predicted again for it; without such images they have a default."""
    config, validation = predictor.config, dataset.splits.val
    structure_threshold: float | None = None
    structure_source = source
    if structure in ("partition", "objects"):
        structure_threshold = threshold
        if structure == "partition":
            structure_threshold, structure_source = DEFAULT_DEPTH, "default"
        elif source == "argmax" and config.evaluate.threshold > 0:
            structure_threshold = snap_threshold(config.evaluate.threshold)
            structure_source = "configured"
        elif source == "argmax":
            structure_threshold, structure_source = DEFAULT_PROBABILITY, "default"
        if structure_source == "default" and validation:

            def judged(sample: Sample) -> list[Any]:
                prob_hwk = predictor.of_sample(dataset, sample)
                native = dataset.read_native(sample)
                if structure == "partition":
                    smoothing = config.evaluate.cell_smoothing
                    return [sample.id, judge_cells(prob_hwk, native, smoothing=smoothing)]
                true_hw = dataset.read_objects(sample)
                min_size = config.evaluate.min_object

                def told(number: int) -> None:
                    comm.heartbeat.goes_on(f"threshold {number} of {sample.id}")

                scores = judge_objects(
                    prob_hwk, native, true_hw, min_size=min_size, on_candidate=told
                )
                return [sample.id, scores]

            gathered = over_ranks(validation, comm, judged, on_image=on_image)
            gathered.sort(key=lambda item: item[0])
            structure_threshold = choose(structure, [scores for _, scores in gathered])
            structure_source = "validation"
    return Decision(
        structure=structure,
        threshold=threshold,
        source=source,
        structure_threshold=structure_threshold,
        structure_source=structure_source,
        min_object=config.evaluate.min_object,
        cell_smoothing=config.evaluate.cell_smoothing,
    )


def measure_samples(
    predictor: Predictor[Network],
    dataset: Dataset,
    samples: Sequence[Sample],
    decision: Decision,
    comm: Communicator,
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[ImageResult]:
    """Everything that is measured of all samples, on every rank, in the order of their ids."""
    digests = FileDigests()

    def measured(sample: Sample) -> dict[str, Any]:
        prob_hwk = predictor.of_sample(dataset, sample)
        comm.heartbeat.goes_on(f"measuring {sample.id}")
        return measure_sample(dataset, sample, prob_hwk, decision, digests).to_json()

    gathered = over_ranks(samples, comm, measured, on_image=on_image)
    return sorted(map(ImageResult.from_json, gathered), key=lambda result: result.id)


def fingerprint_of(
    config: Config,
    split: str,
    results: Sequence[ImageResult],
    decision: Decision,
    coding: MaskCoding,
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
        mask=coding.kind,
        ignore=coding.ignore,
        averaging=AVERAGING,
        structure=decision.structure,
        min_object=decision.min_object if decision.structure == "objects" else None,
        cell_smoothing=decision.cell_smoothing if decision.structure == "partition" else None,
        division=DIVISION if decision.structure in ("objects", "partition") else None,
        threshold=decision.threshold,
        threshold_source=decision.source,
        structure_threshold=decision.structure_threshold,
        structure_threshold_source=decision.structure_source,
        checkpoint_step=checkpoint_step,
        weights_sha256=weights_sha256,
        config_sha256=config_sha256(config),
        versions=versions(),
    )
