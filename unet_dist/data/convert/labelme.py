"""Reading Labelme projects: a folder with one JSON file for each image.

The format is known from its files and documents alone: Labelme is under the GPL, and neither
imported nor copied.
"""

import base64
import binascii
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_dist.data.convert.annotation import (
    Findings,
    Picture,
    Shape,
    checked_size,
    did_you_mean,
    polygon_fault,
    read_points,
    sought_image,
)
from unet_dist.data.convert.rasterise import (
    Points,
    Region,
    Size,
    clip_region,
    fill_disc,
    fill_line,
    fill_polygon,
    unite,
)
from unet_dist.data.images import EXTENSIONS, open_picture
from unet_dist.data.listing import natural_key
from unet_dist.errors import UserError
from unet_dist.runs import read_json

MOST_JSON_BYTES = 256 << 20
"""Of one file, an image of some 190 MB embedded."""

_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "BMP": ".bmp", "GIF": ".gif"}
_NUM_POINTS = {"rectangle": (2, 4), "oriented_rectangle": (4,), "circle": (2,), "point": (1,)}
_NUM_POINTS |= {"line": (2,), "mask": (2,)}
_KINDS = (*_NUM_POINTS, "polygon", "linestrip", "points")


@dataclass(frozen=True, kw_only=True)
class Pen:
    """How wide shapes without an area are drawn, in pixels."""

    line_width: float
    point_radius: float


@dataclass(frozen=True)
class LabelmeSource:
    files: tuple[Path, ...]
    root: Path
    pen: Pen
    images: Path | None = None
    """Where images are sought by their file name alone; None: where the JSON says."""
    labels: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The JSON's stem, and its folders where two are called the same."""
        times = Counter(file.stem.casefold() for file in self.files)
        return tuple(
            file.stem
            if times[file.stem.casefold()] == 1
            else "_".join(file.relative_to(self.root).with_suffix("").parts)
            for file in self.files
        )

    def read(self, index: int) -> Picture:
        file = self.files[index]
        where = str(file.relative_to(self.root))
        tree = read_json(file, max_bytes=MOST_JSON_BYTES)
        found = Findings()
        size = None
        try:
            image, suffix, size = self._image(file, tree)
        except ValueError as error:
            found.add(where, str(error))
        raw = tree.get("shapes")
        if not isinstance(raw, list):
            found.add(where, "has no list `shapes`: not a Labelme file")
            raw = []
        shapes = []
        for number, item in enumerate(raw, 1):
            try:
                shapes.append(_read_shape(item, f"{where} shape {number}", self.pen, size))
            except ValueError as error:
                found.add(f"{where} shape {number}", str(error))
        if found.faults:
            raise UserError(str(self.root), found.faults)
        assert size is not None
        return Picture(size=size, suffix=suffix, image=image, shapes=tuple(shapes))

    def _image(self, file: Path, tree: dict[str, Any]) -> tuple[Path | bytes, str, Size]:
        height, width = tree.get("imageHeight"), tree.get("imageWidth")
        embedded = tree.get("imageData")
        if embedded is not None:
            content = _from_base64(embedded, "imageData")
            suffix = _suffix_of(content)
            # The reader of images knows files only.
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"imageData{suffix}"
                path.write_bytes(content)
                return content, suffix, checked_size(path, height, width)
        name = tree.get("imagePath")
        if self.images is not None and isinstance(name, str):
            path = sought_image(self.images, name.replace("\\", "/").rpartition("/")[2])
        else:
            path = self._beside(file, name)
        suffix = path.suffix.lower()
        if suffix not in EXTENSIONS:
            raise ValueError(f"{path.name} is of a kind that is not read: save it as PNG")
        return path, suffix, checked_size(path, height, width)

    def _beside(self, file: Path, name: Any) -> Path:
        """``imagePath`` starts where the JSON is, and may lead to another folder of the project."""
        if isinstance(name, str) and not name.startswith(("/", "\\")) and name[1:2] != ":":
            folder = file.parent.relative_to(self.root)
            name = f"{folder}/{name}"
        return sought_image(self.root, name)


def open_labelme(source: Path, pen: Pen, images: Path | None) -> LabelmeSource:
    """All JSON files in a folder and below it, or one file.

    Raises:
        UserError: if there is none.
    """
    root = source if source.is_dir() else source.parent
    files = [source] if source.is_file() else [*source.rglob("*.json")]
    shown = [f for f in files if not any(p.startswith(".") for p in f.relative_to(root).parts)]
    if not shown:
        raise UserError(str(source), "no JSON file is in it: name the folder of a Labelme project")
    ordered = sorted(shown, key=lambda file: natural_key(str(file.relative_to(root))))
    return LabelmeSource(files=tuple(ordered), root=root, pen=pen, images=images)


def _read_shape(item: Any, where: str, pen: Pen, size: Size | None) -> Shape:
    """Of an image of that size, if it could be read.

    Raises:
        ValueError: saying what is wrong with the shape.
    """
    if not isinstance(item, dict):
        raise ValueError("is no JSON object")
    label, group = item.get("label"), item.get("group_id")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"has no label ({label!r:.40})")
    if group is not None and (isinstance(group, bool) or not isinstance(group, int | str)):
        raise ValueError(f"its group_id {group!r:.40} is neither a number nor null")
    kind = item.get("shape_type") or "polygon"  # files before version 3.3 have polygons only
    if kind not in _KINDS:
        close = did_you_mean(str(kind), list(_KINDS))
        raise ValueError(f"its shape_type {kind!r:.40} is unknown{close}")
    points = read_points(item.get("points"))
    wanted = _NUM_POINTS.get(kind, ())
    if wanted and len(points) not in wanted:
        raise ValueError(f"a {kind} has {' or '.join(map(str, wanted))} points, not {len(points)}")
    draw = _drawing(kind, points, item.get("mask"), pen, size)
    return Shape(label=label, where=where, draw=draw, group=None if group is None else str(group))


def _drawing(
    kind: str, points: Points, mask: Any, pen: Pen, size: Size | None
) -> Callable[[Size], Region]:
    if kind == "mask":
        content = _from_base64(mask, "mask")
        # Only tells faults now: thousands of masks, each as large as the image, fit into no memory.
        _decode_mask(points, content, size)
        return partial(_place_mask, points, content)
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        if radius == 0:
            raise ValueError("a circle whose centre is on its edge: it encloses nothing")
        return partial(fill_disc, points[0], radius)
    if kind in ("line", "linestrip"):
        return partial(fill_line, points, pen.line_width)
    if kind in ("point", "points"):
        return lambda size: unite(fill_disc(p, pen.point_radius, size) for p in points)
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if fault := polygon_fault(points):
        raise ValueError(fault)
    return partial(fill_polygon, points)


def _decode_mask(points: Points, content: bytes, size: Size | None) -> NDArray[np.bool_]:
    """The pixels between two corners, both included; some programs leave the last one out.

    Raises:
        ValueError: saying what is wrong with the mask, such as that the image is smaller.
    """
    width, height = (np.abs(points[1] - points[0]).astype(np.int64) + 1).tolist()
    try:
        # Opening reads the header alone: nothing is unpacked before the size is known.
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            fault = None
            if not (0 <= width - image.width <= 1 and 0 <= height - image.height <= 1):
                fault = (
                    f"its mask is {image.width} x {image.height} pixels (width x height), but its "
                    f"points enclose {width} x {height}"
                )
            elif size is not None and (image.height > size[0] or image.width > size[1]):
                fault = (
                    f"its mask is {image.width} x {image.height} pixels (width x height), larger "
                    f"than its image of {size[1]} x {size[0]}"
                )
            elif image.mode not in ("1", "L", "P", "I;16"):
                fault = f"its mask is a PNG of kind {image.mode}, not grey"
            mask_hw = np.zeros((0, 0), np.bool_) if fault else np.asarray(image) != 0
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, zlib.error and others.
        raise ValueError("its mask is not a whole PNG image, or has too many pixels") from error
    if fault:
        raise ValueError(fault)
    return np.asarray(mask_hw)


def _place_mask(points: Points, content: bytes, size: Size) -> Region:
    left, top = np.floor(points.min(axis=0)).astype(int).tolist()
    return clip_region(Region(top, left, _decode_mask(points, content, size)), size)


def _from_base64(encoded: Any, key: str) -> bytes:
    if not isinstance(encoded, str) or not encoded:
        raise ValueError(f"its {key} is not base64 text")
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"its {key} is not base64 text: {error}") from error


def _suffix_of(content: bytes) -> str:
    try:
        with open_picture(BytesIO(content)) as image:
            kind = image.format or ""
    except Exception as error:  # as above
        raise ValueError("its imageData is no image, or one of too many pixels") from error
    if kind not in _SUFFIXES:
        raise ValueError(f"its imageData is of kind {kind}: save the image as PNG")
    return _SUFFIXES[kind]
