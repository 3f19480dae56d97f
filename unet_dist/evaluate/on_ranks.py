"""Evaluation shared between ranks: each image is scored once, and every rank knows all scores."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unet_dist.comm import Communicator, gather_objects
from unet_dist.config import Config
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.evaluate.metrics import ImageScore
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.evaluate.score import EvalSummary, Protocol, ThresholdSource, shard, summarise
from unet_dist.evaluate.symmetries import symmetries
from unet_dist.evaluate.thresholds import choose_threshold, snap_threshold


def over_ranks(
    samples: Sequence[Sample],
    comm: Communicator,
    work: Callable[[Sample], Any],
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[Any]:
    """What ``work`` makes of each sample, JSON values, on every rank; each is done on one rank."""
    mine, done = shard(samples, comm.rank, comm.world), []
    on_image(0, len(mine))
    for number, sample in enumerate(mine, start=1):
        done.append(work(sample))
        on_image(number, len(mine))
    return [value for part in gather_objects(comm, done) for value in part]


def score_samples(
    predictor: Predictor[Network],
    dataset: Dataset,
    samples: Sequence[Sample],
    comm: Communicator,
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[ImageScore]:
    """The scores of all samples, on every rank."""

    def score(sample: Sample) -> dict[str, Any]:
        return predictor.score(dataset, sample).to_json()

    return [
        ImageScore.from_json(tree) for tree in over_ranks(samples, comm, score, on_image=on_image)
    ]


def threshold_for(
    config: Config, validation: Sequence[ImageScore]
) -> tuple[float | None, ThresholdSource]:
    """The configured threshold, else the best on validation images; None for several classes."""
    if config.data.classes > 2:
        return None, "argmax"
    if config.evaluate.threshold > 0:
        return snap_threshold(config.evaluate.threshold), "configured"
    return choose_threshold(validation), "validation"


def observer_of(config: Config) -> str:
    """Whose masks are the truth; empty for data sets with one observer."""
    return config.data.observer if config.data.is_retina else ""


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
        object_size=data.object_size,
        tile=config.evaluate.tile,
        overlap=config.evaluate.overlap,
        views=len(symmetries(config.evaluate.tta)),
    )
    return summarise(
        scores, threshold=threshold, threshold_source=source, protocol=protocol, groups=groups
    )
