"""The commands as a user types them, and what they do when something goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.conftest import (
    json_of,
    processes_naming,
    run_program,
    start_training,
    steps_of,
    train,
    wait_for_step,
)
from unet_dist.data.synthetic import write_synthetic
from unet_dist.records import read_records
from unet_dist.runs import RunDir, read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    """A finished training on two ranks."""
    run = tmp_path_factory.mktemp("runs") / "run"
    done = train(*tiny, "train.epochs=3", "--simulate", 2, "--run", run)
    assert "2 ranks x 2 images x 1 accumulation = 4 per step" in done.stdout
    assert "parameters" in done.stdout
    assert "validation after step" in done.stdout
    return run


def test_a_run_leaves_everything_one_looks_for(run: Path) -> None:
    folder = RunDir(run)
    assert folder.read_status()["state"] == "done"
    assert cv2.imread(str(folder.picture("test"))) is not None
    assert list(folder.tensorboard.iterdir())
    assert (folder.checkpoints / "BEST").exists()
    log = folder.attempt(0).rank_log(1).read_text()
    assert "Traceback" not in log, "what follows a failure would be read as its cause"
    evaluation = read_json(folder.evaluation("test"))
    assert evaluation["threshold_source"] == "validation"
    assert folder.report("test").read_text().count("data:image/png") == 2 + len(evaluation["cases"])
    chosen = [r for r in read_records(folder.records(0)) if r["kind"] == "eval" and r["best"]][-1]
    assert chosen["step"] == evaluation["checkpoint_step"]
    assert max(dice for _, dice in chosen["dice_by_threshold"]) <= chosen["dice"] + 1e-5


def test_records_say_how_long_a_step_waited_for_data(run: Path) -> None:
    waits = steps_of(run, "data_wait_s")
    durations = steps_of(run, "step_s")
    assert all(0 <= wait <= duration for wait, duration in zip(waits, durations, strict=True))


def test_eval_prints_one_json_object_with_the_documented_keys(run: Path) -> None:
    done = run_program("eval", run, "--split", "test", "--json")
    assert done.returncode == 0, done.stderr
    result = json_of(done)
    assert {"dice", "iou", "threshold", "images", "protocol"} <= result.keys()
    assert result["images"] == 2
    assert result["threshold_source"] == "validation"
    assert result["dice"] == read_json(RunDir(run).evaluation("test"))["dice"]
    assert {"hausdorff_95", "average_precision", "intervals", "observers"} <= result.keys()
    fingerprint = result["fingerprint"]
    assert fingerprint["images"] == [image["id"] for image in result["per_image"]]


def test_a_run_compared_with_its_copy_does_not_differ(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    done = run_program("compare", run, copy, "--metric", "hausdorff_95", "--json")
    assert done.returncode == 0, done.stderr
    result = json_of(done)
    assert (result["difference"], result["p_value"], result["images"]) == (0, None, 2)


def test_predictions_have_the_size_of_their_images(
    run: Path, vessels: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.png"
    image = sorted((vessels / "images").iterdir())[0]
    cv2.imwrite(str(odd), cv2.imread(str(image))[:51, :37])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    out = tmp_path / "out"
    done = run_program("predict", run, odd, image, bad, "--out", out, "--json")
    assert done.returncode == 1, done.stderr
    result = json_of(done)
    [fault] = result["faults"]
    assert "bad.png" in fault
    assert len(result["written"]) == 2
    mask = cv2.imread(str(out / "odd_mask.png"), cv2.IMREAD_UNCHANGED)
    probability = cv2.imread(str(out / "odd_probability.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == probability.shape == (51, 37)
    assert probability.dtype == np.uint16
    threshold = result["threshold"]
    certain = np.abs(probability / 65535 - threshold) > 1e-4
    assert np.array_equal((mask > 0)[certain], (probability / 65535 >= threshold)[certain])
    assert cv2.imread(str(out / "odd_overlay.png")).shape == (51, 37, 3)


def test_options_of_records_checkpoints_and_evaluation_have_their_effect(
    tmp_path: Path, tiny: list[str]
) -> None:
    run = tmp_path / "run"
    train(
        *tiny, "train.epochs=4", "augment.crops_per_image=2", "log.every_steps=3", "log.images=1",
        "checkpoint.every_epochs=2", "checkpoint.keep=1", "evaluate.every_epochs=3",
        "evaluate.threshold=0.3", "train.ema=0", "train.schedule=constant", "train.warmup=0",
        "train.lr=0.001", "--run", run,
    )  # fmt: skip
    records = list(read_records(RunDir(run).records(0)))
    per_epoch = next(r["steps_per_epoch"] for r in records if r["kind"] == "start")
    total = 4 * per_epoch
    expected = [s for s in range(1, total + 1) if s % 3 == 0 or s == total]
    assert [r["step"] for r in records if r["kind"] == "step"] == expected
    assert {r["lr"] for r in records if r["kind"] == "step"} == {0.001}
    validated = [r["step"] for r in records if r["kind"] == "eval"]
    assert validated == [3 * per_epoch, total]
    saved = [r["step"] for r in records if r["kind"] == "checkpoint"]
    assert saved == [2 * per_epoch, 3 * per_epoch, total]
    best = max((r for r in records if r["kind"] == "eval"), key=lambda r: (r["dice"], r["step"]))[
        "step"
    ]
    kept = {int(path.name[5:]) for path in RunDir(run).checkpoints.glob("step_*")}
    assert kept == {total, best}
    result = read_json(RunDir(run).evaluation("test"))
    assert (result["threshold"], result["threshold_source"]) == (0.3, "configured")


def test_a_folder_of_the_users_is_neither_used_nor_emptied(tmp_path: Path, tiny: list[str]) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.txt").write_text("years of work")
    done = train(*tiny, "--run", mine, code=2)
    assert "is not empty, and not a run" in done.stderr
    assert (mine / "chapter1.txt").read_text() == "years of work"


def test_a_run_folder_without_resume_is_refused_with_the_way_on(run: Path) -> None:
    assert "add --resume" in train(run, code=2).stderr


def test_a_resumed_run_keeps_its_model_and_data(run: Path) -> None:
    done = train(run, "model.width=8", "seed=3", "--resume", code=2)
    assert "model.width cannot change when a run is resumed" in done.stderr
    assert "seed cannot change" in done.stderr


def test_more_epochs_can_be_added_to_a_finished_run_in_another_place(
    run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(run, copy)
    before = len(steps_of(copy, "step"))
    train(copy, "train.epochs=4", "--resume")
    assert len(steps_of(copy, "step")) > before


def test_dry_run_starts_nothing_and_shows_all(tmp_path: Path, tiny: list[str]) -> None:
    run = tmp_path / "run"
    done = train(*tiny, "--simulate", 4, "--run", run, "--dry-run")
    assert "mpirun -n 4" in done.stdout
    assert not run.exists()
    plan = json_of(train(*tiny, "--simulate", 4, "--run", run, "--dry-run", "--json"))
    assert [rank["rank"] for rank in plan["ranks"]] == [0, 1, 2, 3]
    assert plan["starter"]["argv"][1:3] == ["-n", "4"]
    assert len(plan["processes"]) == 4


def test_faults_are_told_before_any_process_starts(tmp_path: Path, tiny: list[str]) -> None:
    run = tmp_path / "run"
    done = train(*tiny, "model.widht=3", "train.lr=-1", "--run", run, code=2)
    assert "model.widht: unknown key; did you mean model.width?" in done.stderr
    assert "train.lr" in done.stderr
    assert not run.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.batch=4", "--simulate", "3"], "ranks that fit: 1, 2, 4"),
        (["train.amp=bf16", "--simulate", "2"], "bf16 has no convolution kernels on the CPU"),
        (["data.root=/nowhere"], "/nowhere"),
        (["--rank-table", "nothing.json"], "nothing.json"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(
    tmp_path: Path, tiny: list[str], arguments: list[str], message: str
) -> None:
    done = train(*tiny, *arguments, "--run", tmp_path / "run", code=2)
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_second_start_in_the_same_folder_is_refused(run: Path, tiny: list[str]) -> None:
    done = train(*tiny, "--run", run, code=2)
    assert "--resume" in done.stderr


def test_ctrl_c_stops_all_ranks_at_one_step_with_a_checkpoint(
    tmp_path: Path, tiny: list[str]
) -> None:
    run = tmp_path / "run"
    process = start_training(run, *tiny, "train.epochs=200")
    wait_for_step(run)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "stopping: all ranks at the next step" in output
    assert f"unet-dist train {run} --resume" in output
    last = steps_of(run, "step")[-1]
    assert steps_of(run, "step", rank=1)[-1] == last
    assert (RunDir(run).checkpoints / f"step_{last:06d}").is_dir()
    assert RunDir(run).read_status()["state"] == "stopped"


def test_no_rank_outlives_a_killed_launcher(tmp_path: Path, tiny: list[str]) -> None:
    run = tmp_path / "run"
    process = start_training(run, *tiny, "train.epochs=200")
    wait_for_step(run)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while processes_naming(run):
        assert time.monotonic() < deadline, processes_naming(run)
        time.sleep(0.1)


def test_nan_stops_the_run_and_names_the_step_and_the_cause(
    tmp_path: Path, tiny: list[str]
) -> None:
    settings = ["train.lr=1e18", "train.clip_norm=0", "train.warmup=0", "train.optimizer=sgd"]
    done = train(*tiny, *settings, "--simulate", 2, "--run", tmp_path / "run", code=1)
    assert "the loss is" in done.stdout
    assert "train.lr is too high" in done.stdout
    assert RunDir(tmp_path / "run").read_status()["state"] == "failed"


def test_a_damaged_checkpoint_is_passed_over_on_resume(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    newest = sorted(RunDir(copy).checkpoints.glob("step_*"))[-1]
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = train(copy, "--resume")
    assert "damaged" in done.stdout
    assert steps_of(copy, "step") == steps_of(run, "step")
    assert steps_of(copy, "loss") == steps_of(run, "loss")


def test_help_and_dry_run_never_load_mindspore(tmp_path: Path, tiny: list[str]) -> None:
    code = (
        "import sys; from unet_dist.cli import app; "
        "app(sys.argv[1:], standalone_mode=False); "
        "loaded = [m for m in sys.modules if m.split('.')[0] in ('mindspore', 'mpi4py')]; "
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    dry = ["train", *tiny, "--dry-run", "--run", str(tmp_path / "r")]
    for arguments in (["--help"], ["train", "--help"], dry):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ},
        )
        assert done.returncode == 0, done.stderr


def test_data_check_lists_faults_and_exits_with_one(vessels: Path, tmp_path: Path) -> None:
    picture = tmp_path / "check.png"
    config = vessels / "config.yaml"
    good = run_program("data", "check", config, "--picture", picture, "--json")
    assert good.returncode == 0, good.stderr
    report = json.loads(good.stdout)
    assert report["faults"] == []
    assert any("augment.crop=256 is larger than" in warning for warning in report["warnings"])
    assert cv2.imread(str(picture)) is not None
    copy = tmp_path / "copy"
    shutil.copytree(vessels, copy)
    sorted((copy / "masks").iterdir())[0].unlink()
    sorted((copy / "images").iterdir())[1].write_bytes(b"")
    picture.unlink()
    bad = run_program(
        "data", "check", copy / "config.yaml", f"data.root={copy}", "--picture", picture
    )
    assert bad.returncode == 1
    assert "is not drawn: first the faults" in bad.stdout
    assert not picture.exists()


def test_nuclei_train_as_three_classes_and_predict_class_numbers(tmp_path: Path) -> None:
    data = tmp_path / "nuclei"
    write_synthetic("nuclei", data, count=8, size=64, seed=0)
    run = tmp_path / "run"
    done = train(
        data / "config.yaml", "data.classes=3", "augment.crop=32", "augment.crops_per_image=4",
        "model.width=4", "model.depth=2", "train.epochs=4", "train.batch=4", "train.lr=0.01",
        "evaluate.tile=64", "--simulate", 2, "--run", run, "--json",
    )  # fmt: skip
    result = json_of(done)
    assert result["threshold"] is None
    assert result["threshold_source"] == "argmax"
    assert [one["class"] for one in result["per_class"]] == [1, 2]
    assert result["structure"]["kind"] == "objects"
    assert result["structure"]["threshold_source"] == "validation"
    assert {"ap_50", "ap_50_95", "aji", "foreground_dice"} <= result["pooled"].keys()
    alone = json_of(run_program("eval", run, "--simulate", 1, "--json"))
    assert {**alone, "attempt": ""} == {**result, "attempt": ""}
    image = sorted((data / "images").iterdir())[0]
    predicted = run_program("predict", run, image, "--out", tmp_path / "out")
    assert predicted.returncode == 0, predicted.stderr
    mask = np.asarray(Image.open(tmp_path / "out" / f"{image.stem}_mask.png"))
    assert mask.shape == (64, 64)
    assert set(np.unique(mask)) <= {0, 1, 2}


def test_a_run_without_validation_images_says_where_its_threshold_comes_from(
    tmp_path: Path, tiny: list[str]
) -> None:
    settings = ["data.split.val=0", "augment.crops_per_image=1"]
    result = json_of(train(*tiny, *settings, "--run", tmp_path / "run", "--json"))
    assert (result["threshold"], result["threshold_source"]) == (0.5, "default")


def test_the_same_image_in_train_and_test_is_refused_before_any_process_starts(
    vessels: Path, tmp_path: Path, tiny: list[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(vessels, copy)
    images = sorted((copy / "images").iterdir())
    lists = tmp_path / "lists.yaml"
    shutil.copy(images[0], images[1])
    stems = [image.stem for image in images]
    lists.write_text(f"train: {stems[1:]}\nval: []\ntest: [{stems[0]!r}]\n")
    split = ["data.split.by=list", f"data.split.file={lists}", f"data.root={copy}"]
    done = train(*tiny, *split, "--run", tmp_path / "run", code=2)
    assert stems[0] in done.stderr
    assert stems[1] in done.stderr
    assert not (tmp_path / "run").exists()
