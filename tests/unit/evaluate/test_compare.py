import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from unet_dist.cli import app
from unet_dist.errors import UserError
from unet_dist.evaluate.compare import Evaluation, compare, read_evaluation
from unet_dist.evaluate.fingerprint import PROTOCOL_KEYS
from unet_dist.runs import RunDir

PROTOCOL = {
    **dict.fromkeys(PROTOCOL_KEYS, "same"),
    "threshold_source": "validation",
    "structure_threshold_source": "validation",
    "versions": {"unet_dist": "1"},
}


def evaluation(values, name="a", groups=None, metric="dice", **fingerprint):
    ids = [f"eye-{number:02d}" for number in range(len(values))]
    return Evaluation(
        path=Path(name),
        metric=metric,
        fingerprint={**PROTOCOL, **fingerprint},
        values=dict(zip(ids, values, strict=True)),
        groups=dict(zip(ids, groups or ids, strict=True)),
    )


def test_the_difference_is_paired_and_tested_by_wilcoxon():
    generator = np.random.default_rng(0)
    b = generator.normal(0.8, 0.05, 20)
    a = b + generator.normal(0.01, 0.01, 20)

    got = compare([evaluation(a)], [evaluation(b, "b")])

    assert got.difference == pytest.approx((a - b).mean())
    assert got.p_value == stats.wilcoxon(a, b).pvalue
    error = stats.t.ppf(0.975, 19) * (a - b).std(ddof=1) / math.sqrt(20)
    assert got.interval == pytest.approx((got.difference - error, got.difference + error), abs=7e-4)
    assert got.better + got.worse == 20
    assert (got.mean_a, got.mean_b) == pytest.approx((a.mean(), b.mean()))
    assert got.notes == ()
    back = compare([evaluation(b, "b")], [evaluation(a)])
    assert back.difference == pytest.approx(-got.difference)
    assert back.p_value == got.p_value


def test_seeds_of_a_side_are_averaged_per_image():
    a, b = [evaluation([0.5, 0.7, 0.9]), evaluation([0.7, 0.7, 0.7], "a1")], [0.5, 0.6, 0.7]
    got = compare(a, [evaluation(b, "b")])
    assert (got.seeds_a, got.seeds_b) == (2, 1)
    assert dict(got.deciding) == pytest.approx({"eye-00": 0.1, "eye-01": 0.1, "eye-02": 0.1})


def test_both_eyes_of_a_patient_are_one_witness():
    b = np.zeros(12)
    a = np.repeat([0.01, 0.02, 0.03, 0.04, 0.05, 0.06], 2)
    groups = [f"patient-{number // 2}" for number in range(12)]

    got = compare([evaluation(a, groups=groups)], [evaluation(b, "b", groups=groups)])

    assert (got.unit, got.units, got.images) == ("patient", 6, 12)
    assert got.p_value == pytest.approx(2 / 2**6)
    assert "only 6 patients: no difference, however large, can have a p below 0.031" in got.notes


def test_many_slices_of_two_volumes_have_no_interval_and_no_p(tmp_path):
    a = np.random.default_rng(0).normal(0.8, 0.01, 100)
    groups = ["one"] * 50 + ["two"] * 50

    got = compare([evaluation(a, groups=groups)], [evaluation(a - 0.02, "b", groups)])

    assert (got.unit, got.units, got.images) == ("patient", 2, 100)
    assert (got.interval, got.p_value) == (None, None)
    assert got.notes == ("an interval and a p need 3 patients at least, and these images are of 2",)
    pair = compare([evaluation([0.5, 0.6])], [evaluation([0.4, 0.5])])
    assert (pair.p_value, pair.notes) == (None, ("an interval and a p need 3 images at least",))
    runs = [str(written(tmp_path / name, [0.5, value])) for name, value in (("a", 0.6), ("b", 0.7))]
    said = CliRunner().invoke(app, ["compare", *runs]).output
    assert "Wilcoxon signed-rank test over 2 images: none" in said
    assert "note: an interval and a p need 3 images" in said


def test_the_least_p_is_that_of_the_units_which_differ():
    # Of 2^3 signs two are as extreme as three gains; images without a difference say nothing.
    got = compare([evaluation([0.1, 0.1, 0.1, 0, 0])], [evaluation([0.0] * 5)])
    assert got.p_value == 0.25
    assert got.notes == (
        "only 3 of 5 images differ: no difference, however large, can have a p below 0.25",
    )
    assert compare([evaluation([0.5] * 5)], [evaluation([0.5] * 5)]).notes == ()


def test_the_images_that_decide_are_named_and_counted():
    # Without the one large gain the others speak against it.
    got = compare([evaluation([0.9, 0.5, 0.5, 0.5])], [evaluation([0.5, 0.51, 0.52, 0.5])])
    assert got.deciding[0] == ("eye-00", pytest.approx(0.4))
    assert (got.better, got.worse, got.removable) == (1, 2, 1)
    even = compare([evaluation([0.6] * 4)], [evaluation([0.5] * 4)])
    assert even.removable == 4


def test_of_a_distance_less_is_better():
    got = compare(
        [evaluation([1.0, 2.0, 5.0], metric="assd")], [evaluation([2.0, 3.0, 4.0], metric="assd")]
    )
    assert got.lower_is_better
    assert (got.better, got.worse) == (2, 1)


def test_equal_runs_have_no_difference_and_p_1():
    got = compare([evaluation([0.5, 0.6, 0.7])], [evaluation([0.5, 0.6, 0.7])])
    assert (got.difference, got.p_value, got.removable) == (0, 1, 0)


def test_images_where_a_side_has_no_value_are_left_out_and_counted():
    got = compare(
        [evaluation([0.5, math.nan, 0.7, 0.8], metric="iou")],
        [evaluation([0.4, 0.6, 0.7, 0.7], metric="iou")],
    )
    assert (got.images, got.left_out, got.only_a, got.only_b) == (3, 1, 0, 1)
    assert got.notes[0].startswith("iou is defined on one side only on 1 images (A 0, B 1)")
    nowhere = [math.nan, 0.5, 0.6, 0.7]
    neither = compare([evaluation(nowhere)], [evaluation(nowhere, "b")])
    assert (neither.left_out, neither.only_a, neither.only_b) == (1, 0, 0)
    assert not any("one side" in note for note in neither.notes)
    with pytest.raises(UserError, match="on no image of both sides"):
        compare([evaluation([math.nan])], [evaluation([0.5])])


@pytest.mark.parametrize("key", PROTOCOL_KEYS)
def test_what_was_measured_differently_is_not_compared(key):
    with pytest.raises(UserError, match=f"{key} is same in a but other in b"):
        compare([evaluation([0.5])], [evaluation([0.5], "b", **{key: "other"})])


def test_other_patients_are_not_compared():
    one = evaluation([0.5, 0.6], groups=["a", "a"])
    with pytest.raises(UserError, match=r"data\.split\.group differs"):
        compare([one], [evaluation([0.5, 0.6], "b")])


def test_all_that_differs_is_said_and_other_images_too():
    other = evaluation([0.5, 0.6], "b", fov="none", observer="second")
    with pytest.raises(UserError) as raised:
        compare([evaluation([0.5])], [other])
    assert len(raised.value.faults) == 3
    assert "eye-01: measured in only one of a and b" in str(raised.value)


def test_another_origin_of_the_threshold_is_noted():
    a, b = evaluation([0.5] * 12), evaluation([0.6] * 12, "b", threshold_source="configured")
    assert compare([a], [b]).notes == ("threshold_source differs: configured; validation",)
    assert compare([a], [replace(b, fingerprint=PROTOCOL)]).notes == ()


def written(folder: Path, values, **fingerprint) -> Path:
    rows = [{"id": f"e{n}", "group": f"e{n}", "dice": value} for n, value in enumerate(values)]
    folder.mkdir()
    tree = {"per_image": rows, "fingerprint": {**PROTOCOL, **fingerprint}}
    RunDir(folder).evaluation("test").write_text(json.dumps(tree))
    return folder


def test_the_command_prints_the_difference_or_one_json_object(tmp_path):
    a = written(tmp_path / "a", [0.95, 0.8, 0.7])
    b = written(tmp_path / "b", [0.8, 0.7, 0.7])

    said = CliRunner().invoke(app, ["compare", str(a), str(b)])
    both = CliRunner().invoke(
        app, ["compare", str(a), str(a), str(a), "--against", str(b), "--json"]
    )

    assert said.exit_code == both.exit_code == 0, said.output + both.output
    assert "A - B +0.0833" in said.output
    assert "largest differences: e0 +0.1500, e1 +0.1000" in said.output
    assert "only 2 of 3 images differ" in said.output
    assert (
        "A would no longer be better without the 2 of 3 images that favour it most" in said.output
    )
    same = CliRunner().invoke(
        app, ["compare", str(a), str(written(tmp_path / "c", [0.95, 0.8, 0.7]))]
    )
    assert "every image has the same on both sides" in same.output
    assert "largest differences" not in same.output
    back = CliRunner().invoke(app, ["compare", str(b), str(a)])
    assert "B would no longer be better without the 2 of 3" in back.output
    tree = json.loads(both.stdout)
    assert tree["difference"] == pytest.approx(0.25 / 3)
    assert (tree["seeds_a"], tree["seeds_b"]) == (3, 1)
    assert tree["deciding"][2] == {"id": "e2", "difference": 0}


def test_of_numbered_objects_the_dice_of_all_their_pixels_is_compared(tmp_path):
    a, b = written(tmp_path / "a", [0.5] * 3), written(tmp_path / "b", [0.6] * 3)
    for run, value in ((a, 0.95), (b, 0.9)):
        path = RunDir(run).evaluation("test")
        tree = json.loads(path.read_text())
        tree |= {"foreground_dice": value}
        tree["per_image"] = [{**row, "foreground_dice": value} for row in tree["per_image"]]
        path.write_text(json.dumps(tree))
    said = CliRunner().invoke(app, ["compare", str(a), str(b)]).output
    assert "A - B +0.0500" in said
    assert "foreground_dice, mean of 3 images" in said
    assert "would no longer be better" not in said  # every image speaks for A
    said = CliRunner().invoke(app, ["compare", str(a), str(b), "--metric", "dice"]).output
    assert "A - B -0.1000" in said
    path.write_text(json.dumps({k: v for k, v in tree.items() if k != "foreground_dice"}))
    with pytest.raises(UserError, match=r"foreground_dice of .*a against dice of .*b$"):
        compare(*([read_evaluation(run, "test")] for run in (a, b)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "1 were given: two, or more with --against"),
        (["a", "b", "--metric", "dise"], "is 'dise', but must be one of foreground_dice, dice"),
        (["a", "b", "a"], "3 were given: two, or more with --against"),
        (["a", "b", "--against", "b"], "on both sides: "),
        (["a", "b", "--split", "tset"], "must be train, val or test"),
    ],
)
def test_what_was_asked_wrongly_is_said(arguments, message):
    result = CliRunner().invoke(app, ["compare", *arguments])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


def test_a_structure_that_the_run_cannot_have_is_not_advised(tmp_path):
    run = written(tmp_path / "run", [0.5])
    RunDir(run).config.write_text("data: {classes: 3, class_names: [background, disc, cup]}\n")
    for metric, told in (
        ("cldice", "cannot have: tubular is for one foreground class, but data.classes is 3"),
        ("aji", "these are of classes (data.mask=auto)"),
    ):
        with pytest.raises(UserError) as caught:
            read_evaluation(run, "test", metric)
        assert str(caught.value).endswith(told)
        assert "--resume" not in str(caught.value)
    RunDir(run).config.write_text("data: {mask: instances}\n")
    with pytest.raises(UserError, match=r"--resume evaluate\.structure=objects$"):
        read_evaluation(run, "test", "aji")


def test_a_run_that_is_not_there_is_named_with_the_closest_one(tmp_path):
    written(tmp_path / "two", [0.5])
    with pytest.raises(UserError, match=r"tow: there is no such run; the closest name is two$"):
        read_evaluation(tmp_path / "tow", "test", "dice")
    with pytest.raises(UserError, match=r"there is no such run$"):
        read_evaluation(tmp_path / "nowhere" / "two", "test", "dice")


def test_a_part_without_images_is_not_to_be_evaluated(tmp_path):
    run = RunDir(tmp_path)
    run.dataset.write_text(json.dumps({"splits": {"train": [1], "val": [2], "test": []}}))
    with pytest.raises(UserError, match=r"part test is empty: compare with --split val or --sp"):
        read_evaluation(tmp_path, "test", "dice")
    with pytest.raises(UserError, match=r"has no evaluation_val\.json: unet-dist eval"):
        read_evaluation(tmp_path, "val", "dice")


def test_a_result_that_is_missing_old_or_forged_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"has no evaluation_test\.json: unet-dist eval"):
        read_evaluation(tmp_path, "test", "dice")
    run = written(tmp_path / "run", [0.5, None])
    assert math.isnan(read_evaluation(run, "test", "dice").values["e1"])
    for metric, structure in (("aji", "objects"), ("cldice", "tubular"), ("v_info", "partition")):
        with pytest.raises(UserError, match=f"has no metric {metric}; it has dice. It") as caught:
            read_evaluation(run, "test", metric)
        assert str(caught.value).endswith(f"--resume evaluate.structure={structure}")
    with pytest.raises(UserError, match=r"has no metric iou; it has dice$"):
        read_evaluation(run, "test", "iou")
    path = RunDir(run).evaluation("test")
    for forged in (
        {"per_image": [{"id": "a", "group": "a", "dice": "0.9"}], "fingerprint": PROTOCOL},
        {"per_image": [{"id": "a", "group": "a", "dice": 0.9}], "fingerprint": {}},
        {"per_image": 7, "fingerprint": PROTOCOL},
        {"dice": 0.9},
    ):
        path.write_text(json.dumps(forged))
        with pytest.raises(UserError, match="is no evaluation of this version"):
            read_evaluation(run, "test", "dice")
