import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_dist.evaluate.tiles import predict_bands

sides = st.integers(1, 70)
tiles = st.sampled_from([1, 2, 7, 16, 33])
overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75])
batches = st.integers(1, 5)


def random_image(height, width, channels=1):
    generator = np.random.default_rng(height * 1000 + width)
    return generator.normal(size=(height, width, channels)).astype(np.float32)


def predict_tiled(forward, image_hwc, **options):
    """The outputs of an image in memory."""
    bands = predict_bands(forward, [image_hwc], image_hwc.shape[:2], **options)
    return np.concatenate(list(bands))


@settings(deadline=None, max_examples=80)
@given(height=sides, width=sides, tile=tiles, overlap=overlaps, batch=batches)
def test_an_image_of_any_size_comes_back_from_the_identity(height, width, tile, overlap, batch):
    image = random_image(height, width, 2)

    output = predict_tiled(lambda x: x, image, tile=tile, overlap=overlap, batch=batch)

    assert output.dtype == np.float32
    assert output.shape == image.shape
    np.testing.assert_allclose(output, image, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(height=sides, width=sides, tile=tiles, overlap=overlaps)
def test_a_constant_network_gives_its_constants_everywhere(height, width, tile, overlap):
    def constant(x_nchw):
        ones = np.ones((len(x_nchw), 3, tile, tile), np.float32)
        return ones * np.array([0.25, 0.7, -3], np.float32)[None, :, None, None]

    image = random_image(height, width)
    output = predict_tiled(constant, image, tile=tile, overlap=overlap, batch=2)

    expected = np.broadcast_to(np.array([0.25, 0.7, -3], np.float32), (height, width, 3))
    np.testing.assert_allclose(output, expected, rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(height=sides, width=sides, overlap=overlaps, batch=batches)
def test_every_call_has_the_compiled_shape(height, width, overlap, batch):
    shapes = set()

    def watch(x_nchw):
        shapes.add((x_nchw.shape, x_nchw.dtype))
        return x_nchw

    predict_tiled(watch, random_image(height, width, 3), tile=16, overlap=overlap, batch=batch)

    assert shapes == {((batch, 3, 16, 16), np.dtype(np.float32))}


@settings(deadline=None, max_examples=20)
@given(height=sides, width=sides, overlap=overlaps, batch=st.integers(2, 9))
def test_the_result_does_not_depend_on_the_batch(height, width, overlap, batch):
    # A network that knows where in the tile a pixel lies, so that blending matters.
    ramp = np.linspace(0, 1, 16, dtype=np.float32)

    def forward(x_nchw):
        return x_nchw * ramp

    image = random_image(height, width)
    one_by_one = predict_tiled(forward, image, tile=16, overlap=overlap, batch=1)
    together = predict_tiled(forward, image, tile=16, overlap=overlap, batch=batch)

    assert one_by_one.tobytes() == together.tobytes()


@settings(deadline=None, max_examples=60)
@given(
    height=sides, width=sides, overlap=overlaps, batch=st.integers(1, 9), band=st.integers(1, 40)
)
def test_bands_give_the_very_bits_of_the_whole_image(height, width, overlap, batch, band):
    ramp = np.linspace(0, 1, 16 * 16, dtype=np.float32).reshape(16, 16)
    image = random_image(height, width, 2)
    options = {"tile": 16, "overlap": overlap, "batch": batch}
    whole = predict_tiled(lambda x_nchw: x_nchw * ramp, image, **options)

    bands = [image[first : first + band] for first in range(0, height, band)]
    parts = list(predict_bands(lambda x: x * ramp, bands, (height, width), **options))

    assert np.concatenate(parts).tobytes() == whole.tobytes()
    if height > 3 * 16 and batch == 1:
        assert len(parts) > 2


def test_nothing_of_the_filling_of_the_last_batch_reaches_the_image():
    def nan_for_zeros(x_nchw):
        return np.where(x_nchw.any(axis=(1, 2, 3), keepdims=True), x_nchw, np.nan)

    image = np.ones((20, 40, 1), np.float32)
    output = predict_tiled(nan_for_zeros, image, tile=16, overlap=0.25, batch=7)

    np.testing.assert_allclose(output, image, rtol=1e-6)


def test_a_small_image_is_mirrored_outwards():
    seen = []

    def forward(x_nchw):
        seen.append(x_nchw.copy())
        return x_nchw

    image = np.array([1, 2, 3], np.float32).reshape(1, 3, 1)
    predict_tiled(forward, image, tile=7, overlap=0, batch=1)

    # Two columns are missing on either side of 1 2 3; the single row is repeated.
    assert seen[0][0, 0].tolist() == [[3, 2, 1, 2, 3, 2, 1]] * 7


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_neighbouring_tiles_share_at_least_the_overlap_asked_for(overlap):
    corners = []

    def forward(x_nchw):
        corners.append(int(x_nchw[0, 0, 0, 0]))
        return x_nchw

    columns = np.arange(200, dtype=np.float32)
    image = np.broadcast_to(columns[None, :, None], (32, 200, 1))
    predict_tiled(forward, image, tile=32, overlap=overlap, batch=1)

    assert corners[0] == 0
    assert corners[-1] == 200 - 32
    assert max(np.diff(corners)) <= 32 * (1 - overlap)


def test_a_seam_between_tiles_that_disagree_is_smooth():
    calls = iter([0.0, 1.0])

    def forward(x_nchw):
        return np.full_like(x_nchw, next(calls))

    image = np.zeros((32, 48, 1), np.float32)
    output = predict_tiled(forward, image, tile=32, overlap=0.5, batch=1)

    # The tiles share 16 columns: a cosine from 0 to 1 climbs by at most pi / 2 / 16 a column.
    steps = np.diff(output[5, :, 0])
    assert steps.min() >= 0
    assert steps.max() < 0.1
    assert output[5, 15, 0] == 0
    assert output[5, 32, 0] == 1
