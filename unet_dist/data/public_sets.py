"""The layouts and official divisions of four public data sets, as their owners publish them."""

import re
from collections.abc import Mapping
from pathlib import Path

from unet_dist.config_data import DataConfig
from unet_dist.data.images import page_count
from unet_dist.data.listing import Listing, files_of, pair
from unet_dist.data.sample import ImageRef, Sample

CHASE_LAST_TRAIN = 4
"""Patients 1 to 4, the first 8 images, train; the other 20 images test (Galdran, Idiap)."""
CHASE_FOV_FOLDERS = ("masks-fov", "masks_fov", "masks", "mask", "FOV", "fov")
STARE_LAST_TRAIN = 139
"""Number of the tenth of the 20 images: the first ten train and the last ten test."""
ISBI_SLICES = 30
ISBI_LAST_TRAIN = 19
"""The challenge's test labels were never published, so its 30 training slices are divided."""


def list_isbi2012(root: Path, config: DataConfig, listing: Listing) -> None:
    """``train-volume.tif`` and ``train-labels.tif``; test-volume.tif has no labels: left out.

    All slices are of one animal, so there is but one patient, who can't be divided. The field
    divides the slices nevertheless and averages over them; so each is a group of its own, with
    an interval over slices, of which ``balance.stack_warnings`` says what it holds for. Folds are
    blocks of slices (``splits.split_samples``), since neighbours, 50 nm apart, are nearly alike.
    """
    volume, labels = root / "train-volume.tif", root / "train-labels.tif"
    for path in (volume, labels):
        if not path.is_file():
            listing.faults.append(f"no file {path.name}: is data.root the ISBI 2012 folder?")
    if listing.faults:
        return
    pages, label_pages = page_count(volume), page_count(labels)
    if pages != label_pages:
        listing.faults.append(
            f"{volume.name} has {pages} slices but {labels.name} has {label_pages}: "
            "is one of them truncated?"
        )
        return
    if pages != ISBI_SLICES:
        listing.notes.append(
            f"{pages} slices instead of {ISBI_SLICES}: slices 0-{ISBI_LAST_TRAIN} train, "
            "those that follow test"
        )
    for page in range(pages):
        listing.samples.append(
            Sample(
                id=f"slice-{page:02d}",
                group=f"slice-{page:02d}",
                image=ImageRef(path=volume, page=page),
                mask=ImageRef(path=labels, page=page),
                subset="train" if page <= ISBI_LAST_TRAIN else "test",
            )
        )


def list_drive(root: Path, config: DataConfig, listing: Listing) -> None:
    """``training|test/{images,1st_manual,2nd_manual,mask}``, files paired by their number.

    Only the test images have a second observer, so with observer: second the training masks
    are still the first's. Without test masks (the grand-challenge download) the test images
    are left out. Both are notes of the listing.
    """
    for folder, subset in (("training", "train"), ("test", "test")):
        second = subset == "test" and config.observer == "second"
        manual, suffix = ("2nd_manual", "_manual2") if second else ("1st_manual", "_manual1")
        if subset == "test" and not (root / folder / manual).is_dir():
            listing.notes.append(f"no folder {folder}/{manual}, so there is no test image")
            continue
        needed = ["images", manual, *(["mask"] if config.fov == "file" else [])]
        absent = [name for name in needed if not (root / folder / name).is_dir()]
        if absent:
            listing.faults += [
                f"no folder {folder}/{name}: is data.root the DRIVE folder?" for name in absent
            ]
            continue
        files = files_of(root / folder / "images", listing)
        images = {stem.removesuffix(f"_{folder}"): path for stem, path in files.items()}
        masks = files_of(root / folder / manual, listing)
        fovs = None
        if config.fov == "file":
            end = f"_{folder}_mask"
            found = files_of(root / folder / "mask", listing)
            fovs = {stem.removesuffix(end): path for stem, path in found.items()}
        for number, mask in pair(images, masks, listing, suffix=suffix).items():
            _add(listing, number, images[number], mask, fovs, group=number, subset=subset)
    if config.observer == "second":
        listing.notes.append(
            "the second observer saw the test images only: training masks are the first's"
        )


def list_chasedb1(root: Path, config: DataConfig, listing: Listing) -> None:
    """Flat ``Image_01L.jpg``, ``Image_01L_1stHO.png``; left and right eye are one patient."""
    files = files_of(root, listing)
    images = {stem: path for stem, path in files.items() if re.fullmatch(r"Image_\d+[LR]", stem)}
    suffix = "_1stHO" if config.observer == "first" else "_2ndHO"
    masks = {stem: path for stem, path in files.items() if stem.endswith(suffix)}
    if not images:
        listing.faults.append("no Image_01L.jpg and so on: is data.root the CHASE_DB1 folder?")
        return
    fovs = None
    if config.fov == "file":
        folder = next((name for name in CHASE_FOV_FOLDERS if (root / name).is_dir()), None)
        if folder is None:
            listing.faults.append(
                "data.fov=file: CHASE_DB1 comes without field-of-view masks; put them into "
                "masks-fov/Image_01L.gif and so on, or use data.fov=estimate"
            )
            return
        found = files_of(root / folder, listing)
        fovs = {m[0]: path for stem, path in found.items() if (m := _CHASE_NAME.match(stem))}
    for stem, mask in pair(images, masks, listing, suffix=suffix).items():
        patient = int(stem[len("Image_") : -1])
        subset = "train" if patient <= CHASE_LAST_TRAIN else "test"
        _add(listing, stem, images[stem], mask, fovs, group=stem[:-1], subset=subset)


_CHASE_NAME = re.compile(r"Image_\d+[LR]")


def list_stare(root: Path, config: DataConfig, listing: Listing) -> None:
    """``stare-images/im0001.ppm`` with ``labels-ah`` (first) or ``labels-vk`` (second)."""
    folder, suffix = ("labels-ah", ".ah") if config.observer == "first" else ("labels-vk", ".vk")
    for name in ("stare-images", folder):
        if not (root / name).is_dir():
            listing.faults.append(f"no folder {name}: is data.root the STARE folder?")
        elif packed := sorted((root / name).glob("*.gz")):
            listing.faults.append(
                f"{name} has {len(packed)} packed files such as {packed[0].name}: "
                f"run gunzip {name}/*.gz"
            )
    if listing.faults:
        return
    images = files_of(root / "stare-images", listing)
    masks = files_of(root / folder, listing)
    for stem, mask in pair(images, masks, listing, suffix=suffix).items():
        number = int(re.sub(r"\D", "", stem) or 0)
        subset = "train" if number <= STARE_LAST_TRAIN else "test"
        _add(listing, stem, images[stem], mask, None, group=stem, subset=subset)


def other_observer(mask: Path, layout: str) -> Path | None:
    """The file in which the other observer drew the same image; None if there is none."""
    if layout not in _OBSERVERS:
        return None
    folders, ends = _OBSERVERS[layout]
    own = 0 if mask.stem.endswith(ends[0]) else 1
    folder = mask.parent.parent / folders[1 - own] if folders else mask.parent
    stem = mask.stem.removesuffix(ends[own]) + ends[1 - own]
    files = files_of(folder, Listing()) if folder.is_dir() else {}
    return files.get(stem)


_OBSERVERS: dict[str, tuple[tuple[str, str] | None, tuple[str, str]]] = {
    "drive": (("1st_manual", "2nd_manual"), ("_manual1", "_manual2")),
    "chasedb1": (None, ("_1stHO", "_2ndHO")),
    "stare": (("labels-ah", "labels-vk"), (".ah", ".vk")),
}
"""Folders and ends of the mask's names: the first observer's and the second's."""


def _add(
    listing: Listing,
    key: str,
    image: Path,
    mask: Path,
    fovs: Mapping[str, Path] | None,
    *,
    group: str,
    subset: str,
) -> None:
    fov = None if fovs is None else fovs.get(key)
    if fovs is not None and fov is None:
        listing.faults.append(f"{image.name} has no field-of-view mask")
        return
    listing.samples.append(
        Sample(
            id=image.stem,
            group=group,
            image=ImageRef(path=image),
            mask=ImageRef(path=mask),
            fov=None if fov is None else ImageRef(path=fov),
            subset=subset,
        )
    )
