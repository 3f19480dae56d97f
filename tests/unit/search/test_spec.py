from pathlib import Path

import pytest

from unet_dist.config_file import build_config, load_config
from unet_dist.errors import UserError
from unet_dist.search.spec import SearchSpec, load_spec, overrides_of
from unet_dist.search.study_files import base_config

CONFIGS = Path(__file__).parents[3] / "configs"


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "base.yaml").write_text("train: {epochs: 27}\n")
    path = tmp_path / "search.yaml"
    path.write_text(text)
    return path


SPACE = "base: base.yaml\nspace:\n  train.lr: {float: [1e-4, 1e-1], log: true}\n"


def test_one_wrong_item_of_a_list_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        load_spec(written(tmp_path, SPACE + "objectives: [{metric: dise}]\n"))
    [fault] = told.value.faults
    assert fault.startswith("objectives.0.metric: ")
    with pytest.raises(UserError, match=r"objectives: .*at least 1 item"):
        load_spec(written(tmp_path, SPACE + "objectives: []\n"))


def test_the_search_files_that_come_along_are_good() -> None:
    paths = sorted(CONFIGS.glob("search_*.yaml"))
    assert paths
    for path in paths:
        assert len(load_spec(path).searched) > 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("space: {train.lr: {float: [0.1, 1]}}\n", "base: field required"),
        ("base: base.yaml\nspace: {}\n", "space"),
        ("base: none.yaml\nspace: {train.lr: {float: [0.1, 1]}}\n", "none.yaml"),
        (SPACE + "  train.rl: {float: [0.1, 1]}\n", "did you mean train.lr?"),
        (SPACE + "  train.batch: {int: [0, 8]}\n", "train.batch"),
        (SPACE + "  train.optimizer: {choice: [adamw, lamb]}\n", "lamb"),
        (SPACE + "  train.momentum: {float: [0.5, 1.5]}\n", "train.momentum"),
        (SPACE + "  model.attention: {choice: [none, squeeze]}\n", "squeeze"),
        (SPACE + "  data.root: {choice: [a, b]}\n", "could not be compared"),
        (SPACE + "  seed: {int: [0, 3]}\n", "could not be compared"),
        (SPACE + "  cards: {float: [1, 2]}\n", "whole numbers"),
        (SPACE + "  cards: {choice: [1, 2]}\ncards: [2]\n", "say it once"),
        (SPACE + "  train.epochs: {int: [10, 20]}\nalgorithm: {schedule: full}\n",
         "train.epochs: trials with different values could not be compared"),
        (SPACE + "  train.momentum: {float: [0.8, 0.9], when: {train.optimizer: [sgd]}}\n",
         "not in the space"),
        (SPACE + "algorithm: {point: tpe}\n", "did you mean algorithm.points?"),
        (SPACE + "retrian: {top: 1}\n", "retrian: unknown key; did you mean retrain?"),
        (
            SPACE + "  train.ema: {chioce: [0, 0.9]}\n",
            "space.train.ema.chioce: unknown key; did you mean space.train.ema.choice?",
        ),
        (SPACE + "algorithm: {points: bayes}\n", "algorithm.points"),
        (SPACE + "algorithm: {min_epochs: 30}\n", "train.epochs is 27"),
        (SPACE + "budget: {trials: 0}\n", "budget.trials"),
        (SPACE + "cards: []\n", "cards"),
        (SPACE + "first: [{train.lr: 1.0}]\n", "point 1: train.lr is 1.0, outside"),
        (SPACE + "constraints: [{metric: parameters}]\n", "at_least or at_most"),
        (SPACE + "objectives: [{metric: auc}]\n", "objectives"),
        (SPACE + "set: [train.lr]\n", "key=value"),
    ],
)  # fmt: skip
def test_a_bad_search_is_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_spec(written(tmp_path, text))
    assert words in str(caught.value)


def test_a_value_that_another_searched_value_makes_possible_is_not_refused(tmp_path: Path) -> None:
    """Of the base's batch of 8 no 16 passes can be made, of a batch of 16 they can."""
    searched = SPACE + "  train.accumulation: {choice: [1, 16]}\n"
    with pytest.raises(UserError, match=r"train\.accumulation 16 does not divide"):
        load_spec(written(tmp_path, searched))
    assert (
        len(load_spec(written(tmp_path, searched + "  train.batch: {int: [8, 16]}\n")).searched)
        == 3
    )


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = (
        SPACE
        + "  train.rl: {float: [0.1, 1]}\n  train.batch: {int: [0, 8]}\n  seed: {int: [0, 1]}\n"
    )
    with pytest.raises(UserError) as caught:
        load_spec(written(tmp_path, text))
    assert len(caught.value.faults) == 3


def test_values_reach_the_configuration_as_they_are(tmp_path: Path) -> None:
    spec = load_spec(
        written(
            tmp_path,
            SPACE + "  loss.class_weights: {choice: [[1, 2], [1.0, 3.0]]}\n"
            "  augment.flip: {choice: [true, false]}\n  train.amp: {choice: ['off', fp16]}\n"
            "  model.width: {int: [4, 8]}\n  model.attention: {choice: [none, gate]}\n",
        )
    )
    text = (tmp_path / "search.yaml").read_text()
    text += "first: [{train.lr: 0.01, loss.class_weights: [1, 2], augment.flip: true, "
    first = load_spec(
        written(tmp_path, text + "train.amp: fp16, model.width: 4, model.attention: none}]\n")
    ).first[0]
    assert first["loss.class_weights"] == (1, 2)
    point = spec.searched.at([0.3, 0.9, 0.9, 0.9, 0.9, 0.9])
    config = build_config({}, overrides_of(point), where="")
    assert config.train.lr == point["train.lr"]
    assert config.loss.class_weights == (1.0, 3.0)
    assert config.augment.flip is False
    assert config.train.amp == "fp16"
    assert (config.model.width, config.model.attention) == (8, "gate")


def test_the_command_line_comes_after_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, SPACE + "set: [train.batch=2, train.ema=0.5]\n")
    config = base_config(load_spec(path, ["train.batch=4"]), path)
    assert (config.train.epochs, config.train.batch, config.train.ema) == (27, 4, 0.5)
    with pytest.raises(UserError, match=r"did you mean train.batch\?"):
        load_spec(path, ["train.btch=4"])


def test_cards_by_rung_and_by_trial() -> None:
    space = {"train.lr": {"float": [0.1, 1]}}
    spec = SearchSpec.model_validate({"base": "b", "space": space, "cards": [1, 2, 4]})
    assert [spec.cards_of({}, rung) for rung in range(5)] == [1, 2, 4, 4, 4]
    assert spec.widths() == (1, 2, 4)
    space |= {"cards": {"choice": [2, 8]}}
    spec = SearchSpec.model_validate({"base": "b", "space": space})
    assert spec.cards_of({"cards": 8}, 0) == 8
    assert spec.widths() == (2, 8)


def test_violations_are_shares_of_the_limit() -> None:
    spec = SearchSpec.model_validate(
        {
            "base": "b",
            "space": {"train.lr": {"float": [0.1, 1]}},
            "constraints": [{"metric": "parameters", "at_most": 100, "at_least": 10}],
        }
    )
    (limit,) = spec.constraints
    assert [limit.violation(value) for value in (50, 150, 5)] == [0, 0.5, 0.5]


def test_the_base_of_the_vessels_is_the_one_that_quickstart_trains() -> None:
    spec = load_spec(CONFIGS / "search_vessels.yaml")
    assert load_config(CONFIGS / spec.base).data.fov_masks == "fov"
