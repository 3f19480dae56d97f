"""Finding files and pairing them, with every fault kept beside what was found."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from unet_dist.data.images import EXTENSIONS
from unet_dist.data.sample import Sample

MOST_LISTED = 20
"""Faults of one sort that are spelled out; the rest are counted."""

KINDS = " ".join(sorted(extension[1:] for extension in EXTENSIONS))


@dataclass(kw_only=True)
class Listing:
    """What was found: samples that are complete, and what is wrong with the others."""

    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a user should know although nothing is wrong."""


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts ``slice 9`` before ``slice 10``; a total order on distinct strings."""
    parts = re.split(r"([0-9]+)", text)  # every second part is a number
    words = ((-1, 0, part) for part in parts[::2])
    numbers = ((int(part), len(part), "") for part in parts[1::2])
    mixed = [part for both in zip_longest(words, numbers) for part in both if part is not None]
    return (*mixed, (-2, 0, text))


def files_of(folder: Path, listing: Listing) -> dict[str, Path]:
    """The images directly in a folder by stem; hidden files and other kinds are passed over."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.name.startswith(".") or path.suffix.lower() not in EXTENSIONS:
            continue
        if path.is_file():
            found.setdefault(path.stem, []).append(path)
        elif path.is_symlink():
            listing.faults.append(f"{path} is a link to a file that does not exist")
    for stem, paths in found.items():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            listing.faults.append(f"{folder.name} has {names}: keep one file of the name {stem}")
    return {stem: paths[0] for stem, paths in found.items()}


def pair(
    images: Mapping[str, Path], masks: Mapping[str, Path], listing: Listing, *, suffix: str
) -> dict[str, Path]:
    """The mask of each image by the image's key; what has no partner becomes a fault.

    The mask of image ``a`` is called ``a<suffix>``, with any extension.
    """
    pairs = {key: masks[key + suffix] for key in images if key + suffix in masks}
    lonely_images = [key for key in images if key not in pairs]
    used = {key + suffix for key in pairs}
    lonely_masks = [stem for stem in masks if stem not in used]
    _report(
        listing,
        [f"{images[key].name} has no mask{_hint(key, lonely_masks)}" for key in lonely_images],
        "images have no mask",
    )
    stems = [stem.removesuffix(suffix) for stem in lonely_masks]
    _report(
        listing,
        [
            f"{masks[mask].name} belongs to no image{closest(stem, lonely_images)}"
            for mask, stem in zip(lonely_masks, stems, strict=True)
        ],
        "masks belong to no image",
    )
    return pairs


def closest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names)[:500], n=1, cutoff=0.6)
    return f"; the closest name is {close[0]}" if close else ""


def _hint(stem: str, masks: list[str]) -> str:
    longer = [mask for mask in masks if mask.startswith(stem) and mask != stem]
    if len(longer) == 1:
        return f"; {longer[0]} is there: data.mask_suffix={longer[0][len(stem) :]}?"
    return closest(stem, masks)


def _report(listing: Listing, faults: list[str], many: str) -> None:
    listing.faults += faults[:MOST_LISTED]
    if len(faults) > MOST_LISTED:
        listing.faults.append(f"{len(faults) - MOST_LISTED} more {many}")
