"""Which masks are to become Labelme shapes: of a data set, or of a folder of predictions."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet_dist.config_data import DataConfig
from unet_dist.config_file import load_config
from unet_dist.data.convert.output import raise_faults
from unet_dist.data.convert.to_labelme import MaskedImage
from unet_dist.data.dataset import recognise_all
from unet_dist.data.images import page_count, read_indices
from unet_dist.data.listing import Listing, closest, files_of, some
from unet_dist.data.masks import MaskCoding, decode
from unet_dist.data.sample import ImageRef
from unet_dist.data.sources import list_samples
from unet_dist.files import read_json

PREDICTED, NUMBERED = ("_mask",), ("_objects", "_cells")
"""How the stems of the files end that ``unet-dist predict`` writes of classes and of objects."""
RECORDS = "*_prediction.json"
"""Files of its that tell what the masks are."""


def masks_of_dataset(file: Path) -> tuple[list[MaskedImage], DataConfig, bool]:
    """Every sample of a configuration's data set; its section data; whether masks number objects.

    Raises:
        UserError: with all faults of the listing, or of the masks' coding.
    """
    config = load_config(file).data
    samples = list_samples(config)
    coding = recognise_all(samples, config)
    instances = coding.kind in ("instances", "instances_border")
    images = []
    for sample in samples:
        assert sample.mask is not None  # listed samples have one
        if instances:
            read: Callable[[], NDArray[np.integer]] = partial(read_indices, sample.mask)
        else:
            read = partial(_read_classes, sample.mask, coding)
        images.append(
            MaskedImage(name=sample.id, image=sample.image, mask=sample.mask, read_mask=read)
        )
    return images, config, instances


def masks_of_folder(masks: Path, images: Path, *, instances: bool) -> list[MaskedImage]:
    """Masks NAME.png, or NAME_mask.png where there are any (of instances NAME_objects.png or
    NAME_cells.png), with the images called NAME.

    The pages of a stack NAME.tif are NAME_00, NAME_01, ..., as ``unet-dist predict`` calls them.

    Raises:
        UserError: with every mask without its image; an image without a mask is left out.
    """
    listing = Listing()
    found = files_of(masks, listing)
    endings = NUMBERED if instances else PREDICTED
    predicted = {stem: path for stem, path in found.items() if stem.endswith(endings)}
    if not predicted and instances and any(stem.endswith(PREDICTED) for stem in found):
        listing.faults.append(
            "its predictions number no objects (NAME_objects.png): leave out --instances"
        )
    with_classes = [stem.removesuffix("_mask") for stem in found if stem.endswith(PREDICTED)]
    told = {stem.rpartition("_")[0] for stem in predicted}
    if lacking := [stem for stem in with_classes if stem not in told] if predicted else []:
        listing.faults.append(
            f"{some(lacking)}: its objects are not numbered, as those of others are; --classes "
            "draws the classes of all"
        )
    references = _pages_of(images, listing)
    if not found:
        listing.faults.append("no mask is in it")
    result = []
    for stem, path in (predicted or found).items():
        name = stem.rpartition("_")[0] if predicted else stem
        if name not in references:
            near = closest(name, references)
            listing.faults.append(f"{path.name} belongs to no image of {images}{near}")
            continue
        mask = ImageRef(path=path)
        read: Callable[[], NDArray[np.integer]] = partial(read_indices, mask)
        if not instances:
            read = partial(_read_predicted, mask)
        result.append(MaskedImage(name=name, image=references[name], mask=mask, read_mask=read))
    raise_faults(str(masks), listing.faults)
    return result


def is_predicted(folder: Path) -> bool:
    """Whether ``unet-dist predict`` wrote its masks; Labelme files may have such a name, too."""
    first = min(folder.glob(RECORDS), default=None)
    return first is not None and "shapes" not in read_json(first)


def numbers_objects(folder: Path) -> bool:
    """Whether predictions in it number single objects. Cells don't count: of membranes one corrects
    the membranes."""
    return is_predicted(folder) and any(
        stem.endswith(NUMBERED[0]) for stem in files_of(folder, Listing())
    )


def predicted_names(folder: Path) -> list[tuple[str, ...]]:
    """The classes' names, background first, that the records of ``unet-dist predict`` tell; more
    than one tuple if they differ."""
    told: dict[tuple[str, ...], None] = {}
    for path in sorted(folder.glob(RECORDS)):
        record = read_json(path)
        made_by = record.get("made_by")
        # Older records tell them among the settings alone.
        older = made_by.get("data.class_names") if isinstance(made_by, dict) else None
        names = record.get("class_names") or older
        if isinstance(names, list) and len(names) > 1:
            told[tuple(map(str, names))] = None
    return list(told)


def name_faults(predicted: Sequence[tuple[str, ...]], listed: tuple[str, ...] | None) -> list[str]:
    """What in names that were listed by hand contradicts those of the predictions; another name
    for a class is none.

    Args:
        listed: background first, as ``predicted``; None if none were.
    """
    if listed is None:
        if len(predicted) < 2:
            return []
        each = "; ".join(", ".join(names[1:]) for names in predicted)
        return [f"the predictions are of different classes ({each}): list the names"]
    faults = []
    for names in predicted:
        shown = ", ".join(names[1:])
        if len(listed) != len(names):
            faults.append(
                f"{', '.join(listed[1:])}: {len(listed) - 1} where the predictions have "
                f"{len(names) - 1}: {shown}"
            )
        faults += [
            f"{label} is listed as class {number}, but is class {names.index(label)} of the "
            f"predictions: {shown}"
            for number, label in enumerate(listed)
            if number and label in names[1:] and names.index(label) != number
        ]
    return faults


def _pages_of(folder: Path, listing: Listing) -> dict[str, ImageRef]:
    references = {}
    for stem, path in files_of(folder, listing).items():
        pages = page_count(path)
        width = len(str(pages - 1))
        for page in range(pages):
            name = stem if pages == 1 else f"{stem}_{page:0{width}}"
            references[name] = ImageRef(path=path, page=page)
    return references


def _read_classes(mask: ImageRef, coding: MaskCoding) -> NDArray[np.integer]:
    return decode(read_indices(mask), coding, where=str(mask.path))


def _read_predicted(mask: ImageRef) -> NDArray[np.integer]:
    """A black and white mask is background and class 1; else values are class numbers."""
    indices_hw = read_indices(mask)
    if {*np.unique(indices_hw).tolist()} <= {0, 255}:
        return np.asarray(indices_hw != 0, np.uint8)
    return indices_hw
