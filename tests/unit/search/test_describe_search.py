from pathlib import Path

import pytest

from tests.unit.search.studies import spec_of
from unet_dist.launching.placement import Placement
from unet_dist.search.describe import plan_text, result_text
from unet_dist.search.folder import StudyDir
from unet_dist.search.site import Site
from unet_dist.search.study import SearchResult
from unet_dist.search.trials import Study

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
