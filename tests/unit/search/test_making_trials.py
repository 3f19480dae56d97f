"""A trial is made with its number's point at once, and claimed with its owner's name, whoever is
killed or faster meanwhile."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from tests.unit.search.databases import lose_the_first_answer, opened, trial
from tests.unit.search.studies import controller_of, played_study, spec_of
from unet_dist.search.database import Database
from unet_dist.search.trials import Trial
from unet_dist.search.words import NOBODY, OWNER


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


class Mortal:
    """Ends a controller in place of its n-th statement from each beginning on."""

    def __init__(self, database: Database) -> None:
        self.left, self.said = 0, list[str]()
        self.deaths, self.done = 0, False
        engine = database.storage._storage.engine
        sqlalchemy.event.listen(engine, "before_cursor_execute", self._about_to_say)

    def begin(self, statements: int) -> None:
        self.left, self.said = statements, []

    def _about_to_say(self, _connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed
        self.said.append(text)


def killed_at_each_statement(database: Database, act: Callable[[], bool]) -> Iterator[Mortal]:
    """Does it again and again, killed one statement later each time, until it is done; ``done`` of
    what is given after each time."""
    mortal = Mortal(database)
    while not mortal.done:
        mortal.begin(mortal.deaths)
        with contextlib.suppress(Killed):
            mortal.done = act()
        mortal.deaths += 1
        yield mortal


def test_a_controller_killed_anywhere_while_it_makes_a_trial_leaves_all_of_it_or_nothing(
    tmp_path: Path,
) -> None:
    alive, dying = opened(tmp_path), opened(tmp_path)
    alive.shared = dying.shared = True
    assert alive.create(point_of(0))
    dying.load()
    for mortal in killed_at_each_statement(dying, lambda: dying.create(point_of(1))):
        numbers = [0, 1] if mortal.done else [0]
        shown = alive._read()
        assert [t.params for t in shown] == [point_of(number).params for number in numbers]
        assert alive.load() == [point_of(number) for number in numbers]
    # The trial, its two parameters and its two attributes, each with a statement of its own.
    assert sum(text.startswith("INSERT") for text in mortal.said) == 5
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


def test_a_controller_killed_anywhere_while_it_claims_a_trial_has_it_or_not(
    tmp_path: Path,
) -> None:
    alive, dying = opened(tmp_path), opened(tmp_path)
    alive.shared = dying.shared = True
    alive.create(point_of(0))
    dying.load()
    for mortal in killed_at_each_statement(dying, lambda: dying.claim(point_of(0))):
        [shown] = alive._read()
        assert shown.state.name == ("RUNNING" if mortal.done else "WAITING")
        assert shown.user_attrs[OWNER] == (dying.controller if mortal.done else NOBODY)
    assert mortal.deaths > 4
    assert not alive.claim(point_of(0))


@pytest.mark.parametrize("word", ["create", "claim"])
def test_what_is_done_twice_as_its_answer_was_lost_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    database = opened(tmp_path)
    answers = lose_the_first_answer(monkeypatch, word)
    database.create(trial(0))
    assert database.load() == [trial(0)]
    assert database.claim(trial(0))
    assert len(answers) >= 2
    [frozen] = database._read()
    assert frozen.user_attrs[OWNER] == database.controller
