import math
import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from unet_dist.errors import UserError
from unet_dist.report.panels import PictureRow
from unet_dist.report.tensorboard import TensorBoard


def events_in(directory):
    """All events as a reader meets them: files by name, then records in order.

    A record is its length (8 bytes), a checksum (4), the event, and a checksum (4).
    """
    events = []
    for path in sorted(Path(directory).iterdir()):
        content = path.read_bytes()
        at = 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            events.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return events


def points_in(directory):
    """tag -> [(step, value)] after TensorBoard's rule: a session that starts at a step hides
    all that came before it for this step and later ones."""
    points = {}
    for event in events_in(directory):
        if event.session_log.status == SessionLog.START:
            points = {
                tag: [(step, value) for step, value in found if step < event.step]
                for tag, found in points.items()
            }
        for value in event.summary.value:
            if not value.HasField("image"):
                points.setdefault(value.tag, []).append((event.step, value.simple_value))
    return points


def step_record(step, loss=0.5):
    return {
        "step": step,
        "epoch": 0,
        "loss": loss,
        "dice": 0.75,
        "lr": 0.25,
        "images_per_s": 8.0,
        "data_wait_s": 0.125,
    }


def picture_row(name="eye", size=(40, 60)):
    return PictureRow(
        id=name,
        image_hwc=np.full((*size, 3), 0.2, np.float32),
        truth_hw=np.ones(size, np.uint8),
        prob_hwk=np.ones((*size, 1), np.float32),
        threshold=0.5,
        fov_hw=np.ones(size, bool),
        dice=1.0,
    )


def test_step_records_become_curves(tmp_path):
    with TensorBoard(tmp_path) as board:
        board.step(step_record(1))
        board.step(step_record(2, loss=0.25))

    assert points_in(tmp_path) == {
        "train/loss": [(1, 0.5), (2, 0.25)],
        "train/dice": [(1, 0.75), (2, 0.75)],
        "train/learning_rate": [(1, 0.25), (2, 0.25)],
        "speed/images_per_s": [(1, 8.0), (2, 8.0)],
        "speed/data_wait_s": [(1, 0.125), (2, 0.125)],
    }


def test_evaluations_are_curves_named_by_their_split(tmp_path):
    with TensorBoard(tmp_path) as board:
        board.evaluation(
            {"step": 9, "epoch": 3, "split": "val", "dice": 0.5, "iou": 0.25, "threshold": None}
        )

    assert points_in(tmp_path) == {"val/dice": [(9, 0.5)], "val/iou": [(9, 0.25)]}


def test_values_that_are_no_numbers_have_no_point(tmp_path):
    with TensorBoard(tmp_path) as board:
        board.step({"step": 1, "loss": math.nan, "dice": None})
    assert points_in(tmp_path) == {}


def test_images_are_strips_of_four_panels(tmp_path):
    with TensorBoard(tmp_path) as board:
        board.images(5, [picture_row("a"), picture_row("b", size=(1200, 600))])

    values = [(event.step, value) for event in events_in(tmp_path) for value in event.summary.value]
    assert [(step, value.tag) for step, value in values] == [(5, "images/a"), (5, "images/b")]
    sizes = []
    for _, value in values:
        with Image.open(BytesIO(value.image.encoded_image_string)) as strip:
            sizes.append(strip.size)
            assert strip.getpixel((strip.width - 1, 0)) == (255, 255, 255)  # all found
    assert sizes == [(4 * 60, 40), (4 * 160, 320)]


def test_curves_do_not_double_when_a_run_goes_on_from_an_earlier_step(tmp_path):
    with TensorBoard(tmp_path) as board:
        for step in range(1, 8):
            board.step({"step": step, "loss": 1.0})
    with TensorBoard(tmp_path, resumed_at=5) as board:
        for step in range(6, 9):
            board.step({"step": step, "loss": 0.5})

    expected = [(step, 1.0) for step in range(1, 6)] + [(step, 0.5) for step in range(6, 9)]
    assert points_in(tmp_path) == {"train/loss": expected}
    assert len(list(tmp_path.iterdir())) == 2


def test_an_evaluation_can_be_read_before_the_run_ends(tmp_path):
    with TensorBoard(tmp_path) as board:
        board.evaluation({"step": 1, "split": "val", "dice": 0.5})
        assert points_in(tmp_path) == {"val/dice": [(1, 0.5)]}


def test_closing_twice_does_no_harm(tmp_path):
    with TensorBoard(tmp_path) as board:
        board.step(step_record(1))
        board.close()
    assert "train/loss" in points_in(tmp_path)


def test_a_directory_that_is_a_file_is_a_fault_of_the_user(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(UserError, match=r"taken: cannot be written"):
        TensorBoard(tmp_path / "taken")


FILL_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from unet_dist.errors import UserError
from unet_dist.report.tensorboard import TensorBoard
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with TensorBoard(Path(sys.argv[1])) as board:
        for step in range(5_000):
            board.step({"step": step, "loss": 1.0})
except UserError as error:
    sys.exit(f"fault: {error}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_ends_the_run_with_a_fault_and_does_not_hang_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path / "board")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert f"fault: {tmp_path / 'board'}: cannot be written: File too large" in done.stderr
    assert done.returncode == 1


def test_reports_load_neither_torch_nor_mindspore_nor_pyplot():
    code = (
        "import sys, unet_dist.report.pictures, unet_dist.report.tensorboard, "
        "unet_dist.evaluate.outputs, unet_dist.evaluate.score, unet_dist.evaluate.tiles\n"
        "bad = {'torch', 'mindspore', 'matplotlib', 'tensorboardX'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_each_of_several_classes_has_its_curve(tmp_path):
    record = {"step": 9, "split": "val", "dice": 0.5, "iou": 0.25, "threshold": None}
    with TensorBoard(tmp_path) as board:
        board.evaluation({**record, "dice_of_class": {"liver": 0.75, "lesion": math.nan}})

    assert points_in(tmp_path) == {
        "val/dice": [(9, 0.5)],
        "val/iou": [(9, 0.25)],
        "val_dice_of_class/liver": [(9, 0.75)],
    }
