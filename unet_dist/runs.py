"""The run folder: the only place that spells its file names, with ``attempts`` for one start."""

import contextlib
import fcntl
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unet_dist.attempts import AttemptDir, rank_name
from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.errors import RunBusy, UserError
from unet_dist.files import read_json, write_files_atomically, write_json, write_text_atomically

__all__ = [
    "SPLITS",
    "AttemptDir",
    "Members",
    "RunDir",
    "default_run_path",
    "free_path",
    "rank_name",
    "read_json",
    "write_files_atomically",
    "write_json",
    "write_text_atomically",
]
"""All that one needs to work with a run; where its parts are written is nobody else's business."""


SPLITS = ("test", "val", "train")
"""The parts of a data set, the one that reports are about first."""


@dataclass(frozen=True)
class RunDir:
    """A run folder. It is complete, can be copied, and is readable without this program."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def dataset(self) -> Path:
        """What the training saw: normalisation, mask coding, sample ids of each split."""
        return self.path / "dataset.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def overfit(self) -> Path:
        """The images and masks that an overfit check learns by heart."""
        return self.path / "overfit"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def profiles(self) -> Path:
        return self.path / "profile"

    def profile(self, first_step: int) -> Path:
        return self.profiles / f"step_{first_step:06d}"

    @property
    def profile_request(self) -> Path:
        """A wish to profile the training that runs (``profiling.capture``)."""
        return self.path / "profile_request.json"

    @property
    def members_file(self) -> Path:
        """Only a folder of several runs, an ensemble, has it; see ``Members``."""
        return self.path / "members.json"

    @property
    def threshold(self) -> Path:
        """Of an ensemble, chosen on images that its members were not trained on; written when the
        evaluation after the trainings is complete."""
        return self.path / "threshold.json"

    @property
    def summary(self) -> Path:
        """Of an ensemble: every member, and mean and deviation over them."""
        return self.path / "summary.json"

    def is_ensemble(self) -> bool:
        return self.members_file.is_file()

    def load_members(self) -> "Members":
        tree = read_json(self.members_file)
        try:
            return Members.of_json(tree)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(str(self.members_file), f"does not name runs: {error!r}") from error

    def networks(self) -> list["RunDir"]:
        """The runs whose weights predict together: this one, or the members of an ensemble."""
        if not self.is_ensemble():
            return [self]
        return [self.member(name) for name in self.load_members().names]

    def check_members(self) -> None:
        """Raises UserError if an ensemble cannot predict yet, and says which members it lacks."""
        if not self.is_ensemble():
            return
        states = {run.path.name: run.state() for run in self.networks()}
        faults = [f"{name} is not finished ({s})" for name, s in states.items() if s != "done"]
        if not faults and not self.threshold.exists():
            faults = ["its threshold was not chosen yet"]
        if faults:
            where = f"{self.path} (go on with: unet-dist train {self.path} --resume)"
            raise UserError(where, faults)

    def member(self, name: str) -> "RunDir":
        return RunDir(self.path / name)

    def evaluation(self, split: str) -> Path:
        return self.path / f"evaluation_{split}.json"

    def evaluations(self) -> dict[str, Path]:
        """Those that there are, by split, in the order of ``SPLITS``."""
        paths = {split: self.evaluation(split) for split in SPLITS}
        return {split: path for split, path in paths.items() if path.exists()}

    def case(self, split: str, number: int) -> Path:
        """A picture of one evaluated image, for the report."""
        return self.path / "cases" / f"{split}_{number}.png"

    def report(self, split: str) -> Path:
        return self.path / f"report{self._suffix(split)}.html"

    def picture(self, split: str) -> Path:
        return self.path / f"report{self._suffix(split)}.png"

    def _suffix(self, split: str) -> str:
        """Empty for the part that a training ends with: another one takes nothing from it. An
        overfit check ends with what it learns."""
        parts = read_json(self.dataset).get("splits", {}) if self.dataset.is_file() else {}
        last = next((part for part in SPLITS if parts.get(part)), split)
        last = "train" if self.overfit.is_dir() else last
        return "" if split == last else f"_{split}"

    def records(self, rank: int) -> Path:
        return self.path / "records" / f"{rank_name(rank)}.jsonl"

    def answer_file(self, epoch: int) -> Path:
        return self.path / "answers" / f"epoch_{epoch:05d}"

    def answer(self, epoch: int) -> bool | None:
        """Whether a trial of a search may go on beyond a rung; None as long as nobody said."""
        try:
            return self.answer_file(epoch).read_text() == "go on\n"
        except FileNotFoundError:
            return None

    def write_answer(self, epoch: int, goes_on: bool) -> None:
        write_text_atomically(self.answer_file(epoch), "go on\n" if goes_on else "pause\n")

    @property
    def timeline(self) -> Path:
        """What happened to the ranks, as JSON lines: started, hung, failed, ended, restarted."""
        return self.path / "timeline.jsonl"

    def attempt(self, number: int) -> "AttemptDir":
        return AttemptDir(self.path / "attempts" / str(number))

    def next_attempt(self) -> int:
        taken = [int(p.name) for p in self.path.glob("attempts/*") if p.name.isdigit()]
        return max(taken, default=-1) + 1

    def load_config(self) -> Config:
        if not self.config.is_file():
            raise UserError(str(self.path), "not a run folder: it has no config.yaml")
        return load_config(self.config)

    @contextlib.contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Keeps a second job out of the run while one works in it; a crash frees it.

        Args:
            wait: for the other job to leave, in place of an error.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise RunBusy(str(self.path), "another job is working in this run") from error
            yield

    def is_locked(self) -> bool:
        """Whether a job works in the run."""
        try:
            with self.locked():
                return False
        except RunBusy:
            return True

    def discard(self) -> None:
        """Takes back what a run writes before it begins; nothing else is touched."""
        self.dataset.unlink(missing_ok=True)
        shutil.rmtree(self.overfit, ignore_errors=True)
        (self.path / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def last_plan(self) -> dict[str, Any]:
        """The plan of the last training attempt, to start it again the same way."""
        for number in range(self.next_attempt() - 1, -1, -1):
            plan = self.attempt(number).plan
            if plan.exists():
                content = read_json(plan)
                if content["job"]["kind"] == "train":
                    return content
        return {}

    def last_placement(self) -> dict[str, Any]:
        """Where the last training ran, to do what follows in the same place."""
        if self.is_ensemble():
            return dict(self.load_members().placement)
        placement: dict[str, Any] = self.last_plan().get("job", {}).get("placement", {})
        return placement

    def read_status(self) -> dict[str, Any]:
        return read_json(self.status) if self.status.exists() else {}

    def state(self) -> str:
        """done, stopped, failed, running (or killed while it did), or not started."""
        return str(self.read_status().get("state", "not started"))


@dataclass(frozen=True, kw_only=True)
class Members:
    """Runs of one configuration below one folder that differ in their fold or their seed."""

    vary: Literal["fold", "seed"]
    values: tuple[int, ...]
    parallel: int
    """Trainings beside each other."""
    placement: Mapping[str, Any]
    """Where all of them ran last."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of their folders: ``fold_0``, ``fold_1``, ..."""
        return tuple(f"{self.vary}_{value}" for value in self.values)

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> "Members":
        """Raises KeyError, TypeError or ValueError if ``to_json`` did not write it."""
        if tree["vary"] not in ("fold", "seed"):
            raise ValueError(f"vary is {tree['vary']!r}")
        values = tuple(int(value) for value in tree["values"])
        if not values or min(values) < 0 or len(set(values)) < len(values):
            raise ValueError(f"values are {tree['values']!r}")
        return cls(
            vary=tree["vary"],
            values=values,
            parallel=max(1, int(tree["parallel"])),
            placement=dict(tree["placement"]),
        )


def default_run_path(config_path: Path) -> Path:
    """``runs/NAME`` of the configuration file, or the next free ``runs/NAME-2``, ..."""
    return free_path(Path("runs"), config_path.stem)


def plain_name(name: str) -> str:
    """As a folder is called, on any file system."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def free_path(parent: Path, name: str) -> Path:
    """``parent/NAME``, or the next free ``parent/NAME-2``, ..."""
    name = plain_name(name)
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path
