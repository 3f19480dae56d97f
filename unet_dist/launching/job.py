"""Runs a job to its end: attempts one after another, each watched and its failure judged."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from unet_dist.cluster.children import POLL_S
from unet_dist.cluster.failure import Failure, failure_of_json
from unet_dist.cluster.interruptions import Interruptions
from unet_dist.cluster.parts import how_it_ended, wait_for_attempt
from unet_dist.cluster.plan import LaunchPlan
from unet_dist.cluster.restart import Decision, Ended, decide
from unet_dist.cluster.supervisor import LaunchResult, run_plan
from unet_dist.launching.describe import describe_failure, describe_ranks
from unet_dist.launching.journal import Journal
from unet_dist.launching.placement import Placement, Supervision, plan_job
from unet_dist.launching.shrink import without_card
from unet_dist.progress import LogTail, Progress
from unet_dist.runs import AttemptDir, RunDir, read_json

RESTARTED = ("train", "launch")
"""Kinds of jobs that go on where they were, or that the user asked to start again."""

STOPPING = {
    "train": "stopping: all ranks at the next step, with a checkpoint, or at the end of the final "
    "evaluation; Ctrl-C again ends them at once",
    "predict": "stopping: finished images stay, those at hand are dropped; Ctrl-C again ends the "
    "ranks at once",
}
"""What is said to the first Ctrl-C of jobs that have something to save. Others end at once."""

NO_RESTART = Decision(restart=False, reason="")
"""Nothing failed, or nobody asked for restarts: nothing is said of them."""


@dataclass(frozen=True, kw_only=True)
class JobResult:
    plan: LaunchPlan
    attempt: AttemptDir
    ending: str
    """done, failed, stopped, or paused at a rung of a search."""
    failure: Failure | None
    answer: Mapping[str, Any]
    """What rank 0 wrote down for the command that asked."""
    decision: str = ""
    """Why it was not started again."""


@dataclass(kw_only=True)
class Job:
    run: RunDir
    what: Mapping[str, Any]
    """``kind``, and what the worker needs for it."""
    placement: Placement
    supervision: Supervision
    console: Console
    argv: Sequence[str] = ()
    """A command of the user's in place of this program's worker."""
    fitting: Sequence[int] = ()
    """Numbers of ranks that could do this job, where it may go on with fewer."""
    interruptions: Interruptions = field(default_factory=Interruptions)

    def lead(self) -> JobResult:
        """Attempt after attempt until one ends well, or nothing is gained by another.

        The run must be locked: the numbers of attempts are taken here.
        """
        journal = Journal(self.run, self.console, keeps_status=self.what["kind"] in RESTARTED)
        history: list[Ended] = []
        journal.close_open_attempt()
        with self.interruptions.counted():
            while True:
                plan, attempt = plan_job(
                    self.run, self.what, self.placement, self.supervision.limits, argv=self.argv
                )
                journal.status("running", attempt, restarts=len(history))
                try:
                    done = _judged(plan, attempt, self._attempt(plan, attempt, journal.note))
                except BaseException as error:
                    journal.status("failed", attempt, first_failure=f"the launcher: {error!r}")
                    raise
                decision = self._decide(done, history)
                why, again = decision.reason, decision.restart
                journal.end(attempt, done.ending, done.failure, again=again, why=why)
                if not again:
                    reason = done.failure.reason if done.failure else None
                    journal.status(done.ending, attempt, first_failure=reason)
                    return replace(done, decision=why)
                self._go_on(done, decision)
                if self.interruptions.received:
                    journal.status("stopped", attempt)
                    return replace(done, ending="stopped", failure=None)

    def follow(self) -> JobResult:
        """Takes part in every attempt that the launcher of part 0 makes."""
        part = self.placement.topology().part
        after = -1
        with self.interruptions.counted():
            while True:
                self.console.print(f"waiting for the launcher of part 0 in {self.run.path}")
                attempt = wait_for_attempt(
                    self.run,
                    part,
                    after=after,
                    limit_s=self.supervision.limits.of_phase("start"),
                    given_up=lambda: bool(self.interruptions.received),
                )
                if attempt is None:
                    plan, attempt = plan_job(
                        self.run, self.what, self.placement, self.supervision.limits
                    )
                    return JobResult(
                        plan=plan, attempt=attempt, ending="stopped", failure=None, answer={}
                    )
                after = attempt.number
                led = read_json(attempt.plan)["job"]
                plan, _ = plan_job(
                    self.run,
                    led,
                    self.placement,
                    self.supervision.limits,
                    argv=self.argv,
                    attempt=attempt,
                )
                result = self._attempt(plan, attempt, lambda kind, **facts: None)
                ended = how_it_ended(attempt)
                failure = result.failure
                if ended.get("failure"):
                    failure = failure_of_json(ended["failure"])
                if failure and ended.get("again") and not self.interruptions.received:
                    self._say(failure, str(ended.get("why", "")))
                    continue
                ending = ended.get("state", "failed" if failure else "stopped")
                return JobResult(
                    plan=plan, attempt=attempt, ending=ending, failure=failure, answer={}
                )

    def _attempt(
        self, plan: LaunchPlan, attempt: AttemptDir, note: Callable[..., Any]
    ) -> LaunchResult:
        waiting = f"starting {describe_ranks(plan)}; logs in {attempt.path}"
        # Of several launchers one shows the steps: Slurm puts the words of all into one log.
        leads = plan.topology.part.index == 0
        progress = Progress(self.run.records(0) if leads else None, self.console, waiting)
        if self.what["kind"] in RESTARTED and not self.what.get("resume"):
            progress.say(plan.limits.describe_shortly())
        # After a card was left out there may be fewer ranks than those that were asked for.
        shown = [rank for rank in self.supervision.shown_ranks if rank < plan.topology.world]
        logs = {rank: attempt.rank_log(rank) for rank in shown}
        tail = LogTail(logs, self.console, many=plan.topology.world > 1)

        def on_poll() -> None:
            progress.poll()
            tail.poll()

        kind = plan.job["kind"]
        on_asked = partial(progress.say, STOPPING[kind]) if kind in STOPPING else None
        try:
            return run_plan(
                plan,
                attempt,
                interruptions=self.interruptions,
                on_poll=on_poll,
                on_asked=on_asked,
                note=note,
            )
        finally:
            progress.close()
            tail.poll()

    def _decide(self, done: JobResult, history: list[Ended]) -> Decision:
        failure = done.failure
        if failure is None or self.interruptions.received or self.what["kind"] not in RESTARTED:
            return NO_RESTART
        slots = done.plan.topology.slots
        known = failure.rank is not None and failure.rank < len(slots)
        slot = slots[failure.rank] if known and failure.rank is not None else None
        history.append(
            Ended(
                failure=failure,
                world=len(slots),
                device=(slot.server, slot.device_id) if slot else None,
                step=newest_step(self.run.checkpoints),
            )
        )
        if not self.supervision.restarts.max_restarts:
            return NO_RESTART
        return decide(self.supervision.restarts, history)

    def _say(self, failure: Failure, why: str) -> None:
        self.console.print(f"{describe_failure(failure)}\n{why}", markup=False)

    def _go_on(self, done: JobResult, decision: Decision) -> None:
        assert done.failure is not None
        self._say(done.failure, decision.reason)
        if decision.leave_out is not None:
            smaller = without_card(
                self.placement,
                decision.leave_out,
                run=self.run,
                fitting=self.fitting,
                min_ranks=self.supervision.restarts.min_ranks,
            )
            if smaller is not None:
                before, after = self.placement.topology().world, smaller.topology().world
                self.placement = smaller
                self.console.print(
                    f"card {decision.leave_out[1]} of {decision.leave_out[0]} failed twice and is "
                    f"left out: {after} of {before} ranks go on with the same images per step",
                    markup=False,
                )
        self.what = {**self.what, "resume": True}
        deadline = time.monotonic() + decision.delay_s
        while time.monotonic() < deadline and not self.interruptions.received:
            time.sleep(POLL_S)


def newest_step(checkpoints: Path) -> int:
    """Of the newest checkpoint folder; 0 without one."""
    names = (path.name.removeprefix("step_") for path in checkpoints.glob("step_*"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _judged(plan: LaunchPlan, attempt: AttemptDir, result: LaunchResult) -> JobResult:
    answer = read_json(attempt.result()) if attempt.result().exists() else {}
    if result.failure is not None:
        ending = "failed"
    elif "paused_at_epoch" in answer:
        ending = "paused"
    # Asked to stop after their last step, the ranks finish: then there is an answer. Without an
    # interruption there is none only where rank 0 runs on another server.
    elif {"stopped_at_step", "images_done"} & answer.keys() or (result.interrupted and not answer):
        ending = "stopped"
    else:
        ending = "done"
    return JobResult(
        plan=plan, attempt=attempt, ending=ending, failure=result.failure, answer=answer
    )
