import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from unet_dist.evaluate.objects import THRESHOLDS, find_objects, object_score, pool_objects


def discs(seed, size=40, count=6):
    """Numbered discs, some of them hidden by later ones."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    image = np.zeros((size, size), np.int32)
    for number in range(1, generator.integers(0, count + 1) + 1):
        row, column = generator.uniform(0, size, 2)
        radius = generator.uniform(2, 8)
        # Numbers with gaps, as files have them.
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 3 * number
    return image


def shaken(objects, seed):
    generator = np.random.default_rng(seed)
    shift = generator.integers(-2, 3, 2)
    moved = np.roll(objects, shift, (0, 1))
    moved[moved == 3 * generator.integers(1, 4)] = 0
    return moved


def masks_of(image):
    return [image == number for number in np.unique(image) if number]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_average_precision_is_that_of_the_best_assignment(seed):
    true, predicted = discs(seed), shaken(discs(seed), seed)
    iou = np.array(
        [[(t & p).sum() / (t | p).sum() for p in masks_of(predicted)] for t in masks_of(true)]
    ).reshape(len(masks_of(true)), len(masks_of(predicted)))

    got = object_score(true, predicted)

    expected = []
    for threshold in THRESHOLDS:
        rows, columns = linear_sum_assignment(-(iou > threshold).astype(float))
        tp = int((iou[rows, columns] > threshold).sum())
        total = sum(iou.shape) - tp
        expected.append(tp / total if total else math.nan)
    measured = [got.average_precision(number) for number in range(len(THRESHOLDS))]
    assert measured == pytest.approx(expected, nan_ok=True)
    assert got.mean_average_precision == pytest.approx(np.mean(expected), nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_the_aggregated_jaccard_index_is_that_of_the_paper(seed):
    true, predicted = masks_of(discs(seed)), masks_of(shaken(discs(seed), seed))
    intersection, union, used = 0, 0, set()
    for t in true:
        candidates = [(((t & p).sum() / (t | p).sum()), k) for k, p in enumerate(predicted)]
        best = max(candidates, key=lambda pair: (pair[0], -pair[1]), default=(0, 0))
        if best[0] == 0:
            union += t.sum()
        else:
            intersection += (t & predicted[best[1]]).sum()
            union += (t | predicted[best[1]]).sum()
            used.add(best[1])
    union += sum(p.sum() for k, p in enumerate(predicted) if k not in used)

    got = object_score(discs(seed), shaken(discs(seed), seed)).aji

    assert got == pytest.approx(intersection / union if union else math.nan, nan_ok=True)


def test_an_overlap_of_exactly_one_half_is_not_found():
    true, predicted = np.zeros((1, 8), int), np.zeros((1, 8), int)
    true[0, :4], predicted[0, :2] = 1, 1
    assert object_score(true, predicted).average_precision() == 0
    predicted[0, :3] = 1
    score = object_score(true, predicted)
    assert [score.average_precision(n) for n in (0, 4, 5)] == [1, 1, 0]  # 0.5, 0.7, 0.75
    assert score.aji == 3 / 4


def test_what_is_missed_or_made_up_counts_and_nothing_at_all_is_undefined():
    nothing, one = np.zeros((5, 5), int), np.eye(5, dtype=int)
    assert object_score(one, nothing).average_precision() == 0
    assert object_score(nothing, one).aji == object_score(one, nothing).aji == 0
    assert math.isnan(object_score(nothing, nothing).average_precision())
    assert math.isnan(object_score(nothing, nothing).aji)
    assert object_score(np.ones((2, 2), int), np.ones((2, 2), int)).aji == 1  # no background


def test_a_pool_counts_the_objects_of_all_images():
    right, wrong = np.array([[5, 5, 0, 7]]), np.array([[5, 5, 0, 0]])
    pooled = pool_objects([object_score(right, right), object_score(right, wrong)])
    assert pooled.average_precision() == 3 / 4
    assert pooled.aji == 5 / 6


def three_classes(inside, border):
    """Probabilities of background, inside and border from two masks."""
    prob = np.full((*inside.shape, 3), 0.05, np.float32)
    prob[:, :, 0] = np.where(inside | border, 0.05, 0.9)
    prob[:, :, 1] = np.where(inside, 0.9, 0.05)
    prob[:, :, 2] = np.where(border, 0.9, 0.05)
    return prob


def test_touching_objects_are_told_apart_by_their_border_and_grow_over_it():
    inside, border = np.zeros((9, 20), bool), np.zeros((9, 20), bool)
    border[1:8, 1:19] = True
    inside[2:7, 2:9] = inside[2:7, 11:18] = True
    border &= ~inside

    objects = find_objects(three_classes(inside, border), 0.5, min_size=0)

    assert sorted(np.unique(objects)) == [0, 1, 2]
    assert (objects > 0).sum() == 7 * 18
    assert objects[4, 9] == objects[4, 5] != objects[4, 10] == objects[4, 15]


def test_a_gap_in_the_border_does_not_join_round_objects():
    rows, columns = np.mgrid[:30, :50]
    discs = [(rows - 15) ** 2 + (columns - c) ** 2 < 10**2 for c in (14, 34)]
    inside = discs[0] | discs[1]
    inside[14:17, 20:30] = True  # a bridge where the border was missed
    border = np.zeros_like(inside)

    for prob in (three_classes(inside, border), np.float32(0.9) * inside[..., None]):
        objects = find_objects(prob, 0.5, min_size=16)
        assert np.unique(objects).tolist() == [0, 1, 2]
        assert objects[15, 14] != objects[15, 34]


def test_objects_that_touch_are_told_apart_where_the_inside_is_less_certain():
    """A bar of one width, so that distances alone have no saddle."""
    prob = np.zeros((15, 47, 3), np.float32)
    prob[:, :, 0] = 1
    prob[3:12, 3:44] = 0.02, 0.96, 0.02
    assert find_objects(prob, 0.5, min_size=0).max() == 1
    prob[3:12, 22:25] = 0.1, 0.5, 0.4
    objects = find_objects(prob, 0.5, min_size=0)
    assert objects.max() == 2
    assert (objects[3:12, 3:22] == objects[7, 3]).all()
    assert (objects[3:12, 25:44] == objects[7, 43]).all()


@pytest.mark.parametrize("radius", [6, 12, 24, 48])
@pytest.mark.parametrize(("distance", "number"), [(0.8, 1), (1.6, 2)])
def test_objects_of_every_size_are_divided_alike(radius, distance, number):
    """At a distance of 0.8 radii the larger ones have saddles of several pixels."""
    assert find_objects(two_discs(radius, distance), 0.5, min_size=0).max() == number


def test_the_largest_objects_are_divided_as_if_they_were_smaller(monkeypatch):
    monkeypatch.setattr("unet_dist.evaluate.objects.LARGEST_DIAMETER", 24.0)
    assert find_objects(two_discs(48, 0.8), 0.5, min_size=0).max() == 2
    assert find_objects(two_discs(12, 0.8), 0.5, min_size=0).max() == 1


def two_discs(radius, distance):
    """Probabilities of the foreground.

    Args:
        distance: of the centres, in radii.
    """
    rows, columns = np.mgrid[: 3 * radius, : 5 * radius]
    centres = (1.5 * radius, (1.5 + distance) * radius)
    discs = [(rows - 1.5 * radius) ** 2 + (columns - c) ** 2 < radius**2 for c in centres]
    return np.float32(0.9) * (discs[0] | discs[1])[..., None]


def test_a_part_of_the_inside_too_thin_for_a_peak_is_still_an_object():
    inside, border = np.zeros((9, 30), bool), np.zeros((9, 30), bool)
    inside[4, 2:12] = inside[4, 14:24] = True
    border[3:6, 1:25] = True
    border &= ~inside
    objects = find_objects(three_classes(inside, border), 0.5, min_size=0)
    assert len(np.unique(objects)) == 3


def test_foreground_without_an_inside_is_an_object_of_its_own_unless_it_is_too_small():
    inside, border = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    inside[1:5, 1:5] = True
    border[8:10, 8:10] = True
    prob = three_classes(inside, border)
    assert np.unique(find_objects(prob, 0.5, min_size=4)).tolist() == [0, 1, 2]
    assert np.unique(find_objects(prob, 0.5, min_size=5)).tolist() == [0, 1]
    assert (find_objects(prob, 0.5, min_size=5)[8:10, 8:10] == 0).all()
    assert not find_objects(prob, 0.5, min_size=17).any()
    assert not find_objects(prob, 0.96, min_size=0).any()


def test_with_one_foreground_class_each_4_connected_region_is_an_object():
    prob = np.zeros((4, 4, 1), np.float32)
    prob[0, 0] = prob[1, 1] = prob[1, 2] = 0.7
    assert find_objects(prob, 0.5, min_size=0).max() == 2
    assert find_objects(prob, 0.8, min_size=0).max() == 0
    assert (find_objects(np.ones((4, 5, 1), np.float32), 0.5, min_size=0) == 1).all()
