"""What a controller says of a trial goes to Optuna's tables in one transaction: all of it or
nothing, and only as long as the trial is the controller's.

Optuna's own calls are a transaction each. Between a look at the owner and the writes after it a
controller may be suspended for longer than others wait, and then it overwrote what they did.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from unet_dist.search.spec import SearchSpec
from unet_dist.search.storage import as_optuna, distribution_of
from unet_dist.search.trials import State, Trial

TRIAL, OWNER = "unet_dist:trial", "unet_dist:owner"
NOBODY = ""
SHOWN = {
    State.COMPLETE: TrialState.COMPLETE,
    State.RUNNING: TrialState.RUNNING,
    State.WAITING: TrialState.WAITING,
    State.PAUSED: TrialState.WAITING,
    # FAIL would be for ever, and a later start takes it up again.
    State.FAILED_INFRASTRUCTURE: TrialState.WAITING,
}
"""Optuna's word for a state; all others are FAIL."""


@dataclass(frozen=True, kw_only=True)
class Word:
    attributes: Mapping[str, Any]
    results: Mapping[int, float] = field(default_factory=dict)
    """New ones, by epoch."""
    params: Mapping[str, tuple[float, BaseDistribution]] | None = None
    """In place of all that it has; Optuna itself sets a parameter once. None if none changed."""
    state: TrialState | None = None
    values: Sequence[float] = ()
    """Of the objectives, of a trial that is complete."""


def word_of(trial: Trial, spec: SearchSpec, *, before: Trial) -> Word:
    """The trial itself as JSON, and what Optuna's tools show of what is new in it."""
    metric = spec.objectives[0].metric
    new = trial.results[len(before.results) :]
    rests = trial.state is not before.state and trial.state is not State.RUNNING
    return Word(
        attributes={TRIAL: json.dumps(trial.to_json())},
        results={each.epoch: each.metrics[metric] for each in new if metric in each.metrics},
        # A member of a population takes other values.
        params=None if trial.params == before.params else params_of(trial, spec),
        state=SHOWN.get(trial.state, TrialState.FAIL) if rests else None,
        values=_values_of(trial, spec) if trial.state is State.COMPLETE else (),
    )


def params_of(trial: Trial, spec: SearchSpec) -> dict[str, tuple[float, BaseDistribution]]:
    """As Optuna keeps them."""
    found = {}
    for key, value in trial.params.items():
        parameter = spec.space[key]
        kind = distribution_of(parameter, [as_optuna(each) for each in parameter.choice])
        found[key] = (kind.to_internal_repr(as_optuna(value)), kind)
    return found


def _values_of(trial: Trial, spec: SearchSpec) -> list[float]:
    """Of the objectives; Optuna takes no missing ones, so these count as the worst."""
    metrics = trial.results[-1].metrics
    worst = {"maximize": -1e12, "minimize": 1e12}
    return [metrics.get(each.metric, worst[each.goal]) for each in spec.objectives]


def create(storage: RDBStorage, study_id: int, trial: Trial, spec: SearchSpec) -> int | None:
    """A waiting trial with its point; Optuna's id of it. None, and nothing is written, if its
    number is not the next one. The number decides the point, so nobody is to see a trial that has
    the one without the other; and Optuna's own calls tell a number after the trial was made.

    Raises:
        ValueError: a parameter is not the one that the study began with.
    """
    session = storage.scoped_session()
    try:
        with session.begin():
            if _next_number(session, study_id) != trial.number:
                return None
            made = models.TrialModel(
                study_id=study_id, number=trial.number, state=TrialState.WAITING
            )
            session.add(made)
            session.flush()
            trial_id: int = made.trial_id  # type: ignore[assignment]
            attributes = {TRIAL: json.dumps(trial.to_json()), OWNER: NOBODY}
            word = Word(attributes=attributes, params=params_of(trial, spec))
            _write(storage, session, trial_id, word)
            return trial_id
    finally:
        session.close()


def _next_number(session: Session, study_id: int) -> int:
    """Nobody else makes a trial before the transaction ends: as in ``_locked``, a write that
    changes nothing sees to it. Optuna locks the same row."""
    studies, trials = models.StudyModel, models.TrialModel
    session.execute(
        update(studies)
        .where(studies.study_id == study_id)
        .values(study_name=studies.study_name)
        .execution_options(synchronize_session=False)
    )
    counted = select(func.count()).select_from(trials).where(trials.study_id == study_id)
    return session.execute(counted).scalar_one()


def say(storage: RDBStorage, trial_id: int, word: Word, *, only_of: str | None) -> bool:
    """False, and nothing is written, if the trial does not run under this owner any more.

    Args:
        only_of: the owner; None where nobody else can write.

    Raises:
        UpdateFinishedTrialError: it is over already.
    """
    session = storage.scoped_session()
    try:
        with session.begin():
            if only_of is not None and not _runs_under(session, trial_id, only_of):
                return False
            _write(storage, session, trial_id, word)
            return True
    finally:
        session.close()


def claim(storage: RDBStorage, trial_id: int, trial: Trial, *, owner: str) -> bool:
    """A trial that waits runs under this owner from now on; False, and nothing is written, if it
    does not wait, or is not what the owner knows: another had it meanwhile, and brought it further.
    """
    session = storage.scoped_session()
    try:
        with session.begin():
            if not _locked(session, trial_id, TrialState.WAITING):
                # It may be the owner's already, if the answer to a first try was lost.
                return _runs_under(session, trial_id, owner)
            if Trial.of_json(json.loads(_told(session, trial_id, TRIAL) or "{}")) != trial:
                return False
            found = models.TrialModel.find_or_raise_by_id(trial_id, session)
            found.state, found.datetime_start = TrialState.RUNNING, datetime.now()
            _write(storage, session, trial_id, Word(attributes={OWNER: owner}))
            return True
    finally:
        session.close()


def _runs_under(session: Session, trial_id: int, owner: str) -> bool:
    running = _locked(session, trial_id, TrialState.RUNNING)
    return running and (_told(session, trial_id, OWNER) or NOBODY) == owner


def _locked(session: Session, trial_id: int, state: TrialState) -> bool:
    """Whether it is in this state. Nobody can change that before the transaction ends: a write,
    though it changes nothing, locks the row in PostgreSQL and the file in SQLite."""
    trials = models.TrialModel
    found = session.execute(
        update(trials)
        .where(trials.trial_id == trial_id, trials.state == state)
        .values(state=state)
        .execution_options(synchronize_session=False)
    )
    return bool(found.rowcount == 1)  # type: ignore[attr-defined]


def _told(session: Session, trial_id: int, key: str) -> str | None:
    attributes = models.TrialUserAttributeModel
    text = session.execute(
        select(attributes.value_json).where(attributes.trial_id == trial_id, attributes.key == key)
    ).scalar_one_or_none()
    return None if text is None else str(json.loads(text))


def _write(storage: RDBStorage, session: Session, trial_id: int, word: Word) -> None:
    for key, value in word.attributes.items():
        storage._set_trial_attr_without_commit(
            session, models.TrialUserAttributeModel, trial_id, key, value
        )
    for epoch, result in word.results.items():
        storage._set_trial_intermediate_value_without_commit(session, trial_id, epoch, result)
    if word.params is not None:
        params = models.TrialParamModel
        session.execute(delete(params).where(params.trial_id == trial_id))
        for key, (inner, kind) in word.params.items():
            storage._set_trial_param_without_commit(session, trial_id, key, inner, kind)
    if word.state is not None:
        trial = models.TrialModel.find_or_raise_by_id(trial_id, session)
        for objective, value in enumerate(word.values):
            storage._set_trial_value_without_commit(session, trial, objective, value)
        trial.state = word.state
        if word.state.is_finished():
            trial.datetime_complete = datetime.now()
