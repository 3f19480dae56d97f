"""Checkpoints: everything a run needs to go on, bit for bit.

``checkpoints/step_000500/`` holds safetensors files (no code in them, readable by other tools)
and ``state.json``, written last, with their SHA-256. The folder is written beside and renamed;
then the pointer ``LATEST`` or ``BEST`` is. The random state is (seed, step): the numbers of a
sample depend on nothing else.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from unet_dist.errors import UserError
from unet_dist.runs import read_json, write_json, write_text_atomically

FORMAT = 1
PARTS = ("weights", "optimizer", "average")
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """With weights, optimiser and average, all the state of a run."""

    seed: int = 0
    """All random numbers follow from it, the step and the sample."""

    step: int = 0
    """Steps done, skipped ones included."""
    updates: int = 0
    """Optimiser updates done: steps without overflow."""
    loss_scale: float = 1.0
    good_steps: int = 0
    best_dice: float = -1.0
    best_step: int = -1
    threshold: float | None = None
    """Chosen at the best validation; None before one, and with several foreground classes."""

    def judged(self, dice: float, threshold: float | None) -> "TrainState":
        """After a validation; the same state unless it is the best. Of equals the later one is,
        since it was trained longer: a Dice of 0 says nothing else of either."""
        if not dice >= self.best_dice:  # nor is NaN, where there is nothing to find
            return self
        return replace(self, best_dice=dice, best_step=self.step, threshold=threshold)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    state: TrainState
    weights: Arrays
    """Parameters and running statistics, by name."""
    optimizer: Arrays
    average: Arrays
    """Moving average of the weights, by name; the weights themselves where there is none."""


def step_dir(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step_{step:06d}"


def save_checkpoint(checkpoints: Path, checkpoint: Checkpoint, *, keep: int, best: bool) -> Path:
    """Writes one checkpoint, moves the pointers, then drops old ones.

    Raises:
        UserError: the disk refused; nothing half-written is left, and older checkpoints stay.
    """
    final = step_dir(checkpoints, checkpoint.state.step)
    partial = checkpoints / f".{final.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        digests = {}
        for part in PARTS:
            path = partial / f"{part}.safetensors"
            arrays = {k: np.ascontiguousarray(v) for k, v in getattr(checkpoint, part).items()}
            save_file(arrays, path)
            digests[path.name] = _sync_and_digest(path)
        state = asdict(checkpoint.state)
        write_json(partial / "state.json", {"format": FORMAT, "state": state, "sha256": digests})
        if final.exists():  # a damaged one, or the run would have gone on from there
            final.rename(checkpoints / f".{final.name}.replaced")
        partial.rename(final)
        write_text_atomically(checkpoints / "LATEST", final.name + "\n")
        if best:
            write_text_atomically(checkpoints / "BEST", final.name + "\n")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            str(final),
            f"the checkpoint could not be written: {reason}; free some space and go on with "
            "--resume",
        ) from error
    for leftover in checkpoints.glob(".step_*"):
        shutil.rmtree(leftover, ignore_errors=True)
    _drop_old(checkpoints, checkpoint.state.step, keep)
    return final


def _sync_and_digest(path: Path) -> str:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def steps_kept(checkpoints: Path) -> list[Path]:
    """The checkpoint folders, oldest first."""
    return sorted(checkpoints.glob("step_*"), key=_number)


def _number(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def _drop_old(checkpoints: Path, newest: int, keep: int) -> None:
    best = read_pointer(checkpoints, "BEST")
    # Later ones are damaged, or this run would have gone on from there.
    steps = [path for path in steps_kept(checkpoints) if _number(path) <= newest]
    for old in steps[:-keep]:
        if old != best:
            shutil.rmtree(old, ignore_errors=True)


def read_pointer(checkpoints: Path, name: str) -> Path | None:
    pointer = checkpoints / name
    if not pointer.exists():
        return None
    target = checkpoints / Path(pointer.read_text().strip()).name
    return target if target.is_dir() else None


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads one checkpoint and compares its checksums.

    Raises:
        UserError: something is missing, damaged or of another format.
    """
    header = read_json(path / "state.json")
    if header.get("format") != FORMAT:
        raise UserError(str(path), f"format {header.get('format')!r} is not {FORMAT}")
    parts = {}
    faults = []
    for part in PARTS:
        file = path / f"{part}.safetensors"
        try:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != header["sha256"][file.name]:
                faults.append(f"{file.name} is damaged: its SHA-256 is not that of state.json")
                continue
            parts[part] = load_file(file)
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            faults.append(f"{file.name} cannot be read: {error}")
    try:
        state = TrainState(**header["state"])
    except (TypeError, KeyError) as error:
        faults.append(f"state.json does not hold a training state: {error}")
    if faults:
        raise UserError(str(path), faults)
    return Checkpoint(state=state, **parts)


def load_latest(checkpoints: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and a warning for each one that is not."""
    warnings: list[str] = []
    for path in reversed(steps_kept(checkpoints)):
        try:
            return load_checkpoint(path), warnings
        except UserError as error:
            warnings.append(f"{error}; the checkpoint before it is used")
    return None, warnings


def load_best(checkpoints: Path) -> tuple[Checkpoint, list[str]]:
    """The checkpoint with the best validation Dice, with warnings; the newest if none was
    validated or the best is damaged."""
    best = read_pointer(checkpoints, "BEST")
    damage: list[str] = []
    if best is not None:
        try:
            return load_checkpoint(best), []
        except UserError as error:
            damage = [f"the best checkpoint is damaged, so the newest is used: {error}"]
    checkpoint, warnings = load_latest(checkpoints)
    warnings = damage + warnings
    if checkpoint is None:
        raise UserError(str(checkpoints), warnings or "no checkpoint yet; train the run first")
    return checkpoint, warnings


def weights_digest(arrays: Arrays) -> str:
    """SHA-256 over names and bytes in name order, to compare ranks and runs."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(json.dumps([name, list(arrays[name].shape)]).encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
