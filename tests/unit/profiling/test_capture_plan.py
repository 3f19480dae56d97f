import pytest
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.errors import UserError
from unet_dist.profiling.capture import CapturePlan, CaptureRequest


def test_steps_are_profiled_from_the_first_to_the_last():
    plan = CapturePlan.parse("steps=20:25", "all")
    assert plan.length == 6
    assert [step for step in range(1, 200) if plan.begins_at(step)] == [20]
    assert plan.covers(0)
    assert plan.covers(4095)


def test_a_schedule_returns_as_often_as_asked():
    plan = CapturePlan.parse("steps=20:22,every=50,repeat=3", "0,3", stacks=True)
    assert [step for step in range(1, 999) if plan.begins_at(step)] == [20, 70, 120]
    assert [rank for rank in range(8) if plan.covers(rank)] == [0, 3]
    assert CapturePlan.of_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("steps", "ranks", "message"),
    [
        ("20:25", "all", "must be like steps=20:25"),
        ("steps=0:5", "all", "the first is 1"),
        ("steps=9:5", "all", "the last comes after it"),
        ("steps=1:5000", "all", "profile 1000 at the most"),
        ("steps=5:9,every=3,repeat=2", "all", "every=3 must exceed the 5 steps"),
        ("steps=5:9", "a-b", "must be all or like 0,3"),
    ],
)
def test_what_cannot_be_is_refused(steps, ranks, message):
    with pytest.raises(UserError, match=message):
        CapturePlan.parse(steps, ranks)


def test_ranks_that_there_are_not_are_refused():
    CapturePlan.parse("steps=1:2", "0,3").check_ranks(4)
    CapturePlan.parse("steps=1:2", "all").check_ranks(1)
    with pytest.raises(UserError, match="names rank 4, 9, but ranks are 0 to 3"):
        CapturePlan.parse("steps=1:2", "0,4,9").check_ranks(4)


def test_a_request_survives_its_file_and_asks_for_no_more_than_allowed():
    request = CaptureRequest(number=7, steps=5, ranks=(1,), stacks=True, first=3)
    assert CaptureRequest.of_text(request.to_text()) == request
    assert CaptureRequest.of_text('{"number": 1, "steps": 99999, "ranks": null}').steps == 1000
    for text in ("", "[]", '{"number": 1}', '{"number": "a", "steps": 1, "ranks": null}'):
        with pytest.raises((ValueError, KeyError, TypeError)):
            CaptureRequest.of_text(text)


@pytest.mark.parametrize("option", [["--profile-stack"], ["--profile-ranks", "0"]])
def test_options_of_a_profile_that_is_not_asked_for_are_refused(option):
    done = CliRunner().invoke(app, ["train", "nowhere.yaml", *option])
    assert "has no effect without --profile" in str(done.exception)
