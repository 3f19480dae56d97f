import signal
import time
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from tests.unit.search.databases import opened
from tests.unit.search.studies import spec_of
from unet_dist.config import Config
from unet_dist.launching.placement import Placement, Supervision
from unet_dist.search import chosen
from unet_dist.search.chosen import CHOSEN, agreed
from unet_dist.search.folder import StudyDir
from unet_dist.search.site import Site
from unet_dist.search.spec import SearchSpec
from unet_dist.search.study import SearchJob
from unet_dist.search.trials import RungResult, State, Study, Trial

NAME = "study: seeds"


def url_of(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def test_the_first_controller_chooses_for_all(tmp_path: Path) -> None:
    url, spec = url_of(tmp_path), spec_of()
    assert agreed([3, 1], url, NAME, spec, shared=True) == [3, 1]
    assert agreed([1, 5], url, NAME, spec, shared=True) == [3, 1]
    more = spec_of(budget={"trials": 80})
    assert agreed([5, 1], url, NAME, more, shared=True) == [3, 1, 5]
    assert agreed([7, 5], url, NAME, more, shared=True) == [3, 1, 5]


def test_a_controller_by_itself_adds_what_a_later_start_finds(tmp_path: Path) -> None:
    url, spec = url_of(tmp_path), spec_of()
    assert agreed([3, 1], url, NAME, spec, shared=False) == [3, 1]
    assert agreed([1, 5], url, NAME, spec, shared=False) == [3, 1, 5]


def test_the_word_of_the_first_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, spec = url_of(tmp_path), spec_of()
    study = optuna.create_study(storage=url, study_name=NAME, direction="maximize")

    def told_meanwhile(seconds: float) -> None:
        word = {"budget": spec.budget.model_dump(mode="json"), "trials": [4]}
        study.set_user_attr(CHOSEN, word)

    monkeypatch.setattr(time, "sleep", told_meanwhile)
    assert agreed([1], url, NAME, spec, shared=True) == [4]


def test_the_word_of_a_first_that_was_killed_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, spec = url_of(tmp_path), spec_of()
    optuna.create_study(storage=url, study_name=NAME, direction="maximize")
    monkeypatch.setattr(chosen, "WAIT_S", 0.0)
    assert agreed([1], url, NAME, spec, shared=True) == [1]
    assert agreed([2], url, NAME, spec, shared=True) == [1]


def finished(number: int, dice: float) -> Trial:
    result = RungResult(epoch=27, metrics={"dice": dice}, clock_s=1.0)
    params = {"train.lr": 0.01 + number / 100, "model.width": 8}
    return Trial(number=number, params=params, results=(result,), state=State.COMPLETE)


class Told(SearchJob):
    """Its search and its seeds are over at once."""

    known: Study
    points: tuple[dict[str, object], ...] = ()
    is_stopped: bool = False
    """While it trains the seeds."""

    def _phase(self, base, spec: SearchSpec, name: str, folder, *named) -> tuple[Study, str]:  # type: ignore[no-untyped-def]
        if name == NAME:
            self.points = spec.first
            self.interruptions.received += [signal.SIGINT] * self.is_stopped
            return Study(spec=spec), "done"
        return self.known, "budget.hours"


def told_job(tmp_path: Path, *dice: float) -> Told:
    """That knows a finished trial of each Dice."""
    spec = spec_of(retrain={"top": 1, "seeds": 2})
    site = Site(
        placement=Placement(simulate=1, cores=(0,)), storage=url_of(tmp_path), study_name="study"
    )
    job = Told(
        folder=StudyDir(tmp_path), spec=spec, site=site, console=Console(quiet=True),
        supervise=lambda topology: Supervision(), show=lambda controller: None,
    )  # fmt: skip
    trials = tuple(finished(number, value) for number, value in enumerate(dice))
    job.known = Study(spec=spec, trials=trials)
    return job


BASE = Config.model_validate({"data": {"root": "."}, "seed": 1})


def test_a_stop_while_the_best_are_trained_again_is_told_beside_the_end_of_the_search(
    tmp_path: Path,
) -> None:
    opened(tmp_path).create(finished(0, 0.5))
    job = told_job(tmp_path, 0.5)
    job.is_stopped = True
    result = job._led(BASE)
    assert result.state == "stopped"
    assert result.why == "budget.hours; stopped while the best were trained again"
    assert [winner.trial for winner in result.winners] == [0]


def test_controllers_that_know_different_results_train_the_same_points_again(
    tmp_path: Path,
) -> None:
    database = opened(tmp_path)
    for number in range(2):
        database.create(finished(number, 0.5))
    points = []
    for dice in ((0.6, 0.7), (0.6, 0.5)):
        job = told_job(tmp_path, *dice)
        job._led(BASE)
        points.append(job.points)
    # Of the trial that the first controller chose, then of the base, whose rate is the default.
    assert [point["train.lr"] for point in points[0]] == [0.02, 0.02, 0.002, 0.002]
    # The search had the seed of the base, 1.
    assert [point["seed"] for point in points[0]] == [2, 3, 2, 3]
    assert points[1] == points[0]
