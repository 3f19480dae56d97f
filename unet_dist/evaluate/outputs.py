"""Predictions as files that any viewer opens: mask, probability and overlay."""

from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_dist.data.colours import CLASS_COLOURS, Rgb, class_colours
from unet_dist.errors import UserError
from unet_dist.evaluate.metrics import hard_prediction
from unet_dist.runs import write_files_atomically

OVERLAY_COLOUR: Rgb = (0, 229, 255)
"""Cyan, since neither tissue nor fundus nor electron micrographs have it."""
_TINT = 0.25


def write_prediction(
    directory: Path,
    stem: str,
    *,
    image_rgb_hwc: NDArray[np.float32],
    prob_hwk: NDArray[np.float32],
    threshold: float | None,
    palette: Sequence[Rgb] | None = None,
) -> tuple[Path, Path, Path]:
    """Writes ``STEM_mask.png``, ``STEM_probability.png`` and ``STEM_overlay.png``.

    The mask is 0 and 255, or class numbers with a palette. The probability is 16-bit grey,
    65535 being 1: of the foreground, or of the most probable foreground class.

    Args:
        image_rgb_hwc: three channels or one, 0..1.
        threshold: None with several foreground classes.

    Raises:
        UserError: if the directory cannot be written.
    """
    assert stem == Path(stem).name, stem
    mask_hw = hard_prediction(prob_hwk, threshold)
    if threshold is None:
        foreground_hw = prob_hwk[:, :, 1:].max(axis=2)
        colours = np.array(palette or class_colours(prob_hwk.shape[2]), np.uint8)
        mask = Image.fromarray(mask_hw)
        mask.putpalette(colours.tobytes())
    else:
        foreground_hw = prob_hwk[:, :, -1]
        colours = np.array([CLASS_COLOURS[0], OVERLAY_COLOUR], np.uint8)
        mask = Image.fromarray(mask_hw * np.uint8(255))
    grey_hw = np.rint(np.clip(foreground_hw, 0, 1) * 65535).astype(np.uint16)
    image = to_rgb_bytes(image_rgb_hwc)
    pictures = {
        f"{stem}_mask.png": mask,
        f"{stem}_probability.png": Image.fromarray(grey_hw),
        f"{stem}_overlay.png": Image.fromarray(overlay(image, mask_hw, colours)),
    }
    paths = [directory / name for name in pictures]
    write_files(dict(zip(paths, map(_png, pictures.values()), strict=True)))
    return paths[0], paths[1], paths[2]


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Writes each file beside its place, and moves them there once all are complete.

    Raises:
        UserError: naming the file, with nothing half-written left behind.
    """
    try:
        write_files_atomically(contents, durable=False)
    except OSError as error:
        where = str(error.filename)
        raise UserError(where, f"cannot be written: {error.strerror}") from error


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """One name for each path, in order: its stem, and no more of its folders than tell it apart.

    ``a/01.png b/01.png b/02.png`` become ``a_01 b_01 02``. Names that differ only in capitals
    count as equal, as they do on some file systems.
    """
    distinct = list(dict.fromkeys(paths))
    depths = [1] * len(distinct)
    names = [path.stem for path in distinct]
    while True:
        clashes = _clashes(names)
        deeper = [i for i in clashes if depths[i] < len(_parts(distinct[i]))]
        if not deeper:
            break
        for i in deeper:
            depths[i] += 1
            names[i] = "_".join(_parts(distinct[i])[-depths[i] :])
    for i in clashes:  # a/1.png a/1.jpg become a_1_png a_1_jpg
        names[i] += distinct[i].suffix.replace(".", "_")
    name_of = dict(zip(distinct, names, strict=True))
    return _numbered([name_of[path] for path in paths])


def overlay(
    image_hwc: NDArray[np.uint8], mask_hw: NDArray[np.uint8], colours: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The image with each class tinted and its outline drawn."""
    strength_hw = np.where(mask_hw > 0, _TINT, 0.0)
    strength_hw[_outline(mask_hw)] = 1.0
    strength_hwc = strength_hw[:, :, None]
    mixed_hwc = image_hwc * (1 - strength_hwc) + colours[mask_hw] * strength_hwc
    blended_hwc: NDArray[np.uint8] = (mixed_hwc + 0.5).astype(np.uint8)
    return blended_hwc


def to_rgb_bytes(image_hwc: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0..1 in one or three channels to three channels of 0..255."""
    rgb_hwc = np.broadcast_to(image_hwc, (*image_hwc.shape[:2], 3))
    return (np.clip(rgb_hwc, 0, 1) * 255 + 0.5).astype(np.uint8)


def _outline(mask_hw: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Foreground pixels with one of four neighbours in another class."""
    wide = np.pad(mask_hw, 1, mode="edge")
    neighbours = (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:])
    differs = np.zeros(mask_hw.shape, np.bool_)
    for neighbour_hw in neighbours:
        differs |= neighbour_hw != mask_hw
    return differs & (mask_hw > 0)


def _png(picture: Image.Image) -> bytes:
    stream = BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def _clashes(names: Sequence[str]) -> list[int]:
    counts = Counter(name.casefold() for name in names)
    return [i for i, name in enumerate(names) if counts[name.casefold()] > 1]


def _parts(path: Path) -> list[str]:
    return [part for part in (*path.parent.parts, path.stem) if part not in (path.anchor, "..")]


def _numbered(names: Sequence[str]) -> list[str]:
    """What is still equal is counted: ``a a a`` become ``a a_2 a_3``."""
    reserved = {name.casefold() for name in names}
    used: set[str] = set()
    repeats = Counter[str]()
    result = []
    for name in names:
        unique = name
        while unique.casefold() in used or (unique != name and unique.casefold() in reserved):
            repeats[name] += 1
            unique = f"{name}_{repeats[name] + 1}"
        used.add(unique.casefold())
        result.append(unique)
    return result
