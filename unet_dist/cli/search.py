"""``unet-dist search``: hyperparameters, by trials on subsets of the cards."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from unet_dist.cli.run_config import refuse_structure
from unet_dist.cli.search_start import VERBS, misplaced, place_of_new
from unet_dist.cli.shared import EXIT_CODES, Json, answer, console_for
from unet_dist.cli.where import Grace, HangLimit, RankTable, Simulate, placement_of, supervision_of
from unet_dist.cluster.tables.edit import parse_numbers
from unet_dist.cluster.topology import Topology
from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement, Supervision
from unet_dist.runs import RunDir, read_json, write_json, write_text_atomically
from unet_dist.search.folder import StudyDir

if TYPE_CHECKING:
    from unet_dist.search.site import Site
    from unet_dist.search.spec import SearchSpec

MAX_RUNGS = 100


def search(
    target: Annotated[
        str,
        typer.Argument(help="Search file, study folder to resume, or status|stop|report|import."),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FOLDER | KEY=VALUE...]",
            help="After a verb the study folder (after import MindInsight's file); else changes to "
            "the base configuration, such as data.root=DIR.",
        ),
    ] = None,
    simulate: Simulate = 0,
    rank_table: RankTable = "",
    cards_per_trial: Annotated[
        str, typer.Option(help="In place of `cards` of the file, such as 2, or 1,2,4 by rung.")
    ] = "",
    trials: Annotated[
        int, typer.Option(min=0, help="In place of budget.trials: all of the study, in total.")
    ] = 0,
    run: Annotated[Path | None, typer.Option(help="Study folder; default searches/NAME.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the study in a folder.")] = False,
    storage: Annotated[
        str,
        typer.Option(
            help="Database shared by controllers on several machines, such as "
            "postgresql+psycopg://user@host/name; each gives its own cards and the same --run."
        ),
    ] = "",
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Begin with the best points of an earlier study folder, or of a database of "
            "Optuna (file.db or URL, #NAME for one of several studies); their results don't count.",
        ),
    ] = None,
    base: Annotated[
        str, typer.Option(help="After import: the configuration that trials change.")
    ] = "",
    hang_limit: HangLimit = None,
    grace: Grace = 1.0,
    dry_run: Annotated[bool, typer.Option(help="Check all, and say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Search hyperparameters with trials that are distributed jobs on leased cards.

    \b
    Examples:
      unet-dist search configs/search_vessels.yaml data.root=DIR --simulate 4 --trials 40
      unet-dist search configs/search_chasedb1.yaml data.root=DIR --simulate 4 --cards-per-trial 2
      unet-dist search searches/chase --resume --trials 60
      unet-dist search status searches/chase
      unet-dist search stop searches/chase
      unet-dist search report searches/chase
      unet-dist search import mindinsight.yaml --base configs/chasedb1.yaml > search.yaml
      unet-dist train searches/chase/best.yaml --simulate 4
    """
    console = console_for(as_json)
    if target in VERBS:
        _verb(target, words or [], base, console, as_json)
        return
    faults = misplaced(target, words or [], base, resume, run, warm_start, storage)
    if faults:
        raise UserError("search", faults)
    changes = _changes(cards_per_trial, trials)
    placement = placement_of(simulate=simulate, rank_table=rank_table)
    # Optuna and SQLAlchemy take half a second, which other commands need not wait for.
    from unet_dist.search.site import Site

    if resume:
        begin = _resumed(StudyDir(Path(target)), changes, placement)
    else:
        path, beside = place_of_new(Path(target), run)
        study, site = StudyDir(path), Site(placement=placement, storage=storage)
        begin = _new(study, Path(target), words or [], changes, site, warm_start or ())
        begin = replace(begin, beside=beside)
    if dry_run:
        _tell_plan(begin, console, as_json)
        return
    supervise = partial(supervision_of, hang_limit=hang_limit, grace=grace)
    _lead(begin, supervise, console, as_json)


@dataclass(frozen=True, kw_only=True)
class _Beginning:
    """What differs between a new study and one that goes on."""

    study: StudyDir
    spec: "SearchSpec"
    site: "Site"
    prepare: "Callable[[Callable[[Config], None]], SearchSpec]"
    """Fills the folder after a check of the data set; the search as it stands there."""
    base: Config
    note: str = ""
    """Why the base is no trial."""
    beside: str = ""
    """That the same search file has made a study before."""

    @property
    def where(self) -> str:
        return "\n".join(filter(None, (f"search in {self.study.path}", self.beside)))


def _resumed(study: StudyDir, changes: dict[str, Any], placement: Placement) -> _Beginning:
    from unet_dist.search.reference import base_note
    from unet_dist.search.study_files import changed, load_study, write_spec

    spec, site = load_study(study)
    if changes:
        spec = changed(spec, changes, study.spec)
    if placement != Placement():
        site = replace(site, placement=placement)
    config = load_config(study.base)
    _check_base(spec, config, site)

    def prepare(check: Callable[[Config], None]) -> "SearchSpec":
        check(config)
        study.stop_request.unlink(missing_ok=True)
        if changes:
            write_spec(study, spec)
        if not site.storage:  # of several controllers each has its own cards
            write_json(study.place, site.to_json())
        return spec

    note = base_note(spec, config)
    return _Beginning(study=study, spec=spec, site=site, prepare=prepare, base=config, note=note)


def _new(
    study: StudyDir,
    file: Path,
    overrides: Sequence[str],
    changes: dict[str, Any],
    site: "Site",
    warm_start: Sequence[str],
) -> _Beginning:
    from unet_dist.search.imports import points_of
    from unet_dist.search.reference import base_note, with_base_first
    from unet_dist.search.spec import load_spec
    from unet_dist.search.storage import check_shared
    from unet_dist.search.study_files import base_config, begin_study, changed

    spec = load_spec(file, overrides)
    if changes:
        spec = changed(spec, changes, file)
    config = base_config(spec, file)
    _check_base(spec, config, site)
    if site.storage:
        check_shared(site.storage)  # else the folder would name it for all later starts
    spec = with_base_first(spec, config)
    for source in warm_start:
        points, _ = points_of(source, spec.searched)
        points = [point for point in points if point not in spec.first]
        spec = spec.model_copy(update={"first": (*spec.first, *points)})
    return _Beginning(
        study=study, spec=spec, site=site, base=config, note=base_note(spec, config),
        prepare=lambda check: begin_study(study, spec, file, site, check=check),
    )  # fmt: skip


def _check_base(spec: "SearchSpec", base: Config, site: "Site") -> None:
    """Raises UserError for what ``train`` would refuse before it writes anything, unless trials
    have other values there."""
    from unet_dist.search.site import check_site

    check_site(spec, base, site)
    if not {"evaluate.structure", "data.mask"} & spec.space.keys():
        refuse_structure(base)


def _tell_plan(begin: _Beginning, console: Console, as_json: bool) -> None:
    from unet_dist.search.plan import plan_of, plan_text

    text = plan_text(begin.spec, begin.site, begin.base, begin.note)
    plan = plan_of(begin.spec, begin.site, begin.base)
    answer(console, as_json, f"{begin.where}\n{text}", {"run": str(begin.study.path), **plan})


def _lead(
    begin: _Beginning,
    supervise: Callable[[Topology], Supervision],
    console: Console,
    as_json: bool,
) -> NoReturn:
    from unet_dist.search.describe import result_text
    from unet_dist.search.study import SearchJob
    from unet_dist.search.trial_data import DataSets
    from unet_dist.search.view import View

    study, view = begin.study, View(console=console)
    console.print(begin.where, markup=False)
    with entered(study, shared=bool(begin.site.storage)):
        spec = begin.prepare(DataSets(folder=study, console=console).check)
        job = SearchJob(
            folder=study, spec=spec, site=begin.site, supervise=supervise, console=console,
            show=view.show,
        )  # fmt: skip
        try:
            result = job.lead()
        finally:
            view.close()
    told = {"state": result.state, "run": str(study.path), "why": result.why}
    if study.summary.exists():
        told |= read_json(study.summary)
    answer(console, as_json, result_text(study, result, begin.site), told)
    raise typer.Exit(EXIT_CODES[result.state])


def _changes(cards_per_trial: str, trials: int) -> dict[str, Any]:
    """To the search file, from the command line."""
    changes: dict[str, Any] = {}
    if cards_per_trial:
        widths = parse_numbers(cards_per_trial, "--cards-per-trial")
        changes["cards"] = list(widths.listed(most=MAX_RUNGS, what="numbers of cards"))
    if trials:
        changes["budget.trials"] = trials
    return changes


@contextlib.contextmanager
def entered(study: StudyDir, *, shared: bool) -> Iterator[None]:
    """The folder is one controller's, unless a database keeps several apart."""
    if shared:
        study.path.mkdir(parents=True, exist_ok=True)
        yield
        return
    with RunDir(study.path).locked():
        yield


def _verb(verb: str, words: list[str], base: str, console: Console, as_json: bool) -> None:
    if len(words) != 1:
        raise UserError(verb, f"needs one study folder: unet-dist search {verb} searches/NAME")
    folder = Path(words[0])
    if verb == "import":
        _import(folder, base, console)
    else:
        led = {"status": _status, "stop": _stop, "report": _report}
        led[verb](StudyDir(folder), console, as_json)


def _status(study: StudyDir, console: Console, as_json: bool) -> None:
    from unet_dist.search.describe import status_of, status_text

    status = status_of(study)
    answer(console, as_json, status_text(status), status)


def _stop(study: StudyDir, console: Console, as_json: bool) -> None:
    """Asks; whoever leads the study does it."""
    from unet_dist.search.study_files import load_study, may_be_led, read_state

    _, site = load_study(study)
    if not may_be_led(study, site):
        state = read_state(study, site)["state"]
        raise UserError(str(study.path), f"nothing to stop: nobody leads it, and it is {state}")
    write_text_atomically(study.stop_request, "")
    text = f"asked to stop: trials write a checkpoint at their next step; go on with {study.resume}"
    answer(console, as_json, text, {"run": str(study.path), "asked": "stop"})


def _import(path: Path, base: str, console: Console) -> None:
    import yaml

    from unet_dist.search.imports import search_of_mindinsight

    if not base:
        raise UserError("--base", "is needed: the configuration that trials change")
    console.print(yaml.safe_dump(search_of_mindinsight(path, base), sort_keys=False), markup=False)


def _report(study: StudyDir, console: Console, as_json: bool) -> None:
    from unet_dist.search.report import report_study

    path = report_study(study)
    answer(console, as_json, f"written: {path}", {"report": str(path)})
