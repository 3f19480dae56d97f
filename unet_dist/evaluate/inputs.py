"""Which images a user means: files, pages of TIFF stacks, and folders of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_dist.data.images import EXTENSIONS, page_count
from unet_dist.data.listing import natural_key
from unet_dist.data.sample import ImageRef
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
        else:
            faults.append(f"{path}: there is no such file or folder")
    files = list(dict.fromkeys(files))
    if faults:
        raise UserError("IMAGES", faults)
    inputs = []
    for path, stem in zip(files, unique_stems(files), strict=True):
        pages = page_count(path)
        width = len(str(pages - 1))
        inputs += [
            Input(
                ref=ImageRef(path=path, page=page),
                stem=f"{stem}_{page:0{width}}" if pages > 1 else stem,
            )
            for page in range(pages)
        ]
    return inputs


def _images_of(folder: Path) -> list[Path]:
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(images, key=lambda path: natural_key(path.name))
