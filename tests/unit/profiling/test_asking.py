import pytest
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.errors import UserError
from unet_dist.profiling.asking import ask, folder_of
from unet_dist.profiling.capture import CaptureRequest
from unet_dist.records import RecordWriter
from unet_dist.runs import RunDir, write_json

ASKED = CaptureRequest(number=7, steps=5)


@pytest.fixture
def run(tmp_path):
    """Four ranks that have ended step 20 of 40."""
    run = RunDir(tmp_path)
    write_json(run.status, {"state": "running"})
    add(run, "start", step=0, ranks=4, total_steps=40)
    add(run, "step", step=20)
    return run


def add(run, kind, *, rank=0, **facts):
    with RecordWriter(run.records(rank)) as records:
        records.write(kind, **facts)


def test_ranks_that_there_are_not_are_refused(run):
    with pytest.raises(UserError, match="names rank 4, 9, but ranks are 0 to 3"):
        ask(run, CaptureRequest(number=7, steps=5, ranks=(3, 4, 9)))
    assert not run.profile_request.exists()


def test_the_number_of_ranks_is_known_before_they_have_begun(tmp_path):
    run = RunDir(tmp_path)
    write_json(run.status, {"state": "running"})
    write_json(run.attempt(0).plan, {"world": 2, "job": {"kind": "train"}})
    with pytest.raises(UserError, match="names rank 2, but ranks are 0 to 1"):
        ask(run, CaptureRequest(number=7, steps=5, ranks=(2,)))


def test_a_second_wish_is_refused_while_the_first_one_waits_or_runs(run):
    assert ask(run, ASKED) == ""
    with pytest.raises(UserError, match="was asked for a profile already"):
        ask(run, ASKED)
    granted = CaptureRequest(number=7, steps=5, first=22, ranks=(1,))
    run.profile_request.write_text(granted.to_text())
    add(run, "capture", step=22, until=26, ranks=[1])
    with pytest.raises(UserError, match="is being profiled up to step 26"):
        ask(run, ASKED)
    add(run, "profile", rank=1, step=26)  # rank 1 has written it
    assert ask(run, ASKED) == ""


def test_more_steps_than_are_left_are_told_and_none_refused(run):
    # Step 21 runs; 22 to 40 are 19 steps.
    assert ask(run, CaptureRequest(number=7, steps=19)) == ""
    run.profile_request.unlink()
    told = ask(run, CaptureRequest(number=7, steps=20))
    assert told.startswith("no more than 19 steps are left")
    run.profile_request.unlink()
    add(run, "step", step=39)
    with pytest.raises(UserError, match="step 39 of 40: no step is left"):
        ask(run, ASKED)


def test_a_warm_up_takes_its_steps_from_those_that_are_left(run):
    # Step 21 runs; of 22 to 40 two are the warm-up, and 17 are kept.
    assert ask(run, CaptureRequest(number=7, steps=17, warmup=2)) == ""
    run.profile_request.unlink()
    told = ask(run, CaptureRequest(number=7, steps=18, warmup=2))
    assert told.startswith("no more than 17 steps are left after this one and 2 steps of warm-up")
    run.profile_request.unlink()
    add(run, "step", step=37)
    with pytest.raises(UserError, match=r"step 37 of 40: no step .* 2 steps of .*--warmup 0"):
        ask(run, CaptureRequest(number=7, steps=1, warmup=2))
    assert ask(run, CaptureRequest(number=7, steps=1, warmup=1)) == ""


def test_the_folder_is_named_once_rank_0_has_chosen_the_step(run):
    ask(run, ASKED)
    assert folder_of(run, ASKED, within_s=0.2, sleep=lambda s: None) is None

    def choose(seconds):
        run.profile_request.write_text(CaptureRequest(number=7, steps=5, first=22).to_text())

    assert folder_of(run, ASKED, sleep=choose) == run.path / "profile/step_000022"


@pytest.mark.parametrize(("option", "warmup"), [([], 1), (["--warmup", "3"], 3)])
def test_the_command_asks_for_a_warm_up(run, monkeypatch, option, warmup):
    monkeypatch.setattr("unet_dist.profiling.asking.folder_of", lambda *asked: None)
    done = CliRunner().invoke(app, ["profile", "start", str(run.path), "--steps", "4", *option])
    assert done.exit_code == 0, done.output
    request = CaptureRequest.read(run.profile_request)
    assert (request.steps, request.warmup) == (4, warmup)
