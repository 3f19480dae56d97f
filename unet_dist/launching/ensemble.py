"""Leads the runs of an ensemble, the folds of a cross-validation or several seeds: each is a job
like any other, several of them beside each other; then one job evaluates all together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from unet_dist.cluster.failure import Failure
from unet_dist.cluster.interruptions import STOP_SIGNALS, Interruptions
from unet_dist.cluster.topology import Topology
from unet_dist.errors import UserError
from unet_dist.launching.beside import TaskEnd, run_beside
from unet_dist.launching.describe import describe_failure
from unet_dist.launching.job import Job, JobResult
from unet_dist.launching.placement import Placement, Supervision
from unet_dist.launching.places import Division
from unet_dist.launching.summary import describe_member, summarise_members
from unet_dist.progress import prefixed
from unet_dist.runs import Members, RunDir, write_json, write_text_atomically


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    ending: str
    """done, failed or stopped."""
    summary: Mapping[str, Any]
    """See ``summarise_members``."""
    failure: Failure | None = None
    """The first."""
    failed: str = ""
    """Which member failed first, or ``ensemble``."""


@dataclass(kw_only=True)
class EnsembleJob:
    folder: RunDir
    members: Members
    placement: Placement
    """Of the evaluation at the end."""
    division: Division
    """Of the trainings."""
    supervise: Callable[[Topology], Supervision]
    fitting: Sequence[int]
    console: Console
    interruptions: Interruptions = field(default_factory=Interruptions)

    def lead(self) -> EnsembleResult:
        """Trains what is not finished, whatever becomes of the others, then evaluates.

        The folder must be locked; every member is while it trains.
        """
        self.division.write_tables()
        self._status("running")
        with self.interruptions.counted():
            try:
                result = self._led()
            except BaseException as error:
                self._status("failed", first_failure=f"the launcher: {error!r}")
                raise
        write_json(self.folder.summary, {"schema": 1, **result.summary})
        self._report()
        reason = result.failure.reason if result.failure else None
        self._status(result.ending, first_failure=reason)
        return result

    def _led(self) -> EnsembleResult:
        names = self.members.names
        waiting = [name for name in names if self.folder.member(name).state() != "done"]
        if waiting:
            self._forget_evaluation()
        if skipped := [name for name in names if name not in waiting]:
            self.console.print(f"finished before: {', '.join(skipped)}")
        failures: dict[str, Failure] = {}
        for end in run_beside(
            iter(waiting),
            self.division.places,
            self._train,
            stopped=lambda: bool(self.interruptions.received),
            stop=lambda: self.interruptions.received.append(STOP_SIGNALS[0]),
        ):
            failure = self._told(end)
            if failure is not None:
                failures[end.task] = failure
        failed = next(iter(failures), "")
        if not failures and not self.interruptions.received:
            if self.folder.threshold.exists():
                return EnsembleResult(ending="done", summary=self._summary(failures))
            evaluated = self._evaluate()
            if evaluated.failure is not None:
                failed, failures = "ensemble", {"ensemble": evaluated.failure}
                self._say_failure(self.console, failed, evaluated.failure, evaluated.decision)
        ending = "failed" if failures else "done"
        if self.interruptions.received:
            ending = "stopped"
        return EnsembleResult(
            ending=ending,
            summary=self._summary(failures),
            failure=failures.get(failed) if ending == "failed" else None,
            failed=failed if ending == "failed" else "",
        )

    def _train(self, name: str, place: Placement) -> JobResult:
        """In a thread of its own."""
        run, console = self.folder.member(name), self._console_of(name)
        if console is self.console:
            console.print(
                f"{name}, {self.members.names.index(name) + 1} of {len(self.members.names)}"
            )
        with run.locked():
            job = Job(
                run=run,
                what={"kind": "train", "resume": run.next_attempt() > 0, "split": ""},
                placement=place,
                supervision=self.supervise(place.topology()),
                console=console,
                fitting=self.fitting,
                interruptions=self.interruptions,
            )
            return job.lead()

    def _evaluate(self) -> JobResult:
        self.console.print("all members together: the threshold, then every image left out")
        job = Job(
            run=self.folder,
            what={"kind": "ensemble"},
            placement=self.placement,
            supervision=self.supervise(self.placement.topology()),
            console=self.console,
            interruptions=self.interruptions,
        )
        return job.lead()

    def _told(self, end: TaskEnd[str, JobResult]) -> Failure | None:
        """Says how a member ended; its failure, if it did not end well."""
        console, name = self._console_of(end.task), end.task
        if end.error is not None:
            known = isinstance(end.error, UserError | OSError)
            reason = str(end.error) if known else repr(end.error)
            failure = Failure(rank=None, reason=reason, kind="launcher", user_error=known)
            self._say_failure(console, name, failure, "")
            return failure
        assert end.result is not None
        if end.result.failure is not None:
            self._say_failure(console, name, end.result.failure, end.result.decision)
            return end.result.failure
        if end.result.ending == "stopped":
            step = end.result.answer.get("stopped_at_step")
            console.print("stopped" if step is None else f"stopped after step {step}")
        else:
            console.print(describe_member(end.result.answer), markup=False)
        return None

    def _say_failure(self, console: Console, name: str, failure: Failure, decision: str) -> None:
        text = "\n".join(filter(None, [describe_failure(failure), decision]))
        console.print(f"{name} failed: {text}", markup=False)

    def _report(self) -> None:
        """Of the summary, too, so that the ranks cannot write it."""
        for split in self.folder.evaluations():
            from unet_dist.report.html import report_html  # NumPy and Matplotlib

            write_text_atomically(self.folder.report(split), report_html(self.folder, split))
            return

    def _forget_evaluation(self) -> None:
        """It would be of members that no longer are."""
        evaluations = (self.folder.evaluation(split) for split in ("val", "test"))
        for path in (self.folder.threshold, self.folder.summary, *evaluations):
            path.unlink(missing_ok=True)

    def _summary(self, failures: Mapping[str, Failure]) -> dict[str, Any]:
        return summarise_members(self.folder, self.members, failures)

    def _console_of(self, name: str) -> Console:
        """A live line is for one job; several beside each other speak in turn."""
        return self.console if len(self.division.places) == 1 else prefixed(self.console, name)

    def _status(self, state: str, **facts: Any) -> None:
        write_json(self.folder.status, {"state": state, **facts})
