"""What a number must be read with: the data, the protocol and the weights it came from."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unet_dist import __version__
from unet_dist.config import Config
from unet_dist.config_file import dump_config
from unet_dist.data.sample import ImageRef, Sample
from unet_dist.errors import UserError, counted

LIBRARIES = ("mindspore", "numpy", "scipy", "scikit-image")
AVERAGING = "per image, then mean over images"

PROTOCOL_KEYS = (
    "split",
    "data_sha256",
    "observer",
    "fov",
    "classes",
    "mask",
    "ignore",
    "averaging",
    "structure",
    "min_object",
    "cell_smoothing",
    "division",
)
"""Two results can be compared if these are equal: the same images, measured the same way."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Two evaluations with the same fingerprint have the same numbers of the network; those of
    another observer come from files that it does not cover."""

    split: str
    images: tuple[str, ...]
    """Ids in order."""
    data_sha256: str
    """Of the ids and the bytes of images, masks and field-of-view masks."""
    observer: str
    """Whose masks are the truth, empty if the data set has only one."""
    fov: str
    classes: int
    mask: str
    """What the masks' values mean (``masks.MaskCoding.kind``), which decides what is true."""
    ignore: int
    """The mask value that is left out; -1 for none."""
    averaging: str
    structure: str
    min_object: int | None
    """None where no object is looked for."""
    cell_smoothing: float | None
    """None where no cell is."""
    division: int | None
    """``structure.DIVISION``; None for other structures than these two."""
    threshold: float | None
    threshold_source: str
    structure_threshold: float | None
    structure_threshold_source: str
    checkpoint_step: int
    weights_sha256: str
    """Of the weights that were evaluated."""
    config_sha256: str
    """Of the configuration, wherever the data set lies (``config_sha256``)."""
    versions: dict[str, str]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, **asdict(self), "images": list(self.images)}


def short_form(fingerprint: Mapping[str, Any]) -> str:
    """One line of a fingerprint's JSON."""
    first = {key: str(fingerprint[key])[:8] for key in fingerprint if key.endswith("sha256")}
    return (
        f"fingerprint {first['sha256']}: data {first['data_sha256']} "
        f"({counted(len(fingerprint['images']), 'image')} of {fingerprint['split']}), "
        f"weights {first['weights_sha256']} of step {fingerprint['checkpoint_step']}, "
        f"configuration {first['config_sha256']}, unet_dist {fingerprint['versions']['unet_dist']}"
    )


def config_sha256(config: Config) -> str:
    """Of everything that is set but the place of the data set, and of the file below it that
    divides it."""
    split, root = config.data.split, Path(config.data.root)
    if config.data.root and split.file and Path(split.file).is_relative_to(root):
        split = split.model_copy(update={"file": str(Path(split.file).relative_to(root))})
    data = config.data.model_copy(update={"root": "", "split": split})
    return hashlib.sha256(
        dump_config(config.model_copy(update={"data": data})).encode()
    ).hexdigest()


def versions() -> dict[str, str]:
    return {"unet_dist": __version__, **{name: version(name) for name in LIBRARIES}}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}") from error


class FileDigests:
    """SHA-256 of files and samples; a stack of pages is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of_sample(self, sample: Sample) -> str:
        """Of the id and the bytes of the image's, the mask's and the view's file, with its page."""
        refs = (sample.image, sample.mask, sample.fov)
        parts = [sample.id, *(self._of(ref) for ref in refs)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _of(self, ref: ImageRef | None) -> tuple[str, int] | None:
        return None if ref is None else (self.of_file(ref.path), ref.page)

    def of_file(self, path: Path) -> str:
        if path not in self._known:
            self._known[path] = file_digest(path)
        return self._known[path]


def data_sha256(sample_digests: Iterable[str]) -> str:
    """Of the samples' digests in the order of their ids."""
    return hashlib.sha256("".join(sample_digests).encode()).hexdigest()
