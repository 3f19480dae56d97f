import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from unet_dist.data.convert import rasterise
from unet_dist.data.convert.outline import trace_outlines
from unet_dist.data.convert.rasterise import (
    Region,
    clip_region,
    compose,
    fill_disc,
    fill_line,
    fill_polygon,
)


def drawn(region: Region, size: tuple[int, int]) -> list[str]:
    canvas = np.zeros(size, np.uint8)
    region.paint(canvas, 1)
    return ["".join(map(str, row)) for row in canvas.tolist()]


def polygon(points: list[list[float]], size: tuple[int, int]) -> list[str]:
    return drawn(fill_polygon(np.array(points, float), size), size)


def test_a_polygon_on_pixel_edges_has_the_pixels_between_them() -> None:
    assert polygon([[1, 1], [4, 1], [4, 3], [1, 3]], (4, 5)) == ["00000", "01110", "01110", "00000"]


def test_a_pixel_belongs_to_a_polygon_if_its_centre_is_inside() -> None:
    # The hypotenuse x = y: the centre (0.5, 0.5) is on it, and the right side owns the edge.
    assert polygon([[0, 0], [4, 0], [4, 4]], (4, 4)) == ["1111", "0111", "0011", "0001"]
    # From 0.6 to 2.4: only the centre 1.5 is between.
    assert polygon([[0.6, 0.6], [2.4, 0.6], [2.4, 2.4], [0.6, 2.4]], (3, 3)) == [
        "000",
        "010",
        "000",
    ]


def test_a_polygon_that_crosses_itself_is_filled_by_the_even_odd_rule() -> None:
    # Two overlapping squares in one line: what both cover is outside.
    twice = [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0], [1, 1], [4, 1], [4, 4], [1, 4], [1, 1]]
    assert polygon(twice, (4, 4)) == ["1110", "1001", "1001", "0111"]


def test_what_lies_outside_of_the_image_is_cut_off() -> None:
    assert polygon([[-5, -5], [2, -5], [2, 1], [-5, 1]], (2, 3)) == ["110", "000"]
    assert polygon([[7, 7], [9, 7], [9, 9]], (2, 3)) == ["000", "000"]


def test_a_disc_has_the_centres_within_its_radius() -> None:
    # Around the pixel (2, 2) with radius 1: its four neighbours are just reached.
    disc = fill_disc(np.array([2.5, 2.5]), 1, (5, 5))
    assert drawn(disc, (5, 5)) == ["00000", "00100", "01110", "00100", "00000"]
    # Around a corner between pixels: centres are 0.707 away.
    disc = fill_disc(np.array([1.0, 1.0]), 0.71, (3, 3))
    assert drawn(disc, (3, 3)) == ["110", "110", "000"]


def test_a_line_has_the_centres_within_half_its_width_and_round_ends() -> None:
    line = fill_line(np.array([[1.5, 1.5], [3.5, 1.5]]), 2, (4, 6))
    assert drawn(line, (4, 6)) == ["011100", "111110", "011100", "000000"]


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_the_result_does_not_depend_on_how_many_crossings_are_held(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    points = np.random.default_rng(1).uniform(0, 30, (40, 2))
    whole = fill_polygon(points, (30, 30)).mask_hw
    monkeypatch.setattr(rasterise, "_CROSSINGS_AT_ONCE", at_once)
    np.testing.assert_array_equal(fill_polygon(points, (30, 30)).mask_hw, whole)


COORDINATE = st.one_of(st.integers(-4, 16).map(float), st.floats(-4, 16))
POINT = st.tuples(COORDINATE, COORDINATE)


@given(st.lists(POINT, min_size=3, max_size=8))
def test_pixels_are_those_of_the_crossing_number_of_each_centre(points: list[tuple]) -> None:
    """Counts, for each centre, the edges that a ray to the left crosses."""
    size = (12, 12)
    expected = np.zeros(size, bool)
    for row in range(12):
        y = row + 0.5
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            (xa, ya), (xb, yb) = sorted([(x0, y0), (x1, y1)], key=lambda p: p[1])
            if ya <= y < yb:
                expected[row] ^= np.arange(12) + 0.5 >= xa + (y - ya) / (yb - ya) * (xb - xa)
    canvas = np.zeros(size, bool)
    fill_polygon(np.array(points), size).paint(canvas, 1)
    np.testing.assert_array_equal(canvas, expected)


@given(st.tuples(POINT, POINT, POINT, POINT))
def test_polygons_that_share_an_edge_share_no_pixel(corners: tuple) -> None:
    a, b, c, d = (np.array(corner) for corner in corners)
    left, right, both = (
        compose([(fill_polygon(np.array(points), (12, 12)), True)])
        for points in ([a, b, c], [c, d, a], [a, b, c, d])
    )
    pictures = []
    for region in (left, right, both):
        canvas = np.zeros((12, 12), bool)
        region.paint(canvas, 1)
        pictures.append(canvas)
    np.testing.assert_array_equal(pictures[0] ^ pictures[1], pictures[2])


def test_regions_are_added_and_cut_in_their_order() -> None:
    square = Region(0, 0, np.ones((3, 3), bool))
    middle = Region(1, 1, np.ones((1, 1), bool))
    wide = Region(-1, 2, np.ones((9, 9), bool))
    assert drawn(compose([(square, True), (middle, False)]), (3, 3)) == ["111", "101", "111"]
    assert drawn(compose([(middle, False), (square, True)]), (3, 3)) == ["111", "111", "111"]
    assert drawn(compose([(square, True), (wide, False)]), (3, 3)) == ["110", "110", "110"]


def test_thousands_of_lines_across_a_large_image_are_held_one_at_a_time() -> None:
    """A zigzag of 39 lines, each of which spans 1 MB."""
    points = np.array([[0.0, 0.0], [1000.0, 1000.0]] * 20)
    tracemalloc.start()
    region = fill_line(points, 3, (1000, 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert region.mask_hw.sum() > 1000
    assert peak < 12e6


def test_a_region_is_clipped_on_every_side() -> None:
    region = Region(-1, -2, np.arange(30).reshape(5, 6) % 2 == 0)
    clipped = clip_region(region, (3, 3))
    assert (clipped.top, clipped.left) == (0, 0)
    np.testing.assert_array_equal(clipped.mask_hw, region.mask_hw[1:4, 2:5])
    assert clip_region(region._replace(top=9), (3, 3)).mask_hw.size == 0


def repainted(mask: np.ndarray, tolerance: float) -> np.ndarray:
    """The mask from its outlines."""
    canvas = np.zeros(mask.shape, bool)
    pieces: dict[int, list[tuple[Region, bool]]] = {}
    for outline in trace_outlines(mask, tolerance):
        region = fill_polygon(outline.points.astype(float), mask.shape)
        pieces.setdefault(outline.component, []).append((region, not outline.is_hole))
    for steps in pieces.values():
        compose(steps).paint(canvas, 1)
    return canvas


@given(st.integers(0, 2**42 - 1))
def test_exact_outlines_give_back_every_mask(bits: int) -> None:
    mask = np.array([bits >> i & 1 for i in range(42)], bool).reshape(6, 7)
    np.testing.assert_array_equal(repainted(mask, 0), mask)


def test_outlines_are_the_corners_between_pixels_and_holes_are_told() -> None:
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    outer, hole = trace_outlines(ring, 0)
    assert {*map(tuple, outer.points.tolist())} == {(0, 0), (3, 0), (3, 3), (0, 3)}
    assert {*map(tuple, hole.points.tolist())} == {(1, 1), (2, 1), (2, 2), (1, 2)}
    assert (outer.is_hole, hole.is_hole) == (False, True)
    assert (outer.area, hole.area) == (9, 1)
    assert outer.component == hole.component


@pytest.mark.parametrize("tolerance", [1.0, 2.0])
def test_simplified_outlines_are_off_by_no_more_than_the_tolerance(tolerance: float) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(80, 80)), 4)
    mask = noise > 0
    exact = sum(len(outline.points) for outline in trace_outlines(mask, 0))
    simple = sum(len(outline.points) for outline in trace_outlines(mask, tolerance))
    assert simple < exact / 2
    changed = repainted(mask, tolerance) != mask
    assert changed.any()
    # From a pixel's centre to the nearest centre of the other side, of which the outline is half
    # a pixel and at most a half diagonal away.
    depth = np.maximum(ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask))
    assert depth[changed].max() <= tolerance + np.sqrt(2)


def test_no_seam_opens_along_the_frame_of_the_image() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(80, 80)), 4)
    pieces = noise > 0, noise <= 0
    both = repainted(pieces[0], 2.0) | repainted(pieces[1], 2.0)
    assert both[0].all()
    assert both[-1].all()
    assert both[:, [0, -1]].all()


def test_outlines_of_a_part_are_in_the_coordinates_of_the_image() -> None:
    (part,) = trace_outlines(np.ones((2, 2), bool), 0, origin=(3, 5), size=(9, 9))
    assert {*map(tuple, part.points.tolist())} == {(5, 3), (7, 3), (7, 5), (5, 5)}


def test_a_thin_vessel_survives_simplification() -> None:
    mask = np.zeros((40, 40), bool)
    rows = np.arange(40)
    mask[rows, (20 + 8 * np.sin(rows / 6)).astype(int)] = True
    kept = repainted(mask, 1.0)
    assert (kept & mask).sum() > 0.8 * mask.sum()
