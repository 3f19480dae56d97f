"""Which trials are trained again with seeds. Controllers that stop by a budget at one moment may
know different results, and then different trials are the best."""

import time
from collections.abc import Sequence

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import RDBStorage

from unet_dist.search.spec import SearchSpec
from unet_dist.search.storage import directions_of, engine_of, told

CHOSEN = "unet_dist:chosen"
WAIT_S = 30.0
"""For the word of who made the study; it may have been killed before."""


def agreed(
    wanted: Sequence[int], url: str, name: str, spec: SearchSpec, *, shared: bool
) -> list[int]:
    """What the controller says that makes the study ``name`` of the seeds, the first to come here.
    After a start with another budget those that are new are added at the end.

    Raises:
        UserError: the database cannot be reached.
    """
    budget = spec.budget.model_dump(mode="json")
    with told(url):
        study, is_first = _study(url, name, spec)
        deadline = time.monotonic() + WAIT_S
        while (
            shared
            and not is_first
            and CHOSEN not in study.user_attrs
            and time.monotonic() < deadline
        ):
            time.sleep(0.5)
        found = study.user_attrs.get(CHOSEN, {"budget": {}, "trials": []})
        trials: list[int] = list(found["trials"])
        if shared and found["budget"] == budget:
            return trials
        trials += [number for number in wanted if number not in trials]
        study.set_user_attr(CHOSEN, {"budget": budget, "trials": trials})
        return trials


def _study(url: str, name: str, spec: SearchSpec) -> tuple[optuna.Study, bool]:
    """And whether it was made here."""
    storage = RDBStorage(url, engine_kwargs=engine_of(url))
    try:
        directions = directions_of(spec)
        return optuna.create_study(storage=storage, study_name=name, directions=directions), True
    except DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name), False
