import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_dist.config_file import build_config
from unet_dist.data.light import even_light
from unet_dist.data.masks import MaskCoding
from unet_dist.data.sample import IGNORE, ImageRef
from unet_dist.errors import UserError
from unet_dist.evaluate import numbers as numbers_of_image
from unet_dist.evaluate import overlays, prediction, views
from unet_dist.evaluate.numbering import Numbering
from unet_dist.evaluate.overlays import ERROR_COLOURS, error_codes
from unet_dist.evaluate.prediction import entropy, predict_file
from unet_dist.evaluate.prediction_task import PredictionSettings, PredictionTask
from unet_dist.evaluate.structure import DIVISION
from unet_dist.runs import read_json

GENERATOR = np.random.default_rng(0)
TILE = 16


def settings_of(*overrides: str, threshold=0.3, uncertainty="none", kind="binary"):
    config = build_config(
        {},
        [f"evaluate.tile={TILE}", "evaluate.batch=3", "data.channels=grey", *overrides],
        where="test",
    )
    classes = config.data.classes
    values = (0, 255) if classes == 2 else tuple(range(classes))
    coding = MaskCoding(kind=kind, classes=classes, values=values, shares={})
    return PredictionSettings(
        config=config,
        threshold=threshold if classes == 2 else None,
        uncertainty=uncertainty,
        coding=coding,
        made_by={"weights": ["w"]},
    )


def grey_is_the_probability(x_nchw):
    return x_nchw[:, :1]


def three_classes(x_nchw):
    parts = np.concatenate([1 - x_nchw, x_nchw * 0.7, x_nchw * 0.3], axis=1)
    return parts.astype(np.float32)


def write_image(path: Path, height=50, width=37, dtype=np.uint8, **options) -> np.ndarray:
    values = GENERATOR.integers(0, np.iinfo(dtype).max, (height, width), endpoint=True)
    values = values.astype(dtype)
    if path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack", **options)
    else:
        Image.fromarray(values).save(path)
    return values


def task_of(path: Path, truth: Path | None = None) -> PredictionTask:
    return PredictionTask(
        image=ImageRef(path=path), stem=path.stem, truth=ImageRef(path=truth) if truth else None
    )


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture
def large(monkeypatch):
    """What is large begins at a size that tests can afford."""
    monkeypatch.setattr(prediction, "PNG_PIXELS", 100)


def test_two_classes_give_a_mask_of_0_and_255_and_16_bits_of_probability(tmp_path):
    values = write_image(tmp_path / "eye.png")
    out = tmp_path / "new" / "out"

    record = predict_file(
        grey_is_the_probability, task_of(tmp_path / "eye.png"), out, settings_of()
    )

    names = ["eye_mask.png", "eye_overlay.png", "eye_prediction.json", "eye_probability.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(record.files) == [name for name in names if name.endswith("png")]
    mask, probability = read(out / "eye_mask.png"), read(out / "eye_probability.png")
    assert probability.dtype == np.uint16
    np.testing.assert_allclose(probability / 65535, values / 255, atol=1.5 / 65535)
    sure = np.abs(values / 255 - 0.3) > 1e-5
    assert np.array_equal(mask[sure], np.where(values / 255 > 0.3, 255, 0)[sure])
    assert read(out / "eye_overlay.png").shape == (50, 37, 3)


def test_16_bits_of_an_image_reach_the_probability(tmp_path):
    values = write_image(tmp_path / "deep.tif", dtype=np.uint16)
    predict_file(grey_is_the_probability, task_of(tmp_path / "deep.tif"), tmp_path, settings_of())
    probability = read(tmp_path / "deep_probability.png").astype(int)
    assert np.abs(probability - values).max() <= 1


def test_several_classes_give_a_palette_of_class_numbers(tmp_path):
    values = write_image(tmp_path / "cell.png") / 255
    predict_file(
        three_classes, task_of(tmp_path / "cell.png"), tmp_path, settings_of("data.classes=3")
    )
    with Image.open(tmp_path / "cell_mask.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[:6] == [0, 0, 0, 86, 180, 233]
    mask = read(tmp_path / "cell_mask.png")
    sure = np.abs(1 - values - values * 0.7) > 1e-4
    assert np.array_equal(mask[sure], (values * 0.7 > 1 - values)[sure])
    probability = read(tmp_path / "cell_probability.png") / 65535
    np.testing.assert_allclose(probability, values * 0.7, atol=1e-4)


@pytest.mark.parametrize("overrides", [[], ["data.resize=0.4"], ["data.resize=1.7"]])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_large_image_gets_the_values_of_a_small_one_as_tiled_tiff(
    tmp_path, monkeypatch, overrides, classes
):
    write_image(tmp_path / "a.tif", 150, 90, np.uint16, tile=(16, 16), compression="zlib")
    settings = settings_of(*overrides, f"data.classes={classes}", uncertainty="entropy")
    forward = grey_is_the_probability if classes == 2 else three_classes
    task = task_of(tmp_path / "a.tif")
    predict_file(forward, task, tmp_path / "small", settings)
    monkeypatch.setattr(prediction, "PNG_PIXELS", 100)
    monkeypatch.setattr("unet_dist.data.image_rows.BAND_BYTES", 1000)
    bands = []

    predict_file(
        forward, task, tmp_path / "large", settings, on_rows=lambda *rows: bands.append(rows)
    )

    assert bands[-1] == (150, 150)
    assert len(bands) > 4
    for name in ("mask", "probability", "uncertainty"):
        with tifffile.TiffFile(tmp_path / "large" / f"a_{name}.tif") as tiff:
            assert tiff.pages[0].is_tiled
            large = tiff.asarray().astype(int)
        small = read(tmp_path / "small" / f"a_{name}.png").astype(int)
        assert np.abs(large - small).max() <= (0 if name == "mask" else 1), name


def test_a_resized_prediction_is_opencvs_way_there_and_back(tmp_path):
    values = write_image(tmp_path / "a.png", 60, 44).astype(np.float32) / 255
    predict_file(
        grey_is_the_probability,
        task_of(tmp_path / "a.png"),
        tmp_path,
        settings_of("data.resize=0.5"),
    )
    half = cv2.resize(values, (22, 30), interpolation=cv2.INTER_AREA)
    back = cv2.resize(half, (44, 60), interpolation=cv2.INTER_LINEAR)
    got = read(tmp_path / "a_probability.png") / 65535
    np.testing.assert_allclose(got, back, atol=1e-4)


def test_the_network_sees_the_light_evened_out_and_the_overlay_the_image(tmp_path):
    values = write_image(tmp_path / "a.png").astype(np.float32)[:, :, None] / 255
    task = task_of(tmp_path / "a.png")
    settings = settings_of("data.even_light=6", "data.even_curve=asinh", threshold=1.0)
    predict_file(grey_is_the_probability, task, tmp_path, settings)
    expected = even_light(values, np.ones((50, 37), np.bool_), 6.0, "asinh")[:, :, 0]
    np.testing.assert_allclose(read(tmp_path / "a_probability.png") / 65535, expected, atol=1e-4)
    kept = read(tmp_path / "a_mask.png") == 0
    assert np.array_equal(
        read(tmp_path / "a_overlay.png")[kept], read(tmp_path / "a.png")[kept][:, None].repeat(3, 1)
    )


def test_tiff_results_keep_the_resolution_and_become_big_when_needed(tmp_path, monkeypatch, large):
    write_image(tmp_path / "a.tif", resolution=(5000, 2500), resolutionunit=3)
    task = task_of(tmp_path / "a.tif")
    predict_file(grey_is_the_probability, task, tmp_path, settings_of())
    monkeypatch.setattr("unet_dist.evaluate.sinks.CLASSIC_BYTES", 10)
    predict_file(grey_is_the_probability, task, tmp_path / "big", settings_of())
    for folder, big in ((tmp_path, False), (tmp_path / "big", True)):
        with tifffile.TiffFile(folder / "a_probability.tif") as tiff:
            assert tiff.is_bigtiff == big
            tags = tiff.pages[0].tags
            assert tags["XResolution"].value == (5000, 1)
            assert tags["YResolution"].value == (2500, 1)
            assert tags["ResolutionUnit"].value == 3


def test_png_results_keep_the_resolution(tmp_path):
    write_image(tmp_path / "a.tif", resolution=(300, 300), resolutionunit=2)
    predict_file(grey_is_the_probability, task_of(tmp_path / "a.tif"), tmp_path, settings_of())
    with Image.open(tmp_path / "a_mask.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_entropy_is_0_where_certain_and_1_where_all_are_equal():
    assert entropy(np.array([[[0.5], [0.0], [1.0]]], np.float32)).tolist() == [[1, 0, 0]]
    thirds = np.full((1, 1, 3), 1 / 3, np.float32)
    assert entropy(thirds) == pytest.approx(1, abs=1e-6)
    # H(1/4) = 2 - 3/4 log2 3
    quarter = np.full((1, 1, 1), 0.25, np.float32)
    assert entropy(quarter) == pytest.approx(2 - 0.75 * np.log2(3), abs=1e-6)


def test_std_is_the_root_of_the_blended_variance(tmp_path):
    write_image(tmp_path / "a.png")

    def with_variance(x_nchw):
        return np.concatenate([x_nchw, np.full_like(x_nchw, 0.04)], axis=1)

    predict_file(
        with_variance, task_of(tmp_path / "a.png"), tmp_path, settings_of(uncertainty="std")
    )
    got = read(tmp_path / "a_uncertainty.png") / 65535
    np.testing.assert_allclose(got, 0.2, atol=1e-4)


def test_outside_the_field_of_view_nothing_is_predicted_or_uncertain(tmp_path, monkeypatch):
    values = np.zeros((60, 60), np.uint8)
    values[10:50, 10:50] = 128
    Image.fromarray(values).save(tmp_path / "a.png")
    settings = settings_of("data.fov=estimate", uncertainty="entropy")
    for estimated_pixels in (1 << 24, 900):  # at its own size, and at half of it
        monkeypatch.setattr(views, "ESTIMATED_PIXELS", estimated_pixels)
        predict_file(half, task_of(tmp_path / "a.png"), tmp_path, settings)
        for name in ("mask", "uncertainty"):
            inside = read(tmp_path / f"a_{name}.png") > 0
            assert inside[12:48, 12:48].all(), name
            assert not inside[:8].any(), name
            assert not inside[:, 52:].any(), name


def half(x_nchw):
    return np.full_like(x_nchw, 0.5)


def test_the_field_of_view_of_an_image_of_the_data_set_is_its_mask(tmp_path):
    """Not the largest of several lit parts."""
    image, fov = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    image[5:9, 5:9] = image[30:50, 30:50] = 200
    fov[2:55] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(fov).save(tmp_path / "fov.png")
    settings = settings_of("data.fov=file", "data.fov_masks=fov")
    known = replace(task_of(tmp_path / "a.png"), fov=ImageRef(path=tmp_path / "fov.png"))
    record = predict_file(half, known, tmp_path, settings)
    assert np.array_equal(read(tmp_path / "a_mask.png"), fov)
    assert record.notes == ()
    Image.fromarray(fov[:50]).save(tmp_path / "fov.png")
    with pytest.raises(UserError, match=r"60 x 60 pixels but its mask .* 50 x 60 "):
        predict_file(half, known, tmp_path, settings)


@pytest.mark.parametrize(("form", "share"), [("folder", 1.0), ("drive", 0.44)])
def test_where_no_mask_of_the_field_of_view_is_known_a_note_says_so(tmp_path, form, share):
    image = np.zeros((60, 60), np.uint8)
    image[10:50, 10:50] = 128
    Image.fromarray(image).save(tmp_path / "a.png")
    overrides = ["data.fov=file", "data.fov_masks=fov", f"data.format={form}"]
    record = predict_file(half, task_of(tmp_path / "a.png"), tmp_path, settings_of(*overrides))
    assert (read(tmp_path / "a_mask.png") > 0).mean() == pytest.approx(share, abs=0.03)
    assert "no mask of" in record.notes[0]


def test_errors_have_their_colours_and_a_legend_with_their_numbers(tmp_path):
    image = np.zeros((40, 40), np.uint8)
    image[:, :20] = 255
    truth = np.zeros((40, 40), np.uint8)
    truth[:20] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(truth).save(tmp_path / "truth.png")

    task = task_of(tmp_path / "a.png", tmp_path / "truth.png")
    record = predict_file(grey_is_the_probability, task, tmp_path, settings_of())

    assert record.pixels == {"correct (TP)": 400, "false (FP)": 400, "missed (FN)": 400}
    picture = read(tmp_path / "a_errors.png")
    for code, corner in ((1, (0, 19)), (2, (20, 0)), (3, (0, 20))):  # beside the seams
        assert np.array_equal(picture[corner], ERROR_COLOURS[code])
    assert np.array_equal(picture[39, 39], [0, 0, 0])
    legend = picture[40:]
    assert len(legend) > 30
    shown = {tuple(colour) for colour in legend.reshape(-1, 3).tolist()}
    assert shown >= {tuple(colour) for colour in ERROR_COLOURS[1:].tolist()}
    told = read_json(tmp_path / "a_prediction.json")
    assert told["pixels"] == record.pixels
    assert told["class_names"] == ["background", "foreground"]


def test_codes_of_errors():
    decided = np.array([[0, 1, 1, 2, 0, 1, 1]], np.uint8)
    truth = np.array([[0, 1, 0, 1, 2, IGNORE, 1]], np.uint8)
    inside = np.array([[1, 1, 1, 1, 1, 1, 0]], np.bool_)
    assert error_codes(decided, truth, inside).tolist() == [[0, 1, 2, 2, 3, 0, 0]]


# Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), table 1, severity 1.
COLOUR_BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("kind", COLOUR_BLINDNESS)
def test_the_colour_blind_can_tell_the_errors_apart(kind):
    linear = (ERROR_COLOURS[1:] / 255) ** 2.2
    seen = np.clip(linear @ np.array(COLOUR_BLINDNESS[kind]).T, 0, 1).astype(np.float32) ** (
        1 / 2.2
    )
    lab = cv2.cvtColor(seen[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    distances = [np.linalg.norm(lab[i] - lab[j]) for i in range(3) for j in range(i)]
    assert min(distances) > 15  # CIE 1976; 2.3 is just noticeable


@pytest.mark.parametrize("tile", [16, 64])
def test_errors_of_objects_are_of_all_their_pixels_whatever_the_bands(tmp_path, tile):
    rows, columns = np.ogrid[:80, :70]
    truth = 7 * ((rows - 40) ** 2 + (columns - 35) ** 2 < 28**2).astype(np.uint8)
    Image.fromarray(truth).save(tmp_path / "truth.png")
    # Inside, border, a ring that is missed and one pixel that is false.
    found = np.select([truth == 0, rows < 20], [0, 2], 1).astype(np.uint8)
    found[70:], found[0, 0] = 0, 2
    Image.fromarray(np.uint8(100) * found).save(tmp_path / "a.png")
    settings = settings_of("data.classes=3", f"evaluate.tile={tile}", kind="instances_border")
    settings = replace(settings, coding=replace(settings.coding, border=0.4))

    def as_painted(x_nchw):
        classes_nhw = np.rint(x_nchw[:, 0] * 255 / 100).astype(int)
        return np.moveaxis(np.eye(3, dtype=np.float32)[classes_nhw], 3, 1)

    task = task_of(tmp_path / "a.png", tmp_path / "truth.png")
    record = predict_file(as_painted, task, tmp_path, settings)

    assert record.pixels == {
        "correct (TP)": np.count_nonzero(truth[:70]),
        "false (FP)": 1,
        "missed (FN)": np.count_nonzero(truth[70:]),
    }


def test_a_truth_of_another_size_is_a_fault(tmp_path):
    write_image(tmp_path / "a.png", 30, 20)
    write_image(tmp_path / "truth.png", 20, 30)
    task = task_of(tmp_path / "a.png", tmp_path / "truth.png")
    with pytest.raises(UserError, match=r"30 x 20 pixels but its mask .* 20 x 30 "):
        predict_file(grey_is_the_probability, task, tmp_path / "out", settings_of())


@pytest.mark.usefixtures("large")
def test_an_interrupted_image_leaves_nothing_behind(tmp_path):
    write_image(tmp_path / "a.tif")

    def interrupt(row, rows):
        if row > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(
            grey_is_the_probability,
            task_of(tmp_path / "a.tif"),
            tmp_path / "out",
            settings_of(),
            on_rows=interrupt,
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_nothing_half_done(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png")
    out = tmp_path / "out"
    predict_file(grey_is_the_probability, task_of(tmp_path / "a.png"), out, settings_of())
    (out / ".a_mask.png.1.part").write_bytes(b"of a killed job")

    def full(self, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction.PngSink, "finish", full)
    with pytest.raises(UserError, match=r"a_mask.png: cannot be written: No space left"):
        predict_file(grey_is_the_probability, task_of(tmp_path / "a.png"), out, settings_of())
    assert not list(out.glob(".*"))
    assert (out / "a_prediction.json").exists()  # the results before it are whole


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_network_whose_output_is_no_number_leaves_a_fault_and_no_mask(tmp_path, wrong):
    write_image(tmp_path / "a.png")

    def diverged(x_nchw):
        return np.full_like(x_nchw[:, :1], wrong)

    with pytest.raises(UserError, match=r"a\.png.* not a number at .* did the training diverge"):
        predict_file(diverged, task_of(tmp_path / "a.png"), tmp_path / "out", settings_of())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_a_file_is_a_fault_of_the_user(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "taken").write_text("not a folder")
    with pytest.raises(UserError, match=r"taken.*cannot be written: "):
        predict_file(
            grey_is_the_probability, task_of(tmp_path / "a.png"), tmp_path / "taken", settings_of()
        )
    assert (tmp_path / "taken").read_text() == "not a folder"


def test_an_image_too_wide_for_its_tiles_is_refused(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png")
    monkeypatch.setattr(prediction, "MAX_WORKING_BYTES", 1000)
    with pytest.raises(UserError, match="37 columns by tiles of 16 rows"):
        predict_file(grey_is_the_probability, task_of(tmp_path / "a.png"), tmp_path, settings_of())


def test_the_overlay_leaves_the_background_as_it_was_and_outlines_the_rest():
    image = GENERATOR.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    mask = np.zeros((24, 32), np.uint8)
    mask[5:15, 5:15] = 1
    colours = np.array([(0, 0, 0), (0, 229, 255)], np.uint8)

    got = overlays.overlay(image, mask, colours)

    assert np.array_equal(got[:5], image[:5])
    assert (got[5, 5:15] == [0, 229, 255]).all()
    assert (got[5:15, 14] == [0, 229, 255]).all()
    expected = np.floor(image[6:14, 6:14] * 0.75 + colours[1] * 0.25 + 0.5)
    assert np.array_equal(got[6:14, 6:14], expected)


def test_an_overlay_larger_than_a_screen_is_reduced_and_keeps_thin_structures(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(overlays, "MAX_SIDE", 25)
    values = np.full((50, 37), 51, np.uint8)
    values[:, 7] = 255
    Image.fromarray(values).save(tmp_path / "a.png")
    predict_file(grey_is_the_probability, task_of(tmp_path / "a.png"), tmp_path, settings_of())
    picture = read(tmp_path / "a_overlay.png")
    assert picture.shape == (25, 19, 3)
    assert (picture[:, 3] == [0, 229, 255]).all()  # columns 6 and 7, of which 7 is foreground
    assert (picture[:, [2, 4]] == 51).all()


@pytest.mark.usefixtures("large")
def test_memory_grows_with_the_width_of_an_image_not_with_its_area(tmp_path, monkeypatch):
    monkeypatch.setattr(overlays, "MAX_SIDE", 2048)
    peaks = {}
    for height in (375, 3000):
        path = tmp_path / f"{height}.tif"
        tifffile.imwrite(
            path,
            (np.full((256, 256), 50, np.uint8) for _ in range(-(-height // 256) * 12)),
            shape=(height, 3000),
            dtype=np.uint8,
            tile=(256, 256),
            compression="zlib",
        )
        settings = settings_of("evaluate.tile=128", "evaluate.batch=16", "evaluate.overlap=0")
        tracemalloc.start()
        predict_file(grey_is_the_probability, task_of(path), tmp_path / "out", settings)
        peaks[height] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 3000 x 3000 as float32 are 36 MB for the image and as much for the probabilities. What grows
    # is the overlay, at most 2048 pixels on a side.
    assert peaks[3000] - peaks[375] < 24e6
    assert peaks[375] < 30e6


NUMBERING = Numbering(
    structure="objects", threshold=0.3, min_object=9, cell_smoothing=2.0, division=DIVISION
)


def blobs(path: Path, number: int = 2) -> np.ndarray:
    """Bright squares of 16 pixels, and dust of one."""
    values = np.zeros((50, 37), np.uint8)
    for row in range(number):
        values[4 + 8 * row : 8 + 8 * row, 3:7] = 200
    values[45, 30] = 200
    Image.fromarray(values).save(path)
    return values


def test_objects_are_numbered_as_the_evaluation_found_them(tmp_path, monkeypatch):
    values = blobs(tmp_path / "a.png")
    task, settings = task_of(tmp_path / "a.png"), replace(settings_of(), numbering=NUMBERING)
    record = predict_file(grey_is_the_probability, task, tmp_path, settings)
    numbers = read(tmp_path / "a_objects.png")
    assert (record.objects, numbers.dtype) == (2, np.uint16)
    assert [(numbers[rows, 3:7] == n).all() for n, rows in ((1, slice(4, 8)), (2, slice(12, 16)))]
    assert np.count_nonzero(numbers) == np.count_nonzero(values) - 1, "dust is dropped"
    head, *rows = (tmp_path / "a_objects.csv").read_text().splitlines()
    assert head == "number,row,column,area,diameter,eccentricity,probability"
    diameter, probability = 2 * (16 / np.pi) ** 0.5, 200 / 255
    for row, (number, centre) in zip(rows, ((1, 5.5), (2, 13.5)), strict=True):
        expected = (number, centre, 4.5, 16, diameter, 0, probability)
        assert list(map(float, row.split(","))) == pytest.approx(expected, rel=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", *record.files} | {
        "a_prediction.json"
    }
    shown = read(tmp_path / "a_overlay.png")
    outlines = [tuple(shown[row, 3].tolist()) for row in (4, 12)]
    assert outlines == [(86, 180, 233), (230, 159, 0)]
    assert (shown[45, 30] == 200).all(), "dust is no object"
    for module in (numbers_of_image, prediction):
        monkeypatch.setattr(module, "MAX_PIXELS", 100)
    record = predict_file(grey_is_the_probability, task, tmp_path / "b", settings)
    assert record.objects is None
    assert (read(tmp_path / "b" / "a_overlay.png")[45, 30] != 200).any()
    assert not (tmp_path / "b" / "a_objects.png").exists()
    assert record.notes == ("its objects are not numbered: more than 100 pixels",)


def test_numbers_of_a_former_prediction_do_not_stay_beside_a_new_mask(tmp_path):
    blobs(tmp_path / "a.png")
    task, settings = task_of(tmp_path / "a.png"), replace(settings_of(), numbering=NUMBERING)
    out = tmp_path / "out"
    predict_file(grey_is_the_probability, task, out, settings)
    (out / "a_notes.txt").write_text("mine")
    predict_file(grey_is_the_probability, task, out, settings_of())
    names = ["a_mask.png", "a_notes.txt", "a_overlay.png", "a_prediction.json", "a_probability.png"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_a_record_names_no_other_file_to_be_removed(tmp_path):
    blobs(tmp_path / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    for kept in (tmp_path / "a_far.png", out / "b_mask.png"):
        kept.write_text("mine")
    (out / "a_folder").mkdir()
    names = ["../a_far.png", "b_mask.png", 7, "a_\0", "a_folder", "a_" + "x" * 300]
    forged = {"files": names}
    (out / "a_prediction.json").write_text(json.dumps(forged))
    predict_file(grey_is_the_probability, task_of(tmp_path / "a.png"), out, settings_of())
    assert (tmp_path / "a_far.png").exists()
    assert (out / "b_mask.png").exists()


def test_numbering_is_told_as_a_phase_and_can_be_ended(tmp_path):
    blobs(tmp_path / "a.png")
    task, settings = task_of(tmp_path / "a.png"), replace(settings_of(), numbering=NUMBERING)
    told = []
    predict_file(grey_is_the_probability, task, tmp_path, settings, on_phase=told.append)
    assert told == ["numbering objects", "measuring objects"]

    def end(doing):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_file(grey_is_the_probability, task, out, settings, on_phase=end)
    assert list(out.iterdir()) == []


def test_numbering_counts_to_the_memory_that_is_needed(tmp_path, monkeypatch):
    blobs(tmp_path / "a.png")
    task, settings = task_of(tmp_path / "a.png"), settings_of()
    monkeypatch.setattr(prediction, "MAX_WORKING_BYTES", 250_000)
    predict_file(grey_is_the_probability, task, tmp_path, settings)
    with pytest.raises(UserError, match="more than"):
        predict_file(
            grey_is_the_probability, task, tmp_path, replace(settings, numbering=NUMBERING)
        )


def test_small_objects_stay_in_an_overlay_that_is_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(overlays, "MAX_SIDE", 10)  # a fifth
    values = np.zeros((50, 37), np.uint8)
    values[4, 5:8] = 255
    Image.fromarray(values).save(tmp_path / "a.png")
    settings = replace(settings_of(), numbering=replace(NUMBERING, min_object=1))
    predict_file(grey_is_the_probability, task_of(tmp_path / "a.png"), tmp_path, settings)
    shown = read(tmp_path / "a_overlay.png")
    assert shown.shape == (10, 8, 3)
    assert shown[0, 1].tolist() == [86, 180, 233]


def test_areas_in_the_table_are_whole_numbers():
    numbers_hw = np.ones((1300, 1299), np.int32)
    _, row = numbers_of_image.table(numbers_hw, np.ones(numbers_hw.shape, np.float32)).splitlines()
    assert row.split(",")[1:4] == ["649.50", "649.00", "1688700"]


def test_cells_between_membranes_are_numbered(tmp_path):
    values = np.zeros((50, 37), np.uint8)
    values[:, 18] = 250
    Image.fromarray(values).save(tmp_path / "a.png")
    cells = replace(NUMBERING, structure="partition", threshold=0.1)
    settings = replace(settings_of(), numbering=cells)
    record = predict_file(grey_is_the_probability, task_of(tmp_path / "a.png"), tmp_path, settings)
    numbers = read(tmp_path / "a_cells.png")
    assert record.objects == 2
    assert [len(np.unique(numbers[:, half])) for half in (slice(18), slice(19, None))] == [1, 1]
    shown = read(tmp_path / "a_overlay.png")
    assert (shown[:, :17] == 0).all(), "membranes are shown, not cells"
    _, *rows = (tmp_path / "a_cells.csv").read_text().splitlines()
    inside = [float(row.split(",")[-1]) for row in rows]
    assert inside == pytest.approx(
        [1 - (numbers == n)[:, 18].sum() * 250 / 255 / (numbers == n).sum() for n in (1, 2)],
        rel=1e-4,
    )


def test_more_objects_than_16_bits_hold_get_32(tmp_path, monkeypatch):
    def noisy(self, prob_hwk, fov_hw):
        return np.arange(prob_hwk.shape[0] * prob_hwk.shape[1]).reshape(prob_hwk.shape[:2]) * 100

    monkeypatch.setattr(Numbering, "__call__", noisy)
    blobs(tmp_path / "a.png")
    settings = replace(settings_of(), numbering=NUMBERING)
    predict_file(grey_is_the_probability, task_of(tmp_path / "a.png"), tmp_path, settings)
    assert tifffile.imread(tmp_path / "a_objects.tif").max() == 100 * (50 * 37 - 1)


def test_12_bits_in_a_file_of_16_are_shown_bright_and_told_of(tmp_path):
    values = write_image(tmp_path / "a.png").astype(np.uint16) * 16
    Image.fromarray(values).save(tmp_path / "b.png")
    settings = replace(settings_of(threshold=1.0), usual_mean=0.2)
    for name, notes in (("a", 0), ("b", 1)):
        task = task_of(tmp_path / f"{name}.png")
        record = predict_file(grey_is_the_probability, task, tmp_path, settings)
        assert len(record.notes) == notes
        kept = read(tmp_path / f"{name}_mask.png") == 0
        shown = read(tmp_path / f"{name}_overlay.png").astype(int)[:, :, 0]
        assert np.abs(shown - values // 16)[kept].max() <= 3
    assert "12 bits in a file of 16?" in record.notes[0]


def test_errors_of_several_classes_say_that_another_class_is_wrong_too(tmp_path):
    write_image(tmp_path / "a.png")
    Image.fromarray(np.full((50, 37), 2, np.uint8)).save(tmp_path / "truth.png")
    task = task_of(tmp_path / "a.png", tmp_path / "truth.png")
    settings = settings_of("data.classes=3", kind="labels")
    record = predict_file(three_classes, task, tmp_path, settings)
    assert record.pixels["of another class, or background in truth"] > 0
    assert sum(record.pixels.values()) == 50 * 37
