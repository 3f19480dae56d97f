import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from psycopg.errors import IdleInTransactionSessionTimeout
from sqlalchemy.exc import DBAPIError

from tests.unit.search.databases import opened, trial
from tests.unit.search.studies import controller_of, spec_of
from unet_dist.errors import UserError
from unet_dist.search.database import Database
from unet_dist.search.played import PlayedTrials
from unet_dist.search.storage import Patient, check_shared, url_without_password
from unet_dist.search.trials import RungResult, State, Trial


def test_a_study_in_a_database_is_the_one_in_memory(tmp_path: Path) -> None:
    spec = spec_of(algorithm={"points": "random"}, budget={"trials": 9})
    in_memory = controller_of(spec)
    in_memory.run()
    database = opened(tmp_path, algorithm={"points": "random"}, budget={"trials": 9})
    controller = controller_of(spec, store=database)  # type: ignore[arg-type]
    played = controller.executor
    assert isinstance(played, PlayedTrials)
    database.clock_s = lambda: played.now_s  # type: ignore[method-assign]
    controller.run()
    assert controller.study.trials == in_memory.study.trials
    assert opened(tmp_path).load() == list(in_memory.study.trials)


def test_optuna_and_its_tools_read_it(tmp_path: Path) -> None:
    spec = spec_of(algorithm={"points": "random"}, budget={"trials": 9})
    database = opened(tmp_path)
    controller = controller_of(spec, store=database)  # type: ignore[arg-type]
    controller.run()
    best = controller.study.ranking.best_so_far(controller.study.trials)[0]
    study = optuna.load_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="study")
    assert study.best_trial.number == best.number
    assert study.best_value == best.results[-1].metrics["dice"]
    assert study.best_params == dict(best.params)
    assert sorted(study.best_trial.intermediate_values) == [3, 9, 27]
    waiting = [t for t in study.trials if t.state is optuna.trial.TrialState.WAITING]
    assert len(waiting) == sum(t.state is State.PAUSED for t in controller.study.trials)


def test_what_optuna_shows_while_a_trial_runs_is_the_first_objective(tmp_path: Path) -> None:
    database = opened(tmp_path, objectives=[{"metric": "iou"}])
    database.create(trial(0))
    database.claim(trial(0))
    result = RungResult(epoch=3, metrics={"dice": 0.5, "iou": 0.25}, clock_s=1.0)
    database.save(trial(0, state=State.RUNNING, granted=3, results=(result,)))
    study = optuna.load_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="study")
    assert study.trials[0].intermediate_values == {3: 0.25}


def test_optuna_shows_the_values_that_a_member_of_a_population_took(tmp_path: Path) -> None:
    space = {
        "train.optimizer": {"choice": ["adamw", "sgd"]},
        "train.momentum": {"float": [0.5, 0.9], "when": {"train.optimizer": ["sgd"]}},
        "train.lr": {"float": [1e-4, 1e-1], "log": True},
    }
    database = opened(tmp_path, space=space)
    member = Trial(number=0, params={"train.optimizer": "adamw", "train.lr": 0.01})
    database.create(member)
    database.claim(member)
    moved = {"train.optimizer": "sgd", "train.momentum": 0.8, "train.lr": 0.02}
    database.save(replace(member, state=State.RUNNING, params=moved))
    study = optuna.load_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="study")
    assert study.trials[0].params == moved
    database.save(replace(member, state=State.RUNNING, params=dict(member.params)))
    assert study.get_trials()[0].params == member.params


class Unwell:
    """A storage that fails some times before it answers."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error = failures, error

    def get_all_trials(self) -> str:
        self.failures -= 1
        if self.failures >= 0:
            raise self.error
        return "trials"


IDLE = IdleInTransactionSessionTimeout("terminating connection due to idle-in-transaction timeout")


@pytest.mark.parametrize(
    "error",
    [
        StorageInternalError("the server is away"),
        # What SQLAlchemy makes of psycopg's error.
        DBAPIError.instance("select", None, IDLE, psycopg.Error),
    ],
)
def test_a_database_that_is_away_for_a_moment_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("unet_dist.search.storage.DELAYS_S", (0.0, 0.0))
    assert Patient(Unwell(2, error), "sqlite://").get_all_trials() == "trials"  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"the server is away|idle-in-transaction"):
        Patient(Unwell(3, error), "sqlite://").get_all_trials()  # type: ignore[arg-type]


def test_a_database_without_space_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_dist.search.storage.DELAYS_S", ())
    database = opened(tmp_path)
    engine = database.storage._storage.engine

    def no_more_pages(connection: Any, _: object) -> None:
        connection.execute("pragma max_page_count = 1")

    engine.dispose()
    sqlalchemy.event.listen(engine, "connect", no_more_pages)
    with pytest.raises(UserError, match=r"study.db: fails as .*disk is full"):
        database.create(trial(0, reason="x" * 100_000))
    # Optuna's own calls hide the reason behind words of their own.
    with pytest.raises(UserError, match=r"study.db: fails as .*disk is full"):
        database.storage.set_study_user_attr(database.study_id, "key", "x" * 100_000)


def test_a_database_that_controllers_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="only one controller may write"):
        check_shared("sqlite:////shared/study.db")
    with pytest.raises(UserError, match=r"postgresql\+psycopg://anna@127.0.0.1:1/x: .*refused"):
        check_shared("postgresql+psycopg://anna:secret@127.0.0.1:1/x")


def test_a_study_that_is_only_looked_at_leaves_no_file(tmp_path: Path) -> None:
    assert Database.read_only(f"sqlite:///{tmp_path}/none.db", "study") == ([], 0.0)
    assert list(tmp_path.iterdir()) == []


def test_a_space_that_was_changed_meanwhile_is_told(tmp_path: Path) -> None:
    opened(tmp_path).create(trial(0))
    space = {"train.lr": {"float": [1e-4, 0.1], "log": True}, "model.width": {"choice": [8, 32]}}
    with pytest.raises(UserError, match="not the one that the study began with"):
        opened(tmp_path, space=space).create(trial(1))


def test_time_adds_up_over_starts(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first._since -= 100
    first.close()
    assert 100 <= opened(tmp_path).clock_s() < 110
    assert Database.read_only(f"sqlite:///{tmp_path}/study.db", "study")[1] >= 100


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("not a database, but long enough to be looked at" * 50)
    with pytest.raises(UserError, match=r"fails as a study's database: .*not a database"):
        opened(tmp_path)


def test_a_trial_that_somebody_else_wrote_is_told(tmp_path: Path) -> None:
    opened(tmp_path)
    study = optuna.load_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="study")
    study.ask()
    with pytest.raises(UserError, match="not made by this program"):
        opened(tmp_path).load()


def test_a_damaged_trial_is_told(tmp_path: Path) -> None:
    opened(tmp_path).create(trial(0))
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("update trial_user_attributes set value_json = ?", (json.dumps("{}"),))
    with pytest.raises(UserError, match="trial 0 of the study: cannot be understood"):
        opened(tmp_path).load()


def test_other_objectives_are_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(UserError, match="other objectives"):
        opened(tmp_path, objectives=[{"metric": "dice"}, {"metric": "iou"}])


def test_a_password_is_not_shown() -> None:
    url = "postgresql+psycopg://anna:secret@host:5432/name"
    assert url_without_password(url) == "postgresql+psycopg://anna@host:5432/name"
    assert url_without_password("sqlite:///a.db") == "sqlite:///a.db"


def test_a_trial_survives_its_way_to_json_and_back() -> None:
    made_by = {"loss.class_weights": (1, 3)}
    result = RungResult(epoch=9, metrics={"dice": 0.5}, clock_s=1.0, params=made_by)
    full = replace(
        trial(3, state=State.FAILED_MEMORY, tries=2, bad_cards=("1",), reason="x", card_s=3.5),
        params={"loss.class_weights": (1, 2), "augment.flip": True},
        copied_from=(1, 9),
        results=(result,),
    )
    tree = json.loads(json.dumps(full.to_json()))
    assert Trial.of_json(tree) == full
    assert full.params_at(9) == made_by


def test_a_result_of_an_older_study_is_of_the_values_that_its_trial_has() -> None:
    result = RungResult(epoch=9, metrics={"dice": 0.5}, clock_s=1.0, params={"train.lr": 0.1})
    tree = json.loads(json.dumps(trial(3, results=(result,)).to_json()))
    del tree["results"][0]["params"]
    assert Trial.of_json(tree).params_at(9) == trial(3).params
