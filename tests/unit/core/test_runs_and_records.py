import json
import math
from pathlib import Path

import pytest

from unet_dist.errors import UserError
from unet_dist.records import RecordWriter, read_records
from unet_dist.runs import AttemptDir, RunDir, read_json, write_json, write_text_atomically


def test_records_survive_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordWriter(path) as records:
        records.write("step", step=1, loss=0.5)
    with path.open("a") as stream:
        stream.write('{"kind": "step", "st')
    assert [record["step"] for record in read_records(path)] == [1]
    with RecordWriter(path) as records:
        records.write("step", step=2)
    assert [record["step"] for record in read_records(path)] == [1, 2]


def test_resume_drops_the_records_of_steps_that_run_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordWriter(path) as records:
        for step in (1, 2, 3):
            records.write("step", step=step)
    with RecordWriter(path, resume_step=2) as records:
        records.write("step", step=3, again=True)
    kept = list(read_records(path))
    assert [record["step"] for record in kept] == [1, 2, 3]
    assert kept[-1]["again"]


def test_undefined_numbers_become_null_because_json_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordWriter(path) as records:
        records.write("step", step=1, dice=math.nan, loss=math.inf, of_class={"a": math.nan})
    record = json.loads(path.read_text())
    assert record["dice"] is None
    assert record["loss"] is None
    assert record["of_class"] == {"a": None}
    assert record["schema"] == 1


def test_failed_write_leaves_the_old_file_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_text_atomically(path, "old")

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_text_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_job_in_the_same_run_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with run.locked(), pytest.raises(UserError, match="another job"), run.locked():
        pass
    with run.locked():
        pass


def test_the_report_of_another_part_takes_nothing_from_that_of_the_training(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_json(run.dataset, {"splits": {"train": [1, 2], "val": [3], "test": []}})
    assert (run.report("val").name, run.picture("val").name) == ("report.html", "report.png")
    assert (run.report("train").name, run.picture("train").name) == (
        "report_train.html",
        "report_train.png",
    )


def test_attempts_are_never_overwritten(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.next_attempt() == 0
    run.attempt(0).path.mkdir(parents=True)
    run.attempt(3).path.mkdir()
    assert run.next_attempt() == 4


def test_errors_of_ranks_come_earliest_first(tmp_path: Path) -> None:
    attempt = AttemptDir(tmp_path)
    for rank, time in ((0, 12.0), (1, 10.0), (2, 11.0)):
        write_json(attempt.error(rank), {"rank": rank, "time": time})
    assert [error["rank"] for error in attempt.errors().values()] == [1, 2, 0]


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 5000, "\x00"])
def test_json_that_is_no_object_is_a_user_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(path)
