import io
import os
import signal
import time
from pathlib import Path

import pytest
import typer
from rich.console import Console

from unet_dist.cli.shared import told_phases
from unet_dist.progress import Phases, Progress
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


def test_each_phase_in_this_process_has_a_line_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with Phases(Console(file=stream, width=300)) as phases:
        phases("starting", 0, 1)
        for done in range(3):  # within PLAIN_EVERY_S
            phases("evaluating: {} images", done, 3)
        phases.say("[1] is kept")
        phases("drawing: {} pictures", 0, 2)
    assert stream.getvalue().splitlines() == [
        "starting",
        "evaluating: 0 of 3 images",
        "[1] is kept",
        "drawing: 0 of 2 pictures",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_in_this_process_is_one_line_and_exit_code_130(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exits(code: int) -> None:
        raise typer.Exit(code)

    monkeypatch.setattr(os, "_exit", exits)

    def work() -> None:
        with told_phases("nothing was written") as phases:
            phases("starting", 0, 1)
            os.kill(os.getpid(), number)
            time.sleep(10)  # the signal comes before

    with pytest.raises(typer.Exit) as ended:
        work()
    assert ended.value.exit_code == 130
    told = capsys.readouterr()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert (told.out, told.err) == ("", "starting\ninterrupted: nothing was written\n")


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


def test_a_validation_of_several_classes_tells_the_dice_of_each(tmp_path: Path) -> None:
    of_class = {"liver": 0.75, "[red] lesion": float("nan")}
    validation = {"step": 3, "dice": 0.75, "iou": 0.5, "threshold": None, "best": False}
    text = shown(
        tmp_path / "r.jsonl",
        ("start", {"step": 0, **START}),
        ("eval", {**validation, "dice_of_class": of_class}),
    )
    assert "Dice 0.7500, IoU 0.5000, of liver 0.7500, [red] lesion undefined" in text
