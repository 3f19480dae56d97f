"""What the final evaluation measures of one image, once the thresholds are known."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import IGNORE
from unet_dist.evaluate.metrics import (
    Confusion,
    ImageScore,
    hard_prediction,
    mean_defined,
    score_image,
)
from unet_dist.evaluate.objects import (
    ObjectScore,
    counted_objects,
    find_objects,
    foreground_probability,
    object_score,
)
from unet_dist.evaluate.partition import (
    partition_score,
    predicted_cells,
    true_cells,
)
from unet_dist.evaluate.score import ThresholdSource
from unet_dist.evaluate.shapes import cldice, surface_metrics
from unet_dist.evaluate.structure import Structure


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How probabilities become masks, cells and objects."""

    structure: Structure
    threshold: float | None
    """Of the foreground; None with several foreground classes."""
    source: ThresholdSource
    structure_threshold: float | None
    """Of the pixels of objects, or how deep cells lie between membranes; None for others."""
    structure_source: ThresholdSource
    cell_smoothing: float
    """Of the membranes' probabilities, in pixels."""
    min_object: int
    """Predicted objects of fewer pixels are dropped."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One prediction against one truth."""

    score: ImageScore
    shape: Mapping[str, float]
    """Metrics of the hard prediction by the names of ``names.METRICS``; NaN: not defined."""
    foreground: Confusion | None = None
    """Of structure objects: any object pixel against the background."""
    objects: ObjectScore | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "score": self.score.to_json(),
            "shape": dict(self.shape),
            "foreground": self.foreground and asdict(self.foreground),
            "objects": self.objects and asdict(self.objects),
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Measured":
        foreground, objects = tree["foreground"], tree["objects"]
        return cls(
            score=ImageScore.from_json(tree["score"]),
            shape=tree["shape"],
            foreground=foreground and Confusion(**foreground),
            objects=objects and ObjectScore(**{**objects, "found": tuple(objects["found"])}),
        )


def measure(
    sample_id: str,
    prob_hwk: NDArray[np.float32],
    target_hw: NDArray[np.uint8],
    fov_hw: NDArray[np.bool_],
    decision: Decision,
    *,
    objects_hw: NDArray[np.integer] | None = None,
) -> Measured:
    """Pixels outside the field of view and ignored ones are background on both sides.

    Args:
        objects_hw: the numbers of the true objects, for structure objects.
    """
    score = score_image(sample_id, prob_hwk, target_hw, fov_hw)
    counted_hw = fov_hw & (target_hw != IGNORE)
    truth_hw = np.where(counted_hw, target_hw, 0)
    if decision.structure == "objects":
        assert objects_hw is not None
        return _measure_objects(score, prob_hwk, truth_hw, counted_hw, decision, objects_hw)
    predicted_hw = np.where(counted_hw, hard_prediction(prob_hwk, decision.threshold), 0)
    classes = range(1, score.counts.num_foreground + 1)
    shape = _surface([(truth_hw == number, predicted_hw == number) for number in classes])
    if decision.structure in ("tubular", "partition"):
        shape["cldice"] = cldice(truth_hw == 1, predicted_hw == 1)
    if decision.structure == "partition":
        depth = decision.structure_threshold
        assert depth is not None
        predicted = predicted_cells(
            prob_hwk[:, :, -1], fov_hw, depth, smoothing=decision.cell_smoothing
        )
        cells = partition_score(true_cells(truth_hw == 1, counted_hw), predicted)
        shape |= asdict(cells)
    return Measured(score=score, shape=shape)


def _surface(
    pairs: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> dict[str, float]:
    """Mean over the classes where the distances are defined."""
    metrics = [surface_metrics(truth_hw, predicted_hw) for truth_hw, predicted_hw in pairs]
    hausdorff, assd = zip(*metrics, strict=True)
    return {"hausdorff_95": mean_defined(hausdorff)[0], "assd": mean_defined(assd)[0]}


def _measure_objects(
    score: ImageScore,
    prob_hwk: NDArray[np.float32],
    truth_hw: NDArray[np.uint8],
    counted_hw: NDArray[np.bool_],
    decision: Decision,
    objects_hw: NDArray[np.integer],
) -> Measured:
    threshold = decision.structure_threshold
    assert threshold is not None
    inside_hw = foreground_probability(prob_hwk) >= np.float32(threshold)
    foreground = _confusion(truth_hw[counted_hw] > 0, inside_hw[counted_hw])
    surface = _surface([(truth_hw > 0, inside_hw & counted_hw)])
    predicted = find_objects(prob_hwk, threshold, min_size=decision.min_object)
    objects = object_score(*counted_objects(objects_hw, predicted, counted_hw, decision.min_object))
    shape = {
        "foreground_dice": foreground.dice,
        "ap_50": objects.average_precision(),
        "ap_50_95": objects.mean_average_precision,
        "aji": objects.aji,
        **surface,
    }
    return Measured(score=score, shape=shape, foreground=foreground, objects=objects)


def _confusion(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Confusion:
    tp, fp = int((truth & predicted).sum()), int((~truth & predicted).sum())
    fn = int(truth.sum()) - tp
    return Confusion(tp=tp, fp=fp, fn=fn, tn=len(truth) - tp - fp - fn)
