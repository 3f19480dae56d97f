"""What every source of annotations gives: pictures with labelled shapes."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unet_dist.data.convert.rasterise import Points, Region, Size
from unet_dist.data.images import image_size, page_count
from unet_dist.data.raster import TRAINING_LIMIT
from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError

BACKGROUND = "_background_"
IGNORED = "__ignore__"
"""Labels that Labelme's own label files reserve."""

FURTHEST = 1e6
"""Coordinates beyond this are damage: no image is a million pixels wide."""
MOST_POINTS = 100_000
"""Points of one shape."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    label: str
    where: str
    """File and number, for messages."""
    draw: Callable[[Size], Region]
    group: str | None = None
    """Shapes of one label and one group are one object; None stands alone."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image and its shapes, in the order in which they are painted."""

    size: Size
    suffix: str
    """Of the image file, such as ``.png``."""
    image: Path | bytes
    """The file, or what it would hold."""
    shapes: tuple[Shape, ...]


class Source(Protocol):
    """A project of annotations; pictures are read one by one, since together they are large."""

    @property
    def names(self) -> tuple[str, ...]:
        """The stem of each picture's files, different for each."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that the project declares, used or not."""
        ...

    def read(self, index: int) -> Picture:
        """Raises UserError with every fault of the picture."""
        ...


@dataclass
class Findings:
    """Faults of one file, each with its place."""

    faults: list[str] = field(default_factory=list)

    def add(self, where: str, fault: str) -> None:
        self.faults.append(f"{where}: {fault}")


def read_points(raw: Any) -> Points:
    """Pairs ``[[x, y], ...]`` or their flat list ``[x, y, ...]`` as n x 2.

    Raises:
        ValueError: saying what is wrong with them.
    """
    if not isinstance(raw, list) or not raw:
        raise ValueError("has no points")
    if len(raw) > 2 * MOST_POINTS:
        raise ValueError(f"has more than {MOST_POINTS} points")
    try:
        values = np.asarray(raw)
    except ValueError:
        values = np.empty(0, object)
    flat = values.ndim == 1 and len(values) % 2 == 0
    if values.dtype.kind not in "iuf" or not (flat or values.shape[1:] == (2,)):
        raise ValueError("its points are not pairs of numbers x, y")
    points = values.reshape(-1, 2).astype(np.float64)
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not a finite number")
    if np.abs(points).max() > FURTHEST:
        raise ValueError(f"a coordinate is beyond {FURTHEST:.0f} pixels")
    return points


def polygon_fault(points: Points) -> str | None:
    """Why the points enclose nothing, or None."""
    aside = points - points[0]
    far = aside[np.argmax(np.abs(aside).max(axis=1))]
    # Twice the area between the longest chord from the first point and each other point.
    areas = np.abs(far[0] * aside[:, 1] - far[1] * aside[:, 0])
    if areas.max() >= 1e-9 * max(float(np.abs(far).max()), 1) ** 2:
        return None
    different = len(np.unique(points, axis=0))
    if different < 3:
        return f"a polygon of {different} different point{'s' * (different > 1)}: it needs 3"
    return "all points of the polygon lie on one line: it encloses nothing"


def sought_image(root: Path, name: Any) -> Path:
    """The file below ``root`` that an annotation names, which is not trusted.

    Raises:
        ValueError: if it is absolute, outside, missing or of a kind that is not read.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"names no image ({name!r:.40})")
    spelled = name.replace("\\", "/")  # Labelme on Windows
    if spelled.startswith("/") or spelled[1:2] == ":":
        raise ValueError(f"{name} is an absolute path: pass --images with the folder of the images")
    try:
        path = (root / spelled).resolve()
        if not path.is_relative_to(root.resolve()):
            raise ValueError(
                f"{name} is outside of {root}: pass --images with the folder of the images"
            )
        if not path.is_file():
            beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            raise ValueError(f"no image {root / spelled}{did_you_mean(path.name, beside)}")
    except OSError as error:
        raise ValueError(f"{name:.80}: {error.strerror}") from error
    return path


def checked_size(path: Path, height: Any, width: Any) -> Size:
    """The image's height and width, which must be the ones declared, if they are.

    Raises:
        ValueError: naming both sizes, or what is wrong with the image.
    """
    try:
        size = image_size(ImageRef(path=path))
        pages = page_count(path)
    except UserError as error:
        raise ValueError(f"{path.name}: " + "; ".join(error.faults)) from error
    limit = TRAINING_LIMIT
    if size[0] * size[1] > limit.pixels or max(size) > limit.side:
        raise ValueError(
            f"{path.name} is {size[0]} x {size[1]}, more than {limit.pixels} pixels or "
            f"{limit.side} a side: {limit.advice}"
        )
    if pages > 1:
        raise ValueError(f"{path.name} is a stack of {pages} pages: save each as a file")
    for name, declared, real in (("height", height, size[0]), ("width", width, size[1])):
        if declared is not None and declared != real:
            raise ValueError(
                f"the annotation is for an image of {name} {declared!r:.20}, but {path.name} is "
                f"{size[0]} x {size[1]} (height x width): was it scaled after it was annotated?"
            )
    return size


def did_you_mean(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names[:2000], n=1, cutoff=0.6)
    return f"; the closest name is {close[0]}" if close else ""
