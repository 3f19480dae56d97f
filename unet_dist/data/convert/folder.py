"""Annotations to the layout that ``data.format: folder`` and ``labelmap`` read."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_dist.data.colours import class_colours
from unet_dist.data.convert.annotation import Picture, Source
from unet_dist.data.convert.labels import LabelMap, all_labels
from unet_dist.data.convert.output import RECORD, raise_faults, staged_folder, write_yaml
from unet_dist.data.convert.paint import (
    MOST_OBJECTS,
    Painted,
    lost_holes,
    paint_classes,
    paint_numbers,
)
from unet_dist.data.sample import IGNORE
from unet_dist.errors import UserError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a whole project holds, without a fault."""

    shapes: Counter[str]
    """Number of shapes of each label."""
    labels: LabelMap


@dataclass(frozen=True, kw_only=True)
class Converted:
    images: int
    objects: int
    shapes: dict[str, int]
    """Number of shapes of each label."""
    pixels: dict[int, int]
    """Of each mask value, over all images; none for object numbers."""
    names: tuple[str, ...]
    notes: tuple[str, ...]


def survey(
    source: Source,
    labels: LabelMap | None,
    *,
    where: str,
    known: Sequence[str] = (),
    on_progress: Progress,
) -> Survey:
    """Reads everything once, before anything is written.

    Args:
        labels: None numbers all labels, the known ones first and the others in natural order.

    Raises:
        UserError: with all faults of all files.
    """
    names = source.names
    faults = _name_faults(names)
    shapes: Counter[str] = Counter()
    first: dict[str, str] = {}
    for index in range(len(names)):
        try:
            picture = source.read(index)
        except UserError as error:
            faults += _told(error, where)
        else:
            for shape in picture.shapes:
                shapes[shape.label] += 1
                first.setdefault(shape.label, shape.where)
            faults += [
                f"{hole.where}: a hole of the group {hole.group}, which has no object: clear its "
                "group_id if it is to paint background"
                for hole in lost_holes(picture)
            ]
        on_progress(index + 1, len(names))
    if labels is None and not faults:
        labels = all_labels([*shapes, *source.labels], known)
    if labels is not None:
        for label, number in shapes.items():
            if fault := labels.fault(label):
                cure = "list it, or add --others background (or ignore)"
                faults.append(f"{first[label]}: {fault} ({number} shapes have it): {cure}")
    raise_faults(where, faults)
    assert labels is not None
    return Survey(shapes=shapes, labels=labels)


def write_folder(
    source: Source,
    found: Survey,
    out: Path,
    *,
    instances: bool,
    record: dict[str, Any],
    on_progress: Progress,
) -> Converted:
    """Writes images/, masks/, data.yaml and a record; the folder appears whole or not at all.

    Args:
        instances: masks hold object numbers (16 bit) instead of class numbers.
        record: what else the record says.

    Raises:
        UserError: if a file has changed since the survey, or the disk is full.
    """
    pixels: Counter[int] = Counter()
    objects = 0
    unseen: list[str] = []
    stems, names = source.names, found.labels.names
    with staged_folder(out) as folder:
        for index, stem in enumerate(stems):
            picture = source.read(index)
            painted = _write_picture(folder, stem, picture, found.labels, instances)
            objects += painted.objects
            unseen += painted.unseen
            if not instances:
                counts = np.bincount(painted.mask_hw.ravel(), minlength=256)
                pixels.update({int(v): int(counts[v]) for v in np.flatnonzero(counts)})
            on_progress(index + 1, len(stems))
        data = _data_section(out, names, instances=instances, ignored=bool(pixels[IGNORE]))
        write_yaml(folder / "data.yaml", "# Written by `unet-dist data convert`.\n", data)
        result = Converted(
            images=len(stems),
            objects=objects,
            shapes=dict(found.shapes),
            pixels=dict(sorted((+pixels).items())),
            names=names,
            notes=tuple(_notes(found, unseen, instances=instances, pixels=pixels)),
        )
        write_yaml(
            folder / RECORD,
            "# Written by `unet-dist data convert`, which may replace this folder by --force.\n",
            {**record, "labels": dict(found.labels.numbers), "shapes": result.shapes},
        )
    return result


def _write_picture(
    folder: Path, name: str, picture: Picture, labels: LabelMap, instances: bool
) -> Painted:
    image = folder / "images" / f"{name}{picture.suffix}"
    mask = folder / "masks" / f"{name}.png"
    for path in (image, mask):
        path.parent.mkdir(exist_ok=True)
    if isinstance(picture.image, bytes):
        image.write_bytes(picture.image)
    else:
        shutil.copyfile(picture.image, image)
    if instances:
        painted = paint_numbers(picture, labels)
        if painted.objects > MOST_OBJECTS:
            raise UserError(name, f"{painted.objects} objects: {MOST_OBJECTS} fit into 16 bits")
        Image.fromarray(painted.mask_hw).save(mask)
    else:
        painted = paint_classes(picture, labels)
        _save_classes(painted.mask_hw, mask, len(labels.names))
    return painted


def _save_classes(mask_hw: NDArray[np.generic], path: Path, classes: int) -> None:
    """With a palette, so that any viewer shows the classes in colours."""
    colours = np.full((256, 3), 255, np.uint8)  # what is left out is white
    colours[:classes] = class_colours(classes)
    image = Image.fromarray(mask_hw)
    image.putpalette(colours.tobytes())
    image.save(path)


def _data_section(
    out: Path, names: Sequence[str], *, instances: bool, ignored: bool
) -> dict[str, Any]:
    root = str(out.resolve())
    if instances:
        return {"data": {"root": root, "format": "labelmap", "mask": "instances"}}
    section: dict[str, Any] = {"root": root, "format": "folder", "mask": "labels"}
    section |= {"classes": len(names), "class_names": list(names)}
    return {"data": section | ({"ignore": IGNORE} if ignored else {})}


def _notes(
    found: Survey, unseen: list[str], *, instances: bool, pixels: Counter[int]
) -> Iterator[str]:
    if unseen:
        more = f" and {len(unseen) - 8} more" if len(unseen) > 8 else ""
        yield (
            f"{len(unseen)} shapes cover no pixel's centre, or lie outside: "
            + ", ".join(unseen[:8])
            + more
        )
    unused = [label for label in found.labels.numbers if not found.shapes[label]]
    if unused:
        more = f" and {len(unused) - 8} more" if len(unused) > 8 else ""
        yield f"no shape has the label {', '.join(unused[:8])}{more}"
    numbers = {label: found.labels.number(label) for label in found.shapes}
    left_out = sum(found.shapes[label] for label, n in numbers.items() if n == IGNORE)
    if instances and left_out:
        yield (
            f"{left_out} shapes to be left out (crowds, __ignore__) became background: a mask of "
            "object numbers has no value for pixels that don't count"
        )
    if instances and len(found.labels.names) > 2:
        yield (
            f"object numbers tell no labels apart: {', '.join(found.labels.names[1:][:8])} are all "
            "foreground; without --instances each is a class"
        )
    rest = [label for label in numbers if found.labels.is_other(label)]
    if rest:
        yield f"not listed, so {found.labels.others}: {', '.join(sorted(rest)[:8])}"


def _name_faults(names: Sequence[str]) -> list[str]:
    """Of file names that the layout would pass over or mix up."""
    times = Counter(name.casefold() for name in names)
    faults = [f"two images would be called {name}: rename one" for name in times if times[name] > 1]
    hidden = [name for name in names if name.startswith(".") or not name]
    return faults + [
        f"the image name {name!r} is that of a hidden file: rename it" for name in hidden
    ]


def _told(error: UserError, where: str) -> list[str]:
    """Faults of the source itself stand for themselves, others with their file."""
    if error.where == where:
        return list(error.faults)
    return [f"{error.where}: {fault}" for fault in error.faults]
