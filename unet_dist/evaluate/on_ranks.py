"""Evaluation shared between ranks: each image is scored once, and every rank knows all scores."""

from collections.abc import Callable, Sequence

from unet_dist.comm import Communicator
from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.evaluate.forward import Predictor
from unet_dist.evaluate.metrics import (
    ImageScore,
    choose_threshold,
    pack_scores,
    snap_threshold,
    unpack_scores,
)
from unet_dist.evaluate.score import EvalSummary, Protocol, ThresholdSource, shard, summarise


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


def summary_of(
    config: Config,
    split: str,
    scores: Sequence[ImageScore],
    threshold: float | None,
    source: ThresholdSource,
) -> EvalSummary:
    data = config.data
    has_observers = data.format in ("drive", "chasedb1", "stare")
    protocol = Protocol(
        split=split,
        observer=data.observer if has_observers else "",
        fov=data.fov,
        classes=data.classes,
        resize=data.resize,
        tile=config.evaluate.tile,
        overlap=config.evaluate.overlap,
    )
    return summarise(scores, threshold=threshold, threshold_source=source, protocol=protocol)
