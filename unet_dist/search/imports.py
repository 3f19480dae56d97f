"""What other searches leave behind: points of earlier studies and of Optuna's databases, and the
space of MindInsight's optimizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from unet_dist.config_file import read_yaml_mapping
from unet_dist.errors import UserError
from unet_dist.search.folder import StudyDir
from unet_dist.search.space import Params, Space, Value
from unet_dist.search.storage import told
from unet_dist.search.study_files import read_study

MOST_POINTS = 10
MINDINSIGHT_EPOCHS = ("epoch", "train.epochs")
MINDINSIGHT_KEYS = {
    "learning_rate": "train.lr",
    "lr": "train.lr",
    "batch_size": "train.batch",
    "momentum": "train.momentum",
    "weight_decay": "train.weight_decay",
    "decay": "train.weight_decay",
    "optimizer": "train.optimizer",
    "loss_scale": "train.loss_scale",
}
"""Its ``parameters``, by the names of its documentation, and ours."""


def points_of(source: str, space: Space) -> tuple[list[dict[str, Value]], int]:
    """The best points of an earlier search that lie in this space, the best first, and how many
    do not. Their results are not taken over: they may be of other images.

    Args:
        source: a study folder, or the URL or SQLite file of an Optuna database (``#NAME`` for one
            of several studies).

    Raises:
        UserError: there is no such search, or none of its points fits.
    """
    path = Path(source)
    found = _of_folder(path) if path.is_dir() else _of_optuna(source)
    fitting = [point for point in found if not space.faults_of(point)]
    if not fitting:
        why = space.faults_of(found[0])[0] if found else "it has no results"
        raise UserError(source, f"no point fits the space: {why}")
    distinct = {tuple(sorted(point.items())): dict(point) for point in fitting}
    return list(distinct.values())[:MOST_POINTS], len(found) - len(fitting)


def _of_folder(path: Path) -> list[Params]:
    study, _ = read_study(StudyDir(path))
    return [trial.params for trial in study.ranking.best_so_far(study.trials)]


def _of_optuna(source: str) -> list[Params]:
    url, _, name = source.partition("#")
    if "://" not in url:
        if not Path(url).is_file():
            raise UserError(url, "is neither a study folder nor a database of Optuna")
        url = f"sqlite:///{Path(url).resolve()}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with told(url):
        names = optuna.get_all_study_names(url)
        if name not in names and (name or len(names) != 1):
            raise UserError(url, f"holds the studies {', '.join(names)}: choose one by #NAME")
        study = optuna.load_study(storage=url, study_name=name or names[0])
        trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    sign = -1 if study.directions[0] is optuna.study.StudyDirection.MAXIMIZE else 1
    trials.sort(key=lambda trial: sign * trial.values[0])
    return [trial.params for trial in trials]


def search_of_mindinsight(path: Path, base: str) -> dict[str, Any]:
    """A search file with the space and the goal of a configuration of ``mindoptimizer``.

    Its ``command`` and ``summary_base_dir`` have no meaning here; its tuner, a Gaussian process,
    becomes ours, which maximises where ``goal: maximize`` is said (that of MindInsight 2.3
    minimises there).

    Raises:
        UserError: with each parameter that has no counterpart, or no range.
    """
    tree = read_yaml_mapping(path)
    parameters = tree.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise UserError(str(path), "has no parameters: not a configuration of mindoptimizer")
    space: dict[str, Any] = {}
    faults: list[str] = []
    for name, given in parameters.items():
        if name in MINDINSIGHT_EPOCHS:
            faults.append(
                f"parameters.{name}: is not searched, since trials of different lengths could not "
                "be compared; remove it, and give all trials train.epochs=N"
            )
            continue
        key = MINDINSIGHT_KEYS.get(name, name if "." in str(name) else "")
        if not key:
            faults.append(
                f"parameters.{name}: has no counterpart; rename it to a key of the configuration, "
                "such as train.lr"
            )
            continue
        try:
            space[key] = _range_of(given)
        except (KeyError, TypeError, ValueError):
            faults.append(f"parameters.{name}: needs bounds: [low, high] or choice: [...]")
    if faults:
        raise UserError(str(path), faults)
    return {
        "base": base,
        "space": space,
        "objectives": [_objective_of(tree.get("target"))],
        "algorithm": {"points": "gp", "schedule": "full"},
        "retrain": {"top": 0},
    }


def _range_of(given: Mapping[str, Any]) -> dict[str, Any]:
    if "choice" in given:
        return {"choice": list(given["choice"])}
    low, high = given["bounds"]
    whole = str(given.get("type", "float")) == "int"
    if whole:
        return {"int": [int(low), int(high)]}
    low, high = float(low), float(high)
    # It knows no logarithms; over two decades and more nobody means anything else.
    return {"float": [low, high], **({"log": True} if low > 0 and high / low >= 100 else {})}


def _objective_of(target: Any) -> dict[str, str]:
    """Dice, whichever metric of the user's script was meant: validation gives no other but IoU."""
    target = target if isinstance(target, Mapping) else {}
    name = str(target.get("name", "")).lower()
    return {"metric": "iou" if "iou" in name else "dice", "goal": "maximize"}
