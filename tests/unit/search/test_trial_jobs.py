import signal
from pathlib import Path

import pytest

from unet_dist.cluster.codes import explain
from unet_dist.cluster.failure import Failure, ended_by
from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement, Supervision
from unet_dist.runs import RunDir
from unet_dist.search.executor import Failed
from unet_dist.search.leases import Lease
from unet_dist.search.trial_jobs import (
    TrialJobs,
    blames_card,
    copy_checkpoint,
    state_of,
)
from unet_dist.search.trials import State, Trial


def failure(**facts: object) -> Failure:
    return Failure(**{"rank": 0, "reason": "", "kind": "error", **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"exception": "TrainingDiverged", "user_error": True}, State.FAILED_DIVERGED),
        ({"exception": "UserError", "user_error": True}, State.FAILED_USER),
        ({"exception": "TypeError", "repeats": True}, State.FAILED_USER),
        ({"exception": "MemoryError", "repeats": True}, State.FAILED_MEMORY),
        (
            {"kind": "signal", "reason": "ended by SIGKILL (the kernel ended processes for lack of "
             "memory meanwhile: use a smaller batch)"},
            State.FAILED_MEMORY,
        ),
        (
            {"explained": ("EI0011: the card's memory is exhausted: a smaller train.batch",)},
            State.FAILED_MEMORY,
        ),
        (
            {"kind": "signal", "reason": "ended by SIGKILL (from outside, not for lack of memory)"},
            State.FAILED_INFRASTRUCTURE,
        ),
        (
            {"user_error": True, "reason": "the checkpoint could not be written: No space left; "
             "free some space and go on with --resume"},
            State.FAILED_INFRASTRUCTURE,
        ),
        ({"kind": "signal", "reason": "ended by SIGSEGV"}, State.FAILED_INFRASTRUCTURE),
        ({"kind": "hang", "reason": "silent for 600 s"}, State.FAILED_INFRASTRUCTURE),
        ({"kind": "exit", "reason": "ended with exit code 3"}, State.FAILED_INFRASTRUCTURE),
    ],
)  # fmt: skip
def test_whose_fault_a_failure_is(facts: dict[str, object], state: State) -> None:
    assert state_of(failure(**facts)) is state


def test_memory_is_recognised_in_what_this_program_says_of_it() -> None:
    lines = ["[ERROR] EI0011: x", "Device memory not enough"]
    for line in lines:
        told = tuple(f"{code.code}: {code.text}" for code in explain([line]))
        assert told
        assert state_of(failure(explained=told)) is State.FAILED_MEMORY
    reason = ended_by(signal.SIGKILL, oom_kills=1)
    assert state_of(failure(kind="signal", reason=reason)) is State.FAILED_MEMORY
    outside = failure(kind="signal", reason=ended_by(signal.SIGKILL, oom_kills=0))
    assert state_of(outside) is State.FAILED_INFRASTRUCTURE
    assert not blames_card(outside)


def test_a_card_is_not_blamed_for_what_somebody_did() -> None:
    assert not blames_card(
        failure(reason="ended by SIGKILL (from outside, not for lack of memory)")
    )
    assert not blames_card(failure(reason="ended by SIGTERM"))
    assert not blames_card(failure(explained=("the disk of /x is full: free some space",)))
    assert blames_card(failure(reason="ended by SIGBUS (a crash in native code)"))
    assert blames_card(failure(reason="EL0004"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a fault")])
def test_a_card_is_not_blamed_for_what_the_launcher_met(tmp_path: Path, error: Exception) -> None:
    def config(trial: Trial) -> Config:
        raise error

    jobs = TrialJobs(
        folder=lambda number: RunDir(tmp_path / f"{number}"), config=config,
        begin=lambda run, config: None, place=lambda lease, run: Placement(simulate=1),
        supervise=lambda topology: Supervision(), rungs=(3,), target="CPU",
        memory_of=lambda config, width: 0.0,
    )  # fmt: skip
    jobs.start(Trial(number=0, params={}), Lease(0, (0,)), until_epoch=3)
    jobs.close()
    (event,) = jobs.events()
    assert isinstance(event, Failed)
    assert event.state is State.FAILED_INFRASTRUCTURE
    assert not event.blames_card


def run_at(path: Path, *steps: int) -> RunDir:
    run = RunDir(path)
    run.records(0).parent.mkdir(parents=True)
    run.records(0).write_text('{"kind": "start", "steps_per_epoch": 4}\n')
    for step in steps:
        folder = run.checkpoints / f"step_{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(f"{path.name} {step}")
    return run


def test_a_member_of_a_population_goes_on_with_anothers_checkpoint(tmp_path: Path) -> None:
    better, worse = run_at(tmp_path / "better", 8, 12, 16), run_at(tmp_path / "worse", 8, 12)
    copy_checkpoint(better, worse, epoch=3, mark="1 3")
    files = {path.name: (path / "state.json").read_text() for path in worse.checkpoints.iterdir()}
    assert files == {"step_000008": "worse 8", "step_000012": "better 12"}
    # Once: what it learns from there on is its own, also after a kill.
    (worse.checkpoints / "step_000012" / "state.json").write_text("its own")
    copy_checkpoint(better, worse, epoch=3, mark="1 3")
    assert (worse.checkpoints / "step_000012" / "state.json").read_text() == "its own"
    with pytest.raises(UserError, match="not there any more"):
        copy_checkpoint(better, worse, epoch=9, mark="1 9")
