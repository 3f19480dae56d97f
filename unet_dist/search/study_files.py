"""How a study comes into its folder, and out of it again."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from unet_dist.config import Config
from unet_dist.config_file import (
    build_config,
    dump_config,
    load_config,
    with_absolute_paths,
)
from unet_dist.errors import UserError
from unet_dist.runs import RunDir, read_json, write_json, write_text_atomically
from unet_dist.search import signs
from unet_dist.search.database import Database
from unet_dist.search.folder import StudyDir
from unet_dist.search.site import Site
from unet_dist.search.spec import SearchSpec, base_tree, check_spec, load_spec, spec_of_tree
from unet_dist.search.trials import Study


def base_config(spec: SearchSpec, spec_file: Path) -> Config:
    """The configuration that trials change."""
    tree, path = base_tree(spec, spec_file)
    config = with_absolute_paths(build_config(tree, spec.set, where=str(path)))
    # Drawn once: trials with other seeds are not to be judged by other images.
    split = config.data.split
    seed = config.seed if split.seed is None else split.seed
    data = config.data.model_copy(update={"split": split.model_copy(update={"seed": seed})})
    return config.model_copy(update={"data": data})


def begin_study(
    folder: StudyDir,
    spec: SearchSpec,
    spec_file: Path,
    site: Site,
    *,
    check: Callable[[Config], None] = lambda base: None,
) -> SearchSpec:
    """Writes down what is asked for; what a start left that was killed here is written anew.

    Args:
        check: of the data set, before anything is written.

    Raises:
        UserError: the folder holds something else, or ``check`` does; then nothing is written.
    """
    config = base_config(spec, spec_file)
    spec = spec.model_copy(update={"base": folder.base.name, "set": ()})
    if folder.is_study() and site.storage:
        # Another controller began it; this one joins with its own cards.
        _refuse_another(folder, spec, config)
        check(config)
        return spec
    if folder.is_study() or not folder.is_free():
        what = f"a study; go on with {folder.resume}" if folder.is_study() else "not empty"
        raise UserError(str(folder.path), f"is {what}, or choose another --run")
    try:
        check(config)
    except BaseException:
        if not folder.is_study():
            folder.discard()
        raise
    if folder.is_study():  # another controller, while this one read the images
        _refuse_another(folder, spec, config)
        return spec
    write_text_atomically(folder.base, dump_config(config))
    write_json(folder.place, site.to_json())
    write_spec(folder, spec)
    return spec


def _refuse_another(folder: StudyDir, spec: SearchSpec, config: Config) -> None:
    if load_spec(folder.spec) != spec or load_config(folder.base) != config:
        raise UserError(str(folder.path), "holds another study; all controllers need the same")


def write_spec(folder: StudyDir, spec: SearchSpec) -> None:
    tree = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    write_text_atomically(folder.spec, yaml.safe_dump(tree, sort_keys=False))


def changed(spec: SearchSpec, changes: Mapping[str, Any], where: Path) -> SearchSpec:
    """With other budgets or numbers of cards, from the command line.

    Raises:
        UserError: that makes no search.
    """
    tree = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        target = tree.setdefault(section, {}) if section else tree
        target[name] = value
    spec = spec_of_tree(tree, where)
    check_spec(spec, where)
    return spec


def load_study(folder: StudyDir) -> tuple[SearchSpec, Site]:
    """Raises UserError if the folder holds none, or a damaged one."""
    if not folder.is_study():
        raise UserError(str(folder.path), "is no study: it has no search.yaml")
    tree = read_json(folder.place)
    try:
        return load_spec(folder.spec), Site.of_json(tree)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(str(folder.place), f"cannot be understood: {error!r}") from error


def database_url(folder: StudyDir, site: Site) -> str:
    return site.storage or f"sqlite:///{folder.database.resolve()}"


def read_study(folder: StudyDir) -> tuple[Study, Site]:
    """As the database has it now, whoever leads it."""
    spec, site = load_study(folder)
    trials, clock_s = Database.read_only(database_url(folder, site), site.study_name)
    asked_for = trials[: spec.budget.trials]  # see Controller
    return Study(spec=spec, trials=tuple(asked_for), clock_s=clock_s), site


def read_retraining(folder: StudyDir, site: Site, spec: SearchSpec) -> Study:
    """The study of the seeds, as the database has it now; without trials before it began."""
    trials, clock_s = Database.read_only(database_url(folder, site), site.seeds_name)
    return Study(spec=spec, trials=tuple(trials), clock_s=clock_s)


def read_state(folder: StudyDir, site: Site) -> dict[str, Any]:
    """``state``, and mostly the ``reason`` of it: also that all controllers are gone without a
    word, as the lock of the folder tells of one, and the signs of life of several.

    Raises:
        UserError: the database that they share cannot be read.
    """
    told = {"state": "not started"}
    if folder.status.exists():
        told |= read_json(folder.status)
    if told["state"] != "running":
        return told
    gone = ""
    if not site.storage:
        gone = "" if RunDir(folder.path).is_locked() else "its controller is gone"
    else:
        silent_s = _silence_s(folder, site)
        if silent_s > signs.LOST_AFTER_S:
            gone = f"no controller has given a sign of life for {_duration(silent_s)}"
    return {"state": "killed", "reason": f"{gone}; go on with {folder.resume}"} if gone else told


def may_be_led(folder: StudyDir, site: Site) -> bool:
    """Whether a controller may be at work, also where one of several has failed and said so."""
    if not site.storage:
        return RunDir(folder.path).is_locked()
    try:
        return folder.status.exists() and _silence_s(folder, site) <= signs.LOST_AFTER_S
    except UserError:
        return True  # the database may be reached from elsewhere


def _silence_s(folder: StudyDir, site: Site) -> float:
    """Since a controller of a shared study gave a sign of life, or since one began."""
    signs_s = signs.silence_s(site.storage, (site.study_name, site.seeds_name))
    begun_s = math.inf
    if read_json(folder.status)["state"] == "running":
        begun_s = time.time() - folder.status.stat().st_mtime
    return min(begun_s, math.inf if signs_s is None else signs_s)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
