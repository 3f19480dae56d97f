import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.search.studies import spec_of
from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.launching.placement import Placement
from unet_dist.search.describe import plan_text, result_text
from unet_dist.search.folder import StudyDir
from unet_dist.search.site import Site
from unet_dist.search.study import SearchJob, SearchResult
from unet_dist.search.trials import Study
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
    assert (NOTE in plan_text(spec, site)) == noted
    assert (NOTE in result_text(StudyDir(Path("study")), result)) == noted


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
        in result_text(folder, result).splitlines()
    )
