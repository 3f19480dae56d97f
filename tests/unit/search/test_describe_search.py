import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.search.studies import spec_of
from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.launching.placement import Placement
from unet_dist.search.describe import result_text
from unet_dist.search.folder import StudyDir
from unet_dist.search.plan import plan_text
from unet_dist.search.site import Site
from unet_dist.search.study import SearchJob, SearchResult, _num_missing
from unet_dist.search.times import spent_text
from unet_dist.search.trials import State, Study, Trial
from unet_dist.search.winner import Candidate

NOTE = "only the last values"


@pytest.mark.parametrize(
    ("schedule", "top", "noted"),
    [("population", 2, True), ("population", 0, False), ("halving", 2, False)],
)
def test_it_is_said_that_seeds_do_not_repeat_the_way_of_a_population(
    schedule: str, top: int, noted: bool
) -> None:
    spec = spec_of(algorithm={"schedule": schedule}, retrain={"top": top})
    site = Site(placement=Placement(simulate=2, cores=(0,)), storage="", study_name="study")
    result = SearchResult(why="done", study=Study(spec=spec), winners=(), stopped=False)
    assert (NOTE in plan_text(spec, site, Config())) == noted
    assert (NOTE in result_text(StudyDir(Path("study")), result, site)) == noted


def test_the_winners_file_says_which_seed_reached_what(tmp_path: Path) -> None:
    spec, folder = spec_of(), StudyDir(tmp_path / "rates")
    folder.path.mkdir()
    winner = Candidate(
        trial=3, params={"train.lr": 0.02}, values=(0.4901,), seeds=(1,),
        metrics={"dice": 0.4901}, epoch=27, in_search=(0.4712, 27),
    )  # fmt: skip
    job = SearchJob(
        folder=folder,
        spec=spec,
        site=Site(placement=Placement(simulate=2, cores=(0,)), storage="", study_name="study"),
        supervise=lambda topology: pytest.fail("nothing is started"),
        console=Console(file=io.StringIO()),
        show=lambda controller: None,
    )
    result = SearchResult(why="done", study=Study(spec=spec), winners=(winner,), stopped=False)
    base = Config.model_validate({"data": {"root": "."}, "seed": 5})
    job._write_winner(base, result)
    assert folder.best.read_text().splitlines()[:4] == [
        "# Trial 3 of rates: dice 0.4901 with seed 1 (in the search 0.4712)",
        "# on validation images, after 27 epochs on 1 card.",
        "# The seed below, 5, is that of the search.",
        f"# unet-dist train {folder.best} --simulate 1",
    ]
    assert load_config(folder.best).seed == 5
    # And so does the end of the search.
    assert (
        "  dice 0.4901 with seed 1 (in the search 0.4712): trial 3, train.lr=0.02"
        in result_text(folder, result, job.site).splitlines()
    )


def test_the_end_names_the_weights_and_a_command_that_can_be_copied() -> None:
    spec, folder = spec_of(budget={"trials": 3}), StudyDir(Path("searches/vessels"))
    winner = Candidate(
        trial=3, params={"train.lr": 0.02}, values=(0.49, 0.50), seeds=(6, 7), runs=(2, 3),
        metrics={"dice": 0.495}, epoch=27,
    )  # fmt: skip
    trials = (
        Trial(number=0, params={}, state=State.COMPLETE, card_s=480.0),
        Trial(number=1, params={}, state=State.PAUSED, card_s=240.0),
        Trial(number=2, params={}, state=State.PAUSED),
    )
    study = Study(spec=spec, trials=trials, clock_s=360.0)
    again = Study(spec=spec, trials=(replace(trials[0], card_s=60.0),), clock_s=90.0)
    result = SearchResult(
        why="all trials are done", study=study, winners=(winner,), stopped=False, again=again,
        rungs=(3, 9, 27), search_seed=5,
    )  # fmt: skip
    site = Site(placement=Placement(simulate=2, cores=(0,)))
    lines = result_text(folder, result, site).splitlines()
    assert lines[:2] == [
        "search: all trials are done; 1 complete, 2 dropped by the rungs",
        "6.0 minutes and 12.0 card-minutes of search, "
        "and 1.5 minutes and 1.0 card-minutes of retraining",
    ]
    assert lines[-5:] == [
        "the winner, on validation images only: searches/vessels/best.yaml",
        "its weights: searches/vessels/retrained/trial_0002 (seed 6), "
        "searches/vessels/retrained/trial_0003 (seed 7)",
        "the seed in best.yaml, 5, is that of the search, and none of these",
        "to train it anew: unet-dist train searches/vessels/best.yaml --simulate 1 --seeds 6,7",
        "a page with charts: unet-dist search report searches/vessels",
    ]
    alone = replace(winner, values=(0.49,), seeds=(6,), runs=(2,))
    text = result_text(folder, replace(result, winners=(alone,)), site)
    assert "best.yaml --simulate 1 seed=6\n" in text


def test_a_long_search_and_its_short_retraining_are_told_in_one_unit() -> None:
    def study(clock_s: float) -> Study:
        trial = Trial(number=0, params={}, card_s=2 * clock_s)
        return Study(spec=spec_of(), trials=(trial,), clock_s=clock_s)

    assert spent_text(study(7200.0), study(720.0)) == (
        "2.0 hours and 4.0 card-hours of search, and 0.2 hours and 0.4 card-hours of retraining"
    )
    assert spent_text(study(72.0), Study(spec=spec_of())) == "1.2 minutes and 2.4 card-minutes"


def test_seeds_that_an_earlier_start_trained_are_not_announced_again() -> None:
    spec = spec_of(budget={"trials": 2})
    over = [Trial(number=number, params={}, state=State.COMPLETE) for number in range(2)]
    assert _num_missing([], spec) == 2
    assert _num_missing(over, spec) == 0
    # The card may be mended by now.
    failed = replace(over[1], state=State.FAILED_INFRASTRUCTURE)
    assert _num_missing([over[0], failed], spec) == 1
