"""Several controllers at a study, those that died, and answers that were lost."""

import json
import os
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.unit.search.databases import lose_the_first_answer, opened, trial
from tests.unit.search.studies import EPOCHS, spec_of
from unet_dist.launching.placement import Placement
from unet_dist.runs import write_json
from unet_dist.search import signs
from unet_dist.search.database import Database
from unet_dist.search.folder import StudyDir
from unet_dist.search.signs import CONTROLLER, LOST_AFTER_S
from unet_dist.search.site import Site
from unet_dist.search.study_files import read_state
from unet_dist.search.trials import RungResult, State
from unet_dist.search.words import TRIAL, say


def test_a_trial_is_claimed_once(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.shared = other.shared = True
    assert one.create(trial(0))
    other.load()
    assert one.claim(trial(0))
    assert not other.claim(trial(0))


def test_what_another_controller_brought_further_is_not_claimed_by_old_knowledge(
    tmp_path: Path,
) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.shared = other.shared = True
    one.create(trial(0))
    known = other.load()[0]
    assert one.claim(trial(0))
    one.save(trial(0, state=State.RUNNING, granted=3))
    one.save(trial(0, state=State.WAITING, granted=3, tries=1))
    assert not other.claim(known)
    assert other.claim(other.load()[0])


def test_trials_of_a_dead_controller_are_given_back(tmp_path: Path) -> None:
    dead = opened(tmp_path)
    dead.create(trial(0))
    dead.claim(trial(0))
    dead.save(trial(0, state=State.RUNNING, granted=3, width=2, leased_at_s=0.0))
    dead._since -= 100
    dead.close()
    alive = opened(tmp_path)
    assert alive.take_over() == 1
    [given_back] = alive.load()
    assert given_back.state is State.WAITING
    assert given_back.leased_at_s is None
    # Two cards for the time that the dead controller told of last.
    assert 200 <= given_back.card_s < 210
    assert alive.claim(alive.load()[0])


@pytest.mark.parametrize(
    ("state", "free"),
    [
        (State.COMPLETE, False),
        (State.PAUSED, True),
        (State.WAITING, True),
        (State.FAILED_USER, False),
        (State.FAILED_INFRASTRUCTURE, True),
    ],
)
def test_a_controller_may_die_between_its_two_words(
    tmp_path: Path, state: State, free: bool
) -> None:
    """The trial is written down, and Optuna's state of it is still RUNNING."""
    epoch = 9 if state is State.PAUSED else 27
    result = RungResult(epoch=epoch, metrics={"dice": 0.5}, clock_s=1.0)
    results = () if state is State.WAITING else (result,)
    granted = 0 if state is State.WAITING else epoch
    after = trial(0, state=state, results=results, granted=granted)
    dead = opened(tmp_path)
    dead.create(trial(0))
    dead.claim(trial(0))
    text = json.dumps(after.to_json())
    dead.storage.set_trial_user_attr(dead._ids[0], TRIAL, text)
    alive = opened(tmp_path)
    assert alive.take_over() == 1
    assert alive.load() == [after]
    assert alive.take_over() == 0
    assert alive.claim(after) == free


def test_trials_of_a_living_controller_are_left_to_it(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.shared = other.shared = True
    one.load()
    one.create(trial(0))
    one.claim(trial(0))
    one.save(trial(0, state=State.RUNNING, granted=3))
    assert other.take_over() == other.take_over() == 0
    one.close()
    # What looks lost must look the same a while later.
    assert other.take_over() == 0
    assert other.take_over() == 1


def test_of_several_that_live_one_takes_over(tmp_path: Path) -> None:
    dead, first, second = (opened(tmp_path) for _ in range(3))
    for each, name in ((dead, "c"), (first, "a"), (second, "b")):
        each.shared, each.controller = True, name
    dead.create(trial(0))
    dead.claim(trial(0))
    dead.save(trial(0, state=State.RUNNING, granted=3))
    first.load()
    second.load()
    assert second.take_over() == second.take_over() == 0
    assert first.take_over() == 1


def test_the_clocks_of_other_machines_do_not_count(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.shared = other.shared = True
    one.load()
    key = CONTROLLER + one.controller
    # Its clock is a day behind; still it says something new each time.
    for beat in (1.0, 2.0):
        other.storage.set_study_user_attr(other.study_id, key, beat)
        assert one.controller in other._alive()
    name, (_, seen) = one.controller, other._signs._seen[one.controller]
    other._signs._seen[name] = (2.0, seen - LOST_AFTER_S - 1)
    assert one.controller not in other._alive()
    assert other.alone()
    assert one.alone()


def test_a_controller_that_was_killed_does_not_keep_others_from_being_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, alive = opened(tmp_path), opened(tmp_path)
    killed.shared = alive.shared = True
    killed._beat()
    monkeypatch.setattr(signs, "BEAT_EVERY_S", 0.05)
    assert killed.controller in alive._alive()
    assert alive.alone()

    def beats_meanwhile(seconds: float) -> None:
        killed._signs.give(killed.controller)

    monkeypatch.setattr(time, "sleep", beats_meanwhile)
    assert not alive.alone()


@pytest.mark.parametrize(("state", "shared"), [(State.REFUSED, False), (State.WAITING, True)])
def test_an_ending_whose_answer_was_lost_is_an_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, state: State, shared: bool
) -> None:
    database = opened(tmp_path)
    database.shared = shared
    database.create(trial(0))
    database.claim(trial(0))
    lose_the_first_answer(monkeypatch, "say")
    database.save(trial(0, state=state))
    assert database.lost() == set()
    assert opened(tmp_path).load() == database.load() == [trial(0, state=state)]


def suspended_and_other(tmp_path: Path) -> tuple[Database, Database]:
    """Two controllers of a study, of which the first runs its only trial."""
    suspended, other = opened(tmp_path), opened(tmp_path)
    suspended.shared = other.shared = True
    suspended.create(trial(0))
    suspended.claim(trial(0))
    suspended.save(trial(0, state=State.RUNNING, granted=3))
    return suspended, other


@pytest.mark.parametrize("claimed_again", [False, True])
def test_a_controller_that_was_suspended_writes_nothing_of_what_it_lost(
    tmp_path: Path, claimed_again: bool
) -> None:
    suspended, other = suspended_and_other(tmp_path)
    # It never said a word that the other heard, so it counts as gone.
    other.take_over()
    assert other.take_over() == 1
    if claimed_again:
        assert other.claim(trial(0, granted=3))
        other.save(trial(0, state=State.RUNNING, granted=3, width=2))
    known = other._known[0]
    assert suspended.lost() == set()
    suspended.save(trial(0, state=State.RUNNING, granted=9))
    assert suspended.lost() == {0}
    suspended.save(trial(0, state=State.COMPLETE))
    assert suspended.lost() == set()
    written, _ = Database.read_only(f"sqlite:///{tmp_path}/study.db", "study")
    assert written == [known] == suspended.load()


def test_a_controller_that_was_suspended_is_told_what_it_lost(tmp_path: Path) -> None:
    suspended, other = suspended_and_other(tmp_path)
    other.take_over()
    other.take_over()
    suspended.load()
    assert suspended.lost() == {0}


@pytest.mark.parametrize("state", [State.RUNNING, State.COMPLETE])
def test_a_controller_that_is_suspended_while_it_writes_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    """Another takes the trial over and begins it anew, between its look at the trial and its
    word."""
    suspended, other = suspended_and_other(tmp_path)

    def meanwhile(*arguments: Any, **named: Any) -> bool:
        monkeypatch.setattr("unet_dist.search.database.say", say)
        other.take_over()
        assert other.take_over() == 1
        assert other.claim(trial(0, granted=3))
        other.save(trial(0, state=State.RUNNING, granted=3, width=2))
        return say(*arguments, **named)

    monkeypatch.setattr("unet_dist.search.database.say", meanwhile)
    result = RungResult(epoch=27, metrics={"dice": 0.5}, clock_s=1.0)
    suspended.save(trial(0, state=state, granted=27, results=(result,)))
    assert [each.width for each in other.load()] == [2]
    frozen = other.storage.get_trial(other._ids[0])
    assert frozen.state is optuna.trial.TrialState.RUNNING
    assert frozen.intermediate_values == {}
    assert frozen.user_attrs["unet_dist:owner"] == other.controller


def test_of_two_that_give_a_trial_back_one_does(tmp_path: Path) -> None:
    dead, other = suspended_and_other(tmp_path)
    late = opened(tmp_path)
    late._read()
    other.take_over()
    assert other.take_over() == 1
    assert other.claim(trial(0, granted=3))
    assert not late._gave_back(0, dead.controller)
    assert other.storage.get_trial(other._ids[0]).state is optuna.trial.TrialState.RUNNING


def test_all_controllers_of_a_shared_study_that_are_dead_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the age of their last word, whichever of its two studies they worked on."""
    folder = StudyDir(tmp_path)
    url = f"sqlite:///{tmp_path}/study.db"
    site = Site(placement=Placement(simulate=1), storage=url)
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    write_json(folder.status, {"state": "running"})
    os.utime(folder.status, (900.0, 900.0))
    one, other = opened(tmp_path), opened(tmp_path)
    one.shared = other.shared = True
    # Nobody has said a word yet, and the start is long ago.
    assert read_state(folder, site)["state"] == "killed"
    os.utime(folder.status, (990.0, 990.0))
    assert read_state(folder, site) == {"state": "running"}
    one._beat()
    now[0] = 1200.0
    other._beat()
    assert read_state(folder, site) == {"state": "running"}
    now[0] = 1200.0 + LOST_AFTER_S + 60
    told = read_state(folder, site)
    assert told["state"] == "killed"
    assert told["reason"] == (
        f"no controller has given a sign of life for 2 min; go on with {folder.resume}"
    )
    seeds = Database.open(url, site.seeds_name, spec_of(), final_epoch=EPOCHS)
    seeds.shared = True
    seeds._beat()
    assert read_state(folder, site) == {"state": "running"}
    # One that has left had its last word then; whoever died after it is gone for as long.
    now[0] += 10
    seeds.close()
    assert read_state(folder, site) == {"state": "running"}
    now[0] += LOST_AFTER_S + 1
    assert read_state(folder, site)["state"] == "killed"
    write_json(folder.status, {"state": "done", "reason": "all trials are done"})
    assert read_state(folder, site)["state"] == "done"


def test_a_controller_that_has_left_is_not_alive(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.shared = other.shared = True
    one._beat()
    assert one.controller in other._alive()
    one.close()
    assert one.controller not in other._alive()
