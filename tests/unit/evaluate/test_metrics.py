import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from unet_dist.data.sample import IGNORE
from unet_dist.errors import UserError
from unet_dist.evaluate.bins import BIN_STARTS, FIRST_BIN, NUM_BINS, STEPS
from unet_dist.evaluate.curves import (
    CALIBRATION_BINS,
    auc,
    average_precision,
    calibration_curve,
    calibration_error,
)
from unet_dist.evaluate.metrics import (
    ImageScore,
    class_qualities,
    confusions,
    hard_prediction,
    mean_defined,
    pool,
    quality,
    score_image,
)
from unet_dist.evaluate.thresholds import (
    choose_threshold,
    dice_by_threshold,
    snap_threshold,
    threshold_curve,
)


def scored(prob, target, *, fov=None, sample_id="a"):
    """Scores one row of pixels; ``prob`` is a value, or a value per class, for each."""
    target_hw = np.array([target], np.uint8)
    fov_hw = np.ones(target_hw.shape, bool) if fov is None else np.array([fov], bool)
    prob_hwk = np.array([prob], np.float32).reshape(1, len(target), -1)
    return score_image(sample_id, prob_hwk, target_hw, fov_hw)


def random_scores(num_images, *, seed=0, size=(20, 30)):
    generator = np.random.default_rng(seed)
    result = []
    for number in range(num_images):
        target_hw = (generator.random(size) < 0.2).astype(np.uint8)
        noise_hw = generator.normal(0, 0.3, size)
        prob_hw = np.clip(0.3 + 0.4 * target_hw + noise_hw, 0, 1).astype(np.float32)
        fov_hw = generator.random(size) < 0.9
        result.append(score_image(f"image-{number}", prob_hw[..., None], target_hw, fov_hw))
    return result


@st.composite
def pixels(draw, classes=1):
    count = draw(st.integers(1, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if classes == 1:
        prob_nk = generator.random((count, 1)) ** draw(st.sampled_from([1, 4]))
        target = generator.integers(0, 2, count)
    else:
        prob_nk = generator.dirichlet(np.ones(classes), count)
        target = generator.integers(0, classes, count)
    target[generator.random(count) < 0.1] = IGNORE
    return prob_nk.astype(np.float32), target, generator.random(count) < 0.8


def test_the_metrics_of_a_small_image_are_those_computed_by_hand():
    #               tp   tp   fn   fp   tn   tn   tn  ignored outside
    prob = [0.9, 0.8, 0.1, 0.7, 0.2, 0.3, 0.0, 0.9, 0.9]
    target = [1, 1, 1, 0, 0, 0, 0, IGNORE, 0]
    fov = [1, 1, 1, 1, 1, 1, 1, 1, 0]

    got = quality(scored(prob, target, fov=fov).counts, 0.5)

    assert got.dice == 2 * 2 / (2 * 2 + 1 + 1)
    assert got.iou == 2 / 4
    assert got.sensitivity == 2 / 3
    assert got.specificity == 3 / 4
    assert got.accuracy == 5 / 7
    # Of 3 x 4 pairs, 0.9 and 0.8 win all four, 0.1 wins only against 0.0.
    assert got.auc == pytest.approx(9 / 12, abs=1e-15)


@settings(deadline=None, max_examples=60)
@given(drawn=pixels(), bin_number=st.integers(1, STEPS - 1))
def test_binary_metrics_agree_with_scikit_learn(drawn, bin_number):
    prob, target, fov = drawn
    threshold = bin_number / STEPS
    counted = fov & (target != IGNORE)
    truth, decided = target[counted], prob[counted, 0] >= np.float32(threshold)

    [got] = confusions(scored(prob, target, fov=fov).counts, threshold)

    if counted.any():
        expected = reference.confusion_matrix(truth, decided, labels=[0, 1])
        assert [[got.tn, got.fp], [got.fn, got.tp]] == expected.tolist()
        assert got.dice == pytest.approx(
            reference.f1_score(truth, decided, zero_division=np.nan), abs=1e-12, nan_ok=True
        )
        assert got.iou == pytest.approx(
            reference.jaccard_score(truth, decided, zero_division=0)
            if (truth.any() or decided.any())
            else math.nan,
            abs=1e-12,
            nan_ok=True,
        )
    else:
        assert math.isnan(got.dice)


@settings(deadline=None, max_examples=60)
@given(drawn=pixels())
def test_auc_of_the_binned_probabilities_agrees_with_scikit_learn(drawn):
    prob, target, fov = drawn
    counted = fov & (target != IGNORE)
    truth = target[counted]
    binned = np.digitize(prob[counted, 0], BIN_STARTS)

    got = quality(scored(prob, target, fov=fov).counts, 0.5).auc

    if len(set(truth.tolist())) < 2:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(reference.roc_auc_score(truth, binned), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(drawn=pixels(), bin_number=st.integers(1, STEPS - 1))
def test_precision_and_average_precision_agree_with_scikit_learn(drawn, bin_number):
    prob, target, fov = drawn
    counted = fov & (target != IGNORE)
    truth = target[counted]
    binned = np.digitize(prob[counted, 0], BIN_STARTS)

    got = quality(scored(prob, target, fov=fov).counts, bin_number / STEPS)

    if truth.any():
        expected = reference.average_precision_score(truth, binned)
        assert got.average_precision == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(got.average_precision)
    decided = prob[counted, 0] >= np.float32(bin_number / STEPS)
    if decided.any():
        expected = reference.precision_score(truth, decided, zero_division=0)
        assert got.precision == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(got.precision)


@settings(deadline=None, max_examples=40)
@given(drawn=pixels())
def test_the_calibration_error_is_that_of_the_pixels_one_by_one(drawn):
    prob, target, fov = drawn
    counted = fov & (target != IGNORE)
    truth, p = target[counted], prob[counted, 0].astype(np.float64)

    got = quality(scored(prob, target, fov=fov).counts, 0.5).calibration_error

    if not len(p):
        assert math.isnan(got)
        return
    expected = 0.0
    for number in range(CALIBRATION_BINS):
        low, high = np.float32(number / CALIBRATION_BINS), np.float32((number + 1) / 20)
        inside = (prob[counted, 0] >= low) & (prob[counted, 0] < high)
        if inside.any():
            expected += inside.mean() * abs(p[inside].mean() - truth[inside].mean())
    assert got == pytest.approx(expected, abs=0.5 / STEPS + 1e-9)


def test_a_calibrated_probability_has_no_calibration_error_and_a_sure_mistake_has_1():
    positive, negative = np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64)
    # A bin whose middle is 0.2745.
    positive[FIRST_BIN[274]], negative[FIRST_BIN[274]] = 2745, 7255
    assert calibration_error(positive, negative) == pytest.approx(0, abs=1e-8)
    wrong = np.zeros(NUM_BINS, np.int64)
    wrong[-1] = 10
    assert calibration_error(np.zeros(NUM_BINS, np.int64), wrong) == 1


def test_average_precision_of_a_small_ranking_is_that_computed_by_hand():
    # From the top: right, wrong, right, wrong.
    counts = scored([0.9, 0.7, 0.5, 0.3], [1, 0, 1, 0]).counts
    got = average_precision(counts.positive_fb[0], counts.negative_fb[0])
    assert got == pytest.approx((1 + 2 / 3) / 2)


@settings(deadline=None, max_examples=40)
@given(drawn=st.one_of(pixels(), pixels(classes=3)))
def test_dice_with_background_is_the_mean_of_all_classes_and_soft_dice_mindspores(drawn):
    prob, target, fov = drawn
    counted = fov & (target != IGNORE)
    truth, p_nk = target[counted], prob[counted].astype(np.float64)
    several = p_nk.shape[1] > 1
    decided = p_nk.argmax(axis=1) if several else (p_nk[:, 0] >= np.float32(0.5)).astype(int)
    if not several:
        p_nk = np.concatenate([1 - p_nk, p_nk], axis=1)
    y_nk = np.eye(p_nk.shape[1])[truth]

    got = quality(scored(prob, target, fov=fov).counts, None if several else 0.5)

    if not len(truth):
        assert math.isnan(got.soft_dice_with_background)
        return
    present = sorted({*truth.tolist(), *decided.tolist()})
    expected = reference.f1_score(truth, decided, labels=present, average="macro", zero_division=0)
    assert got.dice_with_background == pytest.approx(expected, abs=1e-12)
    soft = 2 * (p_nk * y_nk).sum() / ((p_nk**2).sum() + (y_nk**2).sum())
    assert got.soft_dice_with_background == pytest.approx(soft, abs=1e-6)


def test_the_soft_dice_of_a_hard_mask_is_the_pixel_accuracy():
    got = quality(scored([1.0, 1.0, 0.0, 0.0, 0.0], [1, 0, 1, 0, 0]).counts, 0.5)
    assert got.soft_dice_with_background == got.accuracy == 3 / 5


@pytest.mark.parametrize(
    ("apart", "spread", "share"), [(6, 4, 0.1), (10, 8, 0.1), (20, 12, 0.1), (8, 5, 0.5)]
)
def test_curves_of_a_network_that_is_always_sure_are_those_of_the_raw_probabilities(
    apart, spread, share
):
    generator = np.random.default_rng(0)
    target = (generator.random((200, 500)) < share).astype(np.uint8)
    logit = apart * (2.0 * target - 1) + spread * generator.normal(size=target.shape)
    prob = (1 / (1 + np.exp(-logit))).astype(np.float32)
    assert np.mean((prob < 0.001) | (prob > 0.999)) > 0.4

    score = score_image("a", prob[..., None], target, np.ones(target.shape, bool))
    got = quality(score.counts, 0.5)

    truth, raw = target.ravel(), prob.ravel()
    assert got.auc == pytest.approx(reference.roc_auc_score(truth, raw), abs=0.0001)
    expected = reference.average_precision_score(truth, raw)
    assert got.average_precision == pytest.approx(expected, abs=0.0005)


def test_every_threshold_starts_a_bin():
    assert (BIN_STARTS[FIRST_BIN] == (np.arange(STEPS) / STEPS).astype(np.float32)).all()
    assert (np.diff(BIN_STARTS) > 0).all()
    assert (BIN_STARTS[0], BIN_STARTS[-1], len(BIN_STARTS)) == (0, 1, NUM_BINS)
    assert BIN_STARTS.dtype == np.float32


def test_a_tie_is_half_a_win():
    histogram = np.zeros(NUM_BINS, np.int64)
    histogram[400] = 7
    assert auc(histogram, histogram) == 0.5


def test_auc_of_a_pool_too_large_for_64_bit_pairs_is_exact():
    positive, negative = np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64)
    positive[[100, 900]] = 10**11, 3 * 10**11
    negative[[200, 800]] = 10**11, 10**11
    assert auc(positive, negative) == 0.75


@settings(deadline=None, max_examples=60)
@given(drawn=pixels(classes=4))
def test_multi_class_metrics_agree_with_scikit_learn(drawn):
    prob, target, fov = drawn
    counted = fov & (target != IGNORE)
    truth, decided = target[counted], prob[counted].argmax(axis=1)
    counts = scored(prob, target, fov=fov).counts

    by_class = class_qualities(counts, None)

    assert len(by_class) == 3
    for number, got in enumerate(by_class, start=1):
        present = (truth == number).any() or (decided == number).any()
        expected = math.nan
        if present:
            expected = reference.f1_score(truth == number, decided == number, zero_division=0)
        assert got.dice == pytest.approx(expected, abs=1e-12, nan_ok=True)
    if counted.any():
        assert quality(counts, None).accuracy == reference.accuracy_score(truth, decided)


def test_dice_of_several_classes_is_the_mean_over_those_present():
    #       background, class 1 right, class 1 taken for 2; class 3 is nowhere
    prob = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1]]

    counts = scored(prob, [0, 1, 1]).counts

    dice = [one.dice for one in class_qualities(counts, None)]
    assert dice[:2] == [2 / 3, 0]
    assert math.isnan(dice[2])
    assert quality(counts, None).dice == 1 / 3


def test_two_softmax_outputs_count_like_one_sigmoid():
    probability = np.array([0.1, 0.6, 0.9], np.float32)
    both = np.stack([1 - probability, probability], axis=1)

    one, two = scored(probability, [0, 0, 1]), scored(both, [0, 0, 1])

    assert one.to_json() == two.to_json()
    assert one.counts.squared_probability == two.counts.squared_probability
    assert hard_prediction(both[None], 0.5).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("truth_everywhere", [0, 1])
def test_metrics_that_are_not_defined_are_nan_not_0_or_1(truth_everywhere):
    nothing = quality(scored([0.1, 0.2], [0, 0]).counts, 0.5)
    assert math.isnan(nothing.dice)
    assert math.isnan(nothing.iou)
    assert math.isnan(nothing.sensitivity)
    assert nothing.specificity == nothing.accuracy == 1

    one_class = quality(scored([0.9, 0.2], [truth_everywhere] * 2).counts, 0.5)
    assert math.isnan(one_class.auc)

    outside = quality(scored([0.9, 0.2], [truth_everywhere] * 2, fov=[0, 0]).counts, 0.5)
    assert math.isnan(outside.accuracy)


def test_foreground_that_is_not_there_has_dice_0():
    assert quality(scored([0.9, 0.2], [0, 0]).counts, 0.5).dice == 0


def test_a_probability_at_a_threshold_is_foreground_as_in_the_written_mask():
    for bin_number in range(1, STEPS):
        threshold = bin_number / STEPS
        at = np.float32(threshold)
        below = np.nextafter(at, np.float32(0))

        [got] = confusions(scored([at, below], [1, 1]).counts, threshold)

        assert (got.tp, got.fn) == (1, 1), threshold
        prob_hwk = np.array([[[at], [below]]], np.float32)
        assert hard_prediction(prob_hwk, threshold).tolist() == [[1, 0]], threshold


def test_probabilities_a_little_outside_0_to_1_are_clipped():
    counts = scored([1.0000001, -0.0000001, 1.0, 0.0], [1, 1, 1, 1]).counts
    assert counts.positive_fb[0, [0, -1]].tolist() == [2, 2]


def test_a_network_that_gives_nan_is_reported_with_the_sample():
    with pytest.raises(UserError, match=r"sample eye-7: .*not a number at 1 of 2 pixels"):
        scored([0.5, math.nan], [0, 1], sample_id="eye-7")


@settings(deadline=None, max_examples=40)
@given(drawn=pixels(classes=3), cut=st.floats(0, 1))
def test_counts_of_two_halves_add_up_to_those_of_the_whole(drawn, cut):
    prob, target, fov = drawn
    middle = round(cut * len(target))
    whole = scored(prob, target, fov=fov)
    halves = [
        scored(prob[part], target[part], fov=fov[part])
        for part in (slice(middle), slice(middle, None))
        if len(target[part])
    ]

    total = pool(halves)

    assert np.array_equal(total.positive_fb, whole.counts.positive_fb)
    assert np.array_equal(total.negative_fb, whole.counts.negative_fb)
    assert np.array_equal(total.matrix_kk, whole.counts.matrix_kk)
    assert total.true_probability == pytest.approx(whole.counts.true_probability)
    assert total.squared_probability == pytest.approx(whole.counts.squared_probability)


@settings(deadline=None, max_examples=40)
@given(drawn=st.one_of(pixels(), pixels(classes=3)), name=st.text(max_size=9))
def test_a_score_survives_the_way_to_another_rank(drawn, name):
    prob, target, fov = drawn
    sent = scored(prob, target, fov=fov, sample_id=name)

    got = ImageScore.from_json(json.loads(json.dumps(sent.to_json())))

    assert (got.id, got.height, got.width) == (sent.id, sent.height, sent.width)
    assert np.array_equal(got.counts.positive_fb, sent.counts.positive_fb)
    assert np.array_equal(got.counts.negative_fb, sent.counts.negative_fb)
    assert got.counts.positive_fb.dtype == np.int64
    assert got.to_json() == sent.to_json()
    if sent.counts.matrix_kk is None:
        assert got.counts.matrix_kk is None
    else:
        assert np.array_equal(got.counts.matrix_kk, sent.counts.matrix_kk)


def test_the_bytes_of_a_confident_score_are_few():
    assert len(json.dumps(scored([0.0, 1.0], [0, 1]).to_json())) < 180


def test_the_mean_leaves_out_what_is_not_defined_and_says_how_much_is_left():
    assert mean_defined([0.5, math.nan, 0.7]) == (pytest.approx(0.6), 2)
    mean, count = mean_defined([math.nan])
    assert math.isnan(mean)
    assert count == 0


def test_the_chosen_threshold_has_the_best_mean_dice_of_all():
    scores = random_scores(5)

    chosen = choose_threshold(scores)

    means = [
        mean_defined(quality(score.counts, number / STEPS).dice for score in scores)[0]
        for number in range(1, STEPS)
    ]
    assert mean_defined(quality(one.counts, chosen).dice for one in scores)[0] == max(means)
    assert dice_by_threshold(scores)[1:] == pytest.approx(means, abs=1e-12)


def test_of_equally_good_thresholds_the_middle_of_the_longest_run_is_chosen():
    # Everything from bin 200 + 1 to 600 separates the two pixels.
    assert choose_threshold([scored([0.2, 0.6], [0, 1])]) == (201 + 600) // 2 / STEPS
    assert choose_threshold([scored([0.0, 1.0], [0, 1])]) == 0.5


def test_the_chosen_threshold_does_not_depend_on_the_order_of_the_images():
    scores = random_scores(7)
    assert choose_threshold(scores) == choose_threshold(scores[::-1])


def test_the_curve_that_is_kept_has_the_dice_at_its_thresholds():
    empty = scored([0.1], [0], sample_id="empty")
    curve = threshold_curve([scored([0.2, 0.6], [0, 1]), empty])
    assert [threshold for threshold, _ in curve] == [n / 50 for n in range(1, 50)]
    # From 0.02 to 0.1 the empty image counts, with Dice 0; up to 0.2 one of two pixels is wrong.
    dice = dict(map(tuple, curve))
    assert dice[0.1] == pytest.approx(2 / 3 / 2, abs=1e-5)
    assert dice[0.2] == pytest.approx(2 / 3, abs=1e-5)
    assert (dice[0.4], dice[0.6], dice[0.62]) == (1, 1, 0)
    assert {dice for _, dice in threshold_curve([empty])[10:]} == {None}
    assert threshold_curve([]) == []


def test_the_calibration_curve_has_what_each_bin_promised_and_what_came():
    # Bins 0.5 to 0.55 with two pixels, one true, and 0.95 to 1 with one.
    counts = scored([0.5, 0.52, 0.99], [0, 1, 1]).counts
    curve = calibration_curve(counts.positive_fb[0], counts.negative_fb[0])
    half_a_bin = 0.5 / STEPS
    assert curve[0] == (pytest.approx(0.51, abs=half_a_bin), 0.5)
    assert curve[1] == (pytest.approx(0.99, abs=half_a_bin), 1)
    assert len(curve) == 2


def test_images_without_foreground_count_against_a_low_threshold():
    empty = scored([0.3, 0.1], [0, 0], sample_id="empty")
    full = scored([0.2, 0.2], [1, 1], sample_id="full")
    # At 0.2 and below, full has Dice 1 and empty 0; above 0.3, full has 0 and empty none.
    assert dice_by_threshold([empty, full])[[150, 250, 350]].tolist() == [0.5, 0, 0]
    assert choose_threshold([empty, full]) == (1 + 200) // 2 / STEPS


def test_without_any_foreground_there_is_nothing_to_learn_a_threshold_from():
    assert choose_threshold([scored([0.9, 0.2], [0, 0])]) == 0.5


def test_several_classes_have_no_threshold():
    score = scored([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], [0, 2])
    assert choose_threshold([score]) is None
    assert hard_prediction(np.array([[[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]]), None).tolist() == [
        [0, 2]
    ]


@pytest.mark.parametrize(
    ("asked", "used"), [(0.4567, 0.457), (0.00001, 0.001), (0.99999, 0.999), (0.5, 0.5)]
)
def test_a_threshold_from_the_configuration_becomes_a_bin_edge(asked, used):
    assert snap_threshold(asked) == used
