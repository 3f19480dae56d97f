"""A study in a database, as Optuna keeps it: SQLite for one controller, PostgreSQL for several on
several machines. ``optuna-dashboard`` opens it.

What a trial is stands in one attribute of it, as JSON; Optuna's own fields repeat what its tools
show. Only controllers write here, never a rank.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from unet_dist.errors import UserError
from unet_dist.search import signs
from unet_dist.search.spec import SearchSpec
from unet_dist.search.storage import (
    Patient,
    directions_of,
    engine_of,
    opened,
    told,
)
from unet_dist.search.trials import OVER, State, Trial
from unet_dist.search.words import NOBODY, OWNER, TRIAL, claim, create, say, word_of

SPENT = "unet_dist:spent_s"
LOOK_EVERY_S = 1.0
"""Between two looks at what other controllers did; a claim is checked anyway."""
NEVER = -1e9


@dataclass(kw_only=True)
class Database:
    """A ``Store``. To be used by one thread."""

    storage: Any
    """Optuna's, patient with errors that pass."""
    study_id: int
    spec: SearchSpec
    final_epoch: int
    """Of a trial that is complete."""
    shared: bool
    """Whether other controllers may write, so that every look must go to the database."""
    controller: str = field(
        default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    )
    _known: dict[int, Trial] = field(default_factory=dict)
    _ids: dict[int, int] = field(default_factory=dict)
    """Optuna's id of each trial."""
    _since: float = field(default_factory=time.monotonic)
    _spent_before_s: float = 0.0
    _beaten: float = NEVER
    _read_at: float = NEVER
    _suspects: dict[int, str] = field(default_factory=dict)
    """Trials that looked lost the last time, and whose they were."""
    _held: set[int] = field(default_factory=set)
    """Trials that were claimed here, until they rest."""
    _lost: set[int] = field(default_factory=set)
    """Those of them that others have taken over."""
    _signs: signs.Signs = field(init=False)

    def __post_init__(self) -> None:
        self._signs = signs.Signs(storage=self.storage, study_id=self.study_id)

    @classmethod
    def open(cls, url: str, name: str, spec: SearchSpec, *, final_epoch: int) -> "Database":
        """Makes the study if there is none of the name.

        Raises:
            UserError: the database cannot be reached, or holds a study of another kind.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        directions = directions_of(spec)
        with told(url):
            storage, study = opened(url, name, directions)
        if list(study.directions) != directions:
            raise UserError(name, "the study has other objectives; choose another name or folder")
        database = cls(
            storage=Patient(storage, url),
            study_id=study._study_id,
            spec=spec,
            final_epoch=final_epoch,
            shared=not url.startswith("sqlite"),
        )
        database._spent_before_s = float(study.user_attrs.get(SPENT, 0.0))
        return database

    @classmethod
    def read_only(cls, url: str, name: str) -> tuple[list[Trial], float]:
        """All trials, and the time spent; empty without a study.

        Raises:
            UserError: the database cannot be read, or is another program's.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = Path(url.removeprefix("sqlite:///"))
        if url.startswith("sqlite:///") and not path.exists():
            return [], 0.0  # SQLite would make it
        with told(url):
            try:
                storage = RDBStorage(url, engine_kwargs=engine_of(url))
                study = optuna.load_study(storage=storage, study_name=name)
            except KeyError:
                return [], 0.0
            found = study.get_trials(deepcopy=False)
        trials = sorted(found, key=lambda frozen: frozen.number)
        return [_trial_of(frozen) for frozen in trials], float(study.user_attrs.get(SPENT, 0.0))

    # Store

    def load(self) -> Sequence[Trial]:
        if self._beat_is_due():
            self._beat()
            self.take_over()
        elif self.shared and time.monotonic() - self._read_at >= LOOK_EVERY_S:
            self._read()
        return [self._known[number] for number in sorted(self._known)]

    def create(self, trial: Trial) -> bool:
        try:
            trial_id = self.storage.do(create, self.study_id, trial, self.spec)
        except ValueError as error:
            raise UserError(
                "space", f"is not the one that the study began with: {error}"
            ) from error
        if trial_id is None:
            # Another controller was faster, or the answer to the first try of a patient call was
            # lost, and this is the trial itself.
            self._read()
            return False
        self._ids[trial.number], self._known[trial.number] = trial_id, trial
        return True

    def claim(self, trial: Trial) -> bool:
        if not self.storage.do(claim, self._ids[trial.number], trial, owner=self.controller):
            self._read_at = NEVER
            return False
        self._held.add(trial.number)
        return True

    def save(self, trial: Trial) -> None:
        """Not of a trial that another controller has taken over: it knows more."""
        if trial.number not in self._lost and not self._write(trial):
            self._lost.add(trial.number)
        if trial.number in self._lost:
            self._read_at = NEVER
        if trial.state is not State.RUNNING:
            self._held.discard(trial.number)
            self._lost.discard(trial.number)

    def lost(self) -> set[int]:
        return set(self._lost)

    def _is_ours(self, frozen: FrozenTrial) -> bool:
        running = frozen.state is TrialState.RUNNING
        return running and frozen.user_attrs.get(OWNER) == self.controller

    def _write(self, trial: Trial) -> bool:
        """False, and nothing is written, if it is another controller's by now."""
        word = word_of(trial, self.spec, before=self._known[trial.number])
        owner = self.controller if self.shared else None
        try:
            if not self.storage.do(say, self._ids[trial.number], word, only_of=owner):
                return False
        except UpdateFinishedTrialError:
            self._read_at = NEVER  # the answer to the first try of a patient call was lost
        self._known[trial.number] = trial
        if trial.state in OVER:
            self._beat()
        return True

    def clock_s(self) -> float:
        return self._spent_before_s + time.monotonic() - self._since

    # Several controllers, and those that died

    def take_over(self) -> int:
        """Gives back the trials of controllers that are gone; how many. Of several that are alive
        only one does, so that nothing is given back twice; and what looked lost must look the same
        a while later, since a controller that has just come may have claimed it."""
        alive = self._alive()
        running = {
            frozen.number: str(frozen.user_attrs.get(OWNER, NOBODY))
            for frozen in self._read()
            if frozen.state is TrialState.RUNNING
        }
        lost = {number: owner for number, owner in running.items() if owner not in alive}
        before, self._suspects = self._suspects, lost
        if self.controller != min(alive):
            return 0
        if self.shared:
            lost = {number: owner for number, owner in lost.items() if before.get(number) == owner}
        return sum(self._gave_back(number, owner) for number, owner in lost.items())

    def _gave_back(self, number: int, owner: str) -> bool:
        """Not if somebody has done so meanwhile."""
        trial = self._known[number]
        at_rest = replace(
            trial,
            # Whatever was written last: the controller may have died between its two words.
            state=trial.state if trial.state in OVER else trial.at_rest(self.final_epoch),
            card_s=trial.used_s(self._spent_s()),
            leased_at_s=None,
        )
        word = word_of(at_rest, self.spec, before=replace(at_rest, state=State.RUNNING))
        free = replace(word, attributes={**word.attributes, OWNER: NOBODY})
        if not self.storage.do(say, self._ids[number], free, only_of=owner):
            self._read_at = NEVER
            return False
        self._known[number] = at_rest
        return True

    def _spent_s(self) -> float:
        """What is known of the time that a dead controller worked."""
        return float(self.storage.get_study_user_attrs(self.study_id).get(SPENT, 0.0))

    def _alive(self) -> set[str]:
        """Controllers whose sign of life has changed lately, by this machine's clock alone; of a
        locked folder only this one."""
        if not self.shared:
            return {self.controller}
        return {*self._signs.alive(), self.controller}

    def _beat_is_due(self) -> bool:
        return time.monotonic() - self._beaten >= signs.BEAT_EVERY_S

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        if self.shared:
            self._signs.give(self.controller)
        if self.clock_s() > self._spent_s():
            self.storage.set_study_user_attr(self.study_id, SPENT, self.clock_s())

    def close(self) -> None:
        """The trials that this controller held are free at once."""
        self._beat()
        if self.shared:
            self._signs.leave(self.controller)
        self.storage.remove_session()

    def alone(self) -> bool:
        """Whether nobody else works on the study; that takes a moment to see."""
        return not (self.shared and self._signs.any_besides(self.controller))

    # Optuna's side

    def _read(self) -> Sequence[FrozenTrial]:
        """Takes in what the database has, which is returned as Optuna has it."""
        self._read_at = time.monotonic()
        trials: list[FrozenTrial] = self.storage.get_all_trials(self.study_id, deepcopy=False)
        for frozen in trials:
            self._ids[frozen.number] = frozen._trial_id
            trial = _trial_of(frozen)
            if frozen.state is TrialState.RUNNING and trial.state not in OVER:
                trial = replace(trial, state=State.RUNNING)  # somebody is about to write it down
            self._known[frozen.number] = trial
            if frozen.number in self._held and not self._is_ours(frozen):
                self._lost.add(frozen.number)
        return trials


def _trial_of(frozen: FrozenTrial) -> Trial:
    """Raises UserError if this program did not write it."""
    where = f"trial {frozen.number} of the study"
    text = frozen.user_attrs.get(TRIAL)
    if text is None:
        raise UserError(where, "was not made by this program")
    try:
        return Trial.of_json(json.loads(text))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(where, f"cannot be understood: {error!r}") from error
