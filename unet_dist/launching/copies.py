"""Which image of a data set an image is a copy of, wherever it lies and whatever it is called."""

from collections.abc import Mapping
from pathlib import Path

from unet_dist.data.sample import ImageRef
from unet_dist.evaluate.fingerprint import FileDigests

SKETCH = 4096
"""Bytes from the middle of a file: images that are not compressed all have the same size."""


class Copies:
    """Files of a data set by their content; most are told apart by their size alone."""

    def __init__(self, sample_ids: Mapping[ImageRef, str]) -> None:
        self._digests = FileDigests()
        self._of_size: dict[int, list[tuple[ImageRef, str]]] = {}
        for ref, id_ in sample_ids.items():
            if ref.path.is_file():  # the data set may have been moved since
                self._of_size.setdefault(ref.path.stat().st_size, []).append((ref, id_))

    def id_of(self, image: ImageRef) -> str:
        """Of the sample that has the same bytes and page; empty without one."""
        for known, id_ in self._of_size.get(image.path.stat().st_size, ()):
            if known.page == image.page and self._same(known.path, image.path):
                return id_
        return ""

    def _same(self, one: Path, other: Path) -> bool:
        alike = _sketch(one) == _sketch(other)
        return alike and self._digests.of_file(one) == self._digests.of_file(other)


def _sketch(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size // 2 - SKETCH // 2))
        return file.read(SKETCH)
