import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_dist.data.bands import SlidingRows, in_bands_of, resize_bands


def cut(array: np.ndarray, heights: list[int]) -> list[np.ndarray]:
    """Consecutive rows of the heights in turn, as long as there are any."""
    bands, first = [], 0
    while first < len(array):
        height = heights[len(bands) % len(heights)]
        bands.append(array[first : first + height])
        first += height
    return bands


heights = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(length=st.integers(1, 60), heights=heights, rows=st.integers(1, 20))
def test_bands_of_one_height_hold_the_same_rows(length, heights, rows):
    array = np.arange(length)[:, None]

    bands = list(in_bands_of(cut(array, heights), rows))

    assert np.array_equal(np.concatenate(bands), array)
    assert all(len(band) == rows for band in bands[:-1])
    assert 1 <= len(bands[-1]) <= rows


@given(data=st.data(), length=st.integers(1, 60), heights=heights)
def test_sliding_rows_are_those_asked_for(data, length, heights):
    array = np.arange(length)[:, None]
    source = SlidingRows(cut(array, heights))
    first = 0
    for _ in range(5):
        first = data.draw(st.integers(first, length - 1))
        stop = data.draw(st.integers(first + 1, length))
        assert source.rows(first, stop)[:, 0].tolist() == list(range(first, stop))


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 40),
    channels=st.integers(1, 6),
    factor=st.sampled_from([0.02, 0.3, 0.5, 0.77, 0.999, 1.01, 1.37, 2.0, 4.0]),
    area=st.booleans(),
    heights=heights,
)
def test_resizing_in_bands_is_what_opencv_does_to_the_whole(
    height, width, channels, factor, area, heights
):
    area = area and factor < 1
    image = np.random.default_rng(height).random((height, width, channels)).astype(np.float32)
    to = (max(1, round(height * factor)), max(1, round(width * factor)))
    how = cv2.INTER_AREA if area else cv2.INTER_LINEAR
    planes = [np.ascontiguousarray(image[..., k]) for k in range(channels)]
    whole = np.stack([cv2.resize(p, to[::-1], interpolation=how) for p in planes], axis=-1)

    bands = resize_bands(cut(image, heights), (height, width), to, area=area)

    # OpenCV keeps coordinates in float32: some 1e-5 of a pixel here.
    np.testing.assert_allclose(np.concatenate(list(bands)), whole, atol=2e-5)


def test_an_image_of_its_own_size_is_passed_on_bit_for_bit():
    image = np.random.default_rng(0).random((5, 4, 1)).astype(np.float32)
    [band] = resize_bands([image], (5, 4), (5, 4), area=False)
    assert band is image


@pytest.mark.parametrize("area", [True, False])
def test_a_constant_stays_constant(area):
    image = np.full((97, 31, 2), 0.3, np.float32)
    bands = resize_bands(cut(image, [10]), (97, 31), (41, 13), area=area)
    np.testing.assert_allclose(np.concatenate(list(bands)), 0.3, rtol=1e-6)
