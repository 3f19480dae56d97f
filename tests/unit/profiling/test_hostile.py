"""Profiles that somebody made to harm: none may hang, fill the memory, or end in a traceback."""

import gzip
import json
import sqlite3

import pytest
from typer.testing import CliRunner

from tests.unit.profiling.made import BEGIN, profile_of
from unet_dist.cli import app
from unet_dist.errors import UserError
from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.load import find_profiles, read_profiles
from unet_dist.profiling.moments import ns_of_us
from unet_dist.profiling.steps import told_parts
from unet_dist.profiling.texts import Codes
from unet_dist.profiling.trace import read_trace
from unet_dist.profiling.write import write_text_folder

US = BEGIN // 1000


def event(**settings):
    return {"ph": "X", "pid": 1, "tid": 2, "name": "work", "ts": US, "dur": 1, **settings}


def read(*paths):
    return read_profiles(find_profiles(paths))


@pytest.mark.parametrize(
    "text",
    ["1e999999999", "-1e999999999", "9" * 5000, "1e30", 10**30, 1e300, "NaN", "sNaN", "Infinity",
     float("inf"), "\u00b2", True],
)  # fmt: skip
def test_what_no_clock_shows_is_no_moment(text):
    assert ns_of_us(text) is None


def test_moments_far_beyond_int64_leave_the_others(tmp_path):
    wrong = [event(ts="1e999999999"), event(dur="1e400"), event(ts=9 * 10**15, dur=9 * 10**15),
             event(dur=-5), event(name="ProfilerStep#" + "9" * 900),
             event(name="ProfilerStep#99999999999999999999")]  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps([*wrong, event()]))
    [profile] = read(tmp_path / "t.json")
    [track] = read_trace(tmp_path / "t.json").tracks
    assert track.time_ns.tolist() == [[US * 1000, US * 1000 + 1000]] * 3
    assert profile.steps == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"ph": "X", "ts": 1, "args": ' + "[" * 30_000, "brackets are opened"),
        ('{"ph": "X", "ts": 1, "args": ' + '{"k": [' * 30_000, "brackets are opened"),
        ('{"ph": "X", "ts": 1, "args": ' + "[" * 9999 + "]" * 9999 + "}]", "brackets are opened"),
        ('{"name": "' + "n" * 5_000_000, "MiB without an event"),
        ('{"ts": NaN}]', "ends or is damaged in the middle"),
        ('{"ts": ' + "9" * 5000 + "}]", "ends or is damaged in the middle"),
    ],
    ids=["deep", "deeper", "closed", "long", "nan", "integer"],
)
def test_a_trace_that_would_fill_the_memory_is_read_up_to_there(tmp_path, text, message):
    path = tmp_path / "t.json.gz"  # few bytes unpack to many
    path.write_bytes(gzip.compress(("[" + json.dumps(event()) + "," + text).encode(), 1))
    found = read_trace(path)
    assert len(found.tracks) == 1
    assert message in found.fault


def test_a_damaged_archive_is_a_fault_and_no_traceback(tmp_path):
    content = bytearray(gzip.compress(json.dumps([event(ts=n) for n in range(9999)]).encode()))
    content[200:210] = b"\xff" * 10
    (tmp_path / "t.json.gz").write_bytes(content)
    assert "damaged in the middle" in read_trace(tmp_path / "t.json.gz").fault


def test_of_too_many_events_tracks_and_pieces_the_first_are_read_and_it_is_told(
    tmp_path, monkeypatch
):
    piece = {"transport type": "SDMA"}
    events = [event(ts=US + n, tid=n % 7, args=piece) for n in range(40)]
    (tmp_path / "t.json").write_text(json.dumps(events))
    monkeypatch.setattr("unet_dist.profiling.trace.MOST_EVENTS", 20)
    monkeypatch.setattr("unet_dist.profiling.trace.MOST_TRACKS", 5)
    monkeypatch.setattr("unet_dist.profiling.trace.MOST_TASKS", 6)
    found = read_trace(tmp_path / "t.json")
    assert (len(found.tracks), len(found.tasks)) == (5, 6)
    assert sum(len(track.name) for track in found.tracks) == 20
    for what in ("first 20 events", "first 5 tracks", "first 6 pieces"):
        assert what in found.fault


def test_texts_are_one_line_and_not_endless(monkeypatch):
    codes = Codes()
    long = "x" * 1_000_000
    assert [codes(text) for text in ("a\x1b[31m\nb", long, long, "\ud800", "x")] == [0, 1, 1, 2, 3]
    assert codes.texts == ("a?[31m?b", "x" * (1 << 16), "?", "x")
    monkeypatch.setattr("unet_dist.profiling.texts.MOST_CHARACTERS", 100_000)
    assert [codes(text) for text in ("y" * 60_000, "z" * 60_000, "x")] == [4, 4, 3]
    assert codes.texts[4] == "other"


@pytest.fixture
def folder(tmp_path):
    write_text_folder(tmp_path / "rank0_ascend_ms", profile_of())
    return tmp_path / "rank0_ascend_ms"


DEEP = '{"a":' * 200_000
COLLECTIVE = '{"step1": {"collective": {"hcom_allReduce_0@g": %s}}}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("communication.json", DEEP),
        ("communication.json", COLLECTIVE % "{}"),
        ("communication.json", COLLECTIVE % '{"Communication Time Info": {"Transit Time(ms)": NaN, '
         '"Wait Time(ms)": 1}, "Communication Bandwidth Info": {}}'),
        ("communication_matrix.json", '{"s": {"c": {"a-total@g": {"0-1": {"Transport Type": '
         '"\\ud800", "Transit Size(MB)": 1, "Transit Time(ms)": 1}}}}}'),
        ("kernel_details.csv", "Name,Type,Start Time(us),Duration(us)\n[/b]\x1b,[/b],1,1e999999\n"
         "[red],[/b],1,1\n"),
        ("step_trace_time.csv", "Step,Computing\n" + "9" * 5000 + ",1\n"),
        ("memory_record.csv", "Component,Timestamp(us),Total Allocated(MB)\nPTA,1,5\nPTA,2,inf\n"),
        ("../profiler_info_0.json", '{"world": "many", "host": [], "ms_profiler_info": []}'),
    ],
    ids=["deep", "empty", "nan", "surrogate", "markup", "step", "memory", "info"],
)  # fmt: skip
def test_a_hostile_file_spoils_neither_the_answer_nor_the_page(folder, tmp_path, name, text):
    trace = folder / OUTPUT / "trace_view.json"
    # Without pieces of collectives, so that communication.json is asked.
    trace.write_text(trace.read_text().replace("transport type", "transport"))
    (folder / OUTPUT / name).write_text(text)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(
        app, ["profile", "analyze", str(folder), "--html", str(page), "--csv", str(tmp_path / "c")]
    )
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (0, 1)
    assert "A step takes" in done.output
    assert "\x1b" not in page.read_text() + done.output


def test_a_line_without_an_end_is_no_table(folder, monkeypatch):
    monkeypatch.setattr("unet_dist.profiling.cells.LONGEST_CELL", 10_000)
    (folder / OUTPUT / "kernel_details.csv").write_text("Name,Start Time(us)\n" + "a" * 50_000)
    [found] = read(folder)
    assert any("more than 10,000 characters" in fault for fault in found.missing)


def database(folder, *statements):
    output = folder / OUTPUT
    output.mkdir(parents=True)
    with sqlite3.connect(output / "ascend_mindspore_profiler_0.db") as db:
        for statement in statements:
            db.execute(statement)
    return folder


def test_a_view_in_place_of_a_table_is_refused(tmp_path):
    endless = "create view STRING_IDS as with recursive n(id, value) as (select 1, 'a' union all " \
        "select id + 1, 'a' from n) select * from n"  # fmt: skip
    with pytest.raises(UserError, match="has a view as STRING_IDS, which no profiler writes"):
        read(database(tmp_path, endless))


def test_a_query_that_goes_on_and_on_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("unet_dist.profiling.sqlite_file.INSTRUCTIONS", 1000)
    monkeypatch.setattr("unet_dist.profiling.sqlite_file.MOST_CALLS", 20)
    rows = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) "
    folder = database(
        tmp_path,
        "create table STRING_IDS (id, value)",
        f"insert into STRING_IDS {rows} select i, 'text' from n",
        "create table STEP_TIME (id, startNs, endNs)",
        "insert into STEP_TIME values (1, 'no', x'00'), (2, 1e300, null)",
    )
    [found] = read(folder)
    assert any("no names (interrupted)" in fault for fault in found.missing)
    assert any("no steps" in fault for fault in found.missing)


def test_beside_a_database_that_was_cut_off_its_table_of_steps_is_read(tmp_path):
    folder = database(tmp_path, "create table STRING_IDS (id, value)")
    broken = folder / OUTPUT / "ascend_mindspore_profiler_0.db"
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(UserError, match="no SQLite file, or a damaged one"):
        read(folder)
    columns = "computing, communication_not_overlapped, overlapped, communication, free, bubble"
    with sqlite3.connect(folder / OUTPUT / "analysis.db") as db:
        db.execute(f"create table StepTraceTime (step, {columns}, preparing)")
        db.execute("insert into StepTraceTime values ('7', 60, 20, 10, 30, 15, 0, 5)")
    [found] = read(folder)
    [parts] = told_parts(found)
    assert (parts.step, parts.step_ns) == (7, 100_000)  # 60 + 20 + 15 + 5 us
    assert any("no SQLite file, or a damaged one" in fault for fault in found.missing)
