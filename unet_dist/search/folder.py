"""The folder of a study: the only place that spells its file names."""

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from unet_dist.runs import RunDir


@dataclass(frozen=True)
class StudyDir:
    """A folder of runs besides their database. Its lock is that of a run folder."""

    path: Path

    @property
    def spec(self) -> Path:
        """What was asked for, with absolute paths."""
        return self.path / "search.yaml"

    @property
    def resume(self) -> str:
        """The command that goes on with it."""
        return shlex.join(["unet-dist", "search", str(self.path), "--resume"])

    @property
    def base(self) -> Path:
        """The configuration that trials change."""
        return self.path / "base.yaml"

    @property
    def place(self) -> Path:
        """Which cards, and which database; for ``--resume``."""
        return self.path / "place.json"

    @property
    def database(self) -> Path:
        return self.path / "study.db"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def stop_request(self) -> Path:
        """Once it exists, the controller stops its trials and leaves."""
        return self.path / "stop"

    @property
    def timeline(self) -> Path:
        """Leases, rungs and failures, as JSON lines."""
        return self.path / "timeline.jsonl"

    @property
    def best(self) -> Path:
        """The configuration of the winner."""
        return self.path / "best.yaml"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def trial(self, number: int) -> RunDir:
        return RunDir(self.path / "trials" / f"trial_{number:04d}")

    def retrained(self, number: int) -> RunDir:
        """Of the study that trains the best trials again; each one seed of one of them."""
        return RunDir(self.path / "retrained" / f"trial_{number:04d}")

    @property
    def data_sets(self) -> Path:
        return self.path / "data"

    def data_set(self, digest: str) -> RunDir:
        """The data set as trials with these settings of ``data`` see it."""
        return RunDir(self.data_sets / digest)

    def is_study(self) -> bool:
        return self.spec.is_file()

    def is_free(self) -> bool:
        """Whether nothing is there but what a start leaves that was killed before it wrote down
        what is asked for."""
        own = {".lock", self.base.name, self.place.name}
        others = [path for path in self.path.iterdir() if path.name not in own]
        checked = [path for known in self.data_sets.glob("*") for path in (known, *known.glob("*"))]
        names = {".lock", self.data_set("").dataset.name}
        return all(path == self.data_sets and path.is_dir() for path in others) and all(
            path.is_dir() if path.parent == self.data_sets else path.name in names
            for path in checked
        )

    def discard(self) -> None:
        """Takes back what was found out of the data set, and the folder, before anything is asked
        for in it; nothing else is touched."""
        for known in self.data_sets.glob("*"):
            RunDir(known).discard()
        (self.path / ".lock").unlink(missing_ok=True)
        for folder in (self.data_sets, self.path):
            with contextlib.suppress(OSError):
                folder.rmdir()
