"""What a person sees of a search: its report, its status, its lines."""

import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from tests.browser import browser_tab, find_browser
from tests.unit.search.studies import controller_of, failing, spec_of
from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement
from unet_dist.records import RecordWriter
from unet_dist.runs import read_json, write_json
from unet_dist.search.database import Database
from unet_dist.search.describe import status_of, status_text
from unet_dist.search.folder import StudyDir
from unet_dist.search.plan import plan_text
from unet_dist.search.played import PlayedTrials
from unet_dist.search.report import _rung_rows, report_study
from unet_dist.search.site import Site
from unet_dist.search.spec import load_spec
from unet_dist.search.study_files import begin_study, read_study
from unet_dist.search.trials import RungResult, State, Study, Trial
from unet_dist.search.view import View, headline, params_text
from unet_dist.search.winner import candidates

SEARCH = """
base: base.yaml
space:
  train.lr: {float: [1e-4, 1e-1], log: true}
  model.width: {choice: [4, 8, 16]}
objectives: [{metric: dice}, {metric: parameters, goal: minimize}]
algorithm: {points: random}
budget: {trials: 24}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    """A played study in a folder, as a search leaves it."""
    above = tmp_path_factory.mktemp("search")
    (above / "base.yaml").write_text("train: {epochs: 27}\n")
    (above / "search.yaml").write_text(SEARCH)
    folder, site = StudyDir(above / "<b>study"), Site(placement=Placement(simulate=4))
    folder.path.mkdir()
    file = above / "search.yaml"
    spec = begin_study(folder, load_spec(file), file, site)
    url = f"sqlite:///{folder.database.resolve()}"
    database = Database.open(url, "study", spec, final_epoch=27)
    controller = controller_of(
        spec, store=database, fails=failing(State.FAILED_DIVERGED, {3}, reason="lr <too> high")
    )
    played = controller.executor
    assert isinstance(played, PlayedTrials)
    database.clock_s = lambda: played.now_s  # type: ignore[method-assign]

    def note(kind: str, **facts: object) -> None:
        with RecordWriter(folder.timeline) as timeline:
            timeline.write(kind, study="study", controller="here:1", **facts)

    controller.note = note
    controller.run()
    database.close()
    found = candidates(spec, [], controller.study, None)
    told = {"base": {"text": "the winner beats <the> base"}, "note": "note: so it is"}
    rows = [each.to_json() for each in found]
    write_json(folder.summary, {"schema": 1, "candidates": rows, **told})
    write_json(folder.status, {"state": "done", "reason": "all trials are done"})
    return folder


@pytest.fixture(scope="module")
def first_report(study: StudyDir) -> str:
    return report_study(study).read_text()


def test_the_report_tells_the_whole_search(study: StudyDir, first_report: str) -> None:
    page = first_report
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == [
        "The winner", "Best so far", "Pareto front", "Parallel coordinates", "Importances",
        "Cards", "Rungs", "Trials", "Failures", "What was asked for",
    ]  # fmt: skip
    assert "lr &lt;too&gt; high" in page
    assert re.search(r"\d+ complete, 1 failed: diverged, \d+ dropped by the rungs; ", page)
    assert "paused" not in re.sub("<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert "Search &lt;b&gt;study" in page
    assert "<p>The winner beats &lt;the&gt; base. Note: so it is.</p>" in page
    best = str(study.best).replace("<b>", "&lt;b&gt;")
    assert f"unet-dist train &#39;{best}&#39; --simulate" in page
    # It needs no other file.
    assert not re.search(r"""(src|href)=["'](?!data:image/png;base64,)""", page)
    counted = read_study(study)[0]
    reached = [sum(t.epochs >= epoch for t in counted.trials) for epoch in (3, 9, 27)]
    rows = re.findall(r'<tr><td class="n">(\d+)</td><td class="n">(\d+)</td>', page)
    assert rows == [(str(epoch), str(n)) for epoch, n in zip((3, 9, 27), reached, strict=True)]


def test_the_report_says_which_trainings_chose_the_winner(study: StudyDir, tmp_path: Path) -> None:
    copy = StudyDir(tmp_path / "copy")
    shutil.copytree(study.path, copy.path)
    summary = read_json(copy.summary)
    write_json(copy.summary, {**summary, "stopped": True})
    page = report_study(copy).read_text()
    assert "The best trial of the search itself, with one seed" in page
    assert "<h2>The best so far</h2>" in page
    [candidate] = summary["candidates"]
    candidate |= {"values": [0.7, 0.8], "seeds": [6, 7], "interval": [0.1, 1.4]}
    write_json(copy.summary, {**summary, "search_seed": 5})
    page = report_study(copy).read_text()
    assert "trained again with seeds 6, 7; none of them is that of the search, 5." in page
    assert "<h2>The winner</h2>" in page
    write_json(copy.status, {"state": "running"})
    assert "<h2>The winner of an earlier start</h2>" in report_study(copy).read_text()


def test_the_median_of_an_even_number_lies_between_the_middle_two() -> None:
    def trial(number: int, dice: float) -> Trial:
        result = RungResult(epoch=3, metrics={"dice": dice}, clock_s=0.0)
        return Trial(number=number, params={}, results=(result,), granted=3)

    trials = tuple(trial(number, dice) for number, dice in enumerate((0.2, 0.9, 0.6, 0.4)))
    [first, last] = _rung_rows(Study(spec=spec_of(), trials=trials), [3, 9])
    assert (first["median"], first["best"], first["promoted"]) == ("0.5", "0.9", 0)
    assert last["promoted"] == ""


def test_lists_are_told_as_a_configuration_takes_them() -> None:
    assert params_text({"loss.class_weights": (1, 2.5)}) == "loss.class_weights=[1, 2.5]"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("place.json", '{"placement": []}', "place.json: cannot be understood"),
        ("place.json", "[]", "place.json: must hold one JSON object"),
        ("search.yaml", "space: 3", "search.yaml"),
        ("summary.json", '{"candidates": [{"trial": 1}]}', "cannot be understood"),
        ("summary.json", '{"candidates": 3}', "cannot be understood"),
        ("timeline.jsonl", '{"kind": "lease", "study": "study"}\n', "cannot be understood"),
        ("study.db", "no database, though it is long enough to be one" * 50, "study.db"),
    ],
)
def test_a_damaged_study_is_told_in_one_message(
    study: StudyDir, tmp_path: Path, name: str, text: str, words: str
) -> None:
    copy = StudyDir(tmp_path / "copy")
    shutil.copytree(study.path, copy.path)
    (copy.path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        report_study(copy)
    if name != "timeline.jsonl":
        with pytest.raises(UserError, match=words):
            status_of(copy)


def test_the_same_study_gives_the_same_report(study: StudyDir, first_report: str) -> None:
    assert report_study(study).read_text() == first_report


@pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on the PATH or named by UNET_DIST_BROWSER"
)
def test_a_browser_shows_the_report_offline_and_without_a_complaint(
    study: StudyDir, tmp_path: Path
) -> None:
    report = report_study(study)
    with browser_tab(str(find_browser()), tmp_path / "profile") as tab:
        tab.open(report.as_uri())
        assert tab.complaints() == []
        assert all(url.startswith(("file:", "data:")) for url in tab.requests())
        shown = "Array.from(document.images).filter(image => image.naturalWidth > 300).length"
        assert tab.value(shown) == tab.value("document.images.length") == 5
        tab.set_width(400)
        assert tab.value("document.documentElement.scrollWidth") <= 400


def test_the_status_counts_every_trial(study: StudyDir) -> None:
    status = status_of(study)
    assert sum(status["trials"].values()) == status["of"] == 24
    assert status["state"] == "done"
    assert status["failures"] == {"3": "failed: diverged: lr <too> high"}
    text = status_text(status)
    assert "24 of 24 trials" in text
    # After the end it tells what the summary tells, before it the best trial so far.
    [winner] = read_json(study.summary)["candidates"]
    assert f"  dice {winner['mean']:.4g}: trial {winner['trial']}, train.lr=" in text
    assert text.splitlines()[4] == "the winner beats <the> base"
    assert "best dice" not in text
    write_json(study.status, {"state": "running"})
    assert f"best dice {winner['mean']:.4g}" in status_text(status_of(study))
    assert status_of(study)["state"] == "killed"
    write_json(study.status, {"state": "stopped", "reason": "stopped"})
    assert status_text(status_of(study)).splitlines()[0].endswith("study: stopped")
    write_json(study.status, {"state": "done"})


def test_the_status_names_the_time_of_the_retraining(study: StudyDir, tmp_path: Path) -> None:
    copy = StudyDir(tmp_path / "copy")
    shutil.copytree(study.path, copy.path)
    spec, site = read_study(copy)[0].spec, Site(placement=Placement(simulate=4))
    url = f"sqlite:///{copy.database.resolve()}"
    seeds = Database.open(url, site.seeds_name, spec, final_epoch=27)
    params = {"train.lr": 0.01, "model.width": 8}
    seeds.create(Trial(number=0, params=params, state=State.WAITING, card_s=90.0))
    seeds.clock_s = lambda: 60.0  # type: ignore[method-assign]
    seeds.close()
    status = status_of(copy)
    assert status["retraining"] == {"trials": {"waiting": 1}, "clock_s": 60.0, "card_s": 90.0}
    line = status_text(status).splitlines()[2]
    minutes, cards = f"{status['clock_s'] / 60:.1f}", f"{status['card_s'] / 60:.1f}"
    assert line == (
        f"{minutes} minutes and {cards} card-minutes of search, "
        "and 1.0 minutes and 1.5 card-minutes of retraining"
    )


def test_a_folder_that_is_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no study: it has no search.yaml"):
        status_of(StudyDir(tmp_path))


def test_a_plan_names_the_range_of_each_key(study: StudyDir) -> None:
    spec, site = read_study(study)[0].spec, Site(placement=Placement(simulate=4))
    text = plan_text(spec, site, Config.model_validate({"train": {"epochs": 27}, "seed": 5}))
    assert "train.lr: 0.0001 to 0.1, by factors" in text
    assert "model.width: 4, 8, 16" in text
    assert "maximize dice, minimize parameters" in text
    assert "rungs after 3, 9 of 27 epochs: from each the best 1 in 3 goes on" in text
    assert (
        "then the best 3 are trained again with seeds 6, 7, 8, and the base beside: "
        "up to 12 trainings of 27 epochs"
    ) in text


def test_lines_tell_how_far_it_is(study: StudyDir, tmp_path: Path) -> None:
    with (tmp_path / "said").open("w") as stream:
        console = Console(file=stream, force_terminal=False, width=200)
        view, lines = View(console=console), []
        controller = controller_of(
            read_study(study)[0].spec, fails=failing(State.FAILED_MEMORY, {2}, reason="too large")
        )
        controller.on_change = lambda each: (lines.append(headline(each)), view.show(each))  # type: ignore[assignment, func-returns-value]
        controller.run()
        view.close()
    assert lines[0].startswith("4 of 24 trials: 4 running; 4 of 4 cards busy")
    assert any(re.search(r"; some [1-9][0-9]* min left$", line) for line in lines)
    assert any(line.endswith("; less than a minute left") for line in lines)
    assert not any("some 0 min" in line for line in lines)
    assert "24 of 24 trials" in lines[-1]
    said = (tmp_path / "said").read_text()
    assert said.count("trial 2 failed: out of memory: too large") == 1


def test_on_a_terminal_a_table_is_shown(study: StudyDir) -> None:
    with Path("/dev/null").open("w") as stream:
        console = Console(file=stream, force_terminal=True, width=200, record=True)
        view = View(console=console)
        controller = controller_of(read_study(study)[0].spec)
        controller.on_change = view.show
        controller.run()
        view.close()
    text = console.export_text()
    assert "settings" in text
    assert "train.lr=" in text
