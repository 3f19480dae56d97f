"""Finding files and pairing them, with every fault kept beside what was found."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from unet_dist.data.images import EXTENSIONS
from unet_dist.data.sample import Sample

MOST_LISTED = 20
"""Faults of one sort that are spelled out; the rest are counted."""
FEW = 5
"""Names up to which each has a fault of its own; a fault for all of them is shorter otherwise."""

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
    lonely = set(lonely_images)
    image_of = {mask: _beginning(mask, lonely) for mask in lonely_masks}

    def hint(key: str) -> str:
        """The mask of an image under another name, or the closest name."""
        longer = [mask for mask in lonely_masks if image_of[mask] == key]
        if len(longer) != 1 or longer[0] == key:
            return closest(key, lonely_masks)
        other, file = longer[0][len(key) :], masks[longer[0]]
        # A suffix is one for all: proposed for the sake of one mask it would lose the others.
        if sum(image + other in masks for image in images) * 2 > len(images):
            return f"; {longer[0]} is there: data.mask_suffix={other}?"
        return f"; {file.name} is there: rename it to {key}{suffix}{file.suffix}?"

    _report(
        listing,
        lonely_images,
        lambda key: f"{images[key].name} has no mask{hint(key)}",
        "images have no mask",
    )
    _report(
        listing,
        lonely_masks,
        lambda stem: (
            f"{masks[stem].name} belongs to no image"
            + closest(stem.removesuffix(suffix), lonely_images)
        ),
        "masks belong to no image",
    )
    return pairs


def _beginning(mask: str, images: Set[str]) -> str:
    """The longest of the names that the mask's begins with: 10_x is that of 10, not of 1."""
    return next((mask[:end] for end in range(len(mask), 0, -1) if mask[:end] in images), "")


def closest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names)[:500], n=1, cutoff=0.6)
    return f"; the closest name is {close[0]}" if close else ""


def some(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def each_or_together(
    names: Sequence[str], fault: Callable[[str], str], what: str, cure: str
) -> list[str]:
    """A fault for each of a few names; of more than ``FEW`` a single one such as
    ``7 ids have no image: a, b, c and 4 more; name a shorter list``.
    """
    if len(names) <= FEW:
        return [fault(name) for name in names]
    return [f"{len(names)} {what}: {some(names, 3)}; {cure}"]


def _report(listing: Listing, names: Sequence[str], fault: Callable[[str], str], many: str) -> None:
    listing.faults += [fault(name) for name in names[:MOST_LISTED]]
    if len(names) > MOST_LISTED:
        listing.faults.append(f"{len(names) - MOST_LISTED} more {many}")
