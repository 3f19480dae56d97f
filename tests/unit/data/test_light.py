import numpy as np
import pytest

from unet_dist.data.light import LEAST_DEVIATION, NEUTRAL, REACH, Curve, even_light
from unet_dist.data.light_bands import even_light_bands


def texture(side: int = 96) -> np.ndarray:
    return np.random.default_rng(0).random((side, side, 2)).astype(np.float32)


def test_a_slow_shade_and_a_slow_change_of_contrast_vanish() -> None:
    plain = texture()
    ramp = np.linspace(0.5, 1, 96, dtype=np.float32)[None, :, None]
    shaded = 0.5 * ramp * plain + 0.3 * ramp
    everywhere = np.ones((96, 96), np.bool_)
    evened = even_light(shaded, everywhere, 12.0) - even_light(plain, everywhere, 12.0)
    assert np.abs(evened).mean() < 0.1 * np.abs(shaded - plain).mean()


def test_moments_are_those_of_a_direct_sum() -> None:
    image, window = texture(40)[:, :, :1], 4.0
    fov = np.zeros((40, 40), np.bool_)
    fov[5:33, 8:36] = True
    rows, columns = np.mgrid[:40, :40]
    weight = np.exp(-((rows - 20) ** 2 + (columns - 20) ** 2) / (2 * window**2)) * fov
    weight /= weight.sum()
    mean = (weight * image[:, :, 0]).sum()
    got = even_light(image, fov, window)[20, 20, 0]
    local_means = even_light(image, fov, window)[:, :, 0]
    assert local_means[0, 0] == NEUTRAL
    deviation = np.sqrt((weight * (image[:, :, 0] - mean) ** 2).sum())
    expected = NEUTRAL + (image[20, 20, 0] - mean) / deviation / (2 * REACH)
    assert got == pytest.approx(expected, abs=0.02)


def test_the_dark_rim_of_a_photograph_does_not_shine_into_the_view() -> None:
    fov = np.zeros((64, 64), np.bool_)
    fov[16:48, 16:48] = True
    image = np.where(fov[:, :, None], 0.6, 0.0).astype(np.float32)
    even = even_light(image, fov, 8.0)
    assert np.allclose(even, NEUTRAL, atol=0.01)


def test_faint_noise_is_not_blown_up() -> None:
    noise = 0.5 + 1e-4 * texture()
    even = even_light(noise, np.ones((96, 96), np.bool_), 12.0)
    assert np.abs(even - NEUTRAL).max() < 1e-4 / LEAST_DEVIATION


def test_a_line_between_bright_objects_is_kept_by_the_compressed_curve() -> None:
    image = np.full((96, 96, 1), 0.1, np.float32)
    image[44:52, 40:56] = 0.9
    image[44:52, 48] = 0.7
    everywhere = np.ones((96, 96), np.bool_)
    cut = even_light(image, everywhere, 40.0)
    kept = even_light(image, everywhere, 40.0, "asinh")
    assert cut[48, 48] == cut[48, 44] == 1
    assert kept[48, 44] - kept[48, 48] > 0.01
    assert kept.min() > 0
    assert kept.max() < 1
    assert np.argsort(kept, axis=None, kind="stable")[-1] in np.flatnonzero(image == image.max())


@pytest.mark.parametrize("curve", ["cut", "asinh"])
@pytest.mark.parametrize("window", [3.0, 20.0, 60.0])
@pytest.mark.parametrize("rows", [1, 13, 200])
def test_bands_give_what_the_whole_image_gives(window: float, rows: int, curve: Curve) -> None:
    image = np.random.default_rng(1).random((150, 97, 3)).astype(np.float32)
    fov = np.hypot(*(np.mgrid[:150, :97] - np.array([75, 48])[:, None, None])) < 60
    both = np.concatenate([image, fov[:, :, None].astype(np.float32)], axis=2)
    cut = [both[first : first + rows] for first in range(0, 150, rows)]

    bands = list(even_light_bands(cut, (150, 97), window, curve))

    expected = even_light(image, fov, window, curve)
    np.testing.assert_allclose(np.concatenate(bands), expected, atol=1e-4)
