import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.unit.profiling.made import BEGIN, MS, profile_of
from unet_dist.cli import app
from unet_dist.config import AugmentConfig, Config
from unet_dist.profiling.intervals import NOTHING
from unet_dist.profiling.model_costs import costs_of
from unet_dist.profiling.scaling import (
    TOPOLOGIES,
    LinkModel,
    Split,
    Topology,
    Workload,
    all_reduce_s,
    best_buckets,
    best_split,
    fitted_link,
    predict,
    splits_of,
)
from unet_dist.profiling.tables import Collective
from unet_dist.profiling.workload import link_between, with_link
from unet_dist.profiling.write import write_text_folder
from unet_dist.records import RecordWriter
from unet_dist.runs import RunDir

FREE = LinkModel(alpha_s=0.0, bytes_per_s=math.inf)
FLAT = Topology(
    name="one switch", group=4096, inside=LinkModel(alpha_s=1e-5, bytes_per_s=1e10), between=FREE
)
WORK = Workload(
    fixed_s=0.002, image_s=0.005, other_s=0.001, gradient_bytes=2e6, hidden=0.0, state_bytes=8e6,
    image_bytes=1e8,
)  # fmt: skip


def test_nothing_to_send_takes_no_time():
    for topology in TOPOLOGIES.values():
        assert all_reduce_s(0, 64, topology) == (0, "none")
        assert all_reduce_s(1e9, 1, topology) == (0, "none")


def test_limits_are_exact():
    latency = Topology(
        name="", group=8, inside=LinkModel(alpha_s=1e-5, bytes_per_s=math.inf), between=FREE
    )
    # Of an infinite bandwidth the messages are left: 2 log2(8) of them.
    assert all_reduce_s(1e9, 8, latency) == (pytest.approx(6e-5), "halving-doubling")
    bandwidth = Topology(
        name="", group=8, inside=LinkModel(alpha_s=0, bytes_per_s=1e9), between=FREE
    )
    assert all_reduce_s(1e9, 8, bandwidth)[0] == pytest.approx(2 * 7 / 8)


def test_groups_with_slow_links_between_them_are_used_as_groups():
    topology = TOPOLOGIES["910A"]
    seconds, algorithm = all_reduce_s(4e8, 64, topology)
    assert algorithm == "hierarchical"
    flat = Topology(name="", group=64, inside=topology.between, between=FREE)
    assert seconds < all_reduce_s(4e8, 64, flat)[0]


@given(st.floats(1, 1e10), st.integers(1, 4096), st.sampled_from(sorted(TOPOLOGIES)))
def test_more_data_never_takes_less_time(size, cards, name):
    topology = TOPOLOGIES[name]
    assert all_reduce_s(size, cards, topology)[0] <= all_reduce_s(2 * size, cards, topology)[0]


@given(st.floats(1, 1e10), st.integers(0, 11))
def test_twice_the_cards_never_take_less_time_for_the_same_data(size, power):
    few, many = (all_reduce_s(size, 2**p, FLAT)[0] for p in (power, power + 1))
    assert few <= many


def test_a_step_is_the_sum_of_what_is_exposed():
    one = predict(WORK, Split(cards=1, images=4), FLAT)
    assert one.step_s == pytest.approx(0.002 + 4 * 0.005 + 0.001)
    assert (one.efficiency, one.communication_s) == (1, 0)
    eight = predict(WORK, Split(cards=8, images=4), FLAT)
    sent = all_reduce_s(2e6, 8, FLAT)[0]
    assert eight.step_s == pytest.approx(one.step_s + sent)
    hidden = predict(Workload(**{**vars(WORK), "hidden": 0.5}), Split(cards=8, images=4), FLAT)
    assert hidden.step_s == pytest.approx(one.step_s + sent / 2)
    assert eight.images_per_s == pytest.approx(32 / eight.step_s)


def test_accumulation_computes_several_times_and_sends_once():
    split = Split(cards=8, images=2, accumulation=2)
    assert split.batch == 32
    found = predict(WORK, split, FLAT)
    assert found.computing_s == pytest.approx(2 * (0.002 + 2 * 0.005))
    assert found.memory_bytes == 8e6 + 2e8


def test_splits_share_the_batch_evenly_or_not_at_all():
    assert splits_of(3, 32, 32) == []
    assert {(s.images, s.accumulation) for s in splits_of(8, 32, 32)} == {(4, 1), (2, 2), (1, 4)}
    assert all(split.batch == 32 for split in splits_of(8, 32, 32))


def test_the_best_split_is_the_fastest_that_fits():
    roomy = best_split(WORK, 8, 32, FLAT, memory_bytes=1e12)
    assert (roomy.split.images, roomy.split.accumulation, roomy.split.sharded) == (4, 1, False)
    tight = best_split(WORK, 8, 32, FLAT, memory_bytes=2.2e8)
    assert (tight.split.images, tight.split.accumulation) == (2, 2)
    assert best_split(WORK, 8, 32, FLAT, memory_bytes=1e7) is None
    # Only the optimiser's state is too large: it is divided.
    heavy = Workload(**{**vars(WORK), "state_bytes": 1e9})
    assert best_split(heavy, 8, 32, FLAT, memory_bytes=6e8).split.sharded


def test_a_link_is_fitted_from_transfers_one_of_which_is_off():
    sizes = [1e6, 2e6, 4e6, 8e6, 16e6]
    seconds = [2e-5 + size / 1e10 for size in sizes]
    seconds[2] *= 10
    link = fitted_link(sizes, seconds)
    assert link.bytes_per_s == pytest.approx(1e10, rel=0.05)
    assert link.alpha_s == pytest.approx(2e-5, rel=0.2)
    with pytest.raises(ValueError, match="one size alone"):
        fitted_link([1e6, 1e6], [1, 2])


def test_parts_of_gradients_hide_behind_the_backward_pass_until_latency_costs_more():
    number, exposed = best_buckets(4e8, 8, FLAT, backward_s=1.0)
    whole = all_reduce_s(4e8, 8, FLAT)[0]
    assert number > 1
    assert exposed < whole / 5
    assert best_buckets(4e8, 8, FLAT, backward_s=0.0) == (1, pytest.approx(whole))
    assert best_buckets(4e8, 1, FLAT, backward_s=1.0) == (1, 0)


def test_costs_of_a_network_are_those_of_its_convolutions():
    config = Config(
        model={"width": 16, "depth": 1}, augment={"crop": 64}, train={"batch": 8}, data={},
    )  # fmt: skip
    costs = costs_of(config)
    # 16 channels: two convolutions down, two up of which the first sees twice the channels, and
    # one that doubles the size; 32 channels: two.
    assert costs.parameters == 9 * (16**2 * 5.5 + 32**2 * 2)
    assert costs.forward_flop == 2 * 9 * (64**2 * 16**2 * 5.5 + 32**2 * 32**2 * 2)
    assert costs.step_flop == 3 * costs.forward_flop
    # Rows of 64 and of 32 places: inputs and outputs of four and of two convolutions.
    row = 64 * ((3 + 16) + (16 + 16) + (32 + 16) + (16 + 16)) + 32 * ((16 + 32) + (32 + 32))
    assert costs.halo_bytes == 2 * 4 * row
    assert costs.exchanges == 2 * 6
    assert costs.rows == 32
    twice = costs_of(config.model_copy(update={"augment": AugmentConfig(crop=128)}))
    assert twice.forward_flop == 4 * costs.forward_flop
    assert twice.parameters == costs.parameters


def test_gates_cost_two_small_convolutions_and_the_maps_they_keep():
    plain, gated = (
        costs_of(Config(model={"width": 16, "depth": 1, "attention": kind}, augment={"crop": 64}))
        for kind in ("none", "gate")
    )
    # 32 channels to 8, and 8 to one.
    weights = 32 * 8 + 8
    assert gated.parameters - plain.parameters == weights
    assert gated.forward_flop - plain.forward_flop == 2 * 64**2 * weights
    # Four maps of 8 channels; twice both joined, the number and its sigmoid, the weighted skip.
    values = 64**2 * (4 * 8 + 2 * (32 + 2 + 16))
    assert gated.activation_bytes - plain.activation_bytes == 4 * values
    assert (gated.halo_bytes, gated.exchanges) == (plain.halo_bytes, plain.exchanges)


CUT = Workload(**{**vars(WORK), "halo_bytes": 1e6, "exchanges": 20, "rows": 16})


def test_strips_divide_the_work_and_exchange_rows():
    one = predict(CUT, Split(cards=4, images=2), FLAT)
    assert one.exchange_s == 0
    # Two cards share two images; each has one neighbour, to which half of the bytes of a card
    # between two go. A norm sums over two cards in two messages.
    two = predict(CUT, Split(cards=4, images=2, strips=2), FLAT)
    assert two.split.batch == 4
    assert two.computing_s == pytest.approx(0.002 + 2 * 0.005 / 2)
    assert two.exchange_s == pytest.approx(2 * 1e6 / 2 / 1e10 + 20 * 1e-5 + 20 * 2 * 1e-5)
    assert two.memory_bytes == 8e6 + 2 * (1e8 / 2 + 1e6 / 4)
    four = predict(CUT, Split(cards=4, images=2, strips=4), FLAT)
    assert four.exchange_s == pytest.approx(2 * 1e6 / 1e10 + 2 * 20 * 1e-5 + 20 * 4 * 1e-5)
    assert four.step_s == pytest.approx(
        four.computing_s + four.communication_s + four.exchange_s + 0.001
    )


@given(st.integers(1, 4), st.integers(0, 3), st.integers(1, 4), st.sampled_from([1, 2, 7, 64]))
def test_without_bytes_or_with_perfect_links_only_computing_is_left(images, power, parts, buckets):
    split = Split(cards=8, images=images, accumulation=parts, strips=2**power, buckets=buckets)
    perfect = Topology(name="", group=8, inside=FREE, between=FREE)
    silent = Workload(**{**vars(CUT), "halo_bytes": 0.0, "gradient_bytes": 0.0})
    for workload, topology in ((CUT, perfect), (silent, FLAT)):
        found = predict(workload, split, topology)
        assert found.communication_s == found.exchange_s == 0
        assert found.step_s == found.computing_s + workload.other_s
        assert found.efficiency == 1


@given(st.floats(0, 1e9), st.integers(0, 4), st.integers(1, 8))
def test_more_strips_never_compute_longer_and_more_rows_never_travel_faster(halo, power, images):
    few, many = (
        predict(
            Workload(**{**vars(CUT), "halo_bytes": halo}),
            Split(cards=32, images=images, strips=2**p),
            FLAT,
        )
        for p in (power, power + 1)
    )
    assert many.computing_s <= few.computing_s
    assert many.exchange_s >= few.exchange_s
    wider = Workload(**{**vars(CUT), "halo_bytes": 2 * halo})
    assert predict(wider, many.split, FLAT).exchange_s >= many.exchange_s


def test_strips_give_work_to_cards_that_a_small_batch_leaves_without():
    assert splits_of(8, 2, 2) == []
    assert {s.strips for s in splits_of(8, 2, 2, rows=16)} == {4, 8}
    assert all(s.batch == 2 for s in splits_of(8, 2, 2, rows=16))
    assert {s.strips for s in splits_of(8, 2, 2, rows=12)} == {4}  # of equal height
    best = best_split(CUT, 8, 2, FLAT, memory_bytes=1e12)
    assert best.split.strips == 4
    # One image alone is too large for a card, half of it is not.
    tight = best_split(CUT, 8, 8, FLAT, memory_bytes=8e6 + 0.6e8)
    assert (tight.split.strips, tight.split.images) == (2, 2 // tight.split.accumulation)


def test_gradients_are_sent_in_parts_where_that_is_faster():
    # 400 MB take 70 ms of 10 GB/s; the backward pass of 2 of 3 parts of 102 ms hides most.
    large = Workload(**{**vars(WORK), "gradient_bytes": 4e8, "image_s": 0.025})
    plain = predict(large, Split(cards=8, images=4), FLAT)
    best = best_split(large, 8, 32, FLAT, memory_bytes=1e12)
    assert best.split.buckets > 1
    number, exposed = best_buckets(4e8, 8, FLAT, backward_s=0.102 * 2 / 3)
    assert (best.split.buckets, best.communication_s) == (number, pytest.approx(exposed))
    assert best.step_s < plain.step_s
    tiny = Workload(**{**vars(WORK), "gradient_bytes": 1e3})
    assert best_split(tiny, 8, 32, FLAT, memory_bytes=1e12).split.buckets == 1


def calls_of(sizes, *, alpha_s, bytes_per_s, ranks):
    """All-reduces as a ring of ranks would time them."""
    return tuple(
        Collective(
            name=f"hcom_allReduce_{number}", group="0", step=0, begin_ns=0, end_ns=10**9,
            transfer_ns=round(1e9 * (2 * (ranks - 1) * alpha_s + size / bytes_per_s)), wait_ns=0,
            sent_bytes=round(size),
        )
        for number, size in enumerate(sizes)
    )  # fmt: skip


def test_the_links_of_a_profile_are_those_that_it_is_predicted_with():
    sizes = [1e6, 2e6, 4e6, 8e6, 12e6, 16e6]
    made = calls_of(sizes, alpha_s=2e-5, bytes_per_s=15e9, ranks=4)
    profiles = [profile_of(rank, collectives=made) for rank in range(4)]
    found = link_between(profiles)
    assert found.collectives == 24
    assert found.link.alpha_s == pytest.approx(2e-5, rel=1e-3)
    assert found.link.bytes_per_s == pytest.approx(15e9, rel=1e-3)
    topology, told = with_link(TOPOLOGIES["910A"], found, 4)
    assert topology.inside == found.link
    assert topology.between == TOPOLOGIES["910A"].between
    assert "measured over 24 collectives (20.0 us, 15.0 GB/s)" in told
    spread, _ = with_link(TOPOLOGIES["910A"], found, 8)
    assert spread.inside == TOPOLOGIES["910A"].inside
    assert spread.between == found.link


def test_collectives_of_one_size_leave_links_nominal():
    alike = calls_of([1e6] * 8, alpha_s=2e-5, bytes_per_s=15e9, ranks=2)
    assert link_between([profile_of(rank, collectives=alike) for rank in range(2)]) is None
    assert link_between([profile_of()]) is None
    assert with_link(FLAT, None, 2) == (FLAT, "nominal links")


def test_the_command_predicts_a_model_and_recommends(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "data: {root: images}\ntrain: {batch: 16}\naugment: {crop: 256}\n"
    )
    command = ["profile", "scale", str(tmp_path / "c.yaml"), "--cards", "1,8,64"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "64 cards: train.batch=1024" in done.output
    assert "not measured on cards" in done.output
    fixed = CliRunner().invoke(app, [*command, "--batch", "64", "--json"])
    told = json.loads(fixed.output)
    assert [one["plain"]["split"]["images"] for one in told] == [64, 8, 1]
    assert told[0]["plain"]["efficiency"] == 1
    assert CliRunner().invoke(app, [*command, "--topology", "torus"]).exit_code != 0
    lone = CliRunner().invoke(app, ["profile", "scale", str(tmp_path)])
    assert "lies in no run folder" in str(lone.exception)


def test_the_command_predicts_a_profile_with_the_links_that_it_measured(tmp_path):
    run = RunDir(tmp_path)
    run.config.write_text("data: {root: images}\ntrain: {batch: 16}\naugment: {crop: 256}\n")
    with RecordWriter(run.records(0), resume_step=0) as records:
        records.write("start", step=0, images_per_rank=4)
    sizes = [1e6, 2e6, 4e6, 8e6, 12e6, 16e6]
    calls = [
        replace(call, begin_ns=BEGIN + number * MS, end_ns=BEGIN + (number + 1) * MS)
        for number, call in enumerate(calls_of(sizes, alpha_s=5e-5, bytes_per_s=1e10, ranks=2))
    ]
    for rank in range(2):
        # Without single tasks in the trace communication.json tells sizes and times.
        made = profile_of(rank, collectives=tuple(calls), transferring=NOTHING, awaiting=NOTHING)
        write_text_folder(run.profile(5) / f"rank_00{rank}_ascend_ms", made)
    command = ["profile", "scale", str(run.profiles), "--cards", "1,2"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "measured over 12 collectives (50.0 us, 10.0 GB/s)" in done.output
    [alone, _] = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    # Of a step of 100 ms 60 compute, for 4 images.
    assert alone["plain"]["computing_s"] == pytest.approx(0.060)
    assert alone["plain"]["split"]["images"] == 4


def test_a_configuration_that_is_not_there_is_named(tmp_path):
    done = CliRunner().invoke(app, ["profile", "scale", str(tmp_path / "nope.yaml")])
    assert str(done.exception) == f"{tmp_path / 'nope.yaml'}: there is no such file or folder"
