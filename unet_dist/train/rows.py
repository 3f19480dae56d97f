"""An image with its truth and its prediction, for TensorBoard and the report picture."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from unet_dist.comm import Communicator
from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import IGNORE, Sample
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
    rows: Iterable[PictureRow],
    dataset: Dataset,
    samples: Sequence[Sample],
    decision: "Decision",
    comm: Communicator,
) -> list[PictureRow]:
    """The same with the objects that the final evaluation found."""
    # Here, since importing scikit-image takes time that no training should wait for.
    from unet_dist.evaluate.objects import (
        counted_objects,
        find_objects,
        object_errors,
        renumbered,
    )

    assert decision.structure_threshold is not None
    of_id = {sample.id: sample for sample in samples}
    shown = []
    for row in rows:
        comm.heartbeat.goes_on(f"drawing the objects of {row.id}")
        found_hw = find_objects(
            row.prob_hwk, decision.structure_threshold, min_size=decision.min_object
        )
        counted_hw = row.fov_hw & (row.truth_hw != IGNORE)
        both = counted_objects(
            dataset.read_objects(of_id[row.id]), found_hw, counted_hw, decision.min_object
        )
        true_hw, shown_hw = (renumbered(one).astype(np.int32) for one in both)
        objects = ObjectsShown(
            true_hw=true_hw, found_hw=shown_hw, errors_hw=object_errors(true_hw, shown_hw)
        )
        shown.append(replace(row, objects=objects))
    return shown
