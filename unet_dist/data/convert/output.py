"""The folder that a conversion writes: it appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unet_dist.config_file import read_yaml_mapping
from unet_dist.errors import UserError

RECORD = "converted.yaml"
"""Says what was converted, and how; and that the folder may be written again."""
MOST_TOLD = 100
"""Faults of one conversion that are spelled out; the rest are counted."""


def check_output(out: Path, inputs: Sequence[Path], *, force: bool) -> None:
    """Refuses to replace what was not written by a conversion, and what is being read.

    Raises:
        UserError: with what to do.
    """
    place = out.resolve()
    for path in (item.resolve() for item in inputs):
        folder = path if path.is_dir() else path.parent
        if place == folder or place in folder.parents:
            raise UserError(str(out), f"holds {path}, which is to be read: name a new folder")
    if out.is_dir() and not any(out.iterdir()):
        return
    if not (out.exists() or out.is_symlink()):
        return
    if not (out.is_dir() and (out / RECORD).is_file()) or out.is_symlink():
        raise UserError(
            str(out), "exists and was not written by `data convert`: name a folder that is new"
        )
    if not force:
        raise UserError(str(out), "exists: name another folder, or replace this one by --force")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a folder of Labelme files was made of, as far as that is known."""

    instances: bool = False
    """Each shape is an object of its own."""
    labels: tuple[str, ...] = ()
    """Of the classes from 1 on."""


def drawing_of(source: Path) -> Drawn:
    """From the record, if a conversion wrote the folder.

    Raises:
        UserError: the record was changed into something else.
    """
    record = source / RECORD
    tree = read_yaml_mapping(record) if record.is_file() else {}
    names = tree.get("names") or ["background"]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(str(record), "names must be a list of labels: pass them by --labels")
    if len(set(names)) < len(names):
        raise UserError(str(record), "names a label twice: pass them by --labels")
    return Drawn(instances=tree.get("instances") is True, labels=tuple(names[1:]))


def raise_faults(where: str, faults: Sequence[str]) -> None:
    if not faults:
        return
    told = list(faults[:MOST_TOLD])
    if len(faults) > MOST_TOLD:
        told.append(f"{len(faults) - MOST_TOLD} more problems of these kinds")
    raise UserError(where, told)


@contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into, which takes its place if all goes well.

    Raises:
        UserError: if it cannot be written.
    """
    place = out.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise UserError(str(out), f"cannot be written: {error.strerror}") from error
    try:
        new = staged / "new"
        new.mkdir()
        yield new
        _exchange(place, new, staged / "old")
    except OSError as error:
        where = str(error.filename or out)
        raise UserError(where, f"cannot be read or written: {error.strerror}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _exchange(place: Path, new: Path, aside: Path) -> None:
    if place.exists():  # an empty folder, or one that may be replaced
        os.replace(place, aside)
    try:
        os.replace(new, place)
    except OSError:
        if aside.exists():
            os.replace(aside, place)
        raise


def write_yaml(path: Path, comment: str, tree: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    path.write_text(comment + text, encoding="utf-8")
