"""One file that tells how a search went: no network, no script, no other file."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from unet_dist.config_file import load_config
from unet_dist.errors import UserError
from unet_dist.records import read_records
from unet_dist.report.template import data_uri, render
from unet_dist.runs import read_json, write_text_atomically
from unet_dist.search.charts import (
    best_png,
    gantt_png,
    importance_png,
    parallel_png,
    pareto_png,
)
from unet_dist.search.describe import ENDED
from unet_dist.search.ending import dropped_of
from unet_dist.search.folder import StudyDir
from unet_dist.search.holdings import Holding, busy_share, cards_of, holdings_of
from unet_dist.search.importance import importances
from unet_dist.search.reference import UNKNOWN
from unet_dist.search.rungs import rungs_of
from unet_dist.search.site import Site, train_command
from unet_dist.search.space import Params
from unet_dist.search.study_files import read_retraining, read_state, read_study
from unet_dist.search.times import spent_text
from unet_dist.search.trials import Study, Trial
from unet_dist.search.view import (
    counts_of,
    counts_text,
    name_of_candidate,
    number_text,
    params_text,
    seeds_text,
    value_text,
)

TEMPLATE = Path(__file__).with_name("search.html.j2")
ROWS = 30


def report_study(folder: StudyDir) -> Path:
    """Writes the page from the database, the timeline and the summary, also while a search runs.

    Raises:
        UserError: the folder holds no study, or files that are not this program's.
    """
    study, site = read_study(folder)
    try:
        page = _page(folder, study, site)
    except (AttributeError, LookupError, TypeError, ValueError, jinja2.UndefinedError) as error:
        raise UserError(
            str(folder.path), f"its timeline or summary cannot be understood: {error!r}"
        ) from error
    write_text_atomically(folder.report, page)
    return folder.report


def _page(folder: StudyDir, study: Study, site: Site) -> str:
    records = read_records(folder.timeline)
    timeline = [each for each in records if each.get("study") == site.study_name]
    holdings, cards = holdings_of(timeline), cards_of(timeline)
    num_cards = sum(cards.values()) or site.cards()
    summary = read_json(folder.summary) if folder.summary.exists() else {}
    rungs = rungs_of(study.spec.algorithm, load_config(folder.base).train.epochs)
    ordered = study.ranking.best_so_far(study.trials)
    names = [each.metric for each in study.spec.objectives]
    state = read_state(folder, site)
    dropped = dropped_of(study, rungs, is_over=state["state"] == "done")
    candidates = summary.get("candidates", [])
    return render(
        TEMPLATE,
        name=folder.path.name,
        state=state,
        counts=counts_text(counts_of(study.trials), len(dropped)),
        spent=spent_text(study, read_retraining(folder, site, study.spec)),
        cards=num_cards,
        busy=busy_share(holdings, num_cards),
        candidates=[_candidate_row(each) for each in candidates],
        who="The best so far" if summary.get("stopped") else "The winner",
        is_earlier=state["state"] not in ENDED,
        how=_how_chosen(summary),
        against_base=_against_base(summary, study),
        metric=names[0],
        command=train_command(folder.best, site, _width(study, candidates)),
        keys=[key.split(".") for key in study.spec.space],
        names=names,
        best=[_trial_row(study, trial, names, dropped) for trial in ordered[:ROWS]],
        more=max(0, len(ordered) - ROWS),
        rungs=_rung_rows(study, rungs),
        failures=[
            {
                "trial": t.number,
                "state": t.state.value,
                "reason": t.reason,
                "settings": _settings(t.params),
            }
            for t in study.trials
            if t.reason
        ],
        charts=_charts(study, holdings, ordered, cards, retrained=any(map(_seeds_of, candidates))),
        spec=folder.spec.read_text(),
    )


def _width(study: Study, candidates: Sequence[Mapping[str, Any]]) -> int:
    """Cards that the winner was trained on."""
    if not candidates:
        return 1
    return study.spec.cards_of(candidates[0]["params"], len(study.spec.cards))


def _how_chosen(summary: Mapping[str, Any]) -> str:
    """Which trainings chose the winner. Of older summaries the seed of the search is not known."""
    seeds = next(filter(None, map(_seeds_of, summary.get("candidates", []))), ())
    if not seeds:
        return "The best trial of the search itself, with one seed: trained again it may do worse."
    told = seeds_text(seeds)
    first = summary.get("search_seed")
    which = (
        "" if first is None or first in seeds else f"; none of them is that of the search, {first}"
    )
    return (
        f"The best trials, trained again with {told}{which}. They are ranked by the mean; the "
        "interval is the 95 % one over seeds (Student's t)."
    )


def _charts(
    study: Study,
    holdings: Sequence[Holding],
    ordered: Sequence[Trial],
    cards: Mapping[str, int],
    *,
    retrained: bool,
) -> list[dict[str, str]]:
    """Those that there is something to draw of.

    Args:
        retrained: whether the best were trained again, which is not drawn.
    """
    after = "; the seeds of the best, which came later, are left out" if retrained else ""
    charts: list[tuple[str, str, bytes]] = []
    if ordered:
        charts.append(
            (
                "Best so far",
                f"a point for each rung of a trial, against the time of the search and the time "
                f"of its cards{after}",
                best_png(study, holdings),
            )
        )
    if len(study.spec.objectives) > 1 and ordered:
        charts.append(
            (
                "Pareto front",
                "each trial where it stopped; those with a number are beaten by none in all "
                "objectives, and keep the constraints",
                pareto_png(study),
            )
        )
    if len(ordered) > 2:
        charts.append(
            (
                "Parallel coordinates",
                "a line for each trial; the best tenth in colour, the darker the better",
                parallel_png(study, ordered),
            )
        )
    if shares := importances(study):
        charts.append(
            (
                "Importances",
                f"share of the variance of {study.spec.objectives[0].metric} that each setting "
                "explains at the first rung (fANOVA); settings that only some trials have are left "
                "out",
                importance_png(shares),
            )
        )
    if holdings:
        charts.append(
            (
                "Cards",
                f"a bar for each time that a trial had a card, with its number{after}",
                gantt_png(holdings, cards),
            )
        )
    return [
        {
            "title": title,
            "caption": text,
            "picture": data_uri(png),
        }
        for title, text, png in charts
    ]


def _against_base(summary: Mapping[str, Any], study: Study) -> str:
    if summary.get("base"):
        text = summary["base"]["text"]
    else:
        text = UNKNOWN if study.spec.include_base and summary.get("candidates") else ""
    return ". ".join(part[0].upper() + part[1:] for part in (text, summary.get("note", "")) if part)


def _candidate_row(each: Mapping[str, Any]) -> dict[str, Any]:
    interval = each["interval"]
    return {
        "name": name_of_candidate(each),
        "mean": number_text(each["mean"]),
        "interval": f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "",
        "values": _by_seed(each),
        "settings": _settings(each["params"]),
    }


def _seeds_of(candidate: Mapping[str, Any]) -> Sequence[int]:
    return list(candidate.get("seeds", ()))


def _settings(params: Params) -> list[str]:
    return [params_text({key: value}) for key, value in params.items()]


def _by_seed(each: Mapping[str, Any]) -> list[str]:
    """The seed stands behind its value; a result of the search itself names none."""
    seeds = [f" (seed {seed})" for seed in each.get("seeds", ())] or [""] * len(each["values"])
    values = map(number_text, each["values"])
    return [value + seed for value, seed in zip(values, seeds, strict=True)]


def _trial_row(
    study: Study, trial: Trial, names: Sequence[str], dropped: Collection[int]
) -> dict[str, Any]:
    result, params = trial.results[-1], trial.params_at(trial.epochs)
    return {
        "number": trial.number,
        "state": "dropped" if trial.number in dropped else trial.state.value,
        "epoch": result.epoch,
        "values": [number_text(result.metrics[n]) if n in result.metrics else "" for n in names],
        "settings": [value_text(params[key]) if key in params else "" for key in study.spec.space],
        "card_minutes": f"{trial.card_s / 60:.1f}",
    }


def _rung_rows(study: Study, rungs: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    for epoch in rungs:
        judged = study.ranking.best_first(study.trials, epoch)
        metric = study.spec.objectives[0].metric
        values = [
            result.metrics[metric]
            for trial in judged
            if (result := trial.result_at(epoch)) is not None and metric in result.metrics
        ]
        on = sum(trial.granted > epoch for trial in judged)
        rows.append(
            {
                "epoch": epoch,
                "reached": len(judged),
                "promoted": "" if epoch == rungs[-1] else on,
                "best": number_text(values[0]) if values else "",
                "median": number_text(statistics.median(values)) if values else "",
            }
        )
    return rows
