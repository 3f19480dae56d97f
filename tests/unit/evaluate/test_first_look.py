"""Images are resized by the size of their objects: true ones in training, else those found."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from unet_dist.config import Config
from unet_dist.config_file import build_config
from unet_dist.data.dataset import Dataset, open_dataset
from unet_dist.data.object_size import factor_to, median_diameter, resize_numbers
from unet_dist.errors import UserError
from unet_dist.evaluate.first_look import Middle, middle_of, scale_for
from unet_dist.evaluate.prediction import predict_file
from unet_dist.evaluate.prediction_task import PredictionSettings, PredictionTask
from unet_dist.evaluate.predictor import Predictor


def discs(diameter: int, *, side: int = 128) -> np.ndarray:
    """Numbered, in a grid with gaps as wide as they are."""
    numbers_hw = np.zeros((side, side), np.uint16)
    centres = range(diameter, side - diameter, 2 * diameter)
    y, x = np.ogrid[:side, :side]
    for number, (row, column) in enumerate(((r, c) for r in centres for c in centres), start=1):
        numbers_hw[(y - row) ** 2 + (x - column) ** 2 <= diameter**2 / 4] = number
    return numbers_hw


def config_of(root: Path = Path(), *more: str) -> Config:
    return build_config(
        {
            "data": {"format": "labelmap", "root": str(root), "masks": "labels", "object_size": 24,
                     "split": {"by": "order", "val": 0.5, "test": 0}},
            "augment": {"crop": 64},
            "evaluate": {"tile": 64},
        },
        more,
        where="",
    )  # fmt: skip


class Bright:
    """A network that takes for an object what is bright, of whatever size."""

    def forward(self, x_nchw: np.ndarray) -> np.ndarray:
        return x_nchw[:, :1]


def test_diameters_are_those_of_circles_of_the_same_area() -> None:
    numbers_hw = np.zeros((40, 40), np.int32)
    numbers_hw[:4, :4], numbers_hw[10:20, 10:20], numbers_hw[30:36, :6] = 7, 9, 2
    assert median_diameter(numbers_hw) == pytest.approx(2 * (36 / np.pi) ** 0.5)
    assert median_diameter(np.zeros((4, 4), np.int32)) == 0
    assert [factor_to(24, d) for d in (12, 2, 240, 0)] == [2, 2.5, 0.4, 1]
    # As OpenCV's exact nearest neighbour.
    for size in ((17, 90), (80, 80), (13, 40)):
        wanted = cv2.resize(
            numbers_hw.astype(np.uint16), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT
        )
        np.testing.assert_array_equal(resize_numbers(numbers_hw, size), wanted)


@pytest.mark.parametrize(("diameter", "factor"), [(10, 2.4), (24, 1.0), (48, 0.5)])
def test_a_first_look_finds_the_factor(diameter: int, factor: float) -> None:
    numbers_hw = discs(diameter, side=256)
    image_hwc = np.repeat((numbers_hw > 0).astype(np.float32)[:, :, None], 3, axis=2)
    config = config_of()
    found = scale_for(Bright().forward, config, lambda: everywhere(image_hwc))
    assert found.factor == pytest.approx(factor, rel=0.05)
    assert found.note == ""
    empty = scale_for(Bright().forward, config, lambda: everywhere(np.zeros_like(image_hwc)))
    assert (empty.factor, "no object was found" in empty.note) == (1, True)
    fixed = build_config({"data": {"resize": 0.7}}, (), where="")
    assert scale_for(Bright().forward, fixed, lambda: pytest.fail("looked")).factor == 0.7


def everywhere(image_hwc: np.ndarray) -> Middle:
    return Middle(image_hwc=image_hwc, inside_hw=np.ones(image_hwc.shape[:2], np.bool_))


def test_a_factor_beyond_the_limits_is_told() -> None:
    image_hwc = np.repeat((discs(100, side=512) > 0).astype(np.float32)[:, :, None], 3, axis=2)
    found = scale_for(Bright().forward, config_of(), lambda: everywhere(image_hwc))
    assert found.factor == 0.4
    assert "resize by 0.24" in found.note


def test_what_lies_outside_the_field_of_view_is_no_object() -> None:
    image_hwc = np.repeat((discs(24, side=256) > 0).astype(np.float32)[:, :, None], 3, axis=2)
    specks_hw = discs(10, side=256) > 0
    inside_hw = np.ones((256, 256), np.bool_)
    image_hwc[128:], inside_hw[128:] = specks_hw[128:, :, None], False
    middle = Middle(image_hwc=image_hwc, inside_hw=inside_hw)
    factors = [
        scale_for(Bright().forward, config_of(), lambda seen=seen: seen).factor
        for seen in (middle, everywhere(image_hwc))
    ]
    assert factors == [pytest.approx(1.0, rel=0.1), pytest.approx(2.4, rel=0.1)]


def test_of_a_large_image_the_middle_is_looked_at() -> None:
    rows, columns = middle_of((3000, 500))
    assert (rows, columns.start, columns.stop >= 500) == (slice(988, 2012), 0, True)


@pytest.fixture
def nuclei(tmp_path: Path) -> Dataset:
    """Two images, of objects of 10 and of 48 pixels; the second one is for validation."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for name, diameter in (("a", 10), ("b", 48)):
        numbers_hw = discs(diameter, side=200)
        cv2.imwrite(str(tmp_path / f"labels/{name}.png"), numbers_hw)
        cv2.imwrite(str(tmp_path / f"images/{name}.png"), (numbers_hw > 0).astype(np.uint8) * 255)
    return open_dataset(config_of(tmp_path).data, seed=0)


def test_training_sees_objects_of_one_size_and_predictions_return_to_the_true_one(
    nuclei: Dataset,
) -> None:
    [small], [large] = nuclei.splits.train, nuclei.splits.val
    sizes = [nuclei.read(sample).target_hw.shape[0] for sample in (small, large)]
    assert sizes == [pytest.approx(200 * 2.4, rel=0.02), pytest.approx(200 * 0.5, rel=0.02)]
    predictor = Predictor(config_of(), [Bright()])
    for sample in (small, large):
        native = nuclei.read_native(sample)
        assert native.target_hw.shape == (200, 200)
        prob_hwk = predictor.of_sample(nuclei, sample)
        wrong = (prob_hwk[:, :, 0] >= 0.5) != (native.target_hw == 1)
        assert wrong.mean() < 0.03


def test_a_file_is_predicted_as_the_image_of_a_data_set(nuclei: Dataset, tmp_path: Path) -> None:
    config, [sample] = config_of(tmp_path), nuclei.splits.val
    predictor = Predictor(config, [Bright()])
    settings = PredictionSettings(
        config=config, threshold=0.5, uncertainty="none", coding=nuclei.coding, made_by={}
    )
    task = PredictionTask(stem="b", image=sample.image, truth=None)
    predict_file(predictor.forward, task, tmp_path / "out", settings, look=predictor.one_view)
    told = cv2.imread(str(tmp_path / "out/b_probability.png"), cv2.IMREAD_UNCHANGED) / 65535
    wanted = predictor.of_sample(nuclei, sample)[:, :, 0]
    np.testing.assert_allclose(told, wanted, atol=1e-3)
    # At half the size the edges of the objects are softer than they were.
    assert 0.05 < np.mean((wanted > 0.01) & (wanted < 0.99)) < 0.5


def test_borders_are_drawn_at_the_size_that_the_network_sees(nuclei: Dataset) -> None:
    """One pixel wide at half the size too, where resized ones would be dots."""
    config = build_config(
        {"data": {**nuclei.config.model_dump(), "object_size": 0, "resize": 0.5, "classes": 3}},
        (),
        where="",
    )
    dataset = open_dataset(config.data, seed=0)
    [sample] = dataset.splits.val
    target_hw = dataset.read(sample).target_hw
    _, parts = ndimage.label(target_hw == 2, np.ones((3, 3)))
    assert parts == len(np.unique(dataset.read_objects(sample))) - 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["data.resize=0.5"], "takes the place of resize"),
        (["data.mask=binary"], "needs masks of numbered objects"),
        (["augment.crop=0"], "set augment.crop"),
        (["data.object_size=3"], "4 at least"),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(more: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        config_of(Path(), *more)
