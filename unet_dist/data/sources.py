"""Which files are a data set's images, masks and fields of view, for each layout."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from unet_dist.config_data import DataConfig
from unet_dist.data.images import page_count
from unet_dist.data.listing import (
    KINDS,
    Listing,
    closest,
    each_or_together,
    files_of,
    natural_key,
    pair,
)
from unet_dist.data.public_sets import list_chasedb1, list_drive, list_isbi2012, list_stare
from unet_dist.data.sample import ImageRef, Sample
from unet_dist.errors import UserError


def list_samples(config: DataConfig) -> list[Sample]:
    """All samples, in natural order of their ids.

    Raises:
        UserError: with every missing pair and every other fault of the listing.
    """
    listing = scan_samples(config)
    if listing.faults:
        raise UserError(config.root or "data.root", listing.faults)
    return listing.samples


def scan_samples(config: DataConfig) -> Listing:
    """As ``list_samples``, but the faults come beside the samples that are complete."""
    if not config.root:
        return Listing(faults=["no data set was named: pass data.root=DIR"])
    root = Path(config.root)
    if not root.is_dir():
        fault = f"data.root={root}: no such directory; set it to that of the data set"
        return Listing(faults=[fault])
    listing = Listing(faults=_without_effect(config))
    try:
        _LAYOUTS[config.format](root, config, listing)
    except UserError as error:  # a stack whose header cannot be read
        listing.faults += [f"{error.where}: {fault}" for fault in error.faults]
    _regroup(listing, config.split.group)
    listing.samples.sort(key=lambda sample: natural_key(sample.id))
    ids = [sample.id for sample in listing.samples]
    listing.faults += each_or_together(
        sorted({id_ for id_, following in pairwise(ids) if id_ == following}),
        lambda id_: f"two images have the id {id_}: rename one",
        "ids are those of two images",
        "rename one of each",
    )
    if not listing.samples and not listing.faults:
        listing.faults.append(f"no image was found in the layout data.format={config.format}")
    return listing


def _without_effect(config: DataConfig) -> list[str]:
    faults = []
    if config.observer == "second" and not config.is_retina:
        faults.append(
            f"data.observer=second has no effect: data.format={config.format} has one observer"
        )
    if config.fov == "file" and config.format in ("isbi2012", "stare"):
        faults.append(
            f"data.fov=file: {config.format} comes without field-of-view masks; "
            "use data.fov=estimate or none"
        )
    return faults


def _folder(root: Path, config: DataConfig, listing: Listing) -> None:
    """``images/NAME.png`` and ``masks/NAME<mask_suffix>.png``; a TIFF stack is one patient."""
    suffix = config.mask_suffix
    folders = {"images": config.images, "masks": config.masks}
    if config.fov == "file":
        folders["fov_masks"] = config.fov_masks
    for key, name in folders.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            listing.faults.append(f"data.{key}={name} must be a folder below data.root")
        elif not (root / name).is_dir():
            inside = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())[:8]) or "none"
            listing.faults.append(f"no folder {name}: set data.{key}; folders here: {inside}")
    together = Path(config.images) == Path(config.masks)
    if together and not suffix:
        listing.faults.append(
            f"images and masks are both in {config.images}: set data.mask_suffix, such as _mask"
        )
    if listing.faults:
        return
    images = files_of(root / config.images, listing)
    masks = files_of(root / config.masks, listing)
    if together:
        masks = {stem: path for stem, path in images.items() if stem.endswith(suffix)}
        images = {stem: path for stem, path in images.items() if stem not in masks}
    if not images:
        listing.faults.append(f"no image in {config.images}: {KINDS} are read")
        return
    pairs = pair(images, masks, listing, suffix=suffix)
    fovs: dict[str, Path] = {}
    if config.fov == "file":
        fovs = files_of(root / config.fov_masks, listing)
        listing.faults += each_or_together(
            [stem for stem in pairs if stem not in fovs],
            lambda stem: f"{images[stem].name} has no field-of-view mask{closest(stem, fovs)}",
            f"of {len(images)} images have no field-of-view mask",
            f"put files of their names into {config.fov_masks}, or use data.fov=estimate",
        )
        pairs = {stem: mask for stem, mask in pairs.items() if stem in fovs}
    for stem, mask in pairs.items():
        _add_pages(listing, stem, images[stem], mask, fovs.get(stem))


def _add_pages(listing: Listing, stem: str, image: Path, mask: Path, fov: Path | None) -> None:
    try:
        pages, mask_pages, fov_pages = map(_pages, (image, mask, fov))
    except UserError as error:
        listing.faults += [f"{error.where}: {fault}" for fault in error.faults]
        return
    if pages != mask_pages:
        listing.faults.append(
            f"{image.name} has {pages} pages but {mask.name} has {mask_pages}: is one truncated?"
        )
        return
    if fov_pages not in (1, pages):
        listing.faults.append(f"{image.name} has {pages} pages but its fov mask {fov_pages}")
        return
    width = max(3, len(str(pages - 1)))
    for page in range(pages):
        listing.samples.append(
            Sample(
                id=stem if pages == 1 else f"{stem}-{page:0{width}d}",
                group=stem,
                image=ImageRef(path=image, page=page),
                mask=ImageRef(path=mask, page=page),
                fov=ImageRef(path=fov, page=page if fov_pages > 1 else 0) if fov else None,
            )
        )


def _pages(path: Path | None) -> int:
    """Number of pages; files of other kinds are not opened, which takes long on a network."""
    return page_count(path) if path and path.suffix.lower() in (".tif", ".tiff") else 1


def _regroup(listing: Listing, pattern: str) -> None:
    """Takes the patient from the sample id where the configuration says how."""
    if not pattern:
        return
    try:
        expression = re.compile(pattern)
    except re.error as error:
        listing.faults.append(f"data.split.group={pattern} is no regular expression: {error}")
        return
    if expression.groups < 1:
        listing.faults.append(
            f"data.split.group={pattern} has no group: put the patient in (), such as ^(.+)_"
        )
        return
    regrouped, unmatched = [], []
    for sample in listing.samples:
        match = expression.search(sample.id)
        if match is None or match[1] is None:
            unmatched.append(sample.id)
        else:
            regrouped.append(replace(sample, group=match[1]))
    listing.faults += each_or_together(
        unmatched,
        lambda id_: f"data.split.group={pattern} does not match the id {id_}",
        f"of {len(listing.samples)} ids are not matched by data.split.group={pattern}",
        "change the pattern, or rename these images",
    )
    listing.samples[:] = regrouped


_LAYOUTS: dict[str, Callable[[Path, DataConfig, Listing], None]] = {
    "folder": _folder,
    "labelmap": _folder,
    "isbi2012": list_isbi2012,
    "drive": list_drive,
    "chasedb1": list_chasedb1,
    "stare": list_stare,
}
