"""A wish to profile a training that runs: what speaks against it, and where its profile will be."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unet_dist.errors import UserError, counted
from unet_dist.profiling.capture import CaptureRequest
from unet_dist.records import read_records
from unet_dist.runs import RunDir, write_text_atomically

CHOSEN_WITHIN_S = 10.0
"""So long is waited for rank 0 to say from which step on: it does as it begins a step."""
POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Running:
    """A training, as far as its files tell."""

    world: int
    """0 if it is not known."""
    step: int
    """The last one that is known to have ended; others may have, since not each is recorded."""
    total_steps: int
    """0 as long as the ranks have not begun."""
    capture_until: int
    """The last step of the newest capture; 0 without one."""


def running(run: RunDir) -> Running:
    known = {"world": int(run.last_plan().get("world", 0)), "step": 0, "total_steps": 0}
    until, ranks = 0, [0]
    for record in read_records(run.records(0)):
        if record["kind"] == "start":
            known.update(world=record["ranks"], total_steps=record["total_steps"])
        elif record["kind"] == "capture":
            until, ranks = int(record["until"]), record["ranks"] or [0]
        if record["kind"] in ("start", "step", "profile"):
            known["step"] = max(known["step"], int(record["step"]))
    if ranks[0]:  # rank 0 takes no part, and tells of it only a step later
        ended = [r["step"] for r in read_records(run.records(ranks[0])) if r["kind"] == "profile"]
        known["step"] = max([known["step"], *map(int, ended)])
    return Running(**known, capture_until=until)


def ask(run: RunDir, request: CaptureRequest) -> str:
    """Writes the wish down; what a person should know of it besides.

    Raises:
        UserError: it cannot be granted.
    """
    if run.state() != "running":
        raise UserError(str(run.path), "does not run, so nothing would be profiled")
    found = running(run)
    faults = list(_against(run, request, found))
    if faults:
        raise UserError(str(run.path), faults)
    write_text_atomically(run.profile_request, request.to_text())
    left = found.total_steps - found.step
    kept = left - 1 - request.warmup
    if found.total_steps and request.steps > kept:
        warm = f" and {counted(request.warmup, 'step')} of warm-up" if request.warmup else ""
        return f"no more than {kept} steps are left after this one{warm}, so it ends with them"
    return ""


def _against(run: RunDir, request: CaptureRequest, found: Running) -> list[str]:
    faults = []
    beyond = [rank for rank in request.ranks or () if found.world and rank >= found.world]
    if beyond:
        shown = ", ".join(map(str, beyond))
        faults.append(f"--ranks names rank {shown}, but ranks are 0 to {found.world - 1}")
    if found.total_steps and found.step + 1 + request.warmup >= found.total_steps:
        warm = f" after {counted(request.warmup, 'step')} of warm-up" if request.warmup else ""
        less = "; --warmup 0 needs none" if found.step + 1 < found.total_steps else ""
        faults.append(
            f"step {found.step} of {found.total_steps}: no step is left to profile{warm}{less}"
        )
    if found.capture_until > found.step:
        faults.append(f"is being profiled up to step {found.capture_until}: ask again after it")
    elif _is_waiting(run):
        faults.append(
            "was asked for a profile already, and rank 0 takes that up as it begins a step; to "
            f"withdraw it, remove {run.profile_request}"
        )
    return faults


def _is_waiting(run: RunDir) -> bool:
    """Whether there is a wish that no rank has taken up."""
    found = CaptureRequest.read(run.profile_request)
    return found is not None and not found.first


def folder_of(
    run: RunDir,
    request: CaptureRequest,
    *,
    within_s: float = CHOSEN_WITHIN_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Path | None:
    """Where its profile will be, once rank 0 has chosen the step; None if it does not soon."""
    for _ in range(max(1, round(within_s / POLL_S))):
        found = CaptureRequest.read(run.profile_request)
        if found is not None and found.number == request.number and found.first:
            return run.profile(found.first)
        sleep(POLL_S)
    return None
