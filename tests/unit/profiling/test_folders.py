import csv
import gzip
import json
import shutil

import numpy as np
import pytest

from tests.unit.profiling.made import BEGIN, MS, profile_of
from unet_dist.errors import UserError
from unet_dist.profiling.ascend_text import OUTPUT
from unet_dist.profiling.load import choose_capture, find_profiles, read_profiles
from unet_dist.profiling.steps import step_parts
from unet_dist.profiling.trace import read_trace
from unet_dist.profiling.write import write_text_folder


def read(*paths):
    return read_profiles(find_profiles(paths))


@pytest.fixture
def folder(tmp_path):
    write_text_folder(tmp_path / "rank0_ascend_ms", profile_of())
    return tmp_path / "rank0_ascend_ms"


def test_what_was_written_is_read(tmp_path, folder):
    [found], made = read(tmp_path), profile_of()
    assert (found.rank, found.format, found.simulated) == (0, "ascend text", True)
    assert found.missing == ()
    assert found.steps == made.steps
    for name in ("computing", "communicating", "transferring", "awaiting", "data_waits"):
        assert np.array_equal(getattr(found, name), getattr(made, name)), name
    for name in ("time_ns", "step"):
        assert np.array_equal(getattr(found.kernels, name), getattr(made.kernels, name)), name
    for name in ("name", "type", "core", "shapes", "dtypes"):
        texts = [k.of(getattr(k, name)) for k in (found.kernels, made.kernels)]
        assert texts[0] == texts[1], name
    counters = found.kernels.counters["aic_mac_ratio"]
    assert np.array_equal(counters, made.kernels.counters["aic_mac_ratio"])
    assert [one.name for one in found.collectives] == [one.name for one in made.collectives]
    assert [one.transfer_ns for one in found.collectives] == [10 * MS] * 3
    assert [one.step for one in found.collectives] == [0, 1, 2]
    assert found.transfers == made.transfers
    assert np.array_equal(found.memory[0].allocated_mb, [10, 90, 50])
    assert step_parts(found) == step_parts(made)


def test_the_table_of_steps_says_what_the_timeline_says(folder):
    [found] = read(folder)
    for parts in step_parts(found):
        told = found.told_steps[parts.step]
        assert told["Computing"] * 1000 == parts.computing_ns
        assert told["Communication(Not Overlapped)"] * 1000 == parts.exposed_ns
        assert told["Overlapped"] * 1000 == parts.overlapped_ns
        assert told["Preparing"] * 1000 == parts.preparing_ns


def rewrite(path, change):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [change(row) for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_columns_of_other_versions_are_read_as_well(folder):
    [new] = read(folder)

    def older(row):
        row["Block Dim"] = row.pop("Block Num")
        row["Device_id"] = "0"
        return row

    rewrite(folder / OUTPUT / "kernel_details.csv", older)
    [old] = read(folder)
    assert np.array_equal(old.kernels.time_ns, new.kernels.time_ns)

    def level_0(row):
        for name in ("Type", "Accelerator Core", "Input Shapes"):
            row[name] = "N/A"
        del row["Step Id"], row["aic_mac_ratio"]
        return row

    rewrite(folder / OUTPUT / "kernel_details.csv", level_0)
    [bare] = read(folder)
    assert np.array_equal(bare.kernels.time_ns, new.kernels.time_ns)
    assert bare.kernels.of(bare.kernels.type) == bare.kernels.of(bare.kernels.name)
    assert bare.kernels.counters == {}
    assert np.array_equal(bare.kernels.step, new.kernels.step)


def test_a_torn_last_row_is_left_out_and_told(folder):
    path = folder / OUTPUT / "kernel_details.csv"
    path.write_text(path.read_text()[:-40])
    [found] = read(folder)
    assert len(found.kernels) == 8
    # Its kernel took 20 ms.
    assert found.missing == (
        "kernel_details.csv: 1 row is torn off or without a time",
        "kernel_details.csv: ends in step 2 after 8 kernels, 20.00 ms of computing before the "
        "trace does: counts and times of kernels are too low from there on",
    )


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_of_a_trace_that_was_cut_off_the_begin_is_read(folder, share):
    path = folder / OUTPUT / "trace_view.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    [found] = read(folder)
    assert any("ends or is damaged in the middle" in fault for fault in found.missing)
    assert found.kernels is not None
    assert len(found.kernels) == 9


@pytest.mark.parametrize(
    "name", ["trace_view.json", "kernel_details.csv", "communication.json", "memory_record.csv",
             "communication_matrix.json", "step_trace_time.csv"],
)  # fmt: skip
@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe" * 100, b'{"a": [1, {"b": null}]}', b"[[["]
)
def test_a_damaged_file_spoils_no_other(folder, name, content):
    (folder / OUTPUT / name).write_bytes(content)
    [found] = read(folder)
    assert found.rank == 0
    if name != "kernel_details.csv":
        assert len(found.kernels) == 9


def test_more_kernels_than_memory_holds_are_cut_off_and_told(folder, monkeypatch):
    monkeypatch.setattr("unet_dist.profiling.cells.MOST_ROWS", 4)
    [found] = read(folder)
    assert len(found.kernels) == 4
    assert any("only the first 4 rows are read" in fault for fault in found.missing)


def test_without_a_table_of_kernels_the_timeline_tells_them(folder):
    (folder / OUTPUT / "kernel_details.csv").unlink()
    [found] = read(folder)
    assert len(found.kernels) == 9
    assert found.kernels.of(found.kernels.type)[0] == "Conv2D"
    assert found.kernels.step.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_missing_files_are_named_with_what_cannot_be_told(folder):
    for name in ("trace_view.json", "kernel_details.csv", "memory_record.csv"):
        (folder / OUTPUT / name).unlink()
    [found] = read(folder)
    assert found.missing[0] == "no trace_view.json: no timeline"
    assert "no kernel_details.csv: no shapes or counters of kernels" in found.missing
    assert any("nothing is said of memory" in fault for fault in found.untold)
    assert found.told_steps[0]["Computing"] == 60_000


def test_ranks_are_ordered_and_two_captures_of_one_are_told(tmp_path):
    for rank in (2, 0, 10):
        write_text_folder(tmp_path / f"r{rank}_ascend_ms", profile_of(rank))
    shutil.copytree(tmp_path / "r2_ascend_ms", tmp_path / "again_ascend_ms")
    found = read(tmp_path)
    assert [one.rank for one in found] == [0, 2, 10]
    assert any("is of rank 2 too, and left out" in fault for fault in found[1].missing)


def test_files_are_found_wherever_a_person_points(tmp_path, folder):
    output = folder / OUTPUT
    for named in (output, output / "kernel_details.csv", folder):
        [found] = read(named)
        assert (found.rank, len(found.kernels)) == (0, 9)
        assert found.source == str(folder)
    shutil.copytree(output, tmp_path / "copied")
    [found] = read(tmp_path / "copied")
    assert (found.format, len(found.kernels)) == ("ascend text", 9)


def test_on_the_cpu_the_rank_is_told_by_the_framework_files(folder):
    (folder / "profiler_info_0.json").unlink()
    (folder / "FRAMEWORK").mkdir()
    (folder / "FRAMEWORK/cpu_framework_5.txt").touch()
    [found] = read(folder)
    assert found.rank == 5


def test_nothing_to_read_is_a_fault_that_says_what_is_looked_for(tmp_path):
    with pytest.raises(UserError, match="no profile is below"):
        find_profiles([tmp_path])
    with pytest.raises(UserError, match="no such file or folder"):
        find_profiles([tmp_path / "nowhere"])
    (tmp_path / "notes.txt").write_text("no JSON")
    with pytest.raises(UserError, match="neither a list nor an object"):
        read(tmp_path / "notes.txt")


def test_a_table_of_a_cluster_is_read_rank_by_rank(tmp_path):
    (tmp_path / "cluster_step_trace_time.csv").write_text(
        "Step,Type,Index,Computing,Communication(Not Overlapped),Free\n"
        ',rank,0,80.5,20,3\n,rank,1,81,10,4\n,stage,"(0, 1)",81,20,4\n'
    )
    found = read(tmp_path)
    assert [one.rank for one in found] == [0, 1]
    assert found[0].told_steps[-1]["Computing"] == 80.5


def event(**settings):
    return {"ph": "X", "pid": 1, "tid": 2, "name": "work", "dur": 1, **settings}


@pytest.mark.parametrize(
    "ts", [f"{BEGIN // 1000}.{BEGIN % 1000}", f"{BEGIN // 1000}.{BEGIN % 1000}\t"]
)
def test_a_trace_may_be_a_list_an_object_or_packed(tmp_path, ts):
    events = [event(ts=ts), {"ph": "C", "ts": "1", "name": "counter"}, "no event", event()]
    texts = {
        "a.json": json.dumps(events),
        "b.json": json.dumps({"displayTimeUnit": "ns", "traceEvents": events}),
        "d.json": json.dumps(events).replace(f'"{ts}"'.replace("\t", "\\t"), ts.strip()),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(texts["a.json"].encode()))
    for path in sorted(tmp_path.iterdir()):
        [track] = read_trace(path).tracks
        assert track.time_ns.tolist() == [[BEGIN, BEGIN + 1000]], path.name
        assert track.texts() == ["work"]


def test_events_that_are_none_are_left_out_and_told(tmp_path):
    wrong = [
        event(ts=1, pid=[1]),
        event(ts=1, args={"transport type": "SDMA", "size(Byte)": "much"}),
        {"ph": "M", "name": "thread_name", "pid": {}, "tid": 0},
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps([*wrong, event(ts=5)]))
    found = read_trace(tmp_path / "a.json")
    assert [5000, 6000] in found.tracks[0].time_ns.tolist()
    assert found.fault == "a.json: 3 events are none, and left out"


def test_names_without_end_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("unet_dist.profiling.texts.MOST_TEXTS", 10)
    (tmp_path / "a.json").write_text(
        json.dumps([event(ts=number, name=f"name {number}") for number in range(100)])
    )
    [track] = read_trace(tmp_path / "a.json").tracks
    assert len(track.names) == 10
    assert track.texts()[-1] == "other"
    assert len(track.name) == 100


def test_a_launch_of_a_known_kernel_is_no_compiling(tmp_path):
    name = "AscendCL@aclopCompileAndExecuteV2"
    events = [event(ts=1000 * n, name=name, dur=dur) for n, dur in enumerate((90, 30_000, 110))]
    (tmp_path / "a.json").write_text(json.dumps(events))
    [found] = read(tmp_path / "a.json")
    assert found.compiling.tolist() == [[1 * MS, 31 * MS]]


def test_packed_kernels_tell_the_same_in_fewer_bytes():
    kernels = profile_of().kernels
    packed = kernels.packed()
    assert packed.step.tolist() == kernels.step.tolist()
    for name in ("name", "type", "core", "shapes", "dtypes"):
        assert packed.of(getattr(packed, name)) == kernels.of(getattr(kernels, name))
        assert getattr(packed, name).itemsize == 2


def test_of_several_captures_the_newest_is_read_and_none_mixed(tmp_path):
    """Rank 1 takes no part in the newest one, and must not be read from the one before."""
    for step, ranks in ((2, (0, 1)), (19, (0, 1)), (1000103, (0,))):
        for rank in ranks:
            # MindSpore's profiler of cards writes a folder of its own within the rank's.
            place = tmp_path / f"step_{step:06d}" / f"rank_{rank:03d}_ascend_ms" / "m_ascend_ms"
            write_text_folder(place, profile_of(rank, steps=step % 100))
    [profile] = read(tmp_path)
    assert (profile.rank, len(profile.steps), profile.missing) == (0, 3, ())
    note = choose_capture([tmp_path]).note
    assert note.startswith(f"of 3 captures the newest is read, {tmp_path / 'step_1000103'};")
    assert note.endswith(f"{tmp_path / 'step_000002'}, {tmp_path / 'step_000019'}")
    assert choose_capture([tmp_path / "step_000019"]).note == ""
    assert [one.rank for one in read(tmp_path / "step_000019")] == [0, 1]


def test_a_capture_of_several_servers_is_one(tmp_path):
    for rank in (0, 1):
        write_text_folder(tmp_path / f"node{rank}/step_000020/r_ascend_ms", profile_of(rank))
    assert [one.rank for one in read(tmp_path)] == [0, 1]
    assert choose_capture([tmp_path / "node0", tmp_path / "node1"]).note == ""
