import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import EpsImagePlugin, Image

from unet_dist.data.image_rows import open_rows
from unet_dist.data.images import image_size, page_count, read_image, read_indices, to_unit_range
from unet_dist.data.sample import ImageRef
from unet_dist.data.tiff import decodes_by_segments
from unet_dist.errors import UserError

GREY = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)


def image(path: Path, page: int = 0) -> np.ndarray:
    return read_image(ImageRef(path=path, page=page))


def indices(path: Path, page: int = 0) -> np.ndarray:
    return read_indices(ImageRef(path=path, page=page))


def fault(path: Path, page: int = 0) -> str:
    with pytest.raises(UserError) as caught:
        image(path, page)
    assert str(path) in caught.value.where
    return str(caught.value)


@pytest.mark.parametrize("kind", ["png", "tif", "tiff", "bmp", "pgm", "gif"])
def test_grey_pixels_come_back_as_they_were_saved(write, kind):
    pixels = image(write(f"a.{kind}", GREY))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, GREY)


@pytest.mark.parametrize("kind", ["png", "tif", "bmp", "ppm"])
def test_colours_come_back_in_rgb_order(write, kind):
    np.testing.assert_array_equal(image(write(f"a.{kind}", COLOUR)), COLOUR)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_read(write, compression):
    path = write("a.tif", COLOUR, compression=compression)
    np.testing.assert_array_equal(image(path), COLOUR)


@pytest.mark.parametrize("extension", ["jpg", "jpeg"])
def test_jpeg_is_near_to_what_was_saved(write, extension):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    near = image(write(f"a.{extension}", flat, quality=95)).astype(int)
    assert np.abs(near - flat).max() <= 4


def test_sixteen_bits_are_kept_in_grey_and_in_colour(tmp_path, write):
    grey = (GREY.astype(np.uint16) * 257) + 1
    np.testing.assert_array_equal(image(write("a.png", grey)), grey)
    np.testing.assert_array_equal(image(write("a.tif", grey)), grey)
    colour = COLOUR.astype(np.uint16) * 257 + np.array([1, 2, 3], np.uint16)
    cv2.imwrite(str(tmp_path / "c.png"), colour[..., ::-1])
    np.testing.assert_array_equal(image(tmp_path / "c.png"), colour)
    tifffile.imwrite(tmp_path / "c.tif", colour, photometric="rgb")
    np.testing.assert_array_equal(image(tmp_path / "c.tif"), colour)


def test_sixteen_bit_pgm_is_kept_and_other_ranges_are_refused(tmp_path):
    values = np.array([[0, 1], [4000, 65535]], ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 2\n65535\n" + values.tobytes())
    np.testing.assert_array_equal(image(tmp_path / "a.pgm"), values)
    (tmp_path / "b.pgm").write_bytes(b"P5\n# labels\n2 2\n3\n" + bytes([0, 1, 2, 3]))
    assert "maximum 3" in fault(tmp_path / "b.pgm")


def test_one_bit_is_black_and_white_as_image_and_0_1_as_mask(write):
    for name in ("a.png", "a.tif"):
        path = write(name, GREY > 100)
        np.testing.assert_array_equal(image(path), np.where(GREY > 100, 255, 0))
        np.testing.assert_array_equal(indices(path), GREY > 100)


def test_alpha_is_dropped(write):
    alpha = np.full((6, 8, 1), 7, np.uint8)
    rgba = write("a.png", np.concatenate([COLOUR, alpha], axis=2))
    np.testing.assert_array_equal(image(rgba), COLOUR)
    grey_alpha = write("b.png", np.concatenate([GREY[..., None], alpha], axis=2))
    np.testing.assert_array_equal(image(grey_alpha), GREY)
    grey_rgba = np.concatenate([np.repeat(GREY[..., None], 3, 2), alpha], axis=2)
    np.testing.assert_array_equal(indices(write("c.png", grey_rgba)), GREY)


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "tif"])
def test_palette_mask_gives_indices_and_palette_image_gives_colours(tmp_path, kind):
    numbers = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    picture = Image.fromarray(numbers)
    picture.putpalette([10, 20, 30, 200, 0, 0, 0, 90, 0] + [0] * 759)
    path = tmp_path / f"a.{kind}"
    picture.save(path)
    np.testing.assert_array_equal(indices(path), numbers)
    assert image(path)[0].tolist() == [[10, 20, 30], [200, 0, 0], [0, 90, 0]]


def test_palette_mask_whose_zero_is_white_and_one_black_is_not_guessed(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([255, 255, 255] + [0] * 765)
    picture.save(tmp_path / "a.gif")
    with pytest.raises(UserError, match="index 0 is shown white"):
        indices(tmp_path / "a.gif")


def test_colour_mask_is_refused_with_its_colours(write):
    mask = np.zeros((4, 4, 3), np.uint8)
    mask[1:3, 1:3] = (255, 0, 0)
    with pytest.raises(UserError, match=r"\(0, 0, 0\), \(255, 0, 0\).*grey or palette PNG"):
        indices(write("a.png", mask))


def test_colour_mask_of_many_colours_is_called_no_mask(write):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    with pytest.raises(UserError, match=r"256 colours.*JPEG"):
        indices(write("a.png", noise))


def test_stack_is_read_page_by_page(tmp_path):
    stack = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    assert page_count(path) == 3
    for page in range(3):
        np.testing.assert_array_equal(image(path, page), stack[page])
    assert "page 3 of 3" in fault(path, 3)


def test_only_tiff_has_pages(write):
    path = write("a.png", GREY)
    assert page_count(path) == 1
    assert "only TIFF" in fault(path, 1)


def test_kind_is_told_by_content_not_by_name(tmp_path, write):
    path = write("a.png", GREY).rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(image(path), GREY)


def test_white_is_zero_tiff_is_turned(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(image(tmp_path / "a.tif"), 255 - GREY)


def test_exif_orientation_is_obeyed(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :8] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    turned = image(tmp_path / "a.jpg")
    assert turned.shape == (32, 16, 3)
    assert turned[:6].min() > 200
    assert turned[10:].max() < 60
    assert image_size(ImageRef(path=tmp_path / "a.jpg")) == (32, 16)


def test_turned_tiff_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=[(274, "H", 1, 6, True)])
    assert "orientation tag is 6" in fault(tmp_path / "a.tif")


def test_image_size_reads_height_and_width(tmp_path, write):
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((2, 4, 5), np.uint8))
    assert image_size(ImageRef(path=tmp_path / "s.tif", page=1)) == (4, 5)
    assert image_size(ImageRef(path=write("a.png", GREY))) == (6, 8)


def test_float_tiff_is_refused_because_its_range_is_unknown(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.float32))
    assert "float32, not whole numbers" in fault(tmp_path / "a.tif")


def test_label_tiff_of_32_bits_is_a_mask_but_no_image(tmp_path):
    numbers = GREY.astype(np.int32) * 1000
    tifffile.imwrite(tmp_path / "a.tif", numbers)
    np.testing.assert_array_equal(indices(tmp_path / "a.tif"), numbers)
    assert "int32" in fault(tmp_path / "a.tif")


def test_lfs_pointer_is_named(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "git lfs pull" in fault(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not an image"),
        (b"\x1f\x8b\x08\0rest", "gunzip"),
        (b"\x89PNG\r\n\x1a\n", "image"),
    ],
)
def test_what_is_no_image_says_so(tmp_path, content, words):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert words in fault(path)


def test_postscript_is_no_image_whatever_it_is_called(tmp_path, monkeypatch):
    path = tmp_path / "eye.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n%%EOF\n"
    )
    run = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: run.append(given))
    assert "not an image of a known kind" in fault(path)
    with pytest.raises(UserError, match="not an image of a known kind"):
        image_size(ImageRef(path=path))
    assert not run


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "gif", "ppm"])
def test_truncated_file_is_a_fault_for_every_kind(write, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    pixels = np.stack([noise] * 3, 2) if kind == "ppm" else noise
    path = write(f"a.{kind}", pixels)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    fault(path)


def test_truncated_sixteen_bit_colour_png_is_a_fault(tmp_path):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), np.uint16)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), noise)
    path.write_bytes(path.read_bytes()[:9000])
    fault(path)


def test_missing_file_and_directory_are_faults(tmp_path):
    assert "no such file" in fault(tmp_path / "a.png")
    fault(tmp_path)


@pytest.mark.parametrize("size", [(100_000, 100_000), (40_000, 2)])
def test_image_too_large_is_refused_by_its_header(tmp_path, size):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x" * 50))
    assert "cut it into tiles" in fault(path)


def test_tiff_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((2, 2), np.uint8))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(30_000)
        tiff.pages[0].tags["ImageLength"].overwrite(30_000)
    assert "cut it into tiles" in fault(path)


def write_deflated(path: Path, segments: list[bytes], **options: object) -> Path:
    """A TIFF of 16 x 16 grey pixels whose strips or tiles inflate to ``segments``."""
    packed = (zlib.compress(segment) for segment in segments)
    options = {"compression": "zlib", "dtype": np.uint8, **options}
    tifffile.imwrite(path, packed, shape=(16, 16), photometric="minisblack", **options)
    return path


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (16, 16)}])
def test_a_tiff_segment_that_inflates_beyond_its_pixels_is_refused_and_never_held(tmp_path, layout):
    path = write_deflated(tmp_path / "bomb.tif", [bytes(50_000_000)], **layout)
    tracemalloc.start()
    told = fault(path)
    with pytest.raises(UserError, match="inflates to more than 512 bytes"):
        list(open_rows(ImageRef(path=path)).pixels())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "inflates to more than 512 bytes" in told
    assert peak < 2_000_000


def test_a_strip_that_is_filled_up_beyond_the_image_is_read(tmp_path):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    filled = [pixels[:12].tobytes(), pixels[12:].tobytes() + bytes(8 * 16)]
    path = write_deflated(tmp_path / "a.tif", filled, rowsperstrip=12)
    np.testing.assert_array_equal(image(path), pixels)


def test_a_tile_much_larger_than_its_image_is_refused_by_its_header(tmp_path):
    path = write_deflated(tmp_path / "a.tif", [bytes(256)], tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("TileWidth", "TileLength"):
            tiff.pages[0].tags[name].overwrite(60_000, dtype="I")
    assert "tiles of 60000 x 60000 pixels, more than the limit" in fault(path)
    with pytest.raises(UserError, match="tiles of 60000 x 60000 pixels"):
        list(open_rows(ImageRef(path=path)).pixels())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
def test_pixels_without_a_range_are_refused_before_they_are_decoded(tmp_path, monkeypatch, dtype):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16), dtype), compression="zlib", photometric="minisblack")
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    for read in (image, indices, lambda path: open_rows(ImageRef(path=path))):
        with pytest.raises(UserError, match=f"its pixels are {np.dtype(dtype)}.*save.*16 bit"):
            read(path)


def test_more_bytes_a_pixel_than_any_image_or_mask_needs_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16, 3), np.int64), photometric="rgb")
    assert "3 x int64 a pixel" in fault(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.full((16, 16), 7, np.int64), photometric="minisblack")
    assert (indices(tmp_path / "b.tif") == 7).all()


@pytest.mark.parametrize(("codec", "number"), [("lzma", 34925), ("packbits", 32773)])
def test_what_tifffile_inflates_without_a_limit_goes_another_way(tmp_path, write, codec, number):
    path = tmp_path / "a.tif"
    if codec == "packbits":
        write("a.tif", GREY, compression="packbits")
    else:
        tifffile.imwrite(path, GREY, compression="lzma", photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].compression == number
        assert not decodes_by_segments(tiff.pages[0])


def test_volume_in_one_page_and_animation_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "v.tif",
        np.zeros((7, 8, 9), np.uint8),
        photometric="minisblack",
        planarconfig="separate",
    )
    assert "one page a slice" in fault(tmp_path / "v.tif")
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert "animated" in fault(tmp_path / "a.gif")


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_unit_range_divides_by_the_type_not_by_the_image(dtype, top):
    half = np.full((2, 2), top // 2, dtype)
    unit = to_unit_range(half, "grey")
    assert unit.shape == (2, 2, 1)
    assert unit.dtype == np.float32
    assert unit.max() == pytest.approx((top // 2) / top)
    assert to_unit_range(np.full((1, 1), top, dtype), "grey")[0, 0, 0] == 1


def test_channels_are_chosen():
    pixel = np.array([[[255, 51, 0]]], np.uint8)
    assert to_unit_range(pixel, "rgb")[0, 0].tolist() == [1, pytest.approx(0.2), 0]
    assert to_unit_range(pixel, "green")[0, 0].tolist() == [pytest.approx(0.2)]
    assert to_unit_range(pixel, "grey")[0, 0, 0] == pytest.approx(0.299 + 0.587 * 0.2)
    assert to_unit_range(GREY, "rgb").shape == (6, 8, 3)
    assert to_unit_range(GREY, "green").shape == (6, 8, 1)
