"""Which images a user means: files, pages of TIFF stacks, and folders of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_dist.data.dataset import Dataset
from unet_dist.data.images import EXTENSIONS, image_size, page_count
from unet_dist.data.listing import Listing, files_of, natural_key
from unet_dist.data.sample import ImageRef, Sample
from unet_dist.errors import UserError
from unet_dist.evaluate.outputs import unique_stems


@dataclass(frozen=True, kw_only=True)
class Input:
    ref: ImageRef
    stem: str
    """Names the results; different for each input."""


def list_images(paths: Sequence[Path]) -> list[Input]:
    """Raises UserError with every path that is not there or holds no image."""
    files: list[Path] = []
    faults = []
    for path in paths:
        if path.is_dir():
            found = _images_of(path)
            files += found
            if not found:
                faults.append(f"{path}: the folder holds no image")
        elif path.is_file():
            files.append(path)
            faults += _no_image(path)
        else:
            faults.append(f"{path}: there is no such file or folder")
    files = list(dict.fromkeys(files))
    if faults:
        raise UserError("IMAGES", faults)
    inputs = []
    for path, stem in zip(files, unique_stems(files), strict=True):
        pages = _pages(path)
        width = len(str(pages - 1))
        inputs += [
            Input(
                ref=ImageRef(path=path, page=page),
                stem=f"{stem}_{page:0{width}}" if pages > 1 else stem,
            )
            for page in range(pages)
        ]
    return inputs


def _no_image(path: Path) -> list[str]:
    """Of a file that is no image by its name, why it is none by its content. An image that is
    damaged is told when its turn comes, and does not stop the others."""
    if path.suffix.lower() in EXTENSIONS:
        return []
    try:
        image_size(ImageRef(path=path))
    except UserError as error:
        return [f"{path}: {fault}" for fault in error.faults]
    return []


def _pages(path: Path) -> int:
    """1 for what cannot be read: it is told when its turn comes, and does not stop the others."""
    try:
        return max(1, page_count(path))
    except UserError:
        return 1


def truths_in(folder: Path, inputs: Sequence[Input], *, suffix: str) -> dict[str, ImageRef]:
    """The truth mask of each input that has one, by the input's stem: the file of the image's
    name and ``suffix``, or of its bare name, and for a page of a stack the same page.

    Raises:
        UserError: no such folder, two masks of one name, two images of one mask, or no mask for
            any image.
    """
    if not folder.is_dir():
        raise UserError("--truth", f"{folder}: there is no such folder")
    listing = Listing()
    masks = files_of(folder, listing)
    if listing.faults:
        raise UserError("--truth", listing.faults)
    truths = {}
    for one in inputs:
        name = one.ref.path.stem
        mask = masks.get(name + suffix) or masks.get(name)
        if mask is not None and mask.resolve() != one.ref.path.resolve():
            truths[one.stem] = ImageRef(path=mask.resolve(), page=one.ref.page)
    _refuse_shared(truths)
    if not truths:
        known = f"{name}{suffix}" if inputs else ""
        raise UserError(
            "--truth", f"{folder} has no mask for any of the images, such as {known}.png"
        )
    return truths


def _refuse_shared(truths: Mapping[str, ImageRef]) -> None:
    """One of two pictures with the same mask would be compared with the other's truth."""
    stems: dict[ImageRef, list[str]] = {}
    for stem, ref in truths.items():
        stems.setdefault(ref, []).append(stem)
    faults = [
        f"{ref.path.name} would be the truth of {' and '.join(sharing[:4])}: predict them apart, "
        "each with its own --truth"
        for ref, sharing in stems.items()
        if len(sharing) > 1
    ]
    if faults:
        raise UserError("--truth", faults)


def truths_of_dataset(dataset: Dataset, inputs: Sequence[Input]) -> dict[str, ImageRef]:
    """The masks of those inputs that are images of the data set, by the inputs' stems."""
    samples = _samples_of(dataset, inputs)
    return {stem: sample.mask for stem, sample in samples.items() if sample.mask is not None}


def views_of_dataset(dataset: Dataset, inputs: Sequence[Input]) -> dict[str, ImageRef]:
    """The same of the masks of fields of view."""
    samples = _samples_of(dataset, inputs)
    return {stem: sample.fov for stem, sample in samples.items() if sample.fov is not None}


def _samples_of(dataset: Dataset, inputs: Sequence[Input]) -> dict[str, Sample]:
    known = {
        (sample.image.path.resolve(), sample.image.page): sample
        for samples in dataset.splits.parts().values()
        for sample in samples
    }
    found = {one.stem: known.get((one.ref.path.resolve(), one.ref.page)) for one in inputs}
    return {stem: sample for stem, sample in found.items() if sample is not None}


def _images_of(folder: Path) -> list[Path]:
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(images, key=lambda path: natural_key(path.name))
