"""What stands in a folder of predictions: a record beside the files of each image.

The record is removed before the files of an image are replaced and written after them, so where
it stands its files are whole and were made as it says.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError
from unet_dist.evaluate.fingerprint import FileDigests, file_digest
from unet_dist.runs import read_json, write_json

SCHEMA = 1
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class PredictionRecord:
    image: ImageRef
    image_sha256: str
    """Of the file; all pages of a stack share it."""
    truth_sha256: str
    """Of the file of the truth mask; empty without one."""
    fov_sha256: str = ""
    """Of the file of the field of view; empty without one."""
    height: int
    width: int
    factor: float
    """By which it was resized before the network."""
    made_by: Mapping[str, Any]
    """Weights, threshold and settings, each of which the files depend on."""
    trained_on: bool
    """Whether a network that predicted it was trained on the image: its errors say nothing of
    new images then."""
    files: tuple[str, ...]
    pixels: Mapping[str, int]
    """Of correct, false and missed foreground; empty without a truth."""
    objects: int | None = None
    """Numbered ones, or cells; None where none are looked for."""
    class_names: tuple[str, ...] = ()
    """Background first."""
    notes: tuple[str, ...] = ()
    """What a person should know of these results."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "image": self.image.to_json()}

    def answer(self, out: Path) -> dict[str, Any]:
        """What ``predict`` answers of the image, whose files are in ``out``."""
        return {
            "files": [str(out / name) for name in self.files],
            "pixels": self.pixels,
            "objects": self.objects,
            "factor": self.factor,
            "notes": self.notes,
        }


def made_alone(made_by: Mapping[str, Any], member: str) -> Mapping[str, Any]:
    """The same for an image that one member of an ensemble predicts, the one whose training left
    it out; for ``""`` all do."""
    return {**made_by, "left_out_by": member} if member else made_by


def record_path(folder: Path, stem: str) -> Path:
    return folder / f"{stem}_prediction.json"


def show_results(
    folder: Path, stem: str, record: PredictionRecord, parts: Mapping[Path, Path]
) -> None:
    """Moves complete files (``parts``, by their final path) to their names and writes the record.

    Raises:
        OSError: the record, if there was one, is gone, so the image counts as not predicted.
    """
    path = record_path(folder, stem)
    former = _files_of(path)
    path.unlink(missing_ok=True)
    for name in former:  # such as numbers of objects that are no longer looked for
        if name.startswith(f"{stem}_") and folder / name not in parts:
            with contextlib.suppress(OSError, ValueError):  # no name that we gave, then
                (folder / name).unlink(missing_ok=True)
    for final, part in parts.items():
        part.replace(final)
    write_json(path, record.to_json())


def _files_of(path: Path) -> list[str]:
    """The names in a record; none where there is no record of ours."""
    try:
        names = read_json(path).get("files") if path.is_file() else []
    except UserError:
        return []
    return [Path(str(name)).name for name in names] if isinstance(names, list) else []


def is_finished(
    folder: Path,
    stem: str,
    image: ImageRef,
    truth: ImageRef | None,
    made_by: Mapping[str, Any],
    *,
    fov: ImageRef | None = None,
    digest: Callable[[Path], str] = file_digest,
) -> tuple[bool, str]:
    """Whether the image need not be predicted again, and why its results must not be replaced
    unasked: they are of another image, or were made in another way. Empty if they may be.

    Args:
        digest: ``file_digest``, cached where many pages share a file.
    """
    path = record_path(folder, stem)
    if not path.is_file():
        return False, ""
    try:
        record = read_json(path)
    except UserError:
        return False, ""  # records are written in one piece: it is no record of ours
    if record.get("schema") != SCHEMA:
        return False, f"{path.name} has schema {record.get('schema')!r}, not {SCHEMA}"
    differences = []
    stored_image = record.get("image")
    page = stored_image.get("page") if isinstance(stored_image, dict) else None
    if (record.get("image_sha256"), page) != (digest(image.path), image.page):
        differences.append("the image is another")
    if record.get("truth_sha256") != (digest(truth.path) if truth else ""):
        differences.append("the truth is another")
    if record.get("fov_sha256", "") != (digest(fov.path) if fov else ""):
        differences.append("the field of view is another")
    stored = record.get("made_by")
    differences += _differences(stored if isinstance(stored, dict) else {}, made_by)
    if differences:
        return False, f"{stem}: {', '.join(differences[:_SHOWN])}"
    files = _files_of(path)
    return bool(files) and all((folder / name).is_file() for name in files), ""


def unfinished(
    out: Path, listed: Sequence[Mapping[str, Any]], made: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Those of the images whose results do not stand in ``out`` yet.

    Raises:
        UserError: where other results would be replaced.
    """
    todo, conflicts = [], []
    digest = FileDigests().of_file
    for image in listed:
        own = made_alone(made, image["left_out_by"])
        finished, conflict = is_finished(
            out,
            image["stem"],
            ImageRef.of_json(image),
            ImageRef.of_json(image["truth"]) if image["truth"] else None,
            own,
            fov=ImageRef.of_json(image["fov"]) if image["fov"] else None,
            digest=digest,
        )
        if conflict:
            conflicts.append(conflict)
        elif not finished:
            todo.append(image)
    refuse_to_replace(out, conflicts)
    return todo


def refuse_to_replace(folder: Path, conflicts: Sequence[str]) -> None:
    """Raises UserError if there are conflicts, as ``is_finished`` tells them."""
    if conflicts:
        more = len(conflicts) - _SHOWN
        shown = [*conflicts[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise UserError(
            str(folder),
            f"the results of {len(conflicts)} images were made otherwise: add --force to replace "
            "them, or choose another --out" + "".join(f"\n  {line}" for line in shown),
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "..."
