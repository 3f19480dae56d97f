"""Data sets drawn by the program, so that everything can be tried without any download."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from unet_dist.data.synthetic_cells import draw_nuclei, draw_tissue
from unet_dist.data.synthetic_organs import CLASSES, draw_organs
from unet_dist.data.synthetic_vessels import draw_fundus
from unet_dist.errors import UserError

Kind = Literal["vessels", "membranes", "nuclei", "organs"]

SMALLEST, LARGEST = 32, 4096
"""Sides in pixels that can be drawn."""


class Picture(NamedTuple):
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | NDArray[np.uint16]
    fov: NDArray[np.uint8] | None


def _vessels(size: int, rng: np.random.Generator) -> Picture:
    fundus = draw_fundus(size, rng)
    return Picture(fundus.image_hwc, _black_white(fundus.vessels_hw), _black_white(fundus.fov_hw))


def _membranes(size: int, rng: np.random.Generator) -> Picture:
    tissue = draw_tissue(size, rng)
    return Picture(tissue.image_hw, _black_white(tissue.membranes_hw), None)


def _nuclei(size: int, rng: np.random.Generator) -> Picture:
    nuclei = draw_nuclei(size, rng)
    return Picture(nuclei.image_hw, nuclei.numbers_hw, None)


def _organs(size: int, rng: np.random.Generator) -> Picture:
    organs = draw_organs(size, rng)
    return Picture(organs.image_hw, organs.classes_hw, None)


def _black_white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * np.uint8(255)


KINDS: dict[str, Callable[[int, np.random.Generator], Picture]] = {
    "vessels": _vessels,
    "membranes": _membranes,
    "nuclei": _nuclei,
    "organs": _organs,
}
_DATA: dict[str, dict[str, object]] = {
    "vessels": {"format": "folder", "channels": "rgb", "fov": "file", "fov_masks": "fov"},
    "membranes": {"format": "folder", "channels": "grey"},
    "nuclei": {"format": "labelmap", "channels": "grey"},
    "organs": {
        "format": "folder",
        "channels": "grey",
        "classes": len(CLASSES),
        "class_names": list(CLASSES),
    },
}

_STRUCTURE = {"vessels": "tubular", "membranes": "partition"}
"""Of folders of masks the program knows no structure by itself."""


def draw(kind: str, index: int, *, size: int, seed: int) -> Picture:
    """One picture; it depends on these four values alone."""
    number = list(KINDS).index(kind)
    return KINDS[kind](size, np.random.default_rng([seed, index, number, size]))


def write_synthetic(
    kind: str,
    directory: Path,
    *,
    count: int,
    size: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes images/, masks/, for vessels fov/, and a config.yaml that reads them.

    The directory appears whole or not at all.

    Raises:
        UserError: if a value is out of range or the directory has something in it.
    """
    _check(kind, directory, count, size, seed)
    directory = directory.resolve()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise UserError(str(directory), f"cannot be written: {error.strerror}") from error
    try:
        for index in range(count):
            _save(draw(kind, index, size=size, seed=seed), partial, f"{kind}-{index:04d}")
            if on_progress is not None:
                on_progress(index + 1, count)
        section: dict[str, object] = {"data": {"root": str(directory), **_DATA[kind]}}
        if kind in _STRUCTURE:
            section["evaluate"] = {"structure": _STRUCTURE[kind]}
        text = f"# {count} {kind} of {size} x {size} pixels, drawn with the seed {seed}.\n"
        (partial / "config.yaml").write_text(
            text + yaml.safe_dump(section, sort_keys=False), encoding="utf-8"
        )
        partial.chmod(0o755)  # mkdtemp made it for the owner alone
        os.replace(partial, directory)  # an empty directory may be replaced
    except OSError as error:
        raise UserError(str(directory), f"cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(kind: str, directory: Path, count: int, size: int, seed: int) -> None:
    faults = []
    if kind not in KINDS:
        faults.append(f"kind is {kind!r}: choose one of {', '.join(KINDS)}")
    if count < 1:
        faults.append(f"count is {count}: at least 1 picture")
    if not SMALLEST <= size <= LARGEST:
        faults.append(f"size is {size}: {SMALLEST} to {LARGEST} pixels")
    if seed < 0:
        faults.append(f"seed is {seed}: 0 or more")
    if directory.exists() and not directory.is_dir():
        faults.append("is a file: name a directory that does not exist yet")
    elif directory.is_dir() and any(directory.iterdir()):
        faults.append("is not empty: name another directory, or remove it first")
    if faults:
        raise UserError(str(directory), faults)


def _save(picture: Picture, directory: Path, name: str) -> None:
    layers = {"images": picture.image, "masks": picture.mask, "fov": picture.fov}
    for folder, pixels in layers.items():
        if pixels is not None:
            (directory / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(directory / folder / f"{name}.png")
