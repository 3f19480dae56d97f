"""An image with its truth and its prediction, for TensorBoard and the report picture."""

from dataclasses import replace
from typing import TYPE_CHECKING

from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.report.panels import ObjectsShown, PictureRow

if TYPE_CHECKING:
    from unet_dist.evaluate.measures import Decision


def picture_row(
    predictor: Predictor[Network],
    dataset: Dataset,
    sample: Sample,
    threshold: float | None,
    dice: float,
) -> PictureRow:
    native = dataset.read_native(sample)
    return PictureRow(
        id=sample.id,
        image_hwc=native.image_hwc,
        truth_hw=native.target_hw,
        prob_hwk=predictor.of_sample(dataset, sample),
        threshold=threshold,
        fov_hw=native.fov_hw,
        dice=dice,
        class_names=dataset.config.names,
    )


def with_objects(
    row: PictureRow, dataset: Dataset, sample: Sample, decision: "Decision"
) -> PictureRow:
    """The same with the objects that the final evaluation found."""
    # Here, since importing scikit-image takes time that no training should wait for.
    from unet_dist.evaluate.objects import counted_objects, find_objects, object_errors

    threshold, min_size = decision.structure_threshold, decision.min_object
    assert threshold is not None
    found_hw = find_objects(row.prob_hwk, threshold, min_size=min_size)
    true_hw = dataset.read_objects(sample)
    true_hw, found_hw = counted_objects(true_hw, found_hw, ~row.unknown_hw, min_size)
    errors_hw = object_errors(true_hw, found_hw)
    shown = ObjectsShown(true_hw=true_hw, found_hw=found_hw, errors_hw=errors_hw)
    return replace(row, objects=shown)
