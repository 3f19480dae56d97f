"""What a trial's run folder begins with: its configuration and its data set."""

import hashlib
import json
import shutil
import threading
from dataclasses import dataclass, field

from rich.console import Console

from unet_dist.config import Config
from unet_dist.config_file import build_config
from unet_dist.errors import UserError
from unet_dist.launching.datasets import begin_run
from unet_dist.runs import RunDir, read_json, write_json
from unet_dist.search.folder import StudyDir
from unet_dist.search.spec import overrides_of
from unet_dist.search.trials import State, Trial


@dataclass(kw_only=True)
class DataSets:
    """The data set of trials, checked once for all that see it alike."""

    folder: StudyDir
    console: Console
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, base: Config) -> None:
        """Raises UserError if the images don't fit the base, or none of them validates. Of images
        that an earlier start has read, whether they are still there."""
        if self._place_of(base).dataset.exists():
            from unet_dist.data.sources import scan_samples

            if faults := scan_samples(base.data).faults:
                raise UserError(base.data.root, faults)
        manifest = read_json(self.known(base).dataset)
        if not manifest["splits"]["val"]:
            raise UserError(
                base.data.root, "no image validates, so there is nothing to choose a trial by"
            )

    def begin(self, run: RunDir, config: Config) -> None:
        """Raises UserError if the images don't fit the settings."""
        known = self.known(config)
        run.path.mkdir(parents=True, exist_ok=True)
        part = run.dataset.with_suffix(".part")
        shutil.copyfile(known.dataset, part)
        part.replace(run.dataset)

    def known(self, config: Config) -> RunDir:
        """Where the data set stands as these settings see it."""
        known = self._place_of(config)
        # Threads of this controller, and other controllers.
        with self._lock, known.locked(wait=True):
            if not known.dataset.exists():
                begin_run(known, config, self.console)
        return known

    def _place_of(self, config: Config) -> RunDir:
        # Studies that know nothing of these keep their data sets.
        unsaid = {name for name in ("border", "object_size") if not getattr(config.data, name)}
        told = json.dumps(config.data.model_dump(mode="json", exclude=unsaid), sort_keys=True)
        return self.folder.data_set(hashlib.sha256(told.encode()).hexdigest()[:12])


def close_run(run: RunDir, state: State) -> None:
    """A run whose controller was killed still says that it is running."""
    if state is not State.RUNNING and run.state() == "running":
        ending = "paused" if state is State.PAUSED else "stopped"
        write_json(run.status, {**run.read_status(), "state": ending})


def config_of(base: Config, trial: Trial, *, keep: int = 0) -> Config:
    """Raises UserError if the point makes no configuration.

    Args:
        keep: checkpoints, for others to copy.
    """
    tree = base.model_dump(mode="json")
    tree["checkpoint"]["keep"] = max(keep, base.checkpoint.keep)
    return build_config(tree, overrides_of(trial.params), where=f"trial {trial.number}")
