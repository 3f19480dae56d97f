"""A trial is made with its number's point at once, whoever is killed or faster meanwhile."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError

from tests.unit.search.databases import opened, trial
from tests.unit.search.studies import controller_of, played_study, spec_of
from unet_dist.search.database import Database
from unet_dist.search.trials import Trial
from unet_dist.search.words import create


def point_of(number: int) -> Trial:
    """Each number has a point of its own."""
    return replace(trial(number), params={"train.lr": 0.01 * (number + 1), "model.width": 16})


def test_a_number_that_another_controller_took_is_not_made_twice(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.shared = other.shared = True
    assert one.create(point_of(0))
    assert not other.create(point_of(0))
    assert other.load() == [point_of(0)]
    assert other.create(point_of(1))
    one._read_at = -1e9
    assert one.load() == other.load() == [point_of(0), point_of(1)]
    assert one.claim(point_of(1))
    study = optuna.load_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="study")
    assert [each.params for each in study.trials] == [point_of(0).params, point_of(1).params]


class Killed(BaseException):
    pass


def killed_at(database: Database, statement: int) -> list[str]:
    """Ends the controller in place of its n-th statement from now on; those that it did say."""
    said: list[str] = []

    def about_to_say(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if len(said) == statement:
            raise Killed
        said.append(text)

    engine = database.storage._storage.engine
    sqlalchemy.event.listen(engine, "before_cursor_execute", about_to_say)
    return said


def test_a_controller_killed_anywhere_while_it_makes_a_trial_leaves_all_of_it_or_nothing(
    tmp_path: Path,
) -> None:
    alive = opened(tmp_path)
    alive.shared = True
    assert alive.create(point_of(0))
    statement, made = 0, False
    while not made:
        dying = opened(tmp_path)
        dying.shared = True
        dying.load()
        said = killed_at(dying, statement)
        with contextlib.suppress(Killed):
            made = dying.create(point_of(1))
        study = optuna.load_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="study")
        numbers = [0, 1] if made else [0]
        assert [(t.number, t.params) for t in study.trials] == [
            (number, point_of(number).params) for number in numbers
        ]
        alive._read()
        assert alive.load() == [point_of(number) for number in numbers]
        statement += 1
    # The trial, its two parameters and its two attributes, each with a statement of its own.
    assert sum(text.startswith("INSERT") for text in said) == 5
    assert alive.claim(point_of(1))


def test_of_two_controllers_that_race_for_a_number_each_makes_the_points_of_its_own(
    tmp_path: Path,
) -> None:
    """As soon as one has chosen the point of a number, the other takes that number."""
    settings: dict[str, Any] = {"algorithm": {"points": "random"}, "budget": {"trials": 6}}
    alone = played_study(spec_of(**settings))
    one, other = (opened(tmp_path, **settings) for _ in range(2))
    one.shared = other.shared = True
    controller = controller_of(spec_of(**settings), store=one)  # type: ignore[arg-type]
    make, taken = one.create, []

    def make_too_late(late: Trial) -> bool:
        if late.number % 2 == 0 and late.number not in taken:
            taken.append(late.number)
            assert other.create(late)
        return make(late)

    one.create = make_too_late  # type: ignore[method-assign]
    controller.run()
    assert taken == [0, 2, 4]
    assert [t.params for t in controller.study.trials] == [t.params for t in alone.study.trials]


def test_a_creation_whose_answer_was_lost_makes_one_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opened(tmp_path)
    answers = []

    def lose_the_first_answer(*arguments: Any) -> int | None:
        answers.append(create(*arguments))
        if len(answers) == 1:
            raise StorageInternalError("the connection broke")
        return answers[-1]

    monkeypatch.setattr("unet_dist.search.storage.DELAYS_S", (0.0, 0.0))
    monkeypatch.setattr("unet_dist.search.database.create", lose_the_first_answer)
    assert not database.create(trial(0))
    assert database.load() == [trial(0)]
    assert database.claim(trial(0))
