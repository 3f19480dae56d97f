"""A study in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet_dist.config_file import load_config
from unet_dist.errors import UserError, counted
from unet_dist.runs import read_json
from unet_dist.search.folder import StudyDir
from unet_dist.search.reference import UNKNOWN
from unet_dist.search.rungs import rungs_of
from unet_dist.search.site import Site
from unet_dist.search.spec import SearchSpec
from unet_dist.search.study import SearchResult
from unet_dist.search.study_files import read_state, read_study
from unet_dist.search.trials import State
from unet_dist.search.view import (
    best_text,
    candidate_text,
    counts_of,
    name_of_candidate,
    params_text,
)

ENDED = ("done", "stopped")
"""States after which the summary tells of the last start."""


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
        f"{counted(spec.budget.trials, 'trial')}, points by {algorithm.points}, "
        f"schedule {algorithm.schedule}; {goals}",
        f"{counted(site.cards(), 'card')}, {widths} for a trial",
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
    against_base = result.against_base
    lines += _outcome(
        result.study.spec,
        [each.to_json() for each in result.winners],
        against_base.text if against_base else "",
    )
    lines += _notes(result.study.spec)
    if result.stopped:
        lines.append(f"stopped; go on with: unet-dist search {folder.path} --resume")
    if not result.winners:
        lines.append("no trial has a result")
    elif not (result.stopped and against_base and against_base.is_alone):
        lines.append(f"the winner, on validation images only: unet-dist train {folder.best} ...")
    return "\n".join(lines)


def _outcome(
    spec: SearchSpec, candidates: Sequence[Mapping[str, Any]], against_base: str
) -> list[str]:
    """The candidates, the winner first, and what the comparison with the base says."""
    lines = [
        f"  {spec.objectives[0].metric} {candidate_text(each)}: "
        + ", ".join(filter(None, (name_of_candidate(each), params_text(each["params"]))))
        for each in candidates
    ]
    if against_base:
        lines.append(against_base)
    elif spec.include_base and candidates:
        lines.append(UNKNOWN)
    return lines


def status_of(folder: StudyDir) -> dict[str, Any]:
    """Raises UserError if the folder holds no study, or files that are not this program's."""
    study, site = read_study(folder)
    base = load_config(folder.base)
    state = read_state(folder, site)
    return {
        **state,
        "run": str(folder.path),
        "trials": counts_of(study.trials),
        "of": study.spec.budget.trials,
        "rungs": list(rungs_of(study.spec.algorithm, base.train.epochs)),
        "clock_s": study.clock_s,
        "card_s": study.card_s,
        "best": best_text(study),
        "outcome": _outcome_of(folder, study.spec) if state["state"] in ENDED else [],
        "running": [t.number for t in study.trials if t.state is State.RUNNING],
        "failures": {
            str(t.number): f"{t.state.value}: {t.reason}" for t in study.trials if t.reason
        },
    }


def _outcome_of(folder: StudyDir, spec: SearchSpec) -> list[str]:
    """As the end of the search told it."""
    if not folder.summary.exists():
        return []
    summary = read_json(folder.summary)
    try:
        base = summary.get("base") or {}
        return _outcome(spec, summary.get("candidates", []), base.get("text", ""))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(str(folder.summary), f"cannot be understood: {error!r}") from error


def status_text(status: dict[str, Any]) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in status["trials"].items())
    lines = [
        f"{status['run']}: {status['state']}"
        + (
            f" ({status['reason']})"
            if status.get("reason", status["state"]) != status["state"]
            else ""
        ),
        f"{sum(status['trials'].values())} of {counted(status['of'], 'trial')}: "
        + (counts or "none yet"),
        f"{status['clock_s'] / 3600:.2f} h, {status['card_s'] / 3600:.2f} card-hours",
    ]
    if status["state"] == "killed" and status["running"]:
        numbers = ", ".join(map(str, status["running"]))
        lines.append(f"trials that ran then, and go on from their last checkpoints: {numbers}")
    if status["outcome"]:
        lines += status["outcome"]
    elif status["best"]:
        lines.append(f"best {status['best']}")
    lines += [f"trial {number} {reason}" for number, reason in status["failures"].items()]
    return "\n".join(lines)
