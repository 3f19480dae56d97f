"""Folds and seeds before anything starts: what is refused, who gets which cards, and the sums."""

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.cli.folds import chosen_members, configs_of
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.cluster.topology import fitting_ranks
from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement
from unet_dist.launching.places import divide
from unet_dist.launching.summary import mean_of_images, over_members

TABLES = Path(__file__).parents[3] / "rank_tables"
PLAIN = {"folds": 0, "seeds": "", "parallel": 0, "resume": False, "overfit": 0}


def placed(**where: object) -> Placement:
    return Placement(**{"simulate": 0, "rank_table": "", "server_id": "", **where})


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"folds": 2, "seeds": "0,1"}, "choose one"),
        ({"folds": 1}, "2 or more"),
        ({"seeds": "4,4"}, "2 or more"),
        ({"parallel": 2}, "no effect"),
        ({"folds": 2, "resume": True}, "leave --folds out"),
        ({"folds": 2, "overfit": 1}, "not --folds; leave --overfit out"),
        ({"seeds": "0,1", "overfit": 1}, "not --seeds; leave --overfit out"),
    ],
)
def test_options_that_contradict_one_another_are_refused(
    tmp_path: Path, asked: dict[str, object], fault: str
) -> None:
    with pytest.raises(UserError, match=fault):
        chosen_members(tmp_path, **{**PLAIN, **asked})


@pytest.mark.parametrize("options", [[], ["--folds", "2"]])
@pytest.mark.parametrize("name", ["config.yaml", "data.yaml"])
def test_the_folder_of_a_data_set_is_told_from_that_of_a_run(
    tmp_path: Path, options: list[str], name: str
) -> None:
    def said() -> str:
        arguments = ["train", str(tmp_path), "--simulate", "1", *options]
        return str(CliRunner().invoke(app, arguments).exception)

    (tmp_path / name).write_text("data: {}\n")
    assert said().endswith(f"is a folder without a run: unet-dist train {tmp_path / name}")
    (tmp_path / "dataset.json").write_text("{}")
    assert said().endswith("add --resume")


def test_an_overfit_check_does_not_go_on_with_a_folder_of_folds(tmp_path: Path) -> None:
    (tmp_path / "members.json").write_text("{}")
    with pytest.raises(UserError, match="holds several runs"):
        chosen_members(tmp_path, **{**PLAIN, "resume": True, "overfit": 1})
    assert chosen_members(tmp_path, **{**PLAIN, "resume": True}) is not None


def test_an_overfit_check_of_one_run_is_no_matter_of_folds(tmp_path: Path) -> None:
    assert chosen_members(tmp_path, **{**PLAIN, "overfit": 1}) is None


def test_folds_keep_the_seed_and_seeds_keep_the_split() -> None:
    config = Config(seed=7)
    folds = configs_of(config, "fold", (0, 1, 2))
    assert [c.data.split.fold for c in folds] == [0, 1, 2]
    assert {(c.seed, c.data.split.folds) for c in folds} == {(7, 3)}
    seeds = configs_of(config, "seed", (3, 5))
    assert [c.seed for c in seeds] == [3, 5]
    assert [c.data.split.seed for c in seeds] == [7, 7]


@pytest.mark.parametrize(
    ("jobs", "batch", "cards", "idle"),
    [
        (2, 8, [[0, 1, 2, 3], [4, 5, 6, 7]], 0),
        (3, 8, [[0, 1], [2, 3], [4, 5]], 2),
        (2, 3, [[0], [1]], 6),  # 3 images: 3 ranks share them, but a 910A takes 1, 2, 4 or 8
        (8, 8, [[card] for card in range(8)], 0),
    ],
)
def test_jobs_beside_each_other_share_no_card(
    tmp_path: Path, jobs: int, batch: int, cards: list[list[int]], idle: int
) -> None:
    where = placed(rank_table=str(TABLES / "1x8.json"))
    division = divide(where, jobs, folder=tmp_path, fitting=fitting_ranks(batch, 1))
    assert not list(tmp_path.iterdir())  # a dry run leaves nothing behind
    planned = [[slot.device_id for slot in t.slots] for t in division.topologies()]
    division.write_tables()
    tables = [load_rank_table(Path(place.rank_table)) for place in division.places]
    written = [[device.device_id for _, device in table.by_rank()] for table in tables]
    assert planned == written == cards
    assert division.idle_cards == idle
    assert [rank.rank for t in tables for _, rank in t.by_rank()] == [
        rank for part in cards for rank in range(len(part))
    ]


@pytest.mark.parametrize(("table", "jobs"), [("1x1", 2), ("1x8", 9), ("2x8", 2)])
def test_too_few_cards_or_several_servers_are_refused(
    tmp_path: Path, table: str, jobs: int
) -> None:
    where = placed(rank_table=str(TABLES / f"{table}.json"))
    with pytest.raises(UserError, match="--parallel"):
        divide(where, jobs, folder=tmp_path, fitting=(1, 2, 4, 8))


def test_simulated_jobs_share_the_cores_and_not_the_number_of_ranks(tmp_path: Path) -> None:
    where = placed(simulate=2, cores=(0, 1, 2, 3))
    places = divide(where, 2, folder=tmp_path, fitting=(1, 2)).places
    assert [place.simulate for place in places] == [2, 2]
    assert sorted(core for place in places for core in place.cores) == [0, 1, 2, 3]


def test_mean_and_deviation_are_of_the_members_where_a_metric_is_defined() -> None:
    rows = [{"dice": 0.5, "auc": 1.0}, {"dice": 0.7, "auc": None}, {"dice": 0.9, "auc": None}]
    found = over_members(rows)
    assert found["dice"]["mean"] == pytest.approx(0.7)
    assert found["dice"]["std"] == pytest.approx(0.2)  # of a sample: sqrt((0.04 + 0 + 0.04) / 2)
    assert found["auc"] == {"mean": 1.0, "std": None, "members": 1}


def test_a_fold_is_scored_on_the_images_that_it_left_out() -> None:
    rows = [{"id": "a", "dice": 0.2}, {"id": "b", "dice": 0.4}, {"id": "c", "dice": 0.9}]
    assert math.isclose(mean_of_images(rows, frozenset("ab"))["dice"] or 0, 0.3)
