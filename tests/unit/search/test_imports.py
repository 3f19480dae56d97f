from pathlib import Path

import optuna
import pytest
import yaml

from tests.unit.search.databases import empty_database, opened
from tests.unit.search.studies import controller_of, spec_of
from unet_dist.errors import UserError
from unet_dist.search.imports import MOST_POINTS, points_of, search_of_mindinsight
from unet_dist.search.spec import load_spec

SPACE = spec_of().searched


def optuna_study(path: Path, number: int = 12) -> str:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path.write_bytes(empty_database())
    url = f"sqlite:///{path}"
    study = optuna.create_study(storage=url, study_name="theirs", direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("train.lr", 1e-3, 1.0, log=True)
        trial.suggest_categorical("model.width", [4, 8])
        return -abs(rate - 0.01)

    study.optimize(objective, n_trials=number)
    return url


def test_the_best_points_of_an_optuna_database_that_fit_come_first(tmp_path: Path) -> None:
    url = optuna_study(tmp_path / "theirs.db", 20)
    points, left_out = points_of(str(tmp_path / "theirs.db"), SPACE)
    assert points == points_of(url, SPACE)[0] == points_of(f"{url}#theirs", SPACE)[0]
    distance = [abs(float(point["train.lr"]) - 0.01) for point in points]
    assert distance == sorted(distance)
    assert len(points) == min(MOST_POINTS, 20 - left_out)
    assert all(SPACE.faults_of(point) == [] for point in points)
    assert left_out > 0


def test_points_of_an_earlier_study(tmp_path: Path) -> None:
    spec = spec_of(algorithm={"points": "random"}, budget={"trials": 9})
    (tmp_path / "base.yaml").write_text("train: {epochs: 27}\n")
    (tmp_path / "search.yaml").write_text(
        yaml.safe_dump(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    )
    (tmp_path / "place.json").write_text(
        '{"placement": {"simulate": 2}, "storage": "", "study_name": "study"}'
    )
    database = opened(tmp_path, algorithm={"points": "random"}, budget={"trials": 9})
    controller = controller_of(spec, store=database)  # type: ignore[arg-type]
    controller.run()
    points, left_out = points_of(str(tmp_path), SPACE)
    ordered = controller.study.ranking.best_so_far(controller.study.trials)
    assert points == [dict(trial.params) for trial in ordered]
    assert left_out == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [("none.db", "neither a study folder"), (".", "no study"), ("text.db", "fails as a study")],
)
def test_what_is_no_search_is_told(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "text.db").write_text("no database, though it is long enough to be one " * 50)
    with pytest.raises(UserError, match=words):
        points_of(str(tmp_path / source), SPACE)


def test_points_that_do_not_fit_are_told(tmp_path: Path) -> None:
    optuna_study(tmp_path / "theirs.db")
    space = spec_of(space={"train.batch": {"int": [1, 8]}}).searched
    with pytest.raises(UserError, match=r"no point fits the space: train.lr is not in the space"):
        points_of(str(tmp_path / "theirs.db"), space)


MINDINSIGHT = """
command: python ./train.py
summary_base_dir: /somewhere/summary
tuner: {name: gp, args: {method: ucb}}
target: {group: metric, name: Accuracy, goal: maximize}
parameters:
  learning_rate: {bounds: [1.0e-4, 1.0e-1], type: float}
  batch_size: {choice: [4, 8], type: int}
  model.depth: {bounds: [1, 4], type: int}
"""


def test_a_mindinsight_configuration_becomes_a_search(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.yaml"
    theirs.write_text(MINDINSIGHT)
    tree = search_of_mindinsight(theirs, "base.yaml")
    (tmp_path / "base.yaml").write_text("{}\n")
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump(tree))
    spec = load_spec(tmp_path / "ours.yaml")
    assert spec.space["train.lr"].real == (1e-4, 1e-1)
    assert spec.space["train.lr"].log
    assert spec.space["train.batch"].choice == (4, 8)
    assert spec.space["model.depth"].integer == (1, 4)
    assert spec.objectives[0].goal == "maximize"


def test_what_has_no_counterpart_is_told(tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text("parameters: {warm: {bounds: [0, 1]}, learning_rate: {bounds: 3}}\n")
    with pytest.raises(UserError) as caught:
        search_of_mindinsight(path, "base.yaml")
    assert len(caught.value.faults) == 2
    path.write_text("parameters: {epoch: {bounds: [10, 20], type: int}}\n")
    with pytest.raises(UserError, match=r"epoch: is not searched.*train.epochs=N"):
        search_of_mindinsight(path, "base.yaml")
    path.write_text("command: x\n")
    with pytest.raises(UserError, match="no parameters"):
        search_of_mindinsight(path, "base.yaml")
