"""Starts the processes of a plan, watches them, and leaves none behind."""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unet_dist.cluster import guard
from unet_dist.cluster.children import POLL_S, Child, end_all, failed_child, start_all, sweep
from unet_dist.cluster.failure import (
    Ending,
    Failure,
    ended_by,
    first_failure,
    lost_by_mpirun,
    rank_of,
)
from unet_dist.cluster.interruptions import Interruptions
from unet_dist.cluster.parts import Parts, how_it_ended
from unet_dist.cluster.plan import MPIRUN, LaunchPlan
from unet_dist.cluster.watch import Hang, Watch, name_ranks
from unet_dist.heartbeat import read_beat
from unet_dist.runs import AttemptDir, rank_name, write_json

WATCH_EVERY_S = 0.5
STACKS_S = 1.0
"""From the request for stacks until the ranks are ended."""
LATE_REPORTS_S = 1.0
"""What the reports of other hosts may take through a shared file system."""

Note = Callable[..., Any]
"""Writes one line of the timeline: a kind, and facts by name."""


@dataclass(frozen=True, kw_only=True)
class LaunchResult:
    failure: Failure | None
    interrupted: bool


def run_plan(
    plan: LaunchPlan,
    attempt: AttemptDir,
    *,
    interruptions: Interruptions,
    on_poll: Callable[[], None],
    on_asked: Callable[[], None] | None = None,
    note: Note = lambda kind, **facts: None,
) -> LaunchResult:
    """Runs the plan to its end.

    SIGINT, SIGTERM and SIGHUP end the processes. With ``on_asked`` the first of them only asks
    the ranks to stop, at a step of their choice, and calls it. ``on_poll`` is called some twenty
    times a second.
    """
    attempt.processes.mkdir(parents=True, exist_ok=True)
    (attempt.path / "heartbeats").mkdir(exist_ok=True)
    write_json(attempt.part_plan(plan.topology.part.index), plan.to_json())
    note("attempt", attempt=attempt.number, ranks=plan.topology.world, engine=plan.engine)
    children: list[Child] = []
    work = _Work(plan, attempt, children, interruptions, on_poll, on_asked, note)
    try:
        children += start_all(plan, attempt)
        while work.goes_on(time.monotonic()):
            on_poll()
            time.sleep(POLL_S)
        # Before the rest is ended: what ends now does so because of it.
        failed = failed_child(children)
        mpirun_ended = plan.starter is not None and children[0].process.poll() is not None
    finally:
        end_all(children, attempt, plan.limits.grace_s, on_wait=work.show_life)
        sweep(attempt, plan.topology.part)
    on_poll()
    if mpirun_ended:
        work.lost_host = lost_by_mpirun(plan, attempt)
    work.wait_for_others()
    for ended in attempt.exits():
        note("exit", attempt=attempt.number, at=ended.pop("time"), **ended)
    interrupted = work.num_wishes() > 0
    if not interrupted and not work.follows:
        work.look_for_the_missing(failed)
    if work.follows and work.lost_host is None:
        return LaunchResult(failure=None, interrupted=interrupted)  # the leader judges
    outside = work.lost_host or work.cut_short or (_seen_from_outside(failed) if failed else None)
    failure = first_failure(plan, attempt, hang=work.hang, otherwise=outside)
    if interrupted and not work.failed and work.hang is None and work.lost_host is None:
        failure = None  # what ended after a SIGTERM ended because of it
    return LaunchResult(failure=failure, interrupted=interrupted)


@dataclass
class _Work:
    """What the supervisor knows while the processes run."""

    plan: LaunchPlan
    attempt: AttemptDir
    children: list[Child]
    interruptions: Interruptions
    on_poll: Callable[[], None]
    on_asked: Callable[[], None] | None
    note: Note
    hang: Hang | None = None
    lost_host: Ending | None = None
    failed: bool = False
    """Something failed before anything was ended."""
    cut_short: Ending | None = None
    """All ended as if all was done, but not all was."""
    asked_at: float = float("inf")
    answered_for: set[str] = field(default_factory=set)
    next_look: float = 0.0
    reports_seen: frozenset[str] = frozenset()
    exits: list[dict[str, Any]] = field(default_factory=list)
    """What these reports say of ends."""
    parts: Parts | None = None
    """Where several launchers work; the leader alone watches, by the shared folder."""
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        topology, limits = self.plan.topology, self.plan.limits
        if topology.part.count > 1:
            self.parts = Parts(self.attempt, topology.part, lost_after_s=limits.host_s)
        self.watch = Watch(range(topology.world), limits, now=time.monotonic())

    @property
    def follows(self) -> bool:
        return self.parts is not None and not self.parts.leads

    def goes_on(self, now: float) -> bool:
        """One look at everything; False once there is nothing left to wait for, or to hope."""
        if self._asked_to_end(now):
            return False
        if self.parts is not None and self._ended_elsewhere(self.parts, now):
            return False
        if self.parts is not None:
            self._report_for_guards()
        reported = self._failure_reported()
        if failed_child(self.children) is not None or reported:
            # What else ends after a wish to stop does so because of the same SIGTERM.
            self.failed = self.asked_at == float("inf") or self._rank_failed()
            return False
        if all(child.process.poll() is not None for child in self.children):
            return self.parts is not None and self.parts.leads and self._others_work()
        if now >= self.next_look and not self.follows:
            self.next_look = now + WATCH_EVERY_S
            self._look(now)
        return self.hang is None

    def num_wishes(self) -> int:
        """How often somebody asked for the end, here or at another part."""
        elsewhere = self.parts is not None and self.attempt.stop_request.exists()
        return max(len(self.interruptions.received), int(elsewhere))

    def _asked_to_end(self, now: float) -> bool:
        wishes = self.num_wishes()
        if wishes and self.asked_at == float("inf"):
            self.attempt.stop_request.touch()
            self.asked_at = now
            self.note("stop asked", attempt=self.attempt.number)
            if self.on_asked is not None:
                self.on_asked()
        if wishes > (self.on_asked is not None):
            return True
        return now - self.asked_at > self.plan.limits.stop_s

    def _ended_elsewhere(self, parts: Parts, now: float) -> bool:
        parts.beat(now)
        if self.follows and how_it_ended(self.attempt):
            return True
        if lost := parts.lost(now):
            names = ", ".join(map(str, lost))
            self.note("host lost", attempt=self.attempt.number, parts=lost)
            reason = (
                f"the launcher of part {names} has not been heard of for "
                f"{self.plan.limits.host_s:g} s: its host is down or cut off, or it was killed"
            )
            # Not restarted: who would start its ranks?
            self.lost_host = Ending(f"part {names}", 0.0, reason, "host", repeats=True)
            return True
        return False

    def _failure_reported(self) -> bool:
        """Whether a guard wrote down a failure; mpirun takes longer to tell, other hosts can't."""
        # Not by the folder's time of change: two reports may come within one tick of the kernel.
        names = frozenset(os.listdir(self.attempt.processes))
        if names == self.reports_seen:
            return False
        self.reports_seen = names
        self.exits = self.attempt.exits()
        mine = {spec.name for spec in self.plan.processes}
        failed = (seen for seen in self.exits if not _ended_well(seen))
        return any(seen["by"] == "itself" or str(seen["name"]) not in mine for seen in failed)

    def _rank_failed(self) -> bool:
        return any(
            seen["by"] == "itself" and not _ended_well(seen) and rank_of(seen["name"]) is not None
            for seen in self.exits
        )

    def _report_for_guards(self) -> None:
        """In place of a guard that was killed: launchers of other parts wait for its report."""
        for child in self.children:
            report = self.attempt.processes / f"{child.name}.exit.json"
            if child.process.poll() is None or child.name in self.answered_for:
                continue
            self.answered_for.add(child.name)
            if not report.exists():
                code = child.process.returncode
                ending = (
                    {"code": code or 1, "signal": 0} if code >= 0 else {"code": 0, "signal": -code}
                )
                reason = _seen_from_outside(child).reason
                facts = {**ending, "by": "itself", "reason": reason, "host": socket.gethostname()}
                guard.report(self.attempt.path, child.name, "exit", **facts)

    def _others_work(self) -> bool:
        reported = {rank_of(seen["name"]) for seen in self.exits} - {None}
        return len(reported) < self.plan.topology.world

    def show_life(self) -> None:
        if self.parts is not None:
            self.parts.beat(time.monotonic())

    def look_for_the_missing(self, failed: Child | None) -> None:
        """Exit codes of guards and of mpirun are no proof (after losing a host mpirun's is 0): only
        what was reported of each process is."""
        if failed is not None or self.lost_host is not None or self.hang is not None:
            return
        by_mpirun = self.plan.starter is not None
        deadline = time.monotonic() + (self.plan.limits.host_s if by_mpirun else 0.0)
        while missing := self._missing():
            if first_failure(self.plan, self.attempt) is not None:
                return
            if time.monotonic() > deadline:
                ended = "mpirun" if by_mpirun else "all processes"
                reason = f"{ended} ended, but nothing tells that {', '.join(missing)} ended well"
                self.cut_short = Ending(MPIRUN, time.time(), reason, "launcher")
                return
            self.on_poll()
            time.sleep(POLL_S)  # a report of another host takes its time

    def _missing(self) -> list[str]:
        """Processes of all parts that are not known to have ended well."""
        names = [spec.name for spec in self.plan.processes if not spec.ranks]
        names += [rank_name(slot.rank) for slot in self.plan.topology.slots]
        ended = {seen["name"] for seen in self.attempt.exits() if _ended_well(seen)}
        return [name for name in names if name not in ended]

    def wait_for_others(self) -> None:
        """Keeps this part's launcher alive until the leader has judged. The leader waits for the
        reports of other hosts, and for a sign of life of each: a rank that fails because its
        peer's host went down fails long before that host is missed."""
        if self.parts is None:
            return
        begun = time.monotonic()
        while self.lost_host is None:
            now = time.monotonic()
            if self._ended_elsewhere(self.parts, now) or self.num_wishes() > 1:
                return
            heard = now - begun > LATE_REPORTS_S and self.parts.all_heard_since(begun)
            if heard and not self.follows:
                return
            self.on_poll()
            time.sleep(POLL_S)

    def _look(self, now: float) -> None:
        ended = {rank_of(seen["name"]) for seen in self.exits if _ended_well(seen)}
        for rank in range(self.plan.topology.world):
            if rank in ended:
                self.watch.leave_out(rank)
                continue
            self.watch.see(rank, read_beat(self.attempt.heartbeat(rank)), now)
        self.hang = self.watch.hang(now)
        if self.hang is None:
            return
        ranks, reason = self.hang.ranks, self.hang.reason
        self.note("hang", attempt=self.attempt.number, ranks=ranks, reason=reason)
        (self.attempt.path / guard.STACKS_REQUEST).touch()
        deadline = time.monotonic() + STACKS_S
        while time.monotonic() < deadline:
            self.on_poll()
            time.sleep(POLL_S)
        self.hang = _of_the_stopped(self.hang, self.attempt.stopped())


def _of_the_stopped(hang: Hang, stopped: Sequence[str]) -> Hang:
    """A rank that was stopped inside a collective seems to wait there like the others."""
    ranks = sorted(rank for rank in map(rank_of, stopped) if rank is not None)
    if not ranks:
        return hang
    are = "is" if len(ranks) == 1 else "are"
    reason = f"{name_ranks(ranks)} {are} stopped (SIGSTOP, or a debugger): {hang.reason}"
    return Hang(ranks=tuple(ranks), reason=reason)


def _seen_from_outside(child: Child) -> Ending:
    """Where no guard wrote anything down: the guard itself was killed, or mpirun failed."""
    code = child.process.returncode
    reason = ended_by(-code, 0) if code < 0 else f"ended with exit code {code}"
    if rank_of(child.name) is None:
        return Ending(child.name, time.time(), f"{child.name} {reason}", "launcher")
    if code < 0:
        return Ending(child.name, time.time(), f"its guard {reason}", "signal")
    # The rank's own, which its guard hands on as a shell does.
    if code > 128:
        return Ending(child.name, time.time(), ended_by(code - 128, 0), "signal")
    return Ending(child.name, time.time(), reason, "exit")


def _ended_well(seen: Mapping[str, Any]) -> bool:
    return not (seen["code"] or seen["signal"])
