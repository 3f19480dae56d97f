"""What a prediction says of itself, and what it refuses."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from tests.unit.profiling.made import profile_of
from unet_dist.cli import app
from unet_dist.profiling import analysis
from unet_dist.profiling.intervals import NOTHING
from unet_dist.profiling.write import write_text_folder
from unet_dist.records import RecordWriter
from unet_dist.runs import RunDir


def scaled(*command):
    return CliRunner().invoke(app, ["profile", "scale", *map(str, command)])


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: {root: images}\ntrain: {batch: 16}\naugment: {crop: 256}\n")
    return path


def profiled(folder, **changes):
    """Two ranks, whose steps of 100 ms compute for 60 and wait for each other for 10."""
    for rank in range(2):
        made = profile_of(rank, transferring=NOTHING, **changes)
        made = replace(made, awaiting=made.communicating)
        write_text_folder(folder / f"rank_00{rank}_ascend_ms", made)


def test_a_prediction_of_simulated_ranks_says_so_and_shows_the_measured_step(tmp_path, config):
    run = RunDir(tmp_path)
    with RecordWriter(run.records(0), resume_step=0) as records:
        records.write("start", step=0, images_per_rank=4)
    profiled(run.profile(5))
    done = scaled(run.profiles, "--cards", "8", "--topology", "910A")
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()[:2]
    assert first.startswith("Simulated ranks share one CPU")
    assert "Nothing here is a speed of cards" in first
    assert second.startswith("On 2 ranks a step was measured with 100.00 ms and is predicted with")
    assert "10.00 ms (10%) are waiting for other ranks" in second
    # 60 ms of computing and 30 of waiting for input and the host; sending is nominal and short.
    assert 90 <= float(second.split("predicted with ")[1].split(":")[0]) < 92
    [told] = json.loads(scaled(run.profiles, "--cards", "8", "--json").stdout)
    assert told["simulated"] is True
    assert told["notes"][1].startswith("On 2 ranks a step was measured with 100.00 ms")
    assert "nothing here is a speed of cards" in analysed(run.profiles)


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_a_profile_is_judged_by_the_precision_of_its_run(tmp_path, config, amp, monkeypatch):
    run, asked, seen_of = RunDir(tmp_path), [], analysis._seen
    config.write_text(f"train: {{amp: '{amp}'}}\n")
    with RecordWriter(run.records(0), resume_step=0) as records:
        records.write("start", step=0, images_per_rank=4)
    profiled(run.profile(5))

    def seen(*values):
        asked.append(values[-1])
        return seen_of(*values)

    monkeypatch.setattr(analysis, "_seen", seen)
    analysed(run.profiles)
    assert asked == [amp]


def analysed(folder):
    done = CliRunner().invoke(app, ["profile", "analyze", str(folder)])
    return done.stdout.splitlines()[1]


def test_a_prediction_from_shapes_is_called_a_lower_bound(config):
    assert scaled(config, "--cards", "1").stdout.startswith("A lower bound, from shapes alone")
    [told] = json.loads(scaled(config, "--cards", "1", "--json").stdout)
    assert "The host's launches of kernels" in told["notes"][0]
    assert told["simulated"] is False


def test_a_batch_that_does_not_divide_is_refused_and_no_table_is_empty(config):
    refused = scaled(config, "--cards", "64,3", "--batch", "11").exception
    assert refused.faults == (
        "11 images do not divide over 64 cards", "11 images do not divide over 3 cards",
    )  # fmt: skip
    some = scaled(config, "--cards", "11,64", "--batch", "11")
    assert some.exit_code == 0
    assert "11 images do not divide over 64 cards" in some.stdout
    assert "11 cards: train.batch=11" in some.stdout
    # Even in strips of a card each an image is too large.
    config.write_text(config.read_text().replace("256", "4096"))
    tight = scaled(config, "--cards", "16", "--batch", "2", "--memory-gb", "0.1").exception
    assert "2 images over 16 cards fit into 0.1 GB in no way" in str(tight)


def test_of_a_profile_without_a_run_the_batch_is_told_by_hand(tmp_path):
    calls = [replace(one, sent_bytes=1_500_000) for one in profile_of().collectives]
    profiled(tmp_path, collectives=tuple(calls), simulated=False, awaiting=NOTHING)
    text = "".join(path.read_text() for path in tmp_path.glob("*/*/communication.json"))
    assert "1.5" in text
    for path in tmp_path.glob("*/*/trace_view.json"):  # communication.json tells what was sent
        path.write_text(path.read_text().replace("transport type", "transport"))
    assert "say it with --batch" in str(scaled(tmp_path).exception)
    done = scaled(tmp_path, "--batch", "8", "--cards", "2,4")
    assert done.exit_code == 0, done.output
    # Of two ranks each sends as much as the gradients are large.
    assert "4 images a card as --batch says; 1.5 MB of gradients" in done.stdout
    told = json.loads(scaled(tmp_path, "--batch", "8", "--cards", "2,4", "--json").stdout)
    assert [one["plain"]["split"]["images"] for one in told] == [4, 4]
    assert told[0]["plain"]["computing_s"] == pytest.approx(0.060)
    odd = scaled(tmp_path, "--batch", "7").exception
    assert odd.faults == ("7 images do not divide over the profile's 2 cards",)
