"""The unit that everything else counts: one image with its mask."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""Class number of pixels that count neither in the loss nor in the metrics."""


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """One image on disk: a file, or one page of a TIFF stack (0-based)."""

    path: Path
    page: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"path": str(self.path), "page": self.page}

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> Self:
        return cls(path=Path(tree["path"]), page=tree["page"])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image, its mask and its field of view, not yet read."""

    id: str
    group: str
    """Patient, or whatever must never be on both sides of a split."""
    image: ImageRef
    mask: ImageRef | None
    fov: ImageRef | None = None
    subset: str = ""
    """``train`` or ``test`` where the data set itself says so, else empty."""


class Example(NamedTuple):
    """A sample that was read, before augmentation."""

    image_hwc: NDArray[np.float32]
    """Height x width x channels, 0..1 of the file's full range."""
    target_hw: NDArray[np.uint8]
    """Class numbers, ``IGNORE`` where the mask says so."""
    fov_hw: NDArray[np.bool_]
    """True inside the field of view."""
