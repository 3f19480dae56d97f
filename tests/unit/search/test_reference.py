"""The base configuration: the first trial, and what the winner is held against."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.unit.search.studies import EPOCHS, spec_of
from unet_dist.cli import app
from unet_dist.config import Config
from unet_dist.launching.placement import Placement
from unet_dist.search.describe import result_text
from unet_dist.search.folder import StudyDir
from unet_dist.search.points import next_point
from unet_dist.search.reference import (
    UNKNOWN,
    Comparison,
    against_base,
    base_note,
    base_point,
    reference_of,
    with_base_first,
)
from unet_dist.search.site import Site
from unet_dist.search.space import Space
from unet_dist.search.study import SearchResult
from unet_dist.search.trials import RungResult, State, Study, Trial
from unet_dist.search.winner import SEED, candidates, retraining

BASE = Config.model_validate(
    {"data": {"root": "."}, "train": {"lr": 0.01}, "model": {"width": 8}, "loss": {"dice": 1}}
)
POINT = {"train.lr": 0.01, "model.width": 8}
SITE = Site(placement=Placement(simulate=2, cores=(0,)))


def space_of(**parameters: object) -> Space:
    return spec_of(space=parameters).searched


def test_the_base_is_a_point_in_the_spaces_own_words() -> None:
    space = space_of(**{
        "loss.dice": {"choice": [0, 1]}, "model.depth": {"int": [1, 9]},
        "train.optimizer": {"choice": ["adamw", "sgd"]},
        "train.momentum": {"float": [0.1, 0.99], "when": {"train.optimizer": ["sgd"]}},
        "cards": {"choice": [4, 2]},
    })  # fmt: skip
    point = base_point(space, BASE)
    # The configuration has 1.0; momentum has no meaning with AdamW, its default.
    assert point == {
        "loss.dice": 1, "model.depth": BASE.model.depth, "train.optimizer": "adamw", "cards": 2
    }  # fmt: skip
    assert type(point["loss.dice"]) is int
    assert space.faults_of(point) == []


def test_the_base_comes_first_unless_it_is_outside_left_out_or_said() -> None:
    other = {"train.lr": 0.02, "model.width": 4}
    assert with_base_first(spec_of(first=[other]), BASE).first == (POINT, other)
    assert with_base_first(spec_of(first=[other, POINT]), BASE).first == (other, POINT)
    assert with_base_first(spec_of(include_base=False), BASE).first == ()
    outside = spec_of(space={"train.lr": {"float": [0.02, 0.1]}})
    assert with_base_first(outside, BASE).first == ()
    assert "train.lr is 0.01, outside the space" in base_note(outside, BASE)
    assert base_note(spec_of(), BASE) == ""
    # Its seeds are trained all the same, with none of the searched values.
    assert reference_of(outside, BASE) == {}
    assert reference_of(spec_of(), BASE) == POINT
    assert reference_of(spec_of(include_base=False), BASE) is None


def test_a_grid_does_not_try_the_base_twice() -> None:
    spec = spec_of(
        space={"model.width": {"choice": [4, 8, 16]}}, algorithm={"points": "grid"},
        first=[{"model.width": 8}],
    )  # fmt: skip
    tried = [next_point(Study(spec=spec), number) for number in range(4)]
    assert tried[0] == {"model.width": 8}
    assert sorted(int(point["model.width"]) for point in tried[1:3] if point) == [4, 16]  # type: ignore[arg-type]
    assert tried[3] is None


def done(number: int, point: dict[str, object], dice: float, *, epoch: int = EPOCHS) -> Trial:
    epochs = [each for each in (3, 9, 27) if each <= epoch]
    results = tuple(
        RungResult(epoch=each, metrics={"dice": dice * each / epoch}, clock_s=0.0)
        for each in epochs
    )
    state = State.COMPLETE if epoch == EPOCHS else State.PAUSED
    return Trial(number=number, params=point, results=results, state=state)  # type: ignore[arg-type]


GOOD = {"train.lr": 0.02, "model.width": 16}
STUDY = Study(spec=spec_of(), trials=(done(0, POINT, 0.30, epoch=9), done(1, GOOD, 0.9)))  # type: ignore[arg-type]


def compared(seeds: dict[str, list[float]], base: dict[str, object] = POINT) -> Comparison | None:  # type: ignore[assignment]
    """After retraining; values of the winner's and the base's seeds 1, 2, ..."""
    points = {"good": GOOD, "base": base}
    again = [
        done(0, {**points[name], SEED: seed}, dice)
        for name, values in seeds.items()
        for seed, dice in enumerate(values, start=1)
    ]
    found = candidates(
        STUDY.spec,
        [STUDY.trials[1]],
        STUDY,
        Study(spec=STUDY.spec, trials=tuple(again)),
        base,  # type: ignore[arg-type]
    )
    return against_base(STUDY.spec, STUDY, found, base)  # type: ignore[arg-type]


def test_the_seeds_of_the_base_follow_those_of_the_best() -> None:
    spec = spec_of(retrain={"top": 1, "seeds": 2})
    again = retraining(spec, [STUDY.trials[1]], [], POINT, seed=0)
    assert again.first == tuple({**point, SEED: seed} for point in (GOOD, POINT) for seed in (1, 2))
    # A base among the best is trained once.
    assert retraining(spec, list(STUDY.trials), [], POINT, seed=0).budget.trials == 4


def test_the_best_of_several_must_beat_the_base_by_more() -> None:
    """Gains 0.10, 0.11, 0.12, t of 2 degrees 4.3027 at 0.975 and 7.6488 at 1 - 0.025 / 3."""
    half = 0.01 / 3**0.5
    one = compared({"good": [0.9, 0.8, 0.7], "base": [0.8, 0.69, 0.58]})
    assert one is not None
    assert one.interval == pytest.approx((0.11 - 4.3027 * half, 0.11 + 4.3027 * half), abs=1e-6)
    best = replace(one, among=3)
    assert best.interval == pytest.approx((0.11 - 7.6488 * half, 0.11 + 7.6488 * half), abs=1e-5)
    assert best.text.endswith("over 3 seeds as the best of 3)")


@pytest.mark.parametrize(
    ("seeds", "gain", "verdict"),
    [
        # Gains 0.10, 0.12, 0.11: mean 0.11, deviation 0.01, t 4.3027.
        ({"good": [0.9, 0.8, 0.7], "base": [0.8, 0.68, 0.59]}, 0.11, "the winner beats the base"),
        # Gains 0.1, -0.1, 0.1: mean 1/30, deviation 0.1155.
        ({"good": [0.9, 0.8, 0.9], "base": [0.8, 0.9, 0.8]}, 1 / 30,
         "the winner beats the base by less than seeds differ"),
        ({"good": [0.8], "base": [0.7]}, 0.1,
         "the winner beats the base with the one seed that was tried"),
        ({"good": [0.7, 0.7], "base": [0.7, 0.8]}, 0.0,
         "no trial beats the base: it is the winner"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", [POINT, {}])
def test_the_winner_is_held_against_the_base_seed_by_seed(
    seeds: dict[str, list[float]], gain: float, verdict: str, base: dict[str, object]
) -> None:
    told = compared(seeds, base)
    assert told is not None
    assert told.gain == pytest.approx(gain)
    assert told.verdict == verdict
    if len(seeds["good"]) == 3:
        half = 4.3027 * (0.01 if gain > 0.1 else 0.2 / math.sqrt(3)) / math.sqrt(3)
        assert told.interval == pytest.approx((gain - half, gain + half), rel=1e-4)
    assert told.base.trial == (0 if base else None)


def test_a_base_whose_seeds_failed_in_part_is_not_known() -> None:
    assert compared({"good": [0.9, 0.8], "base": [0.8]}) is None


def test_without_seeds_both_are_taken_where_the_base_paused() -> None:
    found = candidates(STUDY.spec, [], STUDY, None, POINT)
    told = against_base(STUDY.spec, STUDY, found, POINT)
    assert told is not None
    # The winner's 0.9 of 27 epochs was 0.3 after 9, where the base had the same.
    assert (told.base.epoch, told.gain) == (9, pytest.approx(0.0))
    assert told.verdict == "the winner does not beat the base"
    assert told.text.endswith("after 9 epochs)")
    result = SearchResult(
        why="done", study=STUDY, winners=tuple(found), stopped=False, against_base=told
    )
    assert told.text in result_text(StudyDir(Path("study")), result, SITE)
    unknown = SearchResult(why="done", study=STUDY, winners=tuple(found), stopped=False)
    assert UNKNOWN in result_text(StudyDir(Path("study")), unknown, SITE)


def test_a_search_says_that_its_base_is_outside_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("train: {lr: 0.002}\ndata: {root: .}\n")
    search = {"base": "base.yaml", "space": {"train.lr": {"float": [0.01, 0.1]}}}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search))
    command = ["search", str(tmp_path / "search.yaml"), "--simulate", "2", "--dry-run"]
    text = CliRunner().invoke(app, command, env={"COLUMNS": "400"}).output
    assert "note: the base configuration is no trial (train.lr is 0.002, outside the space)" in text


def test_a_base_that_nothing_was_held_against_is_no_winner_yet() -> None:
    """As an interruption leaves it, of the trials or of the seeds."""
    waiting = Trial(number=1, params=GOOD)  # type: ignore[arg-type]
    study = Study(spec=STUDY.spec, trials=(STUDY.trials[0], waiting))
    found = candidates(study.spec, [], study, None, POINT)
    told = against_base(study.spec, study, found, POINT)
    assert told is not None
    assert told.text == "only the base has a result so far (base 0.3; after 9 epochs)"
    result = SearchResult(
        why="stopped", study=study, winners=tuple(found), stopped=True, against_base=told
    )
    text = result_text(StudyDir(Path("study")), result, SITE)
    assert told.text in text
    assert "unet-dist train" not in text
    assert "go on with: unet-dist search study --resume" in text
    # All others failed: then the base is what is left.
    over = replace(result, why="all trials are done", stopped=False)
    assert "unet-dist train study/best.yaml" in result_text(StudyDir(Path("study")), over, SITE)

    seeds = compared({"good": [], "base": [0.8]})
    assert seeds is not None
    assert seeds.verdict == "only the base has all its seeds so far"
    # The base is the one best trial, so its seeds are all that there is.
    alone = Study(spec=spec_of(retrain={"top": 1}), trials=(done(0, POINT, 0.9),))  # type: ignore[arg-type]
    again = Study(spec=alone.spec, trials=(done(0, {**POINT, SEED: 1}, 0.8),))
    found = candidates(alone.spec, list(alone.trials), alone, again, POINT)
    best = against_base(alone.spec, alone, found, POINT)
    assert best is not None
    assert best.verdict == "no trial beats the base: it is the winner"


def test_while_trials_are_left_nothing_is_called_the_winner() -> None:
    """As an interruption leaves it: another trial may still beat the base."""
    worse = done(1, GOOD, 0.1, epoch=3)
    study = Study(spec=STUDY.spec, trials=(STUDY.trials[0], worse))
    found = candidates(study.spec, [], study, None, POINT)
    told = against_base(study.spec, study, found, POINT, is_final=False)
    assert told is not None
    assert told.verdict == "no trial beats the base so far: it is the best so far"
    better = compared({"good": [0.8], "base": [0.7]})
    assert better is not None
    early = replace(better, is_final=False)
    assert early.verdict == "the best so far beats the base with the one seed that was tried"
    result = SearchResult(
        why="stopped", study=study, winners=tuple(found), stopped=True, against_base=told
    )
    text = result_text(StudyDir(Path("study")), result, SITE)
    assert "winner" not in text
    assert "the best so far, on validation images only: study/best.yaml" in text
    # Trial 0, which is paused, may be promoted.
    assert text.splitlines()[0] == "search: stopped; 2 paused"


@pytest.mark.parametrize(
    ("good", "verdict"),
    [
        ([0.8, 0.9], "the winner beats the base with both seeds, which are too few to be sure"),
        ([0.5, 0.9], "the winner beats the base by less than seeds differ"),
    ],
)
def test_two_seeds_are_too_few_for_an_interval(good: list[float], verdict: str) -> None:
    told = compared({"good": good, "base": [0.6, 0.6]})
    assert told is not None
    assert told.verdict == verdict
    gain = sum(good) / 2 - 0.6
    assert told.text.endswith(f"gain {gain:.4g} over 2 seeds, too few for an interval)")


def test_no_interval_of_a_gain_leaves_what_two_dice_can_differ_by() -> None:
    """Gains -0.9, 0.9, 0.9: mean 0.3, and 4.3027 * 1.0392 / sqrt(3) = 2.58 to either side."""
    told = compared({"good": [0.0, 0.9, 0.9], "base": [0.9, 0.0, 0.0]})
    assert told is not None
    assert told.interval == (-1.0, 1.0)
