"""A study in words."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from unet_dist.config_file import load_config
from unet_dist.errors import UserError, counted
from unet_dist.runs import read_json
from unet_dist.search.ending import dropped_of
from unet_dist.search.folder import StudyDir
from unet_dist.search.plan import population_note
from unet_dist.search.reference import UNKNOWN
from unet_dist.search.rungs import rungs_of
from unet_dist.search.site import Site, train_command
from unet_dist.search.spec import SearchSpec
from unet_dist.search.study import SearchResult
from unet_dist.search.study_files import read_retraining, read_state, read_study
from unet_dist.search.times import spent_text
from unet_dist.search.trials import State
from unet_dist.search.view import (
    best_text,
    candidate_text,
    counts_of,
    counts_text,
    name_of_candidate,
    params_text,
)

ENDED = ("done", "stopped")
"""States after which the summary tells of the last start."""


def result_text(folder: StudyDir, result: SearchResult, site: Site) -> str:
    """How a search ended, and with which command its winner is trained."""
    spec = result.study.spec
    counts = counts_text(counts_of(result.study.trials), result.dropped)
    lines = [f"search: {result.why}; {counts}", spent_text(result.study, result.again)]
    against_base = result.against_base
    lines += _outcome(
        spec,
        [each.to_json() for each in result.winners],
        against_base.text if against_base else "",
    )
    lines += filter(None, [population_note(spec)])
    if result.stopped:
        lines.append(f"stopped; go on with: {folder.resume}")
    if not result.winners:
        lines.append("no trial has a result")
    elif not (result.stopped and against_base and against_base.is_alone):
        lines += _what_next(folder, result, site)
    return "\n".join(lines)


def _what_next(folder: StudyDir, result: SearchResult, site: Site) -> list[str]:
    """Where the weights of the winner lie, and how others are trained."""
    best, spec = result.winners[0], result.study.spec
    who = "the best so far" if result.stopped else "the winner"
    lines = [f"{who}, on validation images only: {folder.best}"]
    if best.runs:
        places = [
            f"{folder.retrained(run).path} (seed {seed})"
            for run, seed in zip(best.runs, best.seeds, strict=True)
        ]
        lines.append(f"its weights: {', '.join(places)}")
        if result.search_seed not in best.seeds:
            lines.append(
                f"the seed in best.yaml, {result.search_seed}, is that of the search, and none of "
                "these"
            )
    elif best.trial is not None:
        after = counted(best.epoch, "epoch")
        lines.append(f"its weights, after {after}: {folder.trial(best.trial).path}")
    command = train_command(folder.best, site, spec.cards_of(best.params, len(spec.cards)))
    if len(best.seeds) > 1:
        command += f" --seeds {','.join(map(str, best.seeds))}"
    elif best.seeds:
        command += f" seed={best.seeds[0]}"
    lines.append(f"to train it anew: {command}")
    report = shlex.join(["unet-dist", "search", "report", str(folder.path)])
    return [*lines, f"a page with charts: {report}"]


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
    again = read_retraining(folder, site, study.spec)
    rungs = rungs_of(study.spec.algorithm, base.train.epochs)
    state = read_state(folder, site)
    is_over = state["state"] == "done"
    return {
        **state,
        "run": str(folder.path),
        "trials": counts_of(study.trials),
        "of": study.spec.budget.trials,
        "dropped": len(dropped_of(study, rungs, is_over=is_over)),
        "rungs": list(rungs),
        "clock_s": study.clock_s,
        "card_s": study.card_s,
        "retraining": {
            "trials": counts_of(again.trials),
            "clock_s": again.clock_s,
            "card_s": again.card_s,
        },
        "spent": spent_text(study, again),
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
    counts = counts_text(status["trials"], status["dropped"])
    lines = [
        f"{status['run']}: {status['state']}"
        + (
            f" ({status['reason']})"
            if status.get("reason", status["state"]) != status["state"]
            else ""
        ),
        f"{sum(status['trials'].values())} of {counted(status['of'], 'trial')}: "
        + (counts or "none yet"),
        status["spent"],
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
