import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from unet_dist.config_file import build_config
from unet_dist.data.dataset import Dataset, ImageCache
from unet_dist.data.images import read_indices
from unet_dist.data.masks import MaskCoding
from unet_dist.data.sample import IGNORE, Example, ImageRef, Sample
from unet_dist.data.splits import Splits
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.evaluate.candidates import (
    DEFAULT_DEPTH,
    DEFAULT_PROBABILITY,
    DEPTHS,
    PROBABILITIES,
    choose,
    judge_cells,
    judge_objects,
)
from unet_dist.evaluate.measures import Decision, Measured, measure
from unet_dist.evaluate.structure import structure_of
from unet_dist.launching.datasets import begin_run
from unet_dist.runs import RunDir


def coding(kind, classes=2):
    return MaskCoding(kind=kind, classes=classes, values=(0, 1), shares={0: 0.5, 1: 0.5})


def config(*overrides):
    return build_config({}, list(overrides), where="test")


def decision(structure, threshold=0.5, cells=0.5, **changes):
    return Decision(
        **{
            "structure": structure,
            "threshold": threshold,
            "source": "configured",
            "structure_threshold": cells,
            "structure_source": "validation",
            "min_object": 0,
            "cell_smoothing": 0.0,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("overrides", "kind", "structure"),
    [
        (["data.format=chasedb1"], "binary", "tubular"),
        (["data.format=isbi2012"], "inverted", "partition"),
        (["data.format=labelmap"], "instances", "objects"),
        (["data.format=labelmap", "data.classes=3"], "instances_border", "objects"),
        ([], "binary", "region"),
        (["data.classes=4", "data.mask=labels"], "labels", "region"),
        (["evaluate.structure=tubular"], "binary", "tubular"),
        (["evaluate.structure=region", "data.format=isbi2012"], "inverted", "region"),
    ],
)
def test_the_structure_fits_the_data_unless_another_is_asked_for(overrides, kind, structure):
    assert structure_of(config(*overrides), coding(kind)) == structure


def test_a_structure_that_the_masks_do_not_have_is_refused_with_the_way_out():
    with pytest.raises(UserError, match=r"these are binary: set data\.mask=instances"):
        structure_of(config("evaluate.structure=objects"), coding("binary"))
    several = config("evaluate.structure=partition", "data.classes=4", "data.mask=labels")
    with pytest.raises(UserError, match=r"one foreground class, but .* is 4: set region"):
        structure_of(several, coding("labels", 4))


def test_a_structure_that_the_end_would_refuse_is_refused_before_the_training(tmp_path):
    write_synthetic("vessels", tmp_path / "data", count=6, size=48, seed=0)
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    asked = config(f"data.root={tmp_path / 'data'}", "evaluate.structure=objects")
    with pytest.raises(UserError, match="these are binary"):
        begin_run(folder, asked, Console(stderr=True))
    assert not folder.path.exists()


def test_shapes_see_neither_ignored_pixels_nor_those_outside_the_view():
    truth = np.zeros((20, 30), np.uint8)
    truth[5:8, 3:12] = 1
    prob = truth[:, :, None].astype(np.float32)
    clean = measure("a", prob, truth, np.ones_like(truth, bool), decision("tubular"))
    fov = np.ones_like(truth, bool)
    fov[:, 20:] = False
    ignored = truth.copy()
    prob[2:4, 15:18], ignored[2:4, 15:18] = 1, IGNORE
    prob[:, 25:] = 1

    got = measure("a", prob, ignored, fov, decision("tubular"))

    assert got.shape == clean.shape == {"hausdorff_95": 0, "assd": 0, "cldice": 1}


def test_distances_of_several_classes_are_the_mean_over_those_present():
    truth = np.zeros((10, 20), np.uint8)
    truth[2, 3:9], truth[7, 3:9] = 1, 2
    prob = np.eye(4, dtype=np.float32)[np.where(truth == 2, 0, truth)]
    prob[8, 3:9] = [0, 0, 1, 0]

    got = measure("a", prob, truth, truth < 9, decision("region", None, None)).shape

    # Class 1 is right, class 2 one row off, class 3 nowhere.
    assert got == {"hausdorff_95": 0.5, "assd": 0.5}


def test_cells_have_a_depth_of_their_own_and_a_smoothing():
    truth = np.zeros((21, 41), np.uint8)
    truth[:, 20] = 1
    prob = np.float32(0.81) * truth[:, :, None]
    prob[10, 20] = 0.01  # a gap, 0.1 deep

    def v_rand(depth, smoothing=0.0):
        asked = decision("partition", 0.5, depth, cell_smoothing=smoothing)
        return measure("a", prob, truth, truth < 2, asked).shape["v_rand"]

    assert v_rand(0.05) == 1
    assert v_rand(0.2) == pytest.approx(2 / 3)
    assert v_rand(0.2, smoothing=1.0) == 1


def test_objects_are_measured_with_their_numbers_from_the_file():
    numbers = np.zeros((12, 30), np.uint16)
    numbers[2:8, 2:10], numbers[2:8, 10:18] = 700, 9
    truth = (numbers > 0).astype(np.uint8)
    prob = np.zeros((12, 30, 3), np.float32)
    prob[..., 0] = 1
    prob[2:8, 2:10] = prob[2:8, 11:18] = [0.1, 0.9, 0]
    prob[2:8, 10] = [0.1, 0.1, 0.8]  # border
    prob[10, 22:25] = [0, 1, 0]  # 3 pixels of dust

    got = measure("a", prob, truth, truth < 9, decision("objects", None), objects_hw=numbers)
    dusted = measure(
        "a", prob, truth, truth < 9, decision("objects", None, min_object=4), objects_hw=numbers
    )

    tp = 6 * 16
    assert got.shape["foreground_dice"] == 2 * tp / (2 * tp + 3)
    assert dusted.shape["foreground_dice"] == got.shape["foreground_dice"]
    assert got.shape["ap_50"] == 2 / 3
    assert dusted.shape["ap_50"] == 1
    assert got.foreground.fp == 3


def test_what_was_measured_survives_the_way_to_another_rank():
    truth = np.zeros((6, 6), np.uint8)
    prob = np.zeros((6, 6, 1), np.float32)
    for structure, numbers in (("objects", truth.astype(int)), ("region", None)):
        sent = measure("a", prob, truth, truth < 9, decision(structure), objects_hw=numbers)
        got = Measured.from_json(json.loads(json.dumps(sent.to_json())))
        assert got.score.to_json() == sent.score.to_json()
        assert got.objects == sent.objects
        assert got.foreground == sent.foreground
        assert all(map(math.isnan, [got.shape["assd"], sent.shape["assd"]]))


def test_objects_that_the_field_of_view_cuts_to_slivers_do_not_count():
    numbers = np.zeros((40, 40), np.int64)
    numbers[16:24, 16:24] = 1
    for number, row in enumerate(range(4, 36, 8), start=2):
        numbers[row : row + 6, 4:11] = number  # a column of 6 pixels in the view
    inside = np.zeros(numbers.shape, bool)
    inside[:, 10:] = True
    truth = (numbers > 0).astype(np.uint8)
    prob = np.where(inside & (numbers > 0), np.float32(1), 0)[:, :, None]

    asked = decision("objects", 0.5, 0.5, min_object=16)
    perfect = measure("a", prob, truth, inside, asked, objects_hw=numbers)
    assert perfect.shape["ap_50"] == perfect.shape["aji"] == perfect.shape["foreground_dice"] == 1
    assert perfect.objects.true == 1
    # Nor is one false that was found on slivers, where it has no more than they.
    prob[4:6, 10:20] = 1
    assert measure("a", prob, truth, inside, asked, objects_hw=numbers).objects.predicted == 2
    prob[4:6, 13:20] = 0
    assert measure("a", prob, truth, inside, asked, objects_hw=numbers).objects.predicted == 1
    far = np.where(numbers == 1, 3_000_000_000, numbers)  # a file may number them as it likes
    assert measure("a", prob, truth, inside, asked, objects_hw=far).objects.true == 1
    tiny = decision("objects", 0.5, 0.5, min_object=6)
    assert measure("a", prob, truth, inside, tiny, objects_hw=numbers).objects.true == 5


def example(truth):
    return Example(np.zeros((*truth.shape, 1), np.float32), truth, np.ones(truth.shape, bool))


def test_the_depth_of_cells_is_the_best_on_validation_images():
    truth = np.zeros((21, 41), np.uint8)
    truth[:, 20] = 1
    gap, bridge = (np.float32(0.81) * truth[:, :, None] for _ in range(2))
    gap[10, 20] = 0.09  # divided up to a depth of 0.3
    bridge[:, 30] = 0.0225  # splits a cell up to a depth of 0.15

    verdicts = [judge_cells(prob, example(truth), smoothing=0) for prob in (gap, bridge)]

    assert choose("partition", verdicts) == 0.2
    assert len(verdicts[0]) == len(DEPTHS)


def test_images_without_cells_have_no_vote():
    nan = [math.nan] * len(DEPTHS)
    best = [float(number == 4) for number in range(len(DEPTHS))]
    assert choose("partition", [nan, best]) == DEPTHS[4]
    assert choose("partition", [nan]) == DEFAULT_DEPTH


def test_images_without_objects_vote_against_finding_some():
    count = len(PROBABILITIES)
    crowded = [0.8] * 6 + [0.79] * (count - 6)
    empty = [0.0] * 6 + [math.nan] * (count - 6)  # nothing is found from there on
    assert choose("objects", [crowded]) == PROBABILITIES[0]
    assert choose("objects", [crowded, empty]) == PROBABILITIES[6]
    for nothing in ([empty], [[0.0] * count], [empty, [0.0] * count]):
        assert choose("objects", nothing) == DEFAULT_PROBABILITY
    assert choose("objects", [[math.nan] * count]) == DEFAULT_PROBABILITY


def test_the_threshold_of_objects_is_that_of_the_best_ap():
    # Of two true objects of 10 pixels the second one loses 2 above 0.66, and gains 10 below it:
    # an IoU of 0.8, or of 10 / 20, which is not above a half.
    truth = np.zeros((3, 40), np.int64)
    truth[1, 2:12], truth[1, 20:30] = 1, 2
    foreground = np.zeros((3, 40), np.float32)
    foreground[1, 2:12] = 0.98
    foreground[1, 20:40] = 0.66
    foreground[1, 22:30] = 0.98
    prob = np.stack([1 - foreground, foreground, 0 * foreground], axis=2)
    native = example((truth > 0).astype(np.uint8))

    scores = judge_objects(prob, native, truth, min_size=0)

    by_probability = dict(zip(PROBABILITIES, scores, strict=True))
    assert by_probability[0.65] == pytest.approx(1 / 3)  # one found, one missed, one too much
    assert by_probability[0.7] == 1
    assert choose("objects", [scores]) == 0.7
    assert choose("objects", [[math.nan] * len(PROBABILITIES)]) == DEFAULT_PROBABILITY


def dataset_of(tmp_path: Path, layout: str, kind: str) -> Dataset:
    return Dataset(
        config=config(f"data.format={layout}", f"data.root={tmp_path}").data,
        coding=coding(kind),
        splits=Splits(train=(), val=(), test=()),
        cache=ImageCache(0),
    )


@pytest.mark.parametrize(
    ("layout", "first", "second"),
    [
        ("chasedb1", "Image_01L_1stHO.png", "Image_01L_2ndHO.png"),
        ("drive", "test/1st_manual/01_manual1.gif", "test/2nd_manual/01_manual2.gif"),
        ("stare", "labels-ah/im0001.ah.ppm", "labels-vk/im0001.vk.ppm"),
    ],
)
def test_the_other_observers_mask_is_found_from_either(tmp_path, layout, first, second):
    from PIL import Image

    drawn = {first: [[0, 255], [0, 0]], second: [[0, 255], [255, 0]]}
    for name, pixels in drawn.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(pixels, np.uint8)).save(tmp_path / name)
    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(image)
    dataset = dataset_of(tmp_path, layout, "binary")

    def other(name):
        ref = ImageRef(path=tmp_path / name)
        sample = Sample(id="a", group="a", image=ImageRef(path=image), mask=ref)
        return dataset.read_other_observer(sample)

    assert other(first).tolist() == [[0, 1], [1, 0]]
    assert other(second).tolist() == [[0, 1], [0, 0]]
    Image.fromarray(np.zeros((3, 2), np.uint8)).save(tmp_path / second)
    with pytest.raises(UserError, match=r"2 x 2 pixels but its mask 3 x 2 \(height"):
        other(first)
    (tmp_path / second).unlink()
    assert other(first) is None


def test_data_sets_with_one_observer_have_no_other(tmp_path):
    ref = ImageRef(path=tmp_path / "Image_01L_1stHO.png")
    sample = Sample(id="a", group="a", image=ref, mask=ref)
    assert dataset_of(tmp_path, "folder", "binary").read_other_observer(sample) is None


def test_object_numbers_are_read_as_they_are(tmp_path):
    from PIL import Image

    numbers = np.array([[0, 300], [65535, 1]], np.uint16)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    ref = ImageRef(path=tmp_path / "a.png")
    sample = Sample(id="a", group="a", image=ref, mask=ref)
    read = dataset_of(tmp_path, "labelmap", "instances").read_objects(sample)
    assert np.array_equal(read, numbers)
    assert np.array_equal(read, read_indices(ref))
