"""From what was measured of single images to the answer of ``eval``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.evaluate.curves import calibration_curve
from unet_dist.evaluate.fingerprint import FileDigests, Fingerprint, short_form
from unet_dist.evaluate.measures import Decision, Measured, measure
from unet_dist.evaluate.metrics import Confusion, confusions, pool, quality
from unet_dist.evaluate.names import METRICS
from unet_dist.evaluate.objects import pool_objects
from unet_dist.evaluate.score import EvalSummary, null_if_nan
from unet_dist.evaluate.structure import DIVISION
from unet_dist.evaluate.table import MetricTable, table_of
from unet_dist.evaluate.thresholds import threshold_curve

OF_PROBABILITIES = ("auc", "average_precision", "calibration_error", "soft_dice_with_background")
"""Metrics that a hard mask does not have."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageResult:
    """One image: the model against the truth, and what another observer drew of it."""

    id: str
    group: str
    sha256: str
    """Of its files, see ``FileDigests``."""
    model: Measured
    human: Measured | None = None
    """The other observer against the truth."""
    model_against_human: Measured | None = None
    """The model against the other observer."""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "group": self.group,
            "sha256": self.sha256,
            "model": self.model.to_json(),
            "human": self.human and self.human.to_json(),
            "model_against_human": self.model_against_human and self.model_against_human.to_json(),
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "ImageResult":
        human, against = tree["human"], tree["model_against_human"]
        return cls(
            id=tree["id"],
            group=tree["group"],
            sha256=tree["sha256"],
            model=Measured.from_json(tree["model"]),
            human=human and Measured.from_json(human),
            model_against_human=against and Measured.from_json(against),
        )


def measure_sample(
    dataset: Dataset,
    sample: Sample,
    prob_hwk: NDArray[np.float32],
    decision: Decision,
    digests: FileDigests,
) -> ImageResult:
    native = dataset.read_native(sample)
    objects_hw = dataset.read_objects(sample) if decision.structure == "objects" else None
    result = ImageResult(
        id=sample.id,
        group=sample.group,
        sha256=digests.of_sample(sample),
        model=measure(
            sample.id, prob_hwk, native.target_hw, native.fov_hw, decision, objects_hw=objects_hw
        ),
    )
    other_hw = dataset.read_other_observer(sample)
    if other_hw is None or decision.structure == "objects":
        return result
    drawn = replace(decision, threshold=0.5)
    other_hw1 = other_hw[:, :, None].astype(np.float32)
    return replace(
        result,
        human=measure(sample.id, other_hw1, native.target_hw, native.fov_hw, drawn),
        model_against_human=measure(sample.id, prob_hwk, other_hw, native.fov_hw, decision),
    )


def result_of(
    summary: EvalSummary,
    results: Sequence[ImageResult],
    decision: Decision,
    fingerprint: Fingerprint,
) -> dict[str, Any]:
    """What ``eval`` writes and prints, JSON values.

    To ``EvalSummary.to_json`` come: the other metrics of ``names.METRICS`` that the structure has
    (means, ``counted``, ``pooled`` where that makes sense, ``per_image``), ``intervals`` of all
    means (95 %), ``structure`` with its threshold and where that came from, ``observers`` (rows
    of agreement with a second observer), and ``fingerprint``.
    """
    table = metric_table([result.model for result in results], results, decision.threshold)
    tree = summary.to_json()
    per_image = zip(tree["per_image"], results, strict=True)
    return {
        **tree,
        **_json(table.means()),
        "intervals": _intervals_json(table),
        "counted": table.counted(),
        "pooled": {**tree["pooled"], **_json(_pooled_shape(results))},
        "per_image": [
            {**row, "group": result.group, **_json(result.model.shape), "sha256": result.sha256}
            for row, result in per_image
        ],
        "structure": {
            "kind": decision.structure,
            "threshold": decision.structure_threshold,
            "threshold_source": decision.structure_source,
            "min_object": decision.min_object,
            "cell_smoothing": decision.cell_smoothing,
            "division": DIVISION,
            "connectivity": 4,
        },
        "observers": _observer_rows(summary.protocol.observer, results, decision),
        "fingerprint": {"short": short_form(fingerprint.to_json()), **fingerprint.to_json()},
    }


def metric_table(
    measured: Sequence[Measured],
    results: Sequence[ImageResult],
    threshold: float | None,
    *,
    hard: bool = False,
) -> MetricTable:
    """In the order of ``METRICS``.

    Args:
        hard: the prediction was drawn by hand, so that metrics of probabilities are left out.
    """
    rows = [{**asdict(quality(one.score.counts, threshold)), **one.shape} for one in measured]
    names = [name for name in METRICS if name in rows[0]]
    if hard:
        names = [name for name in names if name not in OF_PROBABILITIES]
    return table_of(
        [{name: row[name] for name in names} for row in rows],
        ids=[result.id for result in results],
        groups=[result.group for result in results],
    )


def _pooled_shape(results: Sequence[ImageResult]) -> dict[str, float]:
    foregrounds = [result.model.foreground for result in results]
    objects = [result.model.objects for result in results if result.model.objects]
    if not objects:
        return {}
    pooled = pool_objects(objects)
    counts = [asdict(foreground) for foreground in foregrounds if foreground]
    foreground = Confusion(**{key: sum(one[key] for one in counts) for key in counts[0]})
    return {
        "foreground_dice": foreground.dice,
        "ap_50": pooled.average_precision(),
        "ap_50_95": pooled.mean_average_precision,
        "aji": pooled.aji,
    }


def _observer_rows(
    truth: str, results: Sequence[ImageResult], decision: Decision
) -> list[dict[str, Any]]:
    drawn = [result for result in results if result.human and result.model_against_human]
    if not drawn:
        return []
    other = "second" if truth == "first" else "first"
    humans = [result.human for result in drawn if result.human]
    models = [result.model_against_human for result in drawn if result.model_against_human]
    tables = {
        f"{other} observer against {truth}": metric_table(humans, drawn, 0.5, hard=True),
        f"model against {other} observer": metric_table(models, drawn, decision.threshold),
    }
    return [
        {
            "row": row,
            "images": len(drawn),
            **_json(table.means()),
            "intervals": _intervals_json(table),
            "per_image": [
                {"id": id_, **_json(dict(zip(table.names, values, strict=True)))}
                for id_, values in zip(table.ids, table.values_im.tolist(), strict=True)
            ],
        }
        for row, table in tables.items()
    ]


def _intervals_json(table: MetricTable) -> dict[str, list[float] | None]:
    return {name: found and list(found) for name, found in table.intervals().items()}


def _json(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: null_if_nan(value) for name, value in values.items()}


def plots_of(summary: EvalSummary) -> dict[str, Any]:
    """What curves are drawn from, JSON values: ``dice_by_threshold`` (pairs, two classes only),
    ``calibration`` (pairs for each foreground class) and ``confusion`` (pixels by true and by
    predicted class), of all images of the summary."""
    scores = [score for score, _ in summary.per_image]
    pooled = pool(scores)
    matrix_kk = pooled.matrix_kk
    if matrix_kk is None:
        [one] = confusions(pooled, summary.threshold)
        confusion = [[one.tn, one.fp], [one.fn, one.tp]]
    else:
        confusion = matrix_kk.tolist()
    curves = map(calibration_curve, pooled.positive_fb, pooled.negative_fb)
    return {
        "dice_by_threshold": threshold_curve(scores),
        "calibration": [[list(pair) for pair in curve] for curve in curves],
        "confusion": confusion,
    }
