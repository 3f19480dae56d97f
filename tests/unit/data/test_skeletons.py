import numpy as np

from unet_dist.data.skeletons import skeletons


def test_the_tube_of_a_bar_is_its_middle_line_and_the_neighbours_within_it() -> None:
    classes = np.zeros((11, 40), np.uint8)
    classes[2:9, 3:37] = 1
    tube = skeletons(classes)
    assert set(np.flatnonzero(tube[:, 20])) == {4, 5, 6}
    assert not tube[classes == 0].any()


def test_a_line_of_one_pixel_is_its_own_tube_and_classes_stay_apart() -> None:
    classes = np.zeros((9, 9), np.uint8)
    classes[4, 1:8] = 2
    classes[5, 1:8] = 1
    assert np.array_equal(skeletons(classes), classes)


def test_nothing_has_no_skeleton() -> None:
    assert not skeletons(np.zeros((5, 5), np.uint8)).any()
