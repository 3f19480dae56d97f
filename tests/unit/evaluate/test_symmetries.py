import numpy as np
import pytest

from unet_dist.evaluate.symmetries import Tta, symmetries


@pytest.mark.parametrize(("tta", "number"), [("none", 1), ("flip", 4), ("d4", 8)])
def test_each_symmetry_is_another_view_and_is_undone_exactly(tta: Tta, number: int) -> None:
    tile = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    seen = [symmetry.apply(tile) for symmetry in symmetries(tta)]
    assert len({view.tobytes() for view in seen}) == number
    for symmetry, view in zip(symmetries(tta), seen, strict=True):
        assert view.flags.c_contiguous
        assert np.array_equal(symmetry.undo(view), tile)
