"""Records and pictures of a run as TensorBoard events."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_dist.errors import UserError
from unet_dist.report.panels import PictureRow, panels

FLUSH_S = 10.0
PANEL_PIXELS = 320
"""Longest side of a panel: event files are append-only, and images come at every evaluation."""

STEP_TAGS = {
    "loss": "train/loss",
    "dice": "train/dice",
    "lr": "train/learning_rate",
    "images_per_s": "speed/images_per_s",
    "data_wait_s": "speed/data_wait_s",
}
EVALUATION_KEYS = ("dice", "iou", "threshold")


class TensorBoard:
    """Writes events of one attempt into the run's directory; close it, or use ``with``.

    Events are written by the calling thread. tensorboardX's ``SummaryWriter`` hands them to a
    thread by a queue of ten: when the disk is full that thread dies, and the training waits for
    room in the queue for ever.
    """

    def __init__(self, directory: Path, *, resumed_at: int | None = None) -> None:
        """
        Args:
            resumed_at: last step of the checkpoint this attempt goes on from. What earlier
                attempts wrote for later steps is hidden, so that no curve is drawn twice.

        Raises:
            UserError: if the directory cannot be written; so do the other methods.
        """
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._directory = directory
        self._last_flush_s = time.monotonic()
        self._closed = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # tensorboardX names files by the second, and would overwrite one of the same second.
            suffix = f".{os.getpid()}.{time.time_ns()}"
            self._events = EventsWriter(str(directory / "events"), suffix)
        except OSError as error:
            raise self._unwritable(error) from error
        if resumed_at is not None:
            session_log = SessionLog(status=SessionLog.START)
            self._write(resumed_at + 1, session_log=session_log)
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def step(self, record: Mapping[str, Any]) -> None:
        """Curves of the training; a value that is missing or null has no point."""
        self._scalars(record["step"], {tag: record.get(key) for key, tag in STEP_TAGS.items()})
        if time.monotonic() - self._last_flush_s >= FLUSH_S:
            self.flush()

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """Curves of the evaluation, named by the split."""
        split = record["split"]
        values = {f"{split}/{key}": record.get(key) for key in EVALUATION_KEYS}
        of_class = record.get("dice_of_class", {})
        values |= {f"{split}_dice_of_class/{name}": dice for name, dice in of_class.items()}
        self._scalars(record["step"], values)
        self.flush()

    def images(self, step: int, rows: Sequence[PictureRow]) -> None:
        """For each image one strip: image, truth, prediction, errors."""
        from tensorboardX.summary import image

        for row in rows:
            self._write(step, summary=image(f"images/{row.id}", _strip(row), dataformats="HWC"))
        self.flush()

    def flush(self) -> None:
        """Hands everything written so far to the disk."""
        try:
            self._events.flush()
        except OSError as error:
            raise self._unwritable(error) from error
        self._last_flush_s = time.monotonic()

    def close(self) -> None:
        """Writes what is left. Closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self._events.close()
        except OSError as error:
            raise self._unwritable(error) from error

    def _scalars(self, step: int, values: Mapping[str, object]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        points = [
            Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        ]
        if points:
            self._write(step, summary=Summary(value=points))

    def _write(self, step: int, **content: object) -> None:
        from tensorboardX.proto.event_pb2 import Event

        try:
            self._events.write_event(Event(step=step, wall_time=time.time(), **content))
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(str(self._directory), f"cannot be written: {error.strerror}")


def _strip(row: PictureRow) -> NDArray[np.uint8]:
    height, width = row.truth_hw.shape
    factor = min(1.0, PANEL_PIXELS / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = [Image.fromarray(one).resize(size, Image.Resampling.BOX) for one in panels(row)]
    return np.concatenate([np.asarray(one) for one in small], axis=1)
