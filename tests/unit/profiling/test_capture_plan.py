import pytest
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.errors import UserError
from unet_dist.profiling.capture import CapturePlan, CaptureRequest, Window


def test_steps_are_profiled_from_the_first_to_the_last():
    plan = CapturePlan.parse("steps=20:25", "all")
    # A step of warm-up unless another number is said.
    assert plan.window_at(18) is None
    assert plan.window_at(19) == Window(begin=19, first=20, last=25)
    assert [step for step in range(1, 200) if plan.window_at(step)] == [19, 20]
    assert plan.covers(0)
    assert plan.covers(4095)


def test_a_schedule_returns_as_often_as_asked():
    plan = CapturePlan.parse("steps=20:22,every=50,repeat=3,warmup=0", "0,3", stacks=True)
    assert [step for step in range(1, 999) if plan.window_at(step)] == [20, 70, 120]
    assert [rank for rank in range(8) if plan.covers(rank)] == [0, 3]
    assert CapturePlan.of_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("steps", "ranks", "message"),
    [
        ("20:25", "all", "must be like steps=20:25"),
        ("steps=0:5", "all", "the first is 1"),
        ("steps=9:5", "all", "the last comes after it"),
        ("steps=1:5000", "all", "profile 1000 at the most"),
        ("steps=5:9,every=4,repeat=2", "all", "every=4 is less than the 5 steps of a capture$"),
        ("steps=5:9,every=6,repeat=2,warmup=2", "all", "every=6 .* the 5 .* and the 2 of its warm"),
        ("steps=5:9,warmup=5", "all", "warmup=5: no more than 4 steps come before step 5"),
        ("steps=5:9,warmup=-1", "all", "must be like steps=20:25"),
        ("steps=5:9,warmup=1,warmup=2", "all", "each part once"),
        ("steps=5:9,steps=7:9", "all", "each part once"),
        ("warmup=2", "all", "must be like steps=20:25"),
        ("steps=5:9", "a-b", "must be all or like 0,3"),
    ],
)
def test_what_cannot_be_is_refused(steps, ranks, message):
    with pytest.raises(UserError, match=message):
        CapturePlan.parse(steps, ranks)


def test_a_warm_up_comes_before_each_capture_in_whichever_order_it_is_asked_for():
    plan = CapturePlan.parse("repeat=2,warmup=3,steps=20:22,every=6", "all")
    assert plan == CapturePlan.parse("steps=20:22,every=6,repeat=2,warmup=3", "all")
    found = [plan.window_at(step) for step in (16, 17, 22, 23, 26, 29)]
    assert found == [
        None,
        Window(begin=17, first=20, last=22),
        None,
        Window(begin=23, first=26, last=28),
        Window(begin=26, first=26, last=28),  # of a training that was started again
        None,
    ]
    assert (found[3].warmup, found[3].length) == (3, 3)
    assert CapturePlan.of_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("steps", "warmup"),
    [
        ("steps=1:3", 0),  # there is no step before
        ("steps=2:3", 1),
        ("steps=9:10,every=2,repeat=2", 0),  # between them neither
        ("steps=9:10,every=3,repeat=2", 1),
    ],
)
def test_the_usual_warm_up_is_left_out_where_it_has_no_room(steps, warmup):
    assert CapturePlan.parse(steps, "all").warmup == warmup


def test_a_request_finds_room_for_its_warm_up_between_the_captures_of_a_plan():
    plan = CapturePlan.parse("steps=5:8,every=10,repeat=2,warmup=2", "all")  # 3 to 8, 13 to 18
    assert plan.free_from(1, 2) == 1
    assert plan.free_from(1, 3) == 9
    assert plan.free_from(9, 4) == 9
    assert plan.free_from(10, 4) == 19
    request = CaptureRequest(number=7, steps=2, warmup=2).granted_from(9)
    assert request.first == 11
    found = [request.window_at(step) for step in (8, 9, 10, 12, 13)]
    assert found == [
        None,
        Window(begin=9, first=11, last=12),
        Window(begin=10, first=11, last=12),
        Window(begin=12, first=12, last=13),  # in the middle, after the training was started again
        None,
    ]


def test_ranks_that_there_are_not_are_refused():
    CapturePlan.parse("steps=1:2", "0,3").check_ranks(4)
    CapturePlan.parse("steps=1:2", "all").check_ranks(1)
    with pytest.raises(UserError, match="names rank 4, 9, but ranks are 0 to 3"):
        CapturePlan.parse("steps=1:2", "0,4,9").check_ranks(4)


def test_a_request_survives_its_file_and_asks_for_no_more_than_allowed():
    request = CaptureRequest(number=7, steps=5, warmup=2, ranks=(1,), stacks=True, first=3)
    assert CaptureRequest.of_text(request.to_text()) == request
    assert CaptureRequest.of_text('{"number": 1, "steps": 99999, "ranks": null}').steps == 1000
    for text in ("", "[]", '{"number": 1}', '{"number": "a", "steps": 1, "ranks": null}'):
        with pytest.raises((ValueError, KeyError, TypeError)):
            CaptureRequest.of_text(text)


@pytest.mark.parametrize("option", [["--profile-stack"], ["--profile-ranks", "0"]])
def test_options_of_a_profile_that_is_not_asked_for_are_refused(option):
    done = CliRunner().invoke(app, ["train", "nowhere.yaml", *option])
    assert "has no effect without --profile" in str(done.exception)
