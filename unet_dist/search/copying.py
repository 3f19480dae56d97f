"""The checkpoint that a member of a population takes over from a better one.

What the member had is set aside, as ``checkpoints_until_0006`` for the exchange after epoch 6 and
with the records of that time: others that compared themselves with it may still have to copy it.
So nothing that somebody may want is ever deleted.
"""

import shutil
from pathlib import Path

from unet_dist.errors import RunBusy
from unet_dist.records import read_records
from unet_dist.runs import RunDir, write_text_atomically
from unet_dist.search.spec import AlgorithmSpec
from unet_dist.train.checkpoint import step_dir

ALL = 10**9
ASIDE, RECORDS = "checkpoints_until_", "records.jsonl"


def checkpoints_kept(algorithm: AlgorithmSpec) -> int:
    """Of each trial at least: which ones a population copies is known only later."""
    return ALL if algorithm.schedule == "population" else 0


def copy_checkpoint(source: RunDir, run: RunDir, *, epoch: int, mark: str) -> None:
    """Weights, optimiser and step, in place of all that the run has; once for each ``mark``.

    It may be killed anywhere: without the mark it is done anew from the beginning, and the mark is
    written before the ranks start.

    Raises:
        RunBusy: the checkpoint is not there, or not yet.
    """
    copied = run.path / "copied_from"
    if copied.exists() and copied.read_text() == mark:
        return
    found = checkpoint_of(source, epoch)
    part = run.path / ".checkpoints.partial"
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(found, part / found.name)
    except OSError as error:
        raise RunBusy(str(found), f"cannot be copied now: {error}") from error
    if checkpoint_of(source, epoch) != found:
        raise RunBusy(str(found), "was set aside while it was copied")
    (part / "LATEST").write_text(found.name + "\n")
    _set_aside(run, epoch)
    part.rename(run.checkpoints)
    write_text_atomically(copied, mark)


def checkpoint_of(run: RunDir, epoch: int) -> Path:
    """Raises RunBusy if there is none of this epoch."""
    later = [path for path in run.path.glob(f"{ASIDE}*") if _epoch_of(path) >= epoch]
    folder, records = run.checkpoints, run.records(0)
    if later:
        folder = min(later, key=_epoch_of)
        records = folder / RECORDS
    # The last one: with the weights another train.batch may have come.
    steps = [r["steps_per_epoch"] for r in read_records(records) if r["kind"] == "start"]
    found = step_dir(folder, epoch * int(steps[-1])) if steps else folder / "none"
    if not found.is_dir():
        raise RunBusy(str(folder), f"the checkpoint of epoch {epoch} is not there")
    return found


def _set_aside(run: RunDir, epoch: int) -> None:
    aside = run.path / f"{ASIDE}{epoch:04d}"
    if aside.exists():
        # By a start that was killed before it wrote the mark.
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    elif run.checkpoints.exists():
        shutil.copyfile(run.records(0), run.checkpoints / RECORDS)
        run.checkpoints.rename(aside)


def _epoch_of(aside: Path) -> int:
    return int(aside.name.removeprefix(ASIDE))
