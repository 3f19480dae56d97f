"""Files of one rank are gone or cut off: what is lost is unknown, never nothing, and ranks that are
whole speak for the job."""

import json
import sqlite3

import pytest
from typer.testing import CliRunner

from tests.unit.profiling.made import MS, kernels_of, profile_of
from unet_dist.cli import app
from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.load import find_profiles, read_profiles
from unet_dist.profiling.steps import parts_of
from unet_dist.profiling.write import write_text_folder


def analysed(folder, *options):
    return CliRunner().invoke(app, ["profile", "analyze", str(folder), *options])


@pytest.fixture
def job(tmp_path):
    """Of three ranks; the folder of the first one's files."""
    for rank in range(3):
        write_text_folder(tmp_path / f"rank{rank}_ascend_ms", profile_of(rank, simulated=False))
    return tmp_path / "rank0_ascend_ms" / OUTPUT


def test_of_a_rank_without_a_trace_the_table_of_steps_is_shown_and_the_rest_unknown(job, tmp_path):
    (job / "trace_view.json").unlink()
    told = json.loads(analysed(tmp_path, "--json").stdout)
    assert told["typical"] != 0
    assert told["verdict"].startswith("A step takes 100.0 ms on 3 ranks: 60% computing")
    damaged, whole, _ = told["ranks"]
    # Of each step 60 ms compute, and 10 of the 20 ms of its all-reduce are exposed.
    assert (damaged["median"]["computing"], damaged["median"]["late"]) == (60 * MS, 10 * MS)
    assert damaged["median"]["transfer"] is None
    assert damaged["median"]["data"] is None
    assert whole["median"]["transfer"] == 10 * MS
    # The clocks of the others are compared all the same.
    known = {clock["rank"]: clock["collectives"] for clock in told["clocks"]}
    assert known == {0: 0, 1: 3, 2: 3}
    assert "unknown" in analysed(tmp_path).stdout
    assert "not aligned, 0 collectives in common with rank 1" in analysed(tmp_path).stdout
    out = tmp_path / "csv"
    analysed(tmp_path, "--csv", str(out))
    row = dict(zip(*(x.split(",") for x in (out / "steps.csv").read_text().split()[:2]),
                   strict=True))  # fmt: skip
    assert (row["rank"], row["transfer_us"], row["late_us"]) == ("0", "", "10000.0")


def test_without_any_other_file_the_rows_of_collectives_among_the_kernels_tell_them(tmp_path):
    rows = [(0, "a", "Conv2D", "AI_CORE", 0, 30 * MS, "1", "FLOAT16"),
            (0, "hcom_allReduce_1", "hcom_allReduce_", "HCCL", 20 * MS, 60 * MS, "", ""),
            (0, "b", "Conv2D", "AI_CORE", 70 * MS, 100 * MS, "1", "FLOAT16")]  # fmt: skip
    folder = tmp_path / "rank0_ascend_ms"
    write_text_folder(folder, profile_of(kernels=kernels_of(rows)))
    for name in ("trace_view.json", "step_trace_time.csv"):
        (folder / OUTPUT / name).unlink()
    [parts], unknown = parts_of(read_profiles(find_profiles([folder]))[0])
    assert (parts.computing_ns, parts.late_ns, parts.free_ns) == (60 * MS, 30 * MS, 10 * MS)
    assert parts.overlapped_ns == 10 * MS
    assert {"transfer", "waiting", "data", "preparing"} <= set(unknown)
    assert "late" not in unknown
    write_text_folder(folder, profile_of(kernels=kernels_of([rows[0], rows[2]])))
    for name in ("trace_view.json", "step_trace_time.csv"):
        (folder / OUTPUT / name).unlink()
    _, unknown = parts_of(read_profiles(find_profiles([folder]))[0])
    assert {"late", "overlapped"} <= set(unknown)


def cut_after(path, mark, *, times=1):
    """The file up to the so many-th time that a text comes."""
    text = path.read_text()
    place = -1
    for _ in range(times):
        place = text.index(mark, place + 1)
    path.write_text(text[:place])


def in_order_of_time(path):
    """As profilers of cards write them, with the host's marks before all others."""
    events = json.loads(path.read_text())
    path.write_text(json.dumps(sorted(
        events, key=lambda e: (e["ph"] != "M", not e["name"].startswith("Pro"), e.get("ts", "")),
    )))  # fmt: skip


def test_of_a_trace_that_ends_in_a_step_the_steps_before_it_are_shown(job, tmp_path):
    in_order_of_time(job / "trace_view.json")
    # The second kernel of the last of three steps.
    cut_after(job / "trace_view.json", "down_1/ReLU-op1", times=3)
    done = analysed(tmp_path)
    assert done.exit_code == 1
    assert "missing: rank 0: the trace ends: steps from 2 on are left out" in done.stdout
    [profile] = read_profiles(find_profiles([job]))
    parts, unknown = parts_of(profile)
    assert [(one.step, one.computing_ns, one.transfer_ns) for one in parts] == [
        (0, 60 * MS, 10 * MS), (1, 60 * MS, 10 * MS),
    ]  # fmt: skip
    assert unknown == ()
    merge = ["profile", "timeline", str(tmp_path), "-o", str(tmp_path / "m.json")]
    merged = CliRunner().invoke(app, merge)
    assert merged.exit_code == 1
    assert "rank 0: trace_view.json ends or is damaged" in merged.stdout


def test_of_a_trace_that_ends_in_the_first_step_the_table_of_steps_is_shown(job):
    in_order_of_time(job / "trace_view.json")
    cut_after(job / "trace_view.json", "down_2/Conv2DBackpropFilter", times=1)
    [profile] = read_profiles(find_profiles([job]))
    assert "the trace ends within step 0: the table of steps is shown" in profile.missing
    parts, unknown = parts_of(profile)
    assert [(one.computing_ns, one.late_ns) for one in parts] == [(60 * MS, 10 * MS)] * 3
    assert "waiting" in unknown
    (job / "step_trace_time.csv").unlink()
    [profile] = read_profiles(find_profiles([job]))
    # Waiting for input and preparing take 15 ms, two kernels 40, and 5 ms lie between them.
    assert "the trace ends 60.00 ms into step 0, which is shown up to there" in profile.missing
    [parts], _ = parts_of(profile)
    assert (parts.step_ns, parts.computing_ns, parts.data_ns) == (60 * MS, 40 * MS, 10 * MS)
    assert (parts.idle_ns, parts.unattributed_ns) == (10 * MS, 0)


def test_of_a_trace_track_by_track_no_step_is_whole_without_its_last_track(job):
    """All kernels stand before the first collective, so none of these was read."""
    cut_after(job / "trace_view.json", '"hcom_allReduce_0"')
    [profile] = read_profiles(find_profiles([job]))
    parts, unknown = parts_of(profile)
    assert [one.late_ns for one in parts] == [10 * MS] * 3  # by the table of steps
    assert "transfer" in unknown


@pytest.mark.parametrize("content", ["", '{"a": [1,2', "[\n"])
@pytest.mark.parametrize(
    "name",
    ["kernel_details.csv", "step_trace_time.csv", "memory_record.csv", "profiler_info_0.json"],
)
def test_what_is_empty_or_another_file_is_told(job, tmp_path, name, content):
    path = job.parent / name if name.startswith("profiler_info") else job / name
    assert path.exists()
    path.write_text(content)
    done = analysed(tmp_path)
    assert done.exit_code == 1
    assert name in next(line for line in done.stdout.splitlines() if line.startswith("missing"))


def test_a_trace_of_nothing_is_told_without_a_traceback(tmp_path):
    (tmp_path / "x.json").write_text("[\n")
    done = analysed(tmp_path / "x.json")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "Nothing is known of a step" in done.stdout


def test_damage_is_told_where_profiles_are_compared_and_fails_a_limit(job, tmp_path):
    (job / "memory_record.csv").write_text("")
    folder = str(job)
    done = CliRunner().invoke(app, ["profile", "compare", folder, folder])
    assert done.exit_code == 1
    assert "missing: A: rank 0: memory_record.csv: is empty" in done.stdout
    done = CliRunner().invoke(app, ["profile", "compare", folder, folder, "--fail-above", "3%"])
    assert "cannot be judged: A: rank 0: memory_record.csv: is empty" in str(done.exception)


def test_what_a_whole_profile_does_not_hold_is_no_damage(job, tmp_path):
    for path in tmp_path.glob("*/*/memory_record.csv"):
        path.unlink()
    done = analysed(tmp_path)
    assert done.exit_code == 0
    assert "not told: ranks 0, 1, 2: no memory_record.csv" in done.stdout
    assert "missing:" not in done.stdout
    (job / "memory_record.csv").write_bytes(b"\0")
    (job / "communication.json").write_text('{"step": {')
    done = analysed(tmp_path)
    assert done.exit_code == 1
    told = "rank 0: communication.json: is no whole JSON: it ends or is damaged in line 1"
    assert told in done.stdout
    assert "JSONDecodeError" not in done.stdout


def test_a_table_of_kernels_that_was_cut_speaks_for_no_job(job, tmp_path):
    rows = (job / "kernel_details.csv").read_text().splitlines(keepends=True)
    (job / "kernel_details.csv").write_text("".join(rows[:6]))  # between two rows
    told = json.loads(analysed(tmp_path, "--json").stdout)
    assert told["typical"] != 0
    # Of nine kernels of 20 ms four are gone.
    assert "ends in step 1 after 5 kernels, 80.00 ms of computing" in told["ranks"][0]["missing"][0]


def test_a_database_that_is_gone_is_named(tmp_path):
    output = tmp_path / "rank0_ascend_ms" / OUTPUT
    output.mkdir(parents=True)
    columns = "computing, communication_not_overlapped, overlapped, communication, free, bubble"
    with sqlite3.connect(output / "analysis.db") as db:
        db.execute(f"create table StepTraceTime (step, {columns}, preparing)")
        db.execute("insert into StepTraceTime values ('7', 60, 20, 10, 30, 15, 0, 5)")
    done = analysed(tmp_path)
    assert done.exit_code == 1
    assert "ascend_*_profiler_RANK.db: is gone" in done.stdout
    assert "A step takes 0.1 ms" in done.stdout  # 60 + 20 + 15 + 5 us
