import io
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from unet_dist.cli.shared import told_phases
from unet_dist.progress import Phases, Progress, profile_line
from unet_dist.records import RecordWriter

START = {
    "ranks": 4, "images_per_rank": 2, "accumulation": 1, "batch": 8, "steps_per_epoch": 12,
    "crops": 96, "crop_size": [128, 256], "total_steps": 24, "parameters": 1234567,
}  # fmt: skip
STEP = {"loss": 0.5, "dice": 0.75, "images_per_s": 4.0, "data_wait_s": 0.5, "overflow": False}


def shown(path: Path, *records: tuple[str, dict[str, object]], on_terminal: bool = False) -> str:
    stream = io.StringIO()
    with RecordWriter(path) as old:
        old.write("step", step=1, step_s=1.0, **STEP)  # of an earlier attempt
    console = Console(file=stream, width=300, force_terminal=on_terminal)
    progress = Progress(path, console, "starting [a] rank")
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
    ends = []

    def exits(code: int) -> None:
        ends.append(code)
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
    assert ends == [130]  # at once: a MindSpore that was half imported aborts on Python's way out
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


@pytest.mark.parametrize("on_terminal", [False, True])
def test_nobody_waits_for_the_first_step_without_a_word(tmp_path: Path, on_terminal: bool) -> None:
    started = ("start", {"step": 7, **START})
    text = shown(tmp_path / "r.jsonl", on_terminal=on_terminal)
    assert "starting [a] rank" in text
    text = shown(tmp_path / "r.jsonl", started, on_terminal=on_terminal)
    assert text.count("compiling the network for step 8/24") == 1
    # Nothing is left to compile for.
    started = ("start", {**START, "step": 24})
    assert "compiling" not in shown(tmp_path / "done.jsonl", started, on_terminal=on_terminal)


def test_the_first_step_is_told_at_once_although_a_line_was_just_before_it(tmp_path: Path) -> None:
    steps = [("step", {"step": number, "step_s": 1.0, **STEP}) for number in (1, 2)]
    lines = shown(tmp_path / "r.jsonl", ("start", {"step": 0, **START}), *steps).splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "compiling the network for step 1/24",
        "step 1/24",
    ]


def test_time_left_comes_from_steps_after_the_first_which_compiles(tmp_path: Path) -> None:
    text = shown(
        tmp_path / "r.jsonl",
        ("start", {"step": 0, **START}),
        ("step", {"step": 1, "step_s": 600.0, **STEP}),
        ("step", {"step": 22, "step_s": 1.0, **STEP}),
        ("step", {"step": 24, "step_s": 1.0, **STEP}),
    )
    first, last = [line for line in text.splitlines() if line.startswith("step ")]
    assert first.startswith("step 1/24  loss 0.5000  batch Dice 0.7500  4.0 images/s")
    assert "left" not in first
    assert last.startswith("step 24/24")
    assert last.endswith("left 0:00")


def test_the_speed_is_the_mean_of_the_steps_since_the_line_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 8 images in 0.5 s, 8 in 1.5 s and 8 in 6 s, after a first step that compiles: 3 images a
    second, and a fifth of the time waiting; the last step alone has 1.3, and no wait."""
    clock = iter([90.0, 99.0, 100.0, 101.0, 102.0, 106.0])
    monkeypatch.setattr("unet_dist.progress.time.monotonic", lambda: next(clock))
    steps = [
        ("step", {**STEP, "step": number, "step_s": s, "images_per_s": 8 / s, "data_wait_s": w})
        for number, s, w in ((1, 600.0, 0.0), (2, 0.5, 0.1), (3, 1.5, 1.5), (4, 6.0, 0.0))
    ]
    text = shown(tmp_path / "r.jsonl", ("start", {"step": 0, **START}), *steps)
    first, last = [line for line in text.splitlines() if line.startswith("step ")]
    assert "0.0 images/s" in first
    assert last.startswith("step 4/24")
    assert "3.0 images/s  waiting for data 20%" in last


@pytest.mark.parametrize(
    ("overhead", "scatter", "told"),
    [
        (0.2, 0.1, "steps (time of a step +20%):"),
        (0.05, 0.1, "steps (what it costs is too noisy to tell):"),
        (-0.3, 0.1, "steps (what it costs is too noisy to tell):"),
        (None, None, "steps:"),
    ],
)
def test_a_cost_within_the_noise_is_no_cost(overhead: Any, scatter: Any, told: str) -> None:
    record = {"steps": 5, "fault": "", "folder": "runs/a/profile/step_000003/rank_000_ascend_ms"}
    line = profile_line({**record, "overhead": overhead, "scatter": scatter})
    assert line == f"profile of 5 {told} unet-dist profile analyze runs/a/profile/step_000003"


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
