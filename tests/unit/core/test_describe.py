from pathlib import Path
from typing import Any

from unet_dist.cluster.supervisor import LaunchResult
from unet_dist.config import Config
from unet_dist.config_file import dump_config
from unet_dist.errors import counted
from unet_dist.evaluate.names import interval_text, title_in_class
from unet_dist.launching.describe import _class_table, describe_answer, describe_classes
from unet_dist.launching.job import _judged
from unet_dist.launching.placement import Placement, Supervision, plan_job
from unet_dist.runs import RunDir, write_json


def one(dice: float | None) -> dict[str, Any]:
    return {"dice": dice, "iou": 0.25, "sensitivity": 0.75, "auc": None}


def test_each_of_several_classes_has_its_line() -> None:
    names = ["background", "liver", "small lesion"]
    table = _class_table({"per_class": [one(0.5), one(None)], "class_names": names})
    assert [line.split() for line in table] == [
        ["Dice", "IoU", "sensitiv.", "AUC"],
        ["liver", "0.5000", "0.2500", "0.7500", "undefined"],
        ["small", "lesion", "undefined", "0.2500", "0.7500", "undefined"],
    ]
    assert len({len(line) for line in table}) == 1
    assert _class_table({"per_class": [one(0.5)], "class_names": names[:2]}) == []


def test_the_colours_of_predicted_masks_are_told() -> None:
    told = describe_classes(["background", "liver"])
    assert told == "classes: 0 background (rgb 0 0 0), 1 liver (rgb 86 180 233)"


def test_a_stopped_prediction_is_told_in_images_and_not_in_steps_of_the_training(
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    run.config.write_text(dump_config(Config()))
    what = {"kind": "predict", "images": ["b", "c", "d"], "skipped": 1, "out": "results"}
    plan, attempt = plan_job(run, what, Placement(simulate=1), Supervision().limits)
    attempt.path.mkdir(parents=True)
    common = {"skipped": 1, "trained_on": 0, "left_out": 0, "faults": []}

    far = {"images_done": 2, "images": 4}
    write_json(attempt.result(), {**common, "written": [{"stem": "b"}], **far})
    stopped = _judged(plan, attempt, LaunchResult(failure=None, interrupted=True))
    assert stopped.ending == "stopped"
    assert "stopped_at_step" not in stopped.answer
    assert (stopped.answer["images_done"], stopped.answer["images"]) == (2, 4)
    told = describe_answer(run, plan, stopped.ending, stopped.answer).splitlines()
    assert told[-1] == "2 of 4 images are done: stopped; the same command goes on"

    write_json(attempt.result(), {**common, "written": [{"stem": name} for name in "bcd"]})
    done = _judged(plan, attempt, LaunchResult(failure=None, interrupted=False))
    assert (done.ending, "images" in done.answer) == ("done", False)


def test_a_stopped_training_of_another_command_goes_on_by_that_command(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.config.write_text(dump_config(Config()))

    def told(**what: str) -> str:
        job = {"kind": "train", "resume": False, "split": "", **what}
        plan, _ = plan_job(run, job, Placement(simulate=1), Supervision().limits)
        return describe_answer(run, plan, "stopped", {"stopped_at_step": 3})

    assert told() == f"stopped after step 3\ngo on with: unet-dist train {tmp_path} --resume"
    command = "unet-dist quantize runs/a --method qat -o deployed"
    assert told(go_on=command) == f"stopped after step 3\ngo on with: {command}"


def test_why_there_is_no_interval_and_one_is_no_plural() -> None:
    values = {"dice": 0.5, "iou": 0.4, "auc": None, "assd": 1.0}
    answer = {**values, "intervals": {"dice": None, "iou": [0.3, 0.5], "auc": None}}
    found = [interval_text(answer, name, unit="patient") for name in values]
    assert found == ["needs 3 patients", "0.3000 to 0.5000", "", ""]
    assert [counted(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [title_in_class(name) for name in ("dice", "auc")] == [
        "Dice",
        "area under the ROC curve",
    ]
