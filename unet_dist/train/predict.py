"""Prediction of image files on ranks: each image belongs to one of them.

A single large image is not divided: the ranks would have to write into one file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_dist.comm import Communicator, barrier, gather_objects
from unet_dist.errors import UserError
from unet_dist.evaluate.fingerprint import FileDigests
from unet_dist.evaluate.prediction import predict_file
from unet_dist.evaluate.prediction_task import PredictionSettings, PredictionTask
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.evaluate.score import shard
from unet_dist.records import RecordWriter
from unet_dist.runs import AttemptDir, write_json


class _Stopped(Exception):
    """Somebody wished an end in the middle of an image."""


def predict_images(
    job: Mapping[str, Any],
    predictor: Predictor[Network],
    settings: PredictionSettings,
    step: int,
    records: RecordWriter,
    attempt: AttemptDir,
    comm: Communicator,
    *,
    stop_requested: Callable[[], bool],
) -> None:
    """Writes the results of each image; a bad image does not stop the rest. A wish to stop drops
    the images at hand: those that are finished have their record, and the next call goes on."""
    written, faults = [], []
    mine = shard(job["images"], comm.rank, comm.world)
    total = len(job["images"])
    stopped = False
    out = Path(job["out"])
    digest = FileDigests().of_file
    for number, image in enumerate(mine):
        task = PredictionTask.of_json(image)
        own = predictor.for_sample(image["sample"])
        forward = own.forward_with_variance if settings.uncertainty == "std" else own.forward
        progress = _Progress(
            comm=comm,
            records=records,
            stop_requested=stop_requested,
            step=step,
            name=task.image.path.name,
            done=min(number * comm.world, total),
            total=total,
        )
        try:
            progress.tell(0, 1)
            record = predict_file(
                forward,
                task,
                out,
                settings,
                look=own.one_view,
                on_rows=progress.tell,
                on_phase=progress.tell_phase,
                digest=digest,
            )
            written.append({**image, **record.answer(out)})
        except UserError as error:
            faults.append(str(error))
        except _Stopped:
            stopped = True
            break
        records.write(
            "progress",
            step=step,
            phase="predicting",
            done=min((number + 1) * comm.world, total),
            total=total,
        )
    parts = gather_objects(comm, [written, faults, stopped])
    if comm.rank == 0:
        by_stem = {one["stem"]: one for part in parts for one in part[0]}
        result = {
            "threshold": settings.threshold,
            "written": [by_stem[i["stem"]] for i in job["images"] if i["stem"] in by_stem],
            "skipped": job["skipped"],
            "trained_on": job["trained_on"],
            "left_out": sum(bool(one["left_out_by"]) for one in by_stem.values()),
            "faults": [fault for part in parts for fault in part[1]],
        }
        if any(part[2] for part in parts):
            # How far it is; the step of the training would tell nothing.
            result["images_done"] = job["skipped"] + len(by_stem)
            result["images"] = job["skipped"] + total
        write_json(attempt.result(), result)
    barrier(comm)


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """Tells of the rows of one image, and looks whether to stop."""

    comm: Communicator
    records: RecordWriter
    stop_requested: Callable[[], bool]
    step: int
    name: str
    """Of the image's file."""
    done: int
    """Images, by this rank's share."""
    total: int

    def tell(self, row: int, rows: int) -> None:
        """Raises _Stopped if that is wished for."""
        doing = f"{row * 100 // rows} % of {self.name}"
        self.comm.heartbeat.beat("prediction", step=self.step, doing=doing)
        self._say(f"predicting ({doing})" if row < rows else "")

    def tell_phase(self, doing: str) -> None:
        """A phase of its own, since how long rows take tells nothing of it; else likewise."""
        doing = f"{doing} of {self.name}"
        self.comm.heartbeat.beat("numbering", step=self.step, doing=doing)
        self._say(doing)

    def _say(self, phase: str) -> None:
        if phase:
            self.records.write(
                "progress", step=self.step, phase=phase, done=self.done, total=self.total
            )
        if self.stop_requested():
            raise _Stopped
