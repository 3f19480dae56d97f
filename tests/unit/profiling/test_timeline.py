import io
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from tests.unit.profiling.made import MS, profile_of
from unet_dist.cli import app
from unet_dist.errors import UserError
from unet_dist.profiling.clocks import align
from unet_dist.profiling.load import find_profiles, read_profiles
from unet_dist.profiling.timeline import merge_traces
from unet_dist.profiling.write import write_text_folder

S = 1000 * MS


@pytest.fixture
def profiles(tmp_path):
    """Rank 1's clock is ten seconds ahead."""
    for rank in range(2):
        made = profile_of(rank, steps=5, offset_ns=10 * S * rank, simulated=False)
        write_text_folder(tmp_path / f"r{rank}_ascend_ms", made)
    return read_profiles(find_profiles([tmp_path]))


def merged(profiles):
    out = io.StringIO()
    told = merge_traces(profiles, align(profiles), out)
    return told, json.loads(out.getvalue())


def test_ranks_stand_beside_each_other_by_one_clock(profiles):
    told, events = merged(profiles)
    assert told.ranks == (0, 1)
    assert told.events == len(events)
    names = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    assert "rank 0: MindSpore" in names.values()
    assert "rank 1: MindSpore" in names.values()
    begins = {rank: [] for rank in range(2)}
    for event in events:
        if event["name"].startswith("hcom_allReduce") and event["ph"] == "X":
            begins[event["pid"] // 1000].append(event["ts"])
    assert len(begins[0]) == 5
    assert begins[0] == pytest.approx(begins[1], abs=1)
    steps = [e for e in events if e["name"] == "ProfilerStep#0"]
    assert [e["ts"] for e in steps] == pytest.approx([0, 0], abs=1)
    assert steps[0]["dur"] == 100_000


def test_a_cut_trace_is_merged_as_far_as_it_goes(profiles, tmp_path):
    path = tmp_path / "r1_ascend_ms/ASCEND_PROFILER_OUTPUT/trace_view.json"
    path.write_bytes(path.read_bytes()[:-300])
    told, events = merged(profiles)
    assert told.ranks == (0, 1)
    assert any("ends or is damaged" in line for line in told.left_out)
    assert len(events) > 50


def test_the_command_writes_one_file(profiles, tmp_path):
    out = tmp_path / "merged.json"
    done = CliRunner().invoke(app, ["profile", "timeline", str(tmp_path), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())
    assert not list(tmp_path.glob(".*.part"))


def test_a_database_has_a_timeline_too(tmp_path):
    """Kernels and collectives of its tables, at the moments of the others' clock."""
    made = profile_of(source=str(tmp_path / "no trace"))
    out = io.StringIO()
    merged = merge_traces([made], align([made]), out)
    assert merged.left_out == ("rank 0: from its tables, without the host's calls",)
    events = json.loads(out.getvalue())
    assert merged.events == len(events)
    kernels = [e for e in events if e["ph"] == "X" and e["name"].endswith("Conv2D-op0")]
    # In steps of 100 ms, after 15 ms of waiting and preparing (see profile_of).
    assert [(e["ts"], e["dur"]) for e in kernels] == [
        (15_000, 20_000), (115_000, 20_000), (215_000, 20_000),
    ]  # fmt: skip
    nothing = replace(made, kernels=None, collectives=())
    with pytest.raises(UserError, match="rank 0: has no trace"):
        merge_traces([nothing], align([nothing]), io.StringIO())


def test_the_folder_of_the_file_is_made_and_a_fault_names_the_users_file(tmp_path):
    write_text_folder(tmp_path / "r0_ascend_ms", profile_of())
    command = ["profile", "timeline", str(tmp_path / "r0_ascend_ms"), "-o"]
    done = CliRunner().invoke(app, [*command, str(tmp_path / "new/x.json")])
    assert done.exit_code == 0, done.exception
    assert len(json.loads((tmp_path / "new/x.json").read_text())) > 10
    long = tmp_path / ("x" * 250 + ".json")  # which leaves no room for a name beside it
    done = CliRunner().invoke(app, [*command, str(long)])
    assert done.exception.filename == str(long)
