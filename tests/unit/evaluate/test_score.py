import dataclasses
import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_dist.evaluate.metrics import score_image
from unet_dist.evaluate.score import Protocol, shard, summarise, worst_and_best

PROTOCOL = Protocol(
    split="test", observer="first", fov="file", classes=2, resize=1.0, tile=256, overlap=0.25
)


def image_score(sample_id, prob, target):
    target_hw = np.array([target], np.uint8)
    prob_hwk = np.array([prob], np.float32).reshape(1, len(target), -1)
    return score_image(sample_id, prob_hwk, target_hw, np.ones(target_hw.shape, bool))


def random_scores(num_images, seed=0):
    generator = np.random.default_rng(seed)
    scores = []
    for number in range(num_images):
        target = (generator.random(200) < 0.3).astype(np.uint8)
        prob = np.clip(0.3 * target + generator.random(200) * 0.7, 0, 1)
        scores.append(image_score(f"image-{number:02d}", prob, target))
    return scores


def summary_of(scores, *, threshold=0.5, source="configured", **protocol):
    return summarise(
        scores,
        threshold=threshold,
        threshold_source=source,
        protocol=dataclasses.replace(PROTOCOL, **protocol),
    )


def test_the_mean_is_over_images_and_the_pool_over_pixels():
    # tp 1 fp 0 fn 0, and tp 1 fp 1 fn 2
    one = image_score("one", [0.9, 0.1], [1, 0])
    two = image_score("two", [0.9, 0.9, 0.1, 0.1], [1, 0, 1, 1])

    got = summary_of([one, two]).to_json()

    assert got["dice"] == (1 + 2 / 5) / 2
    assert got["iou"] == (1 + 1 / 4) / 2
    assert got["pooled"]["dice"] == 4 / 7
    assert got["pooled"]["sensitivity"] == 2 / 4
    assert [(one["id"], one["dice"]) for one in got["per_image"]] == [("one", 1.0), ("two", 0.4)]
    assert got["dice_std"] == pytest.approx(math.sqrt(2 * 0.3**2))
    assert got["dice_interval"] is None
    assert "Intervals need 3 images at least." in got["protocol"]["sentence"]


def test_the_worst_and_the_best_images_are_never_the_same_and_have_a_dice():
    scores = [
        image_score(name, [0.9] * tp + [0.1] * fn + [0.1], [1] * (tp + fn) + [0])
        for name, tp, fn in (("c", 2, 2), ("a", 1, 9), ("d", 4, 0), ("b", 1, 2), ("empty", 0, 0))
    ]
    dice = {score.id: one.dice for score, one in summary_of(scores).per_image}
    assert worst_and_best(dice, 1) == (["a"], [])
    assert worst_and_best(dice, 3) == (["a", "b"], ["d"])
    assert worst_and_best(dice, 4) == (["a", "b"], ["d", "c"])
    assert worst_and_best(dice, 9) == (["a", "b", "c"], ["empty", "d"])


def test_an_image_without_foreground_is_null_and_left_out_of_the_mean():
    full, empty = image_score("full", [0.9, 0.1], [1, 0]), image_score("x", [0.1, 0.1], [0, 0])

    got = summary_of([full, empty]).to_json()

    assert got["dice"] == 1
    assert got["per_image"][1]["dice"] is None
    assert got["images"] == 2
    assert got["counted"]["dice"] == 1
    assert got["counted"]["specificity"] == 2


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_arrival_does_not_change_a_bit(seed):
    scores = random_scores(9, seed=seed % 5)
    shuffled = random.Random(seed).sample(scores, len(scores))

    first, second = summary_of(scores), summary_of(shuffled)

    assert json.dumps(first.to_json()) == json.dumps(second.to_json())


def test_dice_at_one_half_stands_beside_dice_at_the_chosen_threshold():
    score = image_score("a", [0.3, 0.1], [1, 0])

    got = summary_of([score], threshold=0.2, source="validation").to_json()

    assert (got["dice"], got["dice_at_half"]) == (1, 0)
    assert (got["threshold"], got["threshold_source"]) == (0.2, "validation")


def test_several_classes_have_no_threshold_and_a_dice_each():
    prob = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]
    score = image_score("a", prob, [0, 1, 2])

    got = summary_of([score], threshold=None, source="argmax", classes=3).to_json()

    assert [one["class"] for one in got["per_class"]] == [1, 2]
    assert [one["dice"] for one in got["per_class"]] == [2 / 3, 0]
    assert got["dice"] == 1 / 3
    assert got["accuracy"] == 2 / 3
    assert got["threshold"] is None
    assert got["dice_at_half"] is None
    on_validation = summary_of([score], threshold=None, source="argmax", classes=3, split="val")
    assert "The epoch was chosen on these very images" in on_validation.sentence()


def test_the_summary_is_strict_json_even_where_nothing_is_defined():
    got = summary_of([image_score("a", [0.1], [0])]).to_json()

    text = json.dumps(got, allow_nan=False)

    assert json.loads(text)["dice"] is None
    assert json.loads(text)["dice_std"] is None


def test_the_protocol_says_what_the_number_must_be_read_with():
    scores = random_scores(4)

    sentence = summary_of(scores, threshold=0.43, source="validation").to_json()["protocol"]
    on_validation = summary_of(scores, source="validation", split="val", fov="none").sentence()

    for fact in ("4 images of the test split", "field of view", ">= 0.43", "first observer", "256"):
        assert fact in sentence["sentence"]
    assert sentence["tile"] == 256
    assert "views" not in sentence["sentence"]
    assert "the mean of 8 views" in summary_of(scores, views=8).sentence()
    assert sentence["resize"] == 1.0
    assert "All pixels" in on_validation
    both = "The epoch and the threshold were chosen on these very images, so the numbers are opt"
    assert both in on_validation
    for source in ("configured", "default"):
        text = summary_of(scores, source=source, split="val").sentence()
        assert "The epoch was chosen on these very images, so the numbers are optim" in text
        assert "optimistic" not in summary_of(scores, source=source).sentence()


def test_few_patients_have_no_interval_and_the_reader_is_told_why():
    scores = random_scores(6)
    groups = {score.id: f"patient-{number % 2}" for number, score in enumerate(scores)}

    got = summarise(
        scores, threshold=0.5, threshold_source="configured", protocol=PROTOCOL, groups=groups
    ).to_json()

    assert got["dice_interval"] is None
    assert got["protocol"]["bootstrap"]["units"] == 2
    why = "Intervals need 3 patients at least, and these images are of 2."
    assert why in got["protocol"]["sentence"]
    assert "Intervals" not in summary_of(scores).sentence()


def test_scoring_an_image_twice_is_our_own_mistake():
    score = image_score("a", [0.9], [1])
    with pytest.raises(AssertionError, match="twice"):
        summary_of([score, score])


@given(count=st.integers(0, 40), world=st.integers(1, 9))
def test_the_shards_of_all_ranks_are_a_partition(count, world):
    items = list(range(count))
    shards = [shard(items, rank, world) for rank in range(world)]
    assert sorted(item for share in shards for item in share) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
