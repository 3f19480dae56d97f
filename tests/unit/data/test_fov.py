import numpy as np
import pytest
from PIL import Image

from unet_dist.data.fov import estimate_fov, read_fov
from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(x, y) <= radius


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("radius", [90, 50])  # half of the picture is rim in the second
def test_estimate_finds_the_lit_disc_and_fills_its_dark_spots(radius):
    inside = disc(200, radius)
    image = np.random.default_rng(0).integers(0, 5, (200, 200, 3), np.uint8)
    image[inside] = (150, 60, 20)
    image[100:110, 90:100] = 0  # a haemorrhage is no outside
    image[:4, :4] = 255  # a date stamp is no inside
    assert overlap(estimate_fov(image), inside) > 0.97


def test_estimate_is_everything_without_a_dark_rim():
    bright = np.random.default_rng(0).integers(120, 200, (50, 60), np.uint8)
    assert estimate_fov(bright).all()
    assert estimate_fov(np.zeros((5, 6), np.uint8)).all()


def test_estimate_works_in_16_bits_too():
    inside = disc(100, 40)
    image = np.where(inside, 30_000, 100).astype(np.uint16)
    assert overlap(estimate_fov(image), inside) > 0.95


def test_mask_counts_as_shown_whatever_the_stored_numbers(tmp_path, write):
    inside = disc(20, 8)
    for low, high in ((0, 255), (0, 1)):
        path = write(f"{high}.png", np.where(inside, high, low).astype(np.uint8))
        np.testing.assert_array_equal(read_fov(ImageRef(path=path)), inside)
    # As CHASE_DB1's: palette index 0 is white.
    picture = Image.fromarray((~inside).astype(np.uint8))
    picture.putpalette([255, 255, 255] + [0] * 765)
    picture.save(tmp_path / "a.gif")
    np.testing.assert_array_equal(read_fov(ImageRef(path=tmp_path / "a.gif")), inside)


def test_white_mask_is_everything_and_black_mask_a_fault(write):
    assert read_fov(ImageRef(path=write("w.png", np.full((4, 4), 255, np.uint8)))).all()
    with pytest.raises(UserError, match="black everywhere"):
        read_fov(ImageRef(path=write("b.png", np.zeros((4, 4), np.uint8))))


def test_photograph_is_no_field_of_view_mask(write):
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    with pytest.raises(UserError, match="light inside and dark outside"):
        read_fov(ImageRef(path=write("n.png", noise)))
