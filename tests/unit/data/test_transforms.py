import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_dist.config import AugmentConfig
from unet_dist.data.sample import IGNORE, Example
from unet_dist.data.transforms import augment, normalise, sample_rng, smooth_noise

STILL = {
    "flip": False,
    "rotate": 0,
    "scale": 0,
    "elastic": 0,
    "brightness": 0,
    "contrast": 0,
    "gamma": 0,
    "noise": 0,
}


def pattern(height: int = 96, width: int = 80, channels: int = 3) -> Example:
    """An image that is 0.3 and 0.7 exactly where its smooth-edged mask is 0 and 1."""
    blobs = smooth_noise((height, width), 8, np.random.default_rng(0))
    target = (blobs > 0).astype(np.uint8)
    image = np.repeat((0.3 + 0.4 * target)[..., None], channels, axis=2).astype(np.float32)
    return Example(image, target, np.ones((height, width), np.bool_))


def augmented(example: Example, size=(64, 64), seed: int = 0, **keys) -> Example:
    return augment(
        example, AugmentConfig(**{**STILL, **keys}), size=size, rng=sample_rng(0, 0, seed)
    )


def agreement(example: Example) -> float:
    """Share of the pixels whose image and mask tell the same."""
    return float(((example.image_hwc[..., 0] > 0.5) == (example.target_hw == 1)).mean())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_without_strengths_a_crop_is_the_images_own_pixels(rows, columns, height, width, seed):
    rng = np.random.default_rng(seed)
    example = Example(
        rng.random((rows, columns, 3), np.float32),
        rng.integers(0, 3, (rows, columns), np.uint8),
        np.ones((rows, columns), np.bool_),
    )
    crop = augmented(example, (height, width), seed)
    assert crop.image_hwc.shape == (height, width, 3)
    # OpenCV's own mirroring, of an image that is larger all round, holds every possible crop.
    edge = max(height, width)
    whole = [
        cv2.copyMakeBorder(array, edge, edge, edge, edge, cv2.BORDER_REFLECT_101)
        for array in example[:2]
    ]
    top = [r for r in range(-edge, rows + 1) if r >= 0 or height > rows]
    places = [
        (r + edge, c + edge)
        for r in top
        for c in range(-edge, columns + 1)
        if r + height <= rows + edge and c + width <= columns + edge
    ]
    assert any(
        np.array_equal(whole[0][r : r + height, c : c + width], crop.image_hwc)
        and np.array_equal(whole[1][r : r + height, c : c + width], crop.target_hw)
        for r, c in places
    )


def test_crop_of_the_whole_size_is_the_image_bit_for_bit():
    example = pattern()
    crop = augmented(example, size=(96, 80))
    for array, original in zip(crop, example, strict=True):
        assert array.dtype == original.dtype
        np.testing.assert_array_equal(array, original)


def test_crop_positions_reach_every_corner():
    rows, columns = np.mgrid[:10, :10].astype(np.float32)
    image = np.stack([rows, columns], axis=2) / 10
    example = Example(image, np.zeros((10, 10), np.uint8), np.ones((10, 10), np.bool_))
    corners = {
        tuple(np.rint(augmented(example, (8, 8), seed).image_hwc[0, 0] * 10).astype(int))
        for seed in range(200)
    }
    assert corners == {(row, column) for row in range(3) for column in range(3)}


def test_flip_mirrors_each_way_half_of_the_time():
    example = pattern(64, 64)
    turns = [example.image_hwc[::a, ::b] for a in (1, -1) for b in (1, -1)]
    seen = [0, 0, 0, 0]
    for seed in range(200):
        crop = augmented(example, seed=seed, flip=True)
        assert agreement(crop) == 1
        seen[[np.array_equal(crop.image_hwc, turn) for turn in turns].index(True)] += 1
    assert min(seen) > 30


@pytest.mark.parametrize(
    "keys",
    [
        {"rotate": 180},
        {"scale": 0.4},
        {"elastic": 4, "elastic_smooth": 12},
        {"flip": True, "rotate": 90, "scale": 0.2, "elastic": 3},
    ],
)
def test_geometry_moves_image_and_mask_together(keys):
    example = pattern()
    plain = augmented(example)
    crop = augmented(example, **keys)
    assert not np.array_equal(crop.target_hw, plain.target_hw)
    assert agreement(crop) > 0.97  # interpolated edges are either
    assert set(np.unique(crop.target_hw)) == {0, 1}


def test_rotation_by_known_angle_agrees_with_numpy():
    example = pattern(65, 65)
    # Look for the draw that is nearest to a quarter turn: it must be numpy's.
    best = max(
        float((augmented(example, (65, 65), s, rotate=180).target_hw == turn).mean())
        for s in range(300)
        for turn in (np.rot90(example.target_hw), np.rot90(example.target_hw, -1))
    )
    assert best > 0.97


def test_scale_zooms_about_the_centre():
    y, x = np.mgrid[:101, :101] - 50
    disc = (np.hypot(x, y) <= 20).astype(np.uint8)
    example = Example(disc[..., None].astype(np.float32), disc, np.ones(disc.shape, np.bool_))
    areas = [
        # The middle only: beyond the edges the disc's mirror images come into view.
        augmented(example, (101, 101), seed, scale=0.5).target_hw[17:84, 17:84].sum() / disc.sum()
        for seed in range(60)
    ]
    assert 0.24 <= min(areas) < 0.35
    assert 1.9 < max(areas) <= 2.28


def test_elastic_shift_has_the_deviation_asked_for():
    ramp = np.tile(np.arange(400, dtype=np.float32) / 400, (400, 1))[..., None]
    example = Example(ramp, np.zeros((400, 400), np.uint8), np.ones((400, 400), np.bool_))
    shifts = []
    for seed in range(40):
        crop = augmented(example, (400, 400), seed, elastic=5, elastic_smooth=10)
        shifts.append((crop.image_hwc - ramp)[50:-50, 50:-50] * 400)
    assert np.std(shifts) == pytest.approx(5, rel=0.05)
    assert abs(np.mean(shifts)) < 0.3


@pytest.mark.parametrize("length", [1, 3, 7.5, 24])
def test_smooth_noise_has_unit_deviation_and_its_length(length):
    fields = np.stack([smooth_noise((70, 61), length, sample_rng(1, 0, i)) for i in range(150)])
    assert fields.shape == (150, 70, 61)
    assert fields.std() == pytest.approx(1, abs=0.06)
    lag = round(2 * length)
    if lag < 30:
        # Smoothed by a Gaussian s, the correlation at distance 2 s is exp(-1).
        correlation = (fields[:, :, :-lag] * fields[:, :, lag:]).mean() / fields.var()
        assert correlation == pytest.approx(np.exp(-((lag / length) ** 2) / 4), abs=0.08)


def test_brightness_shifts_and_nothing_else():
    crop = augmented(pattern(), brightness=0.2)
    shift = crop.image_hwc - augmented(pattern()).image_hwc
    assert shift.std() < 1e-6
    assert 0.001 < abs(shift.mean()) <= 0.2


def test_contrast_scales_about_the_mean():
    plain = augmented(pattern())
    crop = augmented(pattern(), contrast=0.5)
    assert crop.image_hwc.mean() == pytest.approx(plain.image_hwc.mean(), abs=1e-5)
    factor = crop.image_hwc.std() / plain.image_hwc.std()
    assert 0.5 <= factor <= 1.5
    assert abs(factor - 1) > 0.01


def test_gamma_is_a_power():
    plain = augmented(pattern()).image_hwc
    exponent = np.log(augmented(pattern(), gamma=0.5).image_hwc) / np.log(plain)
    assert exponent.std() < 1e-4
    assert 1 / 1.5 <= exponent.mean() <= 1.5
    assert abs(exponent.mean() - 1) > 0.01


def test_light_and_dark_are_exchanged_as_often_as_asked():
    plain = augmented(pattern(64, 64)).image_hwc
    assert np.array_equal(augmented(pattern(64, 64), invert=1).image_hwc, 1 - plain)
    exchanged = [
        bool((augmented(pattern(64, 64), seed=seed, invert=0.25).image_hwc == 1 - plain).all())
        for seed in range(400)
    ]
    assert 0.2 < np.mean(exchanged) < 0.3


def test_noise_has_the_deviation_asked_for():
    plain = augmented(pattern(), (80, 80))
    crop = augmented(pattern(), (80, 80), noise=0.05)
    assert (crop.image_hwc - plain.image_hwc).std() == pytest.approx(0.05, rel=0.03)
    assert not np.array_equal(crop.image_hwc[..., 0], crop.image_hwc[..., 1])


@pytest.mark.parametrize("key", ["brightness", "contrast", "gamma", "invert", "noise"])
def test_intensities_leave_the_mask_alone(key):
    crop = augmented(pattern(), **{key: 0.1})
    np.testing.assert_array_equal(crop.target_hw, augmented(pattern()).target_hw)


def test_image_stays_within_0_and_1():
    example = pattern()
    strong = AugmentConfig(brightness=1, contrast=0.9, noise=0.5, gamma=0.9)
    for seed in range(10):
        image = augment(example, strong, size=(32, 32), rng=sample_rng(0, 0, seed)).image_hwc
        assert image.min() >= 0
        assert image.max() <= 1


def test_one_option_does_not_change_the_others_draws():
    crop = augmented(pattern(), flip=True, rotate=90, scale=0.2)
    noisy = augmented(pattern(), flip=True, rotate=90, scale=0.2, noise=0.01, gamma=0.1)
    np.testing.assert_array_equal(crop.target_hw, noisy.target_hw)


@pytest.mark.parametrize("keys", [{}, {"rotate": 180, "elastic": 3}])
def test_beyond_the_edges_pixels_are_mirrored_and_all_count(keys):
    crop = augmented(pattern(40, 40), (64, 64), **keys)
    assert crop.fov_hw.all()
    assert agreement(crop) > 0.97
    assert crop.image_hwc.min() > 0.29


@pytest.mark.parametrize("keys", [{}, {"rotate": 180}])
def test_a_view_that_is_not_everything_ends_at_the_edges(keys):
    example = pattern(40, 40)
    example.fov_hw[0, 0] = False
    crop = augmented(example, (64, 64), **keys)
    assert crop.fov_hw.sum() == pytest.approx(40 * 40, rel=0.05)
    assert crop.fov_hw[32, 32]


@pytest.mark.parametrize("keys", [{}, {"rotate": 180, "flip": True}])
def test_crops_are_taken_where_there_is_a_view(keys):
    example = pattern()
    example.fov_hw[:] = False
    example.fov_hw[30:60, 20:60] = True
    views = [augmented(example, (16, 16), seed, **keys).fov_hw.any() for seed in range(100)]
    assert sum(views) >= 99


@pytest.mark.parametrize("rotate", [0, 180])
def test_ignored_pixels_stay_ignored(rotate):
    example = pattern()
    example.target_hw[:] = IGNORE
    assert (augmented(example, rotate=rotate).target_hw == IGNORE).all()


def test_one_channel_stays_one_channel():
    crop = augment(pattern(channels=1), AugmentConfig(), size=(32, 48), rng=sample_rng(0, 0, 0))
    assert crop.image_hwc.shape == (32, 48, 1)
    assert all(array.flags.c_contiguous for array in crop)


def test_the_example_itself_is_never_changed():
    example = pattern()
    before = [array.copy() for array in example]
    for array in example:
        array.setflags(write=False)
    for seed in range(5):
        augment(example, AugmentConfig(), size=(64, 64), rng=sample_rng(0, 0, seed))
        augmented(example, (96, 80), gamma=0.3, noise=0.1)
    for array, copy in zip(example, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_random_numbers_depend_on_seed_epoch_and_sample_alone():
    numbers = {
        tuple(sample_rng(*key).random(3))
        for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0))
    }
    assert len(numbers) == 4
    one = augment(pattern(), AugmentConfig(), size=(64, 64), rng=sample_rng(5, 2, 7))
    two = augment(pattern(), AugmentConfig(), size=(64, 64), rng=sample_rng(5, 2, 7))
    np.testing.assert_array_equal(one.image_hwc, two.image_hwc)


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation():
    image = np.array([[[0.5, 0.2]]], np.float32)
    normal = normalise(image, (0.25, 0.3), (0.5, 0.1))
    assert normal.dtype == np.float32
    np.testing.assert_allclose(normal, [[[0.5, -1]]], rtol=1e-5)
