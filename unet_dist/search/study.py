"""A search from its folder to its winner: the cards, the controller, the seeds of the best."""

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from rich.console import Console

from unet_dist.cluster.interruptions import Interruptions
from unet_dist.cluster.topology import Topology
from unet_dist.config import Config
from unet_dist.config_file import dump_config, load_config
from unet_dist.errors import UserError, counted
from unet_dist.launching.placement import Supervision
from unet_dist.records import RecordWriter
from unet_dist.runs import RunDir, write_json, write_text_atomically
from unet_dist.search.chosen import agreed
from unet_dist.search.controller import Controller
from unet_dist.search.copying import checkpoints_kept
from unet_dist.search.database import Database
from unet_dist.search.ending import StudyBroken, dropped_of
from unet_dist.search.folder import StudyDir
from unet_dist.search.leases import Cards
from unet_dist.search.memory import predicted_memory_gb
from unet_dist.search.plan import too_few_note
from unet_dist.search.reference import Comparison, against_base, base_note, reference_of
from unet_dist.search.rungs import rungs_of
from unet_dist.search.site import Site, place_of, train_command
from unet_dist.search.space import Params
from unet_dist.search.spec import SearchSpec
from unet_dist.search.study_files import database_url, read_retraining
from unet_dist.search.trial_data import DataSets, close_run, config_of
from unet_dist.search.trial_jobs import TrialJobs
from unet_dist.search.trials import OVER, State, Study, Trial
from unet_dist.search.view import candidate_text, counts_of, seeds_text
from unet_dist.search.winner import (
    Candidate,
    best_of,
    candidates,
    name_again,
    retraining,
    seeds_after,
)


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    why: str
    """The search is over."""
    study: Study
    winners: tuple[Candidate, ...]
    """The best first; empty if no trial has a result."""
    stopped: bool
    against_base: Comparison | None = None
    """The winner beside the base; None if they cannot be compared."""
    note: str = ""
    """Why the base was no trial."""
    again: Study | None = None
    """The study of the seeds, if it began."""
    rungs: tuple[int, ...] = ()
    search_seed: int = 0
    """That all trials of the search had."""

    @property
    def dropped(self) -> int:
        """Paused trials that no rung promotes any more."""
        return len(dropped_of(self.study, self.rungs, is_over=not self.stopped))

    @property
    def state(self) -> str:
        if self.stopped:
            return "stopped"
        return "done" if self.winners else "failed"


@dataclass(kw_only=True)
class SearchJob:
    """A controller at work on a study, then on the seeds of its best."""

    folder: StudyDir
    spec: SearchSpec
    site: Site
    supervise: Callable[[Topology], Supervision]
    console: Console
    show: Callable[[Controller], None]
    argv: Sequence[str] = ()
    """A command in place of this program's ranks."""
    interruptions: Interruptions = field(default_factory=Interruptions)
    _alone: Callable[[], bool] = field(init=False, default=lambda: True)
    """Whether no other controller works on the last phase any more."""

    @cached_property
    def data(self) -> DataSets:
        return DataSets(folder=self.folder, console=self.console)

    def lead(self) -> SearchResult:
        """What runs when it is stopped leaves a checkpoint.

        Raises:
            UserError: no trial can work.
        """
        base = load_config(self.folder.base)
        write_json(self.folder.status, {"state": "running"})
        with self.interruptions.counted():
            try:
                result = self._led(base)
            except BaseException as error:
                write_json(self.folder.status, {"state": "failed", "reason": str(error)})
                if isinstance(error, StudyBroken):
                    raise UserError(str(self.folder.path), str(error)) from error
                raise
        if result.winners:
            self._write_winner(base, result)
        if self._alone():
            write_json(self.folder.status, {"state": result.state, "reason": result.why})
        return result

    def _led(self, base: Config) -> SearchResult:
        name, reference = self.site.study_name, reference_of(self.spec, base)
        note = base_note(self.spec, base)
        for text in filter(None, (note, too_few_note(self.spec, base.train.epochs))):
            self.console.print(text, markup=False)
        study, why = self._phase(base, self.spec, name, self.folder.trial)
        top = best_of(self.spec, study)
        again = None
        if top and not self._asked_to_stop():
            seeds = self.site.seeds_name
            url, shared = database_url(self.folder, self.site), bool(self.site.storage)
            numbers = agreed([t.number for t in top], url, seeds, self.spec, shared=shared)
            trials, _ = Database.read_only(url, name)
            top = [trials[number] for number in numbers]
            known, _ = Database.read_only(url, seeds)
            points = [trial.params for trial in known]
            spec = retraining(self.spec, top, points, reference, seed=base.seed)
            if missing := _num_missing(known, spec):
                self.console.print(
                    f"search: {why}. "
                    + _retraining_text(self.spec, len(top), base.seed, missing, reference),
                    markup=False,
                )
            try:
                name_of = partial(name_again, searched=[*top, *study.trials])
                again, _ = self._phase(base, spec, seeds, self.folder.retrained, name_of)
                if self._asked_to_stop():
                    why += "; stopped while the best were trained again"
            except StudyBroken as error:
                self.console.print(f"search: without seeds: {error}", markup=False)
        winners = candidates(self.spec, top, study, again, reference)
        stopped = self._asked_to_stop()
        return SearchResult(
            why=why,
            study=study,
            winners=tuple(winners),
            stopped=stopped,
            against_base=against_base(self.spec, study, winners, reference, is_final=not stopped),
            note=note,
            again=again or self._earlier_seeds(),
            rungs=rungs_of(self.spec.algorithm, base.train.epochs),
            search_seed=base.seed,
        )

    def _earlier_seeds(self) -> Study | None:
        """Where this start came to none; a database of others may be out of reach by now."""
        if self.site.storage:
            return None
        return read_retraining(self.folder, self.site, self.spec)

    def _phase(
        self,
        base: Config,
        spec: SearchSpec,
        name: str,
        folder: Callable[[int], RunDir],
        name_of: Callable[[Trial], str] = lambda trial: trial.name,
    ) -> tuple[Study, str]:
        rungs = rungs_of(spec.algorithm, base.train.epochs)
        url = database_url(self.folder, self.site)
        store = Database.open(url, name, spec, final_epoch=rungs[-1])
        jobs = TrialJobs(
            folder=folder,
            config=partial(config_of, base, keep=checkpoints_kept(spec.algorithm)),
            begin=self.data.begin,
            place=partial(place_of, self.site),
            supervise=self.supervise,
            rungs=rungs,
            target=self.site.placement.topology().target,
            memory_of=predicted_memory_gb,
            memory_gb=spec.budget.memory_gb,
            argv=self.argv,
            hurried=lambda: len(self.interruptions.received) > 1,
        )
        controller = Controller(
            study=Study(spec=spec),
            rungs=rungs,
            cards=Cards(number=self.site.cards(), fits=self.site.fits()),
            executor=jobs,
            store=store,
            stopped=self._asked_to_stop,
            host=socket.gethostname(),
            on_change=self.show,
            name=name_of,
            note=partial(self._note, name),
        )
        self._note(name, "start", cards=self.site.cards())
        if not store.shared:
            for trial in store.load():
                close_run(folder(trial.number), trial.state)
        try:
            why = controller.run()
        finally:
            for number in sorted(controller.mine):
                jobs.stop(number)
            while controller.mine and jobs.running():
                controller.drain()
            jobs.close()
            self.show(controller)
            store.close()
        self._alone = store.alone
        return controller.study, why

    def _note(self, phase: str, kind: str, **facts: Any) -> None:
        # A disk that is too full for the timeline is told by what cannot do without.
        with contextlib.suppress(OSError), RecordWriter(self.folder.timeline) as timeline:
            timeline.write(
                kind, study=phase, controller=f"{socket.gethostname()}:{os.getpid()}", **facts
            )

    def _asked_to_stop(self) -> bool:
        return bool(self.interruptions.received) or self.folder.stop_request.exists()

    def _write_winner(self, base: Config, result: SearchResult) -> None:
        best = result.winners[0]
        trial = Trial(number=best.trial or 0, params=best.params)
        metric = self.spec.objectives[0].metric
        width = self.spec.cards_of(best.params, len(self.spec.cards))
        cards, epochs = counted(width, "card"), counted(best.epoch, "epoch")
        so_far = ", the best so far" if result.stopped else ""
        head = (
            f"# {best.name[0].upper()}{best.name[1:]} of {self.folder.path.name}{so_far}: {metric} "
            f"{candidate_text(best.to_json())}\n"
            f"# on validation images, after {epochs} on {cards}.\n"
            + (f"# The seed below, {base.seed}, is that of the search.\n" if best.seeds else "")
            + (f"# {result.against_base.text}\n" if result.against_base else "")
            + f"# {train_command(self.folder.best, self.site, width)}\n"
        )
        write_text_atomically(self.folder.best, head + dump_config(config_of(base, trial)))
        write_json(
            self.folder.summary,
            {
                "schema": 1,
                "why": result.why,
                "trials": counts_of(result.study.trials),
                "clock_s": result.study.clock_s,
                "card_s": result.study.card_s,
                "dropped": result.dropped,
                "stopped": result.stopped,
                "retraining": {
                    "clock_s": result.again.clock_s if result.again else 0.0,
                    "card_s": result.again.card_s if result.again else 0.0,
                },
                "search_seed": base.seed,
                "candidates": [each.to_json() for each in result.winners],
                "base": result.against_base.to_json() if result.against_base else None,
                "note": result.note,
            },
        )


def _num_missing(known: Sequence[Trial], spec: SearchSpec) -> int:
    """Trainings of the seeds that are not over; a card that failed may be mended by now."""
    over = [each.state in OVER - {State.FAILED_INFRASTRUCTURE} for each in known]
    return spec.budget.trials - sum(over)


def _retraining_text(
    spec: SearchSpec, top: int, seed: int, missing: int, reference: Params | None
) -> str:
    best = "trial is" if top == 1 else f"{top} are"
    seeds = seeds_text(seeds_after(seed, spec.retrain.seeds))
    beside = "" if reference is None else ", and the base beside them"
    return (
        f"The best {best} trained again with {seeds}{beside} "
        f"({counted(missing, 'training')} to come); the search had seed {seed}"
    )
