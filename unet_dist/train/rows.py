"""An image with its truth and its prediction, for TensorBoard and the report picture."""

from unet_dist.data.dataset import Dataset
from unet_dist.data.sample import Sample
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.report.panels import PictureRow


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
