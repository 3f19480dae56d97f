"""Names and colours of what is predicted, and the writing of small files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_dist.errors import UserError
from unet_dist.runs import write_files_atomically


def to_png(image_hwc: NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.fromarray(image_hwc).save(stream, format="PNG")
    return stream.getvalue()


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
