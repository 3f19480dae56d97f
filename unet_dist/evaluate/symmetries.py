"""Test-time augmentation: mirrored and turned views of a tile, and the way back.

The eight symmetries of the square (the group D4) are exact on pixels, so that nothing is
interpolated, and a square tile keeps its shape, as a compiled graph wants.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_dist.config import Tta


@dataclass(frozen=True)
class Symmetry:
    """First a transposition, if any, then mirrors of rows and columns."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def apply(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.transpose:
            x_nchw = x_nchw.swapaxes(2, 3)
        return np.ascontiguousarray(self._flipped(x_nchw))

    def undo(self, y_nkhw: NDArray[np.float32]) -> NDArray[np.float32]:
        y_nkhw = self._flipped(y_nkhw)
        return y_nkhw.swapaxes(2, 3) if self.transpose else y_nkhw

    def _flipped(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.flip_rows:
            x_nchw = x_nchw[:, :, ::-1]
        return x_nchw[:, :, :, ::-1] if self.flip_columns else x_nchw


def symmetries(tta: Tta) -> Sequence[Symmetry]:
    """none: the tile itself; flip: 4 mirrored views; d4: 8, mirrored and turned."""
    mirrors = (False,) if tta == "none" else (False, True)
    transposes = (False, True) if tta == "d4" else (False,)
    return [Symmetry(t, r, c) for t in transposes for r in mirrors for c in mirrors]
