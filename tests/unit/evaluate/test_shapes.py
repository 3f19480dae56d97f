import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, directed_hausdorff
from skimage.morphology import skeletonize

from unet_dist.evaluate.shapes import cldice, surface_metrics


def blobs(seed, size=(24, 31)):
    generator = np.random.default_rng(seed)
    mask = np.zeros(size, bool)
    for _ in range(generator.integers(1, 5)):
        row, column = generator.integers(0, size[0]), generator.integers(0, size[1])
        height, width = generator.integers(1, 9, 2)
        mask[row : row + height, column : column + width] = True
    return mask


def outline_points(mask):
    """Pixels with one of 4 neighbours outside the mask, one by one."""
    points = []
    for row, column in np.argwhere(mask):
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1]
            if not inside or not mask[r, c]:
                points.append((row, column))
                break
    return np.array(points, float)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_surface_distances_are_those_of_all_pairs_of_outline_pixels(seed):
    truth, predicted = blobs(seed), blobs(seed + 1)
    one, two = outline_points(truth), outline_points(predicted)
    distances = cdist(one, two)
    to_two, to_one = distances.min(axis=1), distances.min(axis=0)

    hausdorff_95, assd = surface_metrics(truth, predicted)

    # MedPy's hd95 and assd.
    assert hausdorff_95 == pytest.approx(np.percentile(np.hstack([to_one, to_two]), 95))
    assert assd == pytest.approx(np.mean([to_one.mean(), to_two.mean()]))
    hausdorff = max(directed_hausdorff(one, two)[0], directed_hausdorff(two, one)[0])
    assert hausdorff_95 <= hausdorff + 1e-9
    assert surface_metrics(predicted, truth) == pytest.approx((hausdorff_95, assd))


def test_a_mask_moved_by_3_pixels_is_3_pixels_away():
    truth, moved = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    truth[5, 4:9], moved[8, 4:9] = True, True
    assert surface_metrics(truth, moved) == (3, 3)
    assert surface_metrics(truth, truth) == (0, 0)


def test_what_is_missed_altogether_is_a_diagonal_away_and_nothing_is_undefined():
    empty, full = np.zeros((30, 40), bool), np.ones((30, 40), bool)
    assert surface_metrics(full, empty) == surface_metrics(empty, full) == (50, 50)
    assert all(map(math.isnan, surface_metrics(empty, empty)))
    assert cldice(full, empty) == cldice(empty, full) == 0
    assert math.isnan(cldice(empty, empty))


def test_cldice_of_a_line_found_half_is_that_computed_by_hand():
    truth, half = np.zeros((9, 30), bool), np.zeros((9, 30), bool)
    truth[4, 3:23] = True
    half[4, 3:13] = True
    # The found half lies in the truth, and half of the truth's centre line is found.
    assert cldice(truth, half) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert cldice(truth, np.roll(truth, 3, axis=0)) == 0


def test_cldice_does_not_mind_the_width_of_a_vessel_but_a_gap():
    truth, wide, broken = (np.zeros((21, 60), bool) for _ in range(3))
    truth[9:12, 5:55] = True
    wide[7:14, 5:55] = True
    broken[9:12, 5:25] = broken[9:12, 35:55] = True
    assert cldice(truth, wide) > 0.95
    assert cldice(truth, broken) < 0.9


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_cldice_is_the_formula_of_the_paper(seed):
    truth, predicted = blobs(seed), blobs(seed + 1)
    skeleton_t, skeleton_p = skeletonize(truth), skeletonize(predicted)
    precision = (skeleton_p & truth).sum() / skeleton_p.sum()
    sensitivity = (skeleton_t & predicted).sum() / skeleton_t.sum()
    expected = 0.0
    if precision + sensitivity:
        expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert cldice(truth, predicted) == pytest.approx(expected)
