import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_dist.data import image_rows
from unet_dist.data.image_rows import Resolution, open_rows
from unet_dist.data.images import read_image, read_indices
from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError

GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _small_bands(monkeypatch):
    """So that images of a test have several."""
    monkeypatch.setattr(image_rows, "BAND_BYTES", 1000)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(53, 70), (53, 70, 3), (53, 70, 4), (1, 1), (200, 3)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"rowsperstrip": 7},
        {"tile": (16, 32)},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "zlib", "rowsperstrip": 5},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 4},
    ],
)
def test_the_rows_of_a_tiff_are_those_of_the_whole_image(tmp_path, dtype, shape, options):
    values = GENERATOR.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    path = tmp_path / "a.tif"
    kind = "rgb" if len(shape) == 3 else "minisblack"
    tifffile.imwrite(path, values, photometric=kind, **options)
    ref = ImageRef(path=path)

    rows = open_rows(ref)

    assert rows.whole is None
    bands = list(rows.pixels())
    assert np.array_equal(np.concatenate(bands), read_image(ref))
    assert max(band.nbytes for band in bands) <= max(1000, bands[0][:1].nbytes * 4)
    assert (rows.height, rows.width) == shape[:2]


def test_what_can_only_be_decoded_whole_has_the_same_pixels(tmp_path):
    values = GENERATOR.integers(0, 256, (53, 70, 3)).astype(np.uint8)
    for name, options in {"a.png": {}, "b.tif": {"compression": "tiff_lzw"}}.items():
        Image.fromarray(values).save(tmp_path / name, **options)
        rows = open_rows(ImageRef(path=tmp_path / name))
        assert rows.whole is not None
        assert np.array_equal(np.concatenate(list(rows.pixels())), values)


def test_a_turned_photograph_is_upright(tmp_path):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[274] = 6
    values = GENERATOR.integers(0, 256, (20, 30)).astype(np.uint8)
    Image.fromarray(values).save(path, exif=exif)
    rows = open_rows(ImageRef(path=path))
    assert (rows.height, rows.width) == (30, 20)
    assert np.array_equal(np.concatenate(list(rows.pixels())), np.rot90(values, -1))


def test_pages_and_masks_are_read_in_bands_too(tmp_path):
    path = tmp_path / "stack.tif"
    pages = GENERATOR.integers(0, 4, (3, 40, 50)).astype(np.uint8)
    tifffile.imwrite(path, pages, photometric="minisblack", compression="zlib", rowsperstrip=8)
    ref = ImageRef(path=path, page=2)
    assert np.array_equal(np.concatenate(list(open_rows(ref).indices())), read_indices(ref))
    with pytest.raises(UserError, match="page 3 of 3"):
        open_rows(ImageRef(path=path, page=3))


def test_tiles_that_a_sparse_file_leaves_out_are_its_fill_value(tmp_path):
    path = tmp_path / "sparse.tif"
    full = np.full((16, 16), 9, np.uint8)
    tiles = [zlib.compress(full.tobytes()), b"", b"", b""]
    tifffile.imwrite(
        path, iter(tiles), shape=(32, 32), dtype=np.uint8, tile=(16, 16), compression="zlib"
    )
    values = np.concatenate(list(open_rows(ImageRef(path=path)).pixels()))
    assert (values[:16, :16] == 9).all()
    assert values.sum() == 9 * 256


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "rowsperstrip": 5}])
def test_a_truncated_file_is_a_fault_that_names_it(tmp_path, options):
    path = tmp_path / "short.tif"
    values = GENERATOR.integers(0, 256, (60, 70)).astype(np.uint8)
    tifffile.imwrite(path, values, metadata=None, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 1500])
    with pytest.raises(UserError, match=r"short\.tif"):
        list(open_rows(ImageRef(path=path)).pixels())


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def test_a_png_too_large_to_decode_is_refused_by_its_header_with_a_way_out(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(30_000, 30_000))
    with pytest.raises(UserError, match=r"30000 x 30000 pixels.*TIFF in tiles"):
        open_rows(ImageRef(path=path))


def test_the_resolution_comes_from_the_file(tmp_path):
    values = np.zeros((8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, resolution=(100, 200), resolutionunit=3)
    resolution = open_rows(ImageRef(path=tmp_path / "a.tif")).resolution
    assert resolution == Resolution(x=100, y=200, unit="cm")
    assert resolution.dots_per_inch() == (254, 508)
    Image.fromarray(values).save(tmp_path / "b.png")
    assert open_rows(ImageRef(path=tmp_path / "b.png")).resolution is None
