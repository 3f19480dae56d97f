import signal
from pathlib import Path

import pytest

from unet_dist.cluster.codes import explain
from unet_dist.cluster.failure import Failure, ended_by
from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement, Supervision
from unet_dist.runs import RunDir
from unet_dist.search import trial_jobs
from unet_dist.search.executor import Event, Failed
from unet_dist.search.leases import Lease
from unet_dist.search.trial_jobs import TrialJobs, blames_card, state_of
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


def refused(trial: Trial) -> Config:
    raise UserError("trial 0", "got into its folder")


def jobs_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialJobs:
    """They end as soon as they have their folder."""
    monkeypatch.setattr(trial_jobs, "BUSY_LOOK_EVERY_S", 0.01)
    return TrialJobs(
        folder=lambda number: RunDir(tmp_path / f"{number}"),
        config=refused,
        begin=lambda run, config: None,
        place=lambda lease, run: Placement(simulate=1),
        supervise=lambda topology: Supervision(),
        rungs=(3,),
        target="CPU",
        memory_of=lambda config, width: 0.0,
    )


def start(jobs: TrialJobs) -> None:
    jobs.start(Trial(number=0, params={}), Lease(trial=0, cards=(0,)), until_epoch=3)


def next_event(jobs: TrialJobs) -> Event:
    while not (events := jobs.events()):
        pass
    [event] = events
    return event


def test_a_folder_that_others_still_work_in_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_at(tmp_path, monkeypatch)
    with RunDir(tmp_path / "0").locked():
        start(jobs)
        assert [jobs.events() for _ in range(3)] == [[], [], []]
    event = next_event(jobs)
    jobs.close()
    assert isinstance(event, Failed)
    assert event.reason == "trial 0: got into its folder"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_folder_that_stays_taken_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(trial_jobs, "BUSY_FOR_S", 600.0 if stopped else 0.05)
    jobs = jobs_at(tmp_path, monkeypatch)
    with RunDir(tmp_path / "0").locked():
        start(jobs)
        if stopped:
            jobs.stop(0)
        event = next_event(jobs)
    jobs.close()
    assert isinstance(event, Failed)
    assert event.state is State.FAILED_INFRASTRUCTURE
    assert not event.blames_card
