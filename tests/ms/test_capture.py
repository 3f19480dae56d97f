"""The capture of one rank, with a stand-in for MindSpore's profiler."""

import errno
import json
import time
from pathlib import Path

import pytest

from tests.light import Alone
from unet_dist.heartbeat import Heartbeat
from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.capture import CapturePlan, CaptureRequest, Window
from unet_dist.profiling.load import find_profiles, read_profiles
from unet_dist.progress import profile_line
from unet_dist.records import RecordWriter, read_records
from unet_dist.runs import RunDir
from unet_dist.train import capture as capturing
from unet_dist.train.capture import Capture
from unet_dist.train.profiler import mindspore_profiler


class Traced:
    """Writes a trace with an operator for each step that is recorded, as MindSpore's profiler does
    on the CPU."""

    def __init__(self, folder: Path, window: Window, _: bool, *, fails: bool = False) -> None:
        self.folder, self.fails, self.warmup = folder, fails, window.warmup
        self.at_ns: list[int] = []

    def start(self) -> None:
        pass

    def step(self) -> None:
        self.warmup -= 1

    def compute(self) -> None:
        if self.warmup <= 0:
            self.at_ns.append(time.time_ns())

    def stop(self) -> None:
        if self.fails:
            return  # MindSpore logs its errors and raises none
        path = self.folder / "mindspore_1_ascend_ms" / OUTPUT / "trace_view.json"
        path.parent.mkdir(parents=True)
        process = {
            "ph": "M",
            "name": "process_name",
            "pid": 2,
            "tid": 0,
            "args": {"name": "CPU OP"},
        }
        operators = [
            {"ph": "X", "name": "Default/net/Conv2D-op7", "pid": 2, "tid": 0, "dur": "2000",
             "ts": f"{at_ns // 1000}.{at_ns % 1000:03d}"}
            for at_ns in self.at_ns
        ]  # fmt: skip
        path.write_text(json.dumps([process, *operators]))


def capture_of(folder: Path, plan: CapturePlan | None, records: RecordWriter) -> Capture:
    comm = Alone()
    comm.heartbeat = Heartbeat()
    return Capture(
        plan=plan,
        run=RunDir(folder),
        comm=comm,
        records=records,
        simulated=True,
        make_profiler=Traced,
    )


def compute(capture: Capture) -> None:
    if isinstance(capture._profiler, Traced):
        capture._profiler.compute()


def train(capture: Capture, steps: int) -> None:
    for number in range(1, steps + 1):
        time.sleep(0.002)
        capture.step_begins(number, waited_s=0.001)
        compute(capture)
        with capture.comm.heartbeat.waiting("the sum of gradients"):
            time.sleep(0.001)
        capture.step_ends(number)


@pytest.mark.parametrize("warmup", [0, 2])
def test_the_steps_asked_for_are_profiled_and_no_others(tmp_path: Path, warmup: int) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        plan = CapturePlan.parse(f"steps=3:5,warmup={warmup}", "all")
        capture = capture_of(tmp_path, plan, records)
        train(capture, 8)
    [profile] = read_profiles(find_profiles([tmp_path / "profile"]))
    assert (profile.rank, profile.simulated, profile.world) == (0, True, 1)
    assert [step.number for step in profile.steps] == [3, 4, 5]
    assert [call.step for call in profile.collectives] == [3, 4, 5]
    for step, call in zip(profile.steps, profile.collectives, strict=True):
        assert step.begin_ns < call.begin_ns < call.end_ns < step.end_ns
        assert call.duration_ns > 900_000
    assert profile.kernels is not None
    assert profile.kernels.of(profile.kernels.type) == ["Conv2D"] * 3
    assert profile.kernels.step.tolist() == [3, 4, 5]
    assert len(profile.data_waits) == 3
    assert profile.memory[0].allocated_mb.min() > 10
    [record] = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert (record["steps"], record["fault"]) == (3, "")
    assert record["overhead"] is None  # of one step before it that did not compile
    assert capture.comm.heartbeat.on_wait is None


def test_a_full_disk_costs_the_profile_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(capturing, "write_simulated", full)
    with RecordWriter(tmp_path / "records.jsonl") as records:
        train(capture_of(tmp_path, CapturePlan.parse("steps=3:5", "all"), records), 8)
    [record] = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert record["fault"] == "its files could not be written: No space left on device"


def test_the_cost_of_a_capture_is_told_against_steps_that_do_not_compile(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        plan = CapturePlan.parse("steps=6:8,warmup=1", "all")
        capture = capture_of(tmp_path, plan, records)
        for number in range(1, 9):
            capture.step_begins(number, waited_s=0)
            # Neither the step that compiles nor the warm-up is a usual one.
            time.sleep({1: 0.3, 5: 0.3}.get(number, 0.02 if number < 5 else 0.06))
            capture.step_ends(number)
    [record] = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert 1.2 < record["overhead"] < 3  # three times as long; -88 % with the first step
    assert 0 <= record["scatter"] < 1.2


def test_stacks_that_simulated_ranks_do_not_have_are_told(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        plan = CapturePlan.parse("steps=1:2", "all", stacks=True)
        train(capture_of(tmp_path, plan, records), 3)
    [record] = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert record["note"].startswith("no stacks of Python")
    assert record["note"] in profile_line(record)


def test_stacks_are_asked_of_the_profiler_of_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    from mindspore import profiler

    asked = []
    monkeypatch.setattr("unet_dist.model.target.on_cpu", lambda: False)
    monkeypatch.setattr(profiler, "profile", lambda **settings: asked.append(settings))
    for stacks in (True, False):
        mindspore_profiler(Path("x"), Window(begin=18, first=20, last=25), stacks)
    assert [settings["with_stack"] for settings in asked] == [True, False]
    actions = [asked[0]["schedule"](step).name for step in range(9)]
    assert actions == ["WARM_UP"] * 2 + ["RECORD"] * 5 + ["RECORD_AND_SAVE", "NONE"]
    assert profiler.ProfilerActivity.CPU in asked[0]["activities"]  # without it stacks are empty


def test_a_training_that_ends_in_the_middle_leaves_what_there_is(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        capture = capture_of(tmp_path, CapturePlan.parse("steps=3:50", "all"), records)
        train(capture, 4)
        capture.close()
    [profile] = read_profiles(find_profiles([tmp_path / "profile"]))
    assert [step.number for step in profile.steps] == [3, 4]


def test_ranks_that_are_not_asked_for_write_nothing(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        train(capture_of(tmp_path, CapturePlan.parse("steps=1:2", "1,2"), records), 4)
        train(capture_of(tmp_path, None, records), 4)
    assert not (tmp_path / "profile").exists()


def test_a_request_to_a_running_training_is_answered_once(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        capture = capture_of(tmp_path, None, records)
        train(capture, 2)
        request = CaptureRequest(number=time.time_ns(), steps=2)
        capture.run.profile_request.write_text(request.to_text()[:5])
        train(capture, 2)  # half written: nothing happens
        capture.run.profile_request.write_text(request.to_text())
        train(capture, 6)
    done = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert [record["steps"] for record in done] == [2]


def test_all_ranks_answer_a_request_at_the_step_that_rank_0_chose(tmp_path: Path) -> None:
    """Rank 0 begins its steps first; the other one hears of the request in the middle of one."""
    with RecordWriter(tmp_path / "0.jsonl") as one, RecordWriter(tmp_path / "1.jsonl") as two:
        captures = [capture_of(tmp_path, None, records) for records in (one, two)]
        captures[1].comm.rank = 1
        for number in range(1, 9):
            captures[0].step_begins(number, waited_s=0)
            if number == 3:
                request = CaptureRequest(number=time.time_ns(), steps=2, warmup=1)
                captures[0].run.profile_request.write_text(request.to_text())
            captures[1].step_begins(number, waited_s=0)
            for capture in captures:
                with capture.comm.heartbeat.waiting("all-reduce"):
                    pass
                capture.step_ends(number)
    [folder] = (tmp_path / "profile").iterdir()
    profiles = read_profiles(find_profiles([folder]))
    assert [[step.number for step in one.steps] for one in profiles] == [[6, 7], [6, 7]]
    names = [[call.name for call in one.collectives] for one in profiles]
    assert names == [["hcom_allReduce_all-reduce_6_0", "hcom_allReduce_all-reduce_7_0"]] * 2


def test_steps_that_do_not_come_are_told(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        capture = capture_of(tmp_path, CapturePlan.parse("steps=50:60", "all"), records)
        train(capture, 3)
        capture.close()
    [record] = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert record["fault"].startswith("steps 50 to 60 were asked for, but the training went to")
    assert profile_line(record).startswith("warning: no profile: steps 50 to 60")


def test_a_profiler_that_writes_nothing_is_told(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        capture = capture_of(tmp_path, CapturePlan.parse("steps=1:2", "all"), records)
        capture.simulated = False
        capture.make_profiler = lambda *asked: Traced(*asked, fails=True)
        train(capture, 3)
    [record] = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert record["fault"] == "MindSpore's profiler wrote no files"


def test_a_simulated_rank_without_operators_is_told(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        capture = capture_of(tmp_path, CapturePlan.parse("steps=1:2", "all"), records)
        capture.make_profiler = lambda *asked: Traced(*asked, fails=True)
        train(capture, 3)
    [record] = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert (record["steps"], record["fault"]) == (2, "")
    assert record["note"].startswith("no operators")


def test_a_training_that_ends_in_the_warm_up_leaves_no_profile_and_says_so(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        capture = capture_of(tmp_path, CapturePlan.parse("steps=6:9,warmup=3", "all"), records)
        train(capture, 4)
        capture.close()
    [record] = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert (record["step"], record["steps"]) == (4, 0)
    assert record["fault"] == "the training ended in its warm-up, before step 6"
    assert list((tmp_path / "profile").iterdir()) == []


def test_rank_0_tells_of_a_profile_that_it_takes_no_part_in(tmp_path: Path) -> None:
    """Else nobody at the terminal would hear of it: the launcher shows rank 0's records."""
    plan = CapturePlan.parse("steps=3:4", "1")
    run = RunDir(tmp_path)
    with RecordWriter(run.records(0)) as one, RecordWriter(run.records(1)) as two:
        captures = [capture_of(tmp_path, plan, records) for records in (one, two)]
        captures[1].comm.rank = 1
        for number in range(1, 7):
            for capture in captures:
                capture.step_begins(number, waited_s=0)
                compute(capture)
            for capture in reversed(captures):
                capture.step_ends(number)
    records = list(read_records(run.records(0)))
    [granted] = [r for r in records if r["kind"] == "capture"]
    assert (granted["step"], granted["until"], granted["ranks"]) == (3, 4, [1])
    [record] = [r for r in records if r["kind"] == "profile"]
    assert (record["steps"], record["step"], record["fault"]) == (2, 4, "")
    assert profile_line(record).endswith("step_000003 (of rank 1, without rank 0)")


def test_a_request_waits_for_the_capture_that_runs_and_for_those_planned(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        plan = CapturePlan.parse("steps=3:6,every=5,repeat=2", "all")  # 3 to 6, and 8 to 11
        capture = capture_of(tmp_path, plan, records)
        train(capture, 2)
        for number in range(3, 17):
            if number == 4:
                request = CaptureRequest(number=time.time_ns(), steps=2)
                capture.run.profile_request.write_text(request.to_text())
            capture.step_begins(number, waited_s=0)
            capture.step_ends(number)
    done = [r for r in read_records(tmp_path / "records.jsonl") if r["kind"] == "profile"]
    assert [(r["step"], r["steps"]) for r in done] == [(6, 4), (11, 4), (13, 2)]


def test_a_request_of_before_a_restart_is_not_granted_again(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "records.jsonl") as records:
        capture = capture_of(tmp_path, None, records)
        request = CaptureRequest(number=time.time_ns(), steps=2, first=3)
        capture.run.profile_request.write_text(request.to_text())
        for number in range(5, 8):
            capture.step_begins(number, waited_s=0)
            capture.step_ends(number)
    assert not capture.run.profiles.exists()
