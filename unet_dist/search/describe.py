"""A study in words."""

import math
from typing import Any

from unet_dist.config_file import load_config
from unet_dist.search.folder import StudyDir
from unet_dist.search.reference import UNKNOWN
from unet_dist.search.rungs import rungs_of
from unet_dist.search.site import Site
from unet_dist.search.spec import SearchSpec
from unet_dist.search.study import SearchResult
from unet_dist.search.study_files import read_state, read_study
from unet_dist.search.trials import State
from unet_dist.search.view import best_text, counts_of, number_text, params_text


def plan_of(spec: SearchSpec, site: Site) -> dict[str, Any]:
    return {
        "cards": site.cards(),
        "widths": list(spec.widths()),
        **spec.model_dump(mode="json", by_alias=True),
    }


def plan_text(spec: SearchSpec, site: Site, note: str = "") -> str:
    """
    Args:
        note: of ``reference.base_note``.
    """
    algorithm = spec.algorithm
    goals = ", ".join(f"{each.goal} {each.metric}" for each in spec.objectives)
    widths = ", ".join(map(str, spec.widths()))
    lines = [
        f"{spec.budget.trials} trials, points by {algorithm.points}, "
        f"schedule {algorithm.schedule}; {goals}",
        f"{site.cards()} cards, {widths} for a trial",
        *(f"  {key}: {_range(parameter)}" for key, parameter in spec.space.items()),
        *_notes(spec),
        *([note] if note else []),
    ]
    return "\n".join(lines)


def _notes(spec: SearchSpec) -> list[str]:
    """What a user may take for something else."""
    if spec.algorithm.schedule != "population" or not spec.retrain.top:
        return []
    return [
        "note: the seeds train with only the last values of a member of the population, from the "
        "start: its way there, with others' weights and values, is not repeated (retrain.top: 0 "
        "leaves them out)"
    ]


def _range(parameter: Any) -> str:
    text = (
        ", ".join(map(str, parameter.choice))
        if parameter.choice
        else "{:g} to {:g}".format(*parameter.bounds) + (", by factors" if parameter.log else "")
    )
    when = "; ".join(f"{key} {list(values)}" for key, values in parameter.when.items())
    return text + (f", if {when}" if when else "")


def result_text(folder: StudyDir, result: SearchResult) -> str:
    """How a search ended, and with which command its winner is trained."""
    counts = ", ".join(f"{n} {state}" for state, n in counts_of(result.study.trials).items())
    lines = [f"search: {result.why}; {counts}"]
    metric = result.study.spec.objectives[0].metric
    for each in result.winners:
        low, high = each.interval
        spread = "" if math.isnan(low) else f" ({low:.4g} to {high:.4g}, {len(each.values)} seeds)"
        named = ", ".join(filter(None, (each.name, params_text(each.params))))
        lines.append(f"  {metric} {number_text(each.mean)}{spread}: {named}")
    if result.against_base is not None:
        lines.append(result.against_base.text)
    elif result.study.spec.include_base and result.winners:
        lines.append(UNKNOWN)
    lines += _notes(result.study.spec)
    if result.stopped:
        lines.append(f"stopped; go on with: unet-dist search {folder.path} --resume")
    if result.winners:
        lines.append(f"the winner, on validation images only: unet-dist train {folder.best} ...")
    else:
        lines.append("no trial has a result")
    return "\n".join(lines)


def status_of(folder: StudyDir) -> dict[str, Any]:
    study, site = read_study(folder)
    base = load_config(folder.base)
    return {
        **read_state(folder, site),
        "run": str(folder.path),
        "trials": counts_of(study.trials),
        "of": study.spec.budget.trials,
        "rungs": list(rungs_of(study.spec.algorithm, base.train.epochs)),
        "clock_s": study.clock_s,
        "card_s": study.card_s,
        "best": best_text(study),
        "running": [t.number for t in study.trials if t.state is State.RUNNING],
        "failures": {
            str(t.number): f"{t.state.value}: {t.reason}" for t in study.trials if t.reason
        },
    }


def status_text(status: dict[str, Any]) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in status["trials"].items())
    lines = [
        f"{status['run']}: {status['state']}"
        + (f" ({status['reason']})" if status.get("reason") else ""),
        f"{sum(status['trials'].values())} of {status['of']} trials: {counts or 'none yet'}",
        f"{status['clock_s'] / 3600:.2f} h, {status['card_s'] / 3600:.2f} card-hours",
    ]
    if status["best"]:
        lines.append(f"best {status['best']}")
    lines += [f"trial {number} {reason}" for number, reason in status["failures"].items()]
    return "\n".join(lines)
