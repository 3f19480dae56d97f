"""Masks to a Labelme project, in which a person can correct them.

Each connected piece of a class is one shape. Labelme has no polygons with holes: a hole is a
polygon of its own with the label ``_background_``, and piece and hole share one group_id, by which
they are put together again, and which tells other readers nothing wrong: the hole follows the
piece, so whoever paints in order gets the same. Shapes of the kind ``mask`` keep every pixel, but
Labelme can only move and delete them.
"""

import base64
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from unet_dist.data.convert.annotation import BACKGROUND, IGNORED
from unet_dist.data.convert.outline import trace_outlines
from unet_dist.data.convert.output import RECORD, raise_faults, staged_folder, write_yaml
from unet_dist.data.images import image_size, page_count, read_image
from unet_dist.data.sample import IGNORE, ImageRef
from unet_dist.errors import UserError

Kind = Literal["polygon", "mask"]

_FORMAT_VERSION = "5.4.1"
"""Of Labelme's JSON; the first with masks was 5.4."""


@dataclass(frozen=True, kw_only=True)
class MaskedImage:
    """An image and the way to its mask."""

    name: str
    image: ImageRef
    mask: ImageRef
    read_mask: Callable[[], NDArray[np.integer]]
    """Class numbers with ``IGNORE``, or object numbers; height x width."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How masks become shapes."""

    kind: Kind
    tolerance: float
    """Pixels that a polygon may be off."""
    names: tuple[str, ...]
    """Of the classes, background first."""
    instances: bool
    """Masks hold object numbers, all of the class 1."""
    min_area: int = 0
    """Pieces and holes of fewer pixels are left out; of objects, whole ones."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What became of masks."""

    shapes: int
    left_out: int
    """Pieces and holes that were too small."""


def write_labelme(
    images: Sequence[MaskedImage],
    out: Path,
    drawing: Drawing,
    *,
    record: dict[str, Any],
    on_progress: Callable[[int, int], None],
) -> Drawn:
    """Writes the images, a JSON for each and labels.txt.

    Raises:
        UserError: with every mask that cannot be read, is of another size than its image or has
            a class without a name; before anything is written.
    """
    _check(images, drawing)
    shapes = left_out = 0
    with staged_folder(out) as folder:
        for index, item in enumerate(images):
            drawn = _write_one(folder, item, drawing)
            shapes, left_out = shapes + drawn.shapes, left_out + drawn.left_out
            on_progress(index + 1, len(images))
        labels = [IGNORED, BACKGROUND, *drawing.names[1:]]
        (folder / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
        comment = (
            "# Written by `unet-dist data convert`, which may replace this folder by --force.\n"
        )
        counts = {"shapes": shapes, "left_out": left_out}
        write_yaml(folder / RECORD, comment, {**record, **counts})
    return Drawn(shapes=shapes, left_out=left_out)


def draw_shapes(mask_hw: NDArray[np.integer], drawing: Drawing) -> tuple[list[dict[str, Any]], int]:
    """The shapes of one mask as Labelme keeps them, and how many were too small."""
    drawn: list[tuple[float, dict[str, Any]]] = []
    group = left_out = 0
    for value, top, left, piece_hw in _pieces(mask_hw, by_value=drawing.instances):
        area = np.count_nonzero(piece_hw)
        if area < drawing.min_area:
            left_out += 1
            continue
        label = _label_of(value, drawing)
        number = value if drawing.instances else None
        if drawing.kind == "mask":
            small = _fill_small_holes(piece_hw, drawing.min_area)
            left_out, area = left_out + small, np.count_nonzero(piece_hw)
            shape = _mask_shape(label, number, top, left, piece_hw)
            drawn.append((float(area), shape))
            continue
        traced = trace_outlines(piece_hw, drawing.tolerance, origin=(top, left), size=mask_hw.shape)
        # Without its polygon a hole is filled; what else lies in it is painted over that later.
        outlines = [one for one in traced if not (one.is_hole and one.area < drawing.min_area)]
        left_out += len(traced) - len(outlines)
        if number is None and any(outline.is_hole for outline in outlines):
            group += 1
            number = group
        for outline in outlines:
            name = BACKGROUND if outline.is_hole else label
            points = outline.points.astype(float).tolist()
            shape = _shape(name, number, "polygon", points)
            # A hole comes before what fills it exactly.
            drawn.append((outline.area + 0.5 * outline.is_hole, shape))
    return [shape for _, shape in sorted(drawn, key=lambda item: -item[0])], left_out


def _fill_small_holes(piece_hw: NDArray[np.bool_], min_area: int) -> int:
    """Of fewer pixels than that, in place; how many there were."""
    holes_hw, count = ndimage.label(ndimage.binary_fill_holes(piece_hw) & ~piece_hw)
    small = np.bincount(holes_hw.ravel(), minlength=count + 1) < min_area
    small[0] = False
    piece_hw |= small[holes_hw]
    return int(np.count_nonzero(small))


def _check(images: Sequence[MaskedImage], drawing: Drawing) -> None:
    faults = []
    for item in images:
        try:
            mask_hw = item.read_mask()
            size = image_size(item.image)
        except UserError as error:
            faults += [f"{error.where}: {fault}" for fault in error.faults]
            continue
        if size != mask_hw.shape:
            faults.append(
                f"{item.mask.path.name} is {mask_hw.shape[0]} x {mask_hw.shape[1]}, but its image "
                f"{item.image.path.name} is {size[0]} x {size[1]} (height x width)"
            )
        if drawing.instances:
            continue
        nameless = {*np.unique(mask_hw).tolist()} - {*range(len(drawing.names)), IGNORE}
        if nameless:
            values = ", ".join(map(str, sorted(nameless)[:8]))
            faults.append(
                f"{item.mask.path.name} has the value {values}, but names are there for 1 to "
                f"{len(drawing.names) - 1}: name more by --labels, or pass --instances if the "
                "values number objects"
            )
    raise_faults("masks", faults)


def _write_one(folder: Path, item: MaskedImage, drawing: Drawing) -> Drawn:
    mask_hw = item.read_mask()
    shapes, left_out = draw_shapes(mask_hw, drawing)
    if page_count(item.image.path) > 1:
        image = f"{item.name}.png"
        _write_png(folder / image, read_image(item.image))
    else:
        image = item.name + item.image.path.suffix.lower()
        shutil.copyfile(item.image.path, folder / image)
    tree = {
        "version": _FORMAT_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": mask_hw.shape[0],
        "imageWidth": mask_hw.shape[1],
    }
    text = json.dumps(tree, indent=2, ensure_ascii=False)
    (folder / f"{item.name}.json").write_text(text, encoding="utf-8")
    return Drawn(shapes=len(shapes), left_out=left_out)


def _write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    # Pillow has no 16-bit colour.
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(bgr))[1].tobytes())


def _pieces(
    mask_hw: NDArray[np.integer], *, by_value: bool
) -> Iterator[tuple[int, int, int, NDArray[np.bool_]]]:
    """Value, top, left and pixels of each connected piece (8-connected), or of each value."""
    values, places_hw = np.unique(mask_hw, return_inverse=True)
    if by_value:
        boxes = ndimage.find_objects(places_hw.reshape(mask_hw.shape) + 1)
        for value, box in zip(values.tolist(), boxes, strict=True):
            if value:
                yield value, box[0].start, box[1].start, mask_hw[box] == value
        return
    for value in values.tolist():
        if value == 0:
            continue
        whole = np.asarray(mask_hw == value, np.uint8)
        _, numbers_hw, boxes, _ = cv2.connectedComponentsWithStats(whole, connectivity=8)
        for number, (left, top, width, height, _) in enumerate(boxes.tolist()[1:], 1):
            window = numbers_hw[top : top + height, left : left + width]
            yield value, top, left, window == number


def _label_of(value: int, drawing: Drawing) -> str:
    if drawing.instances:
        return drawing.names[1]
    return IGNORED if value == IGNORE else drawing.names[value]


def _mask_shape(
    label: str, group: int | None, top: int, left: int, piece_hw: NDArray[np.bool_]
) -> dict[str, Any]:
    stream = BytesIO()
    Image.fromarray(piece_hw.astype(np.uint8)).save(stream, format="PNG")
    height, width = piece_hw.shape
    corners = [[left, top], [left + width - 1, top + height - 1]]
    shape = _shape(label, group, "mask", [[float(x), float(y)] for x, y in corners])
    return shape | {"mask": base64.b64encode(stream.getvalue()).decode("ascii")}


def _shape(label: str, group: int | None, kind: str, points: list[Any]) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }
