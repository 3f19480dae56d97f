"""Which image of a data set an image is a copy of, wherever it lies and whatever it is called."""

import contextlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from unet_dist.data.sample import ImageRef
from unet_dist.evaluate.fingerprint import FileDigests

SKETCH = 4096
"""Bytes from the middle of a file: images that are not compressed all have the same size."""

Known = tuple[ImageRef, str]


class Copies:
    """Files of a data set by their content; most are told apart by their size alone. Those that
    were moved, or may not be read, are no reason to fail."""

    def __init__(self, sample_ids: Mapping[ImageRef, str]) -> None:
        self._sample_ids = sample_ids
        self._digests = FileDigests()
        self._of_sketch: dict[int, dict[bytes, list[Known]]] = {}

    @cached_property
    def _of_size(self) -> dict[int, list[Known]]:
        """Images that are known by their path need no look at thousands of files."""
        found: dict[int, list[Known]] = {}
        for ref, id_ in self._sample_ids.items():
            with contextlib.suppress(OSError):
                found.setdefault(ref.path.stat().st_size, []).append((ref, id_))
        return found

    def ids_of(self, image: ImageRef) -> list[str]:
        """Of the samples that have the same bytes and page."""
        size = image.path.stat().st_size
        if size not in self._of_size:
            return []
        if size not in self._of_sketch:
            self._of_sketch[size] = _by_sketch(self._of_size[size])
        alike = self._of_sketch[size].get(_sketch(image.path), [])
        return [
            id_
            for known, id_ in alike
            if known.page == image.page
            and self._digests.of_file(known.path) == self._digests.of_file(image.path)
        ]


def _by_sketch(files: list[Known]) -> dict[bytes, list[Known]]:
    found: dict[bytes, list[Known]] = {}
    for ref, id_ in files:
        with contextlib.suppress(OSError):
            found.setdefault(_sketch(ref.path), []).append((ref, id_))
    return found


def _sketch(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size // 2 - SKETCH // 2))
        return file.read(SKETCH)
