import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_dist.config_data import DataConfig
from unet_dist.data.masks import (
    count_values,
    decode,
    object_borders,
    recognise,
)
from unet_dist.data.sample import IGNORE
from unet_dist.errors import UserError


def coding_of(*masks, **keys):
    named = {f"mask{i}": count_values(np.array(mask)) for i, mask in enumerate(masks)}
    return recognise(named, DataConfig(root="x", **keys))


def fault_of(*masks, **keys) -> str:
    with pytest.raises(UserError) as caught:
        coding_of(*masks, **keys)
    return str(caught.value)


@pytest.mark.parametrize("foreground", [1, 255, 17])
def test_auto_recognises_zero_and_one_other_value(foreground):
    mask = np.array([[0, foreground], [0, 0]])
    coding = coding_of(mask, [[0, 0]])
    assert coding.kind == "binary"
    assert decode(mask, coding).tolist() == [[0, 1], [0, 0]]
    assert coding.describe() == (
        f"binary: 0 is background, {foreground} is foreground (16.7 % of pixels)"
    )


def test_inverted_takes_zero_for_the_foreground():
    mask = np.array([[0, 255, 255, 255]])
    coding = coding_of(mask, mask="inverted")
    assert decode(mask, coding).tolist() == [[1, 0, 0, 0]]
    assert coding.describe() == "inverted: 255 is background, 0 is foreground (25.0 % of pixels)"


def test_isbi_is_inverted_by_itself():
    assert coding_of([[0, 255]], format="isbi2012").kind == "inverted"
    assert coding_of([[0, 255]], format="isbi2012", mask="binary").kind == "binary"


def test_auto_recognises_class_numbers():
    mask = np.array([[0, 1], [2, 2]])
    coding = coding_of(mask, classes=4)  # class 3 is in no mask
    assert coding.kind == "labels"
    np.testing.assert_array_equal(decode(mask, coding), mask)
    assert decode(np.array([[3]]), coding).tolist() == [[3]]


def test_ignored_value_becomes_ignore_and_leaves_the_shares():
    mask = np.array([[0, 1, 254, 254]])
    coding = coding_of(mask, mask="labels", ignore=254)
    assert decode(mask, coding).tolist() == [[0, 1, IGNORE, IGNORE]]
    assert coding.foreground_share == 0.5
    assert "254 is left out" in coding.describe()


def test_labelmap_means_instances_or_their_borders():
    mask = np.array([[0, 7, 300]], np.uint16)
    coding = coding_of(mask, format="labelmap")
    assert coding.kind == "instances"
    assert decode(mask, coding).tolist() == [[0, 1, 1]]
    assert coding_of(mask, format="labelmap", classes=3).kind == "instances_border"


def test_borders_are_one_pixel_at_the_background_and_two_between_objects():
    numbers = np.zeros((5, 12), np.uint16)
    numbers[1:, 1:6] = 4
    numbers[1:, 6:11] = 9
    coding = coding_of(numbers, classes=3, mask="instances_border")
    assert decode(numbers, coding).tolist() == [
        [0] * 12,
        [0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0],
        [0, 2, 1, 1, 1, 2, 2, 1, 1, 1, 2, 0],
        [0, 2, 1, 1, 1, 2, 2, 1, 1, 1, 2, 0],
        # The frame of the image ends no object.
        [0, 2, 1, 1, 1, 2, 2, 1, 1, 1, 2, 0],
    ]


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 3)))
def test_borders_do_not_depend_on_the_numbers_or_the_direction(numbers):
    border = object_borders(numbers)
    assert not border[numbers == 0].any()
    np.testing.assert_array_equal(object_borders(numbers[::-1, ::-1]), border[::-1, ::-1])
    np.testing.assert_array_equal(object_borders(numbers.T), border.T)
    renamed = np.array([0, 9, 5, 7])[numbers]
    np.testing.assert_array_equal(object_borders(renamed), border)


def test_a_wide_border_is_a_share_of_each_objects_depth():
    """By hand: squares of 7 and 3 pixels have depths of 4 and 2, a line has 1."""
    numbers = np.zeros((9, 14), np.uint16)
    numbers[1:8, 1:8], numbers[1:4, 8:11], numbers[5:9, 12] = 5, 2, 9

    def inside(width):
        return (numbers != 0) & ~object_borders(numbers, width)

    cores = np.zeros(numbers.shape, bool)
    cores[3:6, 3:6] = cores[2, 9] = cores[5:9, 12] = True
    np.testing.assert_array_equal(inside(0.5), cores)
    cores[2:7, 2:7] = True
    np.testing.assert_array_equal(inside(0.4), cores)
    cores[2:7, 2:7] = False
    cores[4, 4] = True
    np.testing.assert_array_equal(inside(0.9), cores)
    whole = np.ones((4, 4), np.uint16)
    assert not object_borders(whole, 0.5).any()
    bars = np.repeat([[0, 1, 1, 2, 2, 0]], 5, axis=0)
    kept = (bars != 0) & ~object_borders(bars, 0.5)
    assert kept.tolist() == [[False, True, False, False, True, False]] * 5


def test_the_width_of_borders_is_that_of_the_configuration():
    keys = {"mask": "instances_border", "classes": 3}
    square = np.pad(np.full((5, 5), 3), 1)
    wide = decode(square, coding_of(square, border=0.7, **keys))
    assert (wide == 1).sum() == 1
    assert (decode(square, coding_of(square, **keys)) == 1).sum() == 9
    with pytest.raises(ValueError, match="border needs mask: instances_border"):
        DataConfig(root="x", border=0.5)


def test_smeared_mask_is_not_guessed():
    smeared = np.array([np.r_[0:30, 230:256]])
    message = fault_of(smeared)
    assert "0, 1, 2, 3, 4, 5, ... 255 (56 of them)" in message
    assert "PNG" in message
    assert "mask0" in fault_of(smeared, mask="binary")


def test_more_values_than_classes_names_the_keys():
    assert "data.mask=labels data.classes=3" in fault_of([[0, 1, 2]])
    assert "data.ignore=255" in fault_of([[0, 1, 255]])
    assert "data.mask=instances" in fault_of([[0, 3, 9]])
    assert "class numbers 0 to 2" in fault_of([[0, 127, 255]], classes=3)


def test_labels_fault_names_values_and_masks():
    message = fault_of([[0, 1]], [[0, 9]], mask="labels")
    assert "value 9 in mask1" in message
    assert "mask0" not in message


def test_masks_without_zero_are_not_guessed():
    assert "0 must be the background" in fault_of([[1, 2]])


def test_binary_on_request_takes_one_value_a_mask():
    coding = coding_of([[0, 1]], [[0, 255]], mask="binary")
    assert decode(np.array([[0, 255]]), coding).tolist() == [[0, 1]]
    assert "values are 0, 1, 255" in fault_of([[0, 1]], [[0, 255]])


@pytest.mark.parametrize("value", [0, 255])
def test_masks_of_one_value_have_nothing_to_learn(value):
    assert f"every pixel of every mask is {value}" in fault_of([[value]], mask="inverted")


def test_instances_need_an_object_and_no_negative_number():
    assert "no object" in fault_of([[0]], mask="instances")
    assert "value -1" in fault_of([[0, -1]], mask="instances")


def test_no_mask_at_all_is_a_fault():
    assert "no mask" in fault_of()


def test_mask_changed_since_it_was_recognised_is_a_fault():
    coding = coding_of([[0, 255]])
    with pytest.raises(UserError, match=r"m\.png: value 7"):
        decode(np.array([[0, 7]]), coding, where="m.png")


@given(hnp.arrays(np.int32, (3, 4), elements=st.integers(-5, 70_000)))
def test_values_are_counted(mask):
    values, counts = np.unique(mask, return_counts=True)
    assert count_values(mask) == dict(zip(values.tolist(), counts.tolist(), strict=True))
