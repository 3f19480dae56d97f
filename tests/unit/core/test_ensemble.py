"""The folder of several runs: what is written into it, and what is said of its members."""

import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from unet_dist.cli.folds import MAX_MEMBERS, chosen_members, configs_of, write_down
from unet_dist.cluster.failure import Failure
from unet_dist.cluster.interruptions import Interruptions
from unet_dist.cluster.topology import Host
from unet_dist.config import Config
from unet_dist.config_file import build_config
from unet_dist.data.manifest import read_manifest
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.launching.datasets import begin_ensemble
from unet_dist.launching.placement import Placement
from unet_dist.launching.places import divide
from unet_dist.launching.summary import describe_member, describe_summary, summarise_members
from unet_dist.progress import prefixed
from unet_dist.runs import Members, RunDir, read_json, write_json


def config(*overrides: str) -> Config:
    return build_config({}, overrides, where="test")


def members(vary: str = "fold", values: tuple[int, ...] = (0, 1)) -> Members:
    tree = {"vary": vary, "values": list(values), "parallel": 1, "placement": {}}
    return Members.of_json(tree)


def test_seeds_are_numbers_and_spans_each_once_and_not_endless(tmp_path: Path) -> None:
    usual = {"folds": 0, "parallel": 0, "resume": False, "overfit": 0}
    chosen = chosen_members(tmp_path, seeds="4,0-2,1", **usual)  # type: ignore[arg-type]
    assert chosen is not None
    assert (chosen.by, chosen.values) == ("seed", (4, 0, 1, 2))
    for seeds, fault in (
        ("x", '"x" is not a number'),
        ("5-3", "write 3-5"),
        ("0-999999999", f"{MAX_MEMBERS} at most"),
    ):
        with pytest.raises(UserError, match=fault):
            chosen_members(tmp_path, seeds=seeds, **usual)  # type: ignore[arg-type]


def test_a_file_that_does_not_name_members_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    good = members().to_json()
    for wrong in ({"vary": "../x"}, {"values": ["a"]}, {"values": [0, 0]}, {"values": []}):
        write_json(run.members_file, {**good, **wrong})
        with pytest.raises(UserError, match="does not name runs"):
            run.load_members()
    write_json(run.members_file, good)
    assert run.load_members() == members()
    assert run.load_members().names == ("fold_0", "fold_1")


def test_a_finished_member_with_new_settings_has_something_left_to_do(tmp_path: Path) -> None:
    run, before = RunDir(tmp_path), config("train.epochs=1")
    names = members().names
    write_down(run, members(), dict.fromkeys(names, before), before)
    for name in names:
        write_json(run.member(name).status, {"state": "done"})
    write_down(run, members(), dict.fromkeys(names, before), before)
    assert [run.member(name).state() for name in names] == ["done", "done"]
    longer = config("train.epochs=2")
    write_down(run, members(), {names[0]: before, names[1]: longer}, longer)
    assert [run.member(name).state() for name in names] == ["done", "stopped"]


def test_an_ensemble_predicts_once_all_members_are_finished_and_its_threshold_is_chosen(
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    run.check_members()  # an ordinary run has none
    write_json(run.members_file, members().to_json())
    write_json(run.member("fold_0").status, {"state": "done"})
    with pytest.raises(UserError) as raised:
        run.check_members()
    assert raised.value.faults == ("fold_1 is not finished (not started)",)
    write_json(run.member("fold_1").status, {"state": "done"})
    with pytest.raises(UserError, match="threshold was not chosen"):
        run.check_members()
    write_json(run.threshold, {"threshold": 0.4, "threshold_source": "validation"})
    run.check_members()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "vessels"
    write_synthetic("vessels", folder, count=8, size=32, seed=0)
    return folder


@pytest.mark.parametrize("by", ["ratio", "fold"])
def test_seeds_validate_only_what_none_of_them_trains_on(
    tmp_path: Path, images: Path, by: str
) -> None:
    whole = config(f"data.root={images}", f"data.split.by={by}", "data.split.folds=3")
    run, vary = RunDir(tmp_path / "run"), members("seed", (0, 1))
    configs = dict(zip(vary.names, configs_of(whole, "seed", vary.values), strict=True))
    with run.locked():
        begin_ensemble(run, configs, Console(file=io.StringIO()))
    together, _ = read_manifest(run.dataset, whole.data)
    assert together.splits.val
    for name in vary.names:
        alone, _ = read_manifest(run.member(name).dataset, whole.data)
        assert alone.splits == together.splits


def test_folds_validate_every_image_beside_the_test_once(tmp_path: Path, images: Path) -> None:
    whole, run, vary = config(f"data.root={images}"), RunDir(tmp_path / "run"), members()
    configs = dict(zip(vary.names, configs_of(whole, "fold", vary.values), strict=True))
    with run.locked():
        begin_ensemble(run, configs, Console(file=io.StringIO()))
    together, _ = read_manifest(run.dataset, whole.data)
    assert any("test has 2" in warning for warning in read_json(run.dataset)["warnings"])
    left_out: list[str] = []
    for name in vary.names:
        alone, _ = read_manifest(run.member(name).dataset, whole.data)
        assert alone.splits.test == together.splits.test
        left_out += [sample.id for sample in alone.splits.val]
    assert sorted(left_out) == [sample.id for sample in together.splits.val]
    assert not together.splits.train


def test_a_faulty_data_set_leaves_nothing_behind(tmp_path: Path, images: Path) -> None:
    whole, run = config(f"data.root={images}"), RunDir(tmp_path / "run")
    configs = dict(enumerate(configs_of(whole, "fold", tuple(range(20)))))
    with run.locked(), pytest.raises(UserError, match="20 folds need as many patients"):
        begin_ensemble(run, {f"fold_{n}": each for n, each in configs.items()}, Console())
    assert not run.path.exists()


def test_folds_on_several_hosts_follow_each_other(tmp_path: Path) -> None:
    placement = Placement(simulate=2, hosts=(Host("a"), Host("b")))
    assert divide(placement, 1, folder=tmp_path, fitting=(1, 2)).places == (placement,)
    with pytest.raises(UserError, match="leave out --parallel"):
        divide(placement, 2, folder=tmp_path, fitting=(1, 2))


def test_a_resumed_fold_alone_takes_all_cores_again() -> None:
    assert Placement().or_else({"simulate": 2, "cores": [0]}) == Placement(simulate=2)


def evaluation(split: str, per_image: dict[str, float], **more: object) -> dict[str, object]:
    dice = sum(per_image.values()) / len(per_image)
    return {
        "split": split, "dice": dice, "intervals": {"dice": None}, "threshold": 0.4,
        "images": len(per_image), "protocol": {"sentence": "As agreed."},
        "class_names": ["background", "vessel"], "per_class": [{"class": 1, "auc": 0.9}],
        "plots": {"confusion": [[80, 5], [5, 10]]},
        "per_image": [{"id": id_, "dice": value} for id_, value in per_image.items()], **more,
    }  # fmt: skip


def test_the_summary_gives_each_fold_the_images_that_it_left_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    left_out = {"fold_0": ["a", "b"], "fold_1": ["c"]}
    for name, ids in left_out.items():
        member = run.member(name)
        write_json(member.status, {"state": "done"})
        write_json(member.dataset, {"splits": {"val": [{"id": id_} for id_ in ids]}})
        write_json(member.evaluation("test"), evaluation("test", {"t": 0.5}))
    write_json(run.evaluation("val"), evaluation("val", {"a": 0.2, "b": 0.4, "c": 0.9}))
    write_json(run.evaluation("test"), evaluation("test", {"t": 0.75}))
    summary = summarise_members(run, members(), {})
    assert [row["left_out"] for row in summary["members"]] == [
        {"dice": pytest.approx(0.3)},
        {"dice": 0.9},
    ]
    assert summary["over_members"]["left_out"]["dice"]["mean"] == pytest.approx(0.6)
    assert summary["over_members"]["test"] == {"dice": {"mean": 0.5, "std": 0.0, "members": 2}}
    assert summary["val"]["dice"] == pytest.approx(0.5)
    assert "per_image" not in summary["test"]
    text = describe_summary(summary)
    assert "over folds, test: mean and standard deviation (SD)\n  dice 0.5000  SD 0.0000" in text
    assert "test, by the ensemble: Dice 0.7500" in text
    assert text.splitlines()[0].endswith("test Dice   threshold")
    for row in summary["members"]:  # of several classes the most probable one wins
        row["threshold"] = None
    assert describe_summary(summary).splitlines()[0].endswith("test Dice")
    assert text.endswith("As agreed.")
    assert text.count("As agreed.") == 1
    summary["test"]["plots"]["confusion"] = [[0, 85], [0, 15]]
    assert "warning: 100.00% of the pixels are predicted as vessel" in describe_summary(summary)


def test_of_numbered_objects_the_dice_of_all_their_pixels_is_summarised(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    objects = {"foreground_dice": 0.9, "intervals": {"foreground_dice": [0.8, 0.95]}}
    for name in members().names:
        write_json(run.member(name).status, {"state": "done"})
        write_json(run.member(name).dataset, {"splits": {"val": []}})
        write_json(run.member(name).evaluation("test"), evaluation("test", {"t": 0.5}, **objects))
    write_json(run.evaluation("test"), evaluation("test", {"t": 0.75}, **objects))
    summary = summarise_members(run, members(), {})
    text = describe_summary(summary)
    assert text.splitlines()[1].split() == ["fold_0", "0.9000", "0.4"]
    assert "test, by the ensemble: Dice 0.9000 (95 % interval 0.8000 to 0.9500)" in text
    assert describe_member(evaluation("test", {"t": 0.5}, **objects)).startswith(
        "done: test Dice 0.9000, mean of 1 image"
    )


def test_where_only_validation_images_are_left_their_protocol_is_said(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_json(run.evaluation("val"), evaluation("val", {"a": 0.2}))
    assert describe_summary(summarise_members(run, members(), {})).endswith("As agreed.")


def test_what_counts_as_a_metric_is_what_is_called_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    # JSON has 1 for a whole distance; the share of black is no metric, however fractional.
    whole = evaluation("test", {"t": 0.5}, hausdorff_95=3, share_of_black=0.5, dice_at_half=0.4)
    for name in members().names:
        write_json(run.member(name).status, {"state": "done"})
        write_json(run.member(name).evaluation("test"), whole)
    summary = summarise_members(run, members(), {})
    assert summary["members"][0]["test"] == {"dice": 0.5, "hausdorff_95": 3}
    assert summary["over_members"]["test"]["hausdorff_95"]["mean"] == 3


def test_a_failed_member_is_named_with_its_reason_and_has_no_numbers(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_json(run.member("fold_1").status, {"state": "failed"})
    write_json(run.member("fold_1").evaluation("test"), evaluation("test", {"t": 0.5}))
    failure = Failure(rank=0, reason="killed by SIGKILL", kind="signal")
    summary = summarise_members(run, members(), {"fold_1": failure})
    assert summary["members"] == [
        {"name": "fold_0", "fold": 0, "state": "not started"},
        {"name": "fold_1", "fold": 1, "state": "failed", "first_failure": "killed by SIGKILL"},
    ]
    assert summary["over_members"] == {}
    assert describe_summary(summary).splitlines() == ["fold_0  not started", "fold_1  failed"]


def test_lines_of_a_job_beside_others_begin_with_its_name() -> None:
    stream = io.StringIO()
    console = prefixed(Console(file=stream, width=10), "fold_1")
    console.print("a line longer than the width [bold]\nand another", markup=False)
    assert stream.getvalue() == "fold_1: a line longer than the width [bold]\nfold_1: and another\n"


def test_jobs_in_threads_share_what_the_main_thread_counts() -> None:
    interruptions, entered = Interruptions(), []

    def job() -> None:
        with interruptions.counted():
            entered.append(True)

    with interruptions.counted():
        thread = threading.Thread(target=job)
        thread.start()
        thread.join()
    assert entered == [True]
