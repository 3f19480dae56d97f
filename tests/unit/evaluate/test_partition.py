import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import adapted_rand_error, variation_of_information

from unet_dist.evaluate.partition import (
    PartitionScore,
    partition_score,
    predicted_cells,
    true_cells,
)


def cells_of(membrane, depth, *, smoothing):
    return predicted_cells(membrane, np.ones(membrane.shape, bool), depth, smoothing=smoothing)


def regions(seed, size=(15, 17), numbers=5, background=True):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0 if background else 1, numbers, (5, 6))
    return np.kron(coarse, np.ones((3, 3), int))[: size[0], : size[1]].astype(np.int32)


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 10**6))
def test_v_rand_and_v_info_agree_with_scikit_image(seed):
    truth, predicted = regions(seed), regions(seed + 1, background=False)
    inside = truth > 0
    if not inside.any():
        return

    got = partition_score(truth, predicted)

    # scikit-image leaves the label 0 of the truth out, as foreground-restricted means.
    error, of_truth, of_prediction = adapted_rand_error(truth, predicted)
    # It counts pairs of different pixels: of n pixels, sum (p n)^2 - n instead of sum (p n)^2.
    n = int(inside.sum())
    numbers = [np.unique(x[inside], return_counts=True)[1] for x in (truth, predicted)]
    pairs_t, pairs_s = (int((count**2).sum()) for count in numbers)
    same = got.v_rand_split * pairs_t
    assert same == pytest.approx(got.v_rand_merge * pairs_s)
    assert (same - n) / (pairs_t - n) == pytest.approx(of_truth)
    assert (same - n) / (pairs_s - n) == pytest.approx(of_prediction)
    assert 2 * (same - n) / (pairs_t + pairs_s - 2 * n) == pytest.approx(1 - error)
    h_split, h_merge = variation_of_information(truth[inside], predicted[inside])
    entropy_t, entropy_s = (_entropy(x[inside]) for x in (truth, predicted))
    information = entropy_t - h_merge
    assert information == pytest.approx(entropy_s - h_split, abs=1e-9)
    if entropy_t + entropy_s > 0:
        assert got.v_info == pytest.approx(2 * information / (entropy_t + entropy_s), abs=1e-9)
    if entropy_s > 0:
        assert got.v_info_split == pytest.approx(information / entropy_s, abs=1e-9)
    if entropy_t > 0:
        assert got.v_info_merge == pytest.approx(information / entropy_t, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_v_rand_is_the_share_of_pairs_of_pixels_that_agree(seed):
    truth, predicted = regions(seed)[:6, :7], regions(seed + 1, background=False)[:6, :7]
    t, s = truth[truth > 0], predicted[truth > 0]
    if not len(t):
        return
    same_t, same_s = t[:, None] == t, s[:, None] == s
    both = (same_t & same_s).sum()

    got = partition_score(truth, predicted)

    assert got.v_rand_split == pytest.approx(both / same_t.sum())
    assert got.v_rand_merge == pytest.approx(both / same_s.sum())
    assert got.v_rand == pytest.approx(2 * both / (same_t.sum() + same_s.sum()))


def test_splitting_hurts_the_split_part_and_merging_the_merge_part():
    two = np.repeat([[1, 1, 2, 2]], 4, axis=0)
    one, four = np.ones_like(two), np.repeat([[1, 2, 3, 4]], 4, axis=0)

    merged, split = partition_score(two, one), partition_score(two, four)

    assert (merged.v_rand_split, merged.v_rand_merge) == (1, 0.5)
    assert (split.v_rand_split, split.v_rand_merge) == (0.5, 1)
    assert merged.v_rand == split.v_rand == pytest.approx(2 / 3)
    assert (merged.v_info, merged.v_info_merge) == (0, 0)
    assert split.v_info_split == pytest.approx(1 / 2)
    assert split.v_info_merge == pytest.approx(1)
    assert split.v_info == pytest.approx(2 * 1 / 3)
    assert astuple(partition_score(two, two)) == pytest.approx((1,) * 6)
    assert astuple(partition_score(one, one)) == (1,) * 6


def test_an_image_of_membrane_only_has_no_score():
    nothing = partition_score(np.zeros((3, 3), np.int32), np.ones((3, 3), np.int32))
    assert isinstance(nothing, PartitionScore)
    assert all(map(math.isnan, astuple(nothing)))


@pytest.mark.parametrize("width", [1, 3, 9])
def test_the_width_of_a_predicted_membrane_does_not_matter(width):
    truth = np.zeros((21, 41), bool)
    truth[:, 20] = True
    wide = np.zeros((21, 41), np.float32)
    wide[:, 20 - width // 2 : 21 + width // 2] = 0.9
    wide[:, 20] = 1.0

    got = partition_score(true_cells(truth, np.ones_like(truth)), cells_of(wide, 0.5, smoothing=0))

    assert got.v_rand == got.v_info == 1


def test_regions_meet_on_the_ridge_of_the_membrane_not_in_the_middle():
    membrane = np.tile(np.float32([0, 0, 0.6, 0.9, 0.8, 0.7, 0.6, 0.6, 0, 0]), (5, 1))
    cells = cells_of(membrane, 0.1, smoothing=0)
    assert np.flatnonzero(np.diff(cells[2])).tolist() in ([2], [3])
    assert np.unique(cells).tolist() == [1, 2]


def test_the_corner_of_a_membrane_divides_since_cells_are_4_connected():
    membrane = np.eye(6, dtype=bool)
    everywhere = np.ones_like(membrane)
    assert true_cells(membrane, everywhere).max() == 2
    assert true_cells(membrane, membrane).max() == 0


def test_without_a_membrane_or_without_a_cell_the_image_is_one_region():
    for value in (0, 0.3, 1):
        flat = np.full((4, 5), value, np.float32)
        assert np.unique(cells_of(flat, 0.1, smoothing=1)).tolist() == [1]


def test_a_membrane_divides_if_its_root_stands_out_enough_from_both_cells():
    membrane = np.full((9, 30), 0.01, np.float32)  # root 0.1
    membrane[:, 9] = 0.09  # root 0.3
    membrane[:, 20], membrane[:, 21:] = 0.25, 0.16  # roots 0.5 and 0.4

    def count(depth):
        return cells_of(membrane, depth, smoothing=0).max()

    assert [count(depth) for depth in (0.05, 0.15, 0.25)] == [3, 2, 1]


def test_smoothing_closes_a_short_gap_which_would_merge_two_cells():
    membrane = np.zeros((31, 41), np.float32)
    membrane[:, 20] = 1
    membrane[15, 20] = 0
    assert cells_of(membrane, 0.1, smoothing=0).max() == 1
    closed = cells_of(membrane, 0.1, smoothing=2)
    assert closed.max() == 2
    assert (np.abs(np.diff(closed, axis=1)).sum(axis=1) == 1).all()


def test_the_corner_of_a_predicted_membrane_divides_too():
    assert cells_of(np.eye(8, dtype=np.float32), 0.1, smoothing=0).max() == 2


def _entropy(labels):
    shares = np.unique(labels, return_counts=True)[1] / labels.size
    return -(shares * np.log2(shares)).sum() if len(shares) > 1 else 0.0


@pytest.mark.parametrize("smoothing", [0, 2])
def test_cells_end_where_the_field_of_view_does(smoothing):
    truth = np.zeros((60, 60), bool)
    truth[:, 30] = True
    inside = np.zeros((60, 60), bool)
    inside[12:48, 12:48] = True
    # As a prediction is: background outside, so that both cells would meet there.
    membrane = np.where(inside, truth, 0).astype(np.float32)
    found = predicted_cells(membrane, inside, 0.1, smoothing=smoothing)
    assert np.unique(found[~inside]).tolist() == [0]
    got = partition_score(true_cells(truth, inside), found)
    assert got.v_rand == got.v_info == 1
    around = partition_score(
        true_cells(truth, inside), cells_of(membrane, 0.1, smoothing=smoothing)
    )
    assert around.v_rand < 0.8
