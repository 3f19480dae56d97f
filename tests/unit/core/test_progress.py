import io
from pathlib import Path

from rich.console import Console

from unet_dist.progress import Progress
from unet_dist.records import RecordWriter

START = {
    "ranks": 4, "images_per_rank": 2, "accumulation": 1, "batch": 8, "steps_per_epoch": 12,
    "crops": 96, "crop_size": [128, 256], "total_steps": 24, "parameters": 1234567,
}  # fmt: skip
STEP = {"loss": 0.5, "dice": 0.75, "images_per_s": 4.0, "data_wait_s": 0.5, "overflow": False}


def shown(path: Path, *records: tuple[str, dict[str, object]]) -> str:
    stream = io.StringIO()
    with RecordWriter(path) as old:
        old.write("step", step=1, step_s=1.0, **STEP)  # of an earlier attempt
    progress = Progress(path, Console(file=stream, width=300), "starting")
    with RecordWriter(path) as writer:
        for kind, fields in records:
            writer.write(kind, **fields)
            progress.poll()
    progress.close()
    return stream.getvalue()


def test_the_arithmetic_of_a_step_is_printed(tmp_path: Path) -> None:
    text = shown(tmp_path / "r.jsonl", ("start", {"step": 0, **START}))
    assert "4 ranks x 2 images x 1 accumulation = 8 per step, 12 steps per epoch" in text
    assert "crops of 256 x 128" in text
    assert "1,234,567 parameters" in text
    assert "going on" not in text


def test_a_resumed_run_says_from_where(tmp_path: Path) -> None:
    text = shown(tmp_path / "r.jsonl", ("start", {"step": 7, **START}))
    assert "going on from step 7" in text


def test_time_left_comes_from_steps_after_the_first_which_compiles(tmp_path: Path) -> None:
    text = shown(
        tmp_path / "r.jsonl",
        ("start", {"step": 0, **START}),
        ("step", {"step": 1, "step_s": 600.0, **STEP}),
        ("step", {"step": 22, "step_s": 1.0, **STEP}),
        ("step", {"step": 24, "step_s": 1.0, **STEP}),
    )
    first, last = [line for line in text.splitlines() if line.startswith("step ")]
    assert first.startswith("step 1/24  loss 0.5000  Dice 0.7500  4.0 images/s")
    assert "left" not in first
    assert last.startswith("step 24/24")
    assert last.endswith("left 0:00")


def test_skipped_steps_validations_and_warnings_are_told(tmp_path: Path) -> None:
    overflow = {**STEP, "overflow": True, "loss_scale": 512.0, "step": 3, "step_s": 1.0}
    validation = {"step": 3, "dice": None, "iou": 0.5, "threshold": 0.4, "best": True}
    text = shown(
        tmp_path / "r.jsonl",
        ("start", {"step": 0, **START}),
        ("step", overflow),
        ("eval", validation),
        ("warning", {"step": 3, "message": "the disk is slow"}),
    )
    assert "step 3: fp16 overflow, skipped on all ranks; loss scale 512" in text
    assert "Dice undefined, IoU 0.5000, threshold 0.4, best so far" in text
    assert "warning: the disk is slow" in text


def test_the_best_validation_is_one_that_found_something_and_a_tie_is_told(tmp_path: Path) -> None:
    def said(dice: float, *, tied: bool) -> str:
        validation = {"step": 3, "iou": 0.5, "threshold": 0.4, "best": True, "tied": tied}
        started = ("start", {"step": 0, **START})
        return shown(
            tmp_path / f"{dice}{tied}.jsonl", started, ("eval", validation | {"dice": dice})
        )

    assert "Dice 0.5000, IoU 0.5000, threshold 0.4, best so far\n" in said(0.5, tied=False)
    assert "threshold 0.4, as good as the best so far\n" in said(0.5, tied=True)
    assert "best" not in said(0.0, tied=False) + said(0.0, tied=True)


def test_a_validation_of_several_classes_tells_the_dice_of_each(tmp_path: Path) -> None:
    of_class = {"liver": 0.75, "[red] lesion": float("nan")}
    validation = {"step": 3, "dice": 0.75, "iou": 0.5, "threshold": None, "best": False}
    text = shown(
        tmp_path / "r.jsonl",
        ("start", {"step": 0, **START}),
        ("eval", {**validation, "dice_of_class": of_class}),
    )
    assert "Dice 0.7500, IoU 0.5000, of liver 0.7500, [red] lesion undefined" in text
