"""What the parts of a training share, and what they do between two steps: validations and
checkpoints."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unet_dist.comm import Communicator
from unet_dist.config import Config
from unet_dist.config_data import DataConfig
from unet_dist.data.dataset import Dataset
from unet_dist.data.loader import TrainLoader
from unet_dist.data.sample import Sample
from unet_dist.evaluate.forward import Member
from unet_dist.evaluate.on_ranks import score_samples, summary_of, threshold_for
from unet_dist.evaluate.predictor import Predictor
from unet_dist.evaluate.score import EvalSummary
from unet_dist.evaluate.thresholds import threshold_curve
from unet_dist.model.unet import UNet
from unet_dist.records import RecordWriter
from unet_dist.report.tensorboard import TensorBoard
from unet_dist.runs import RunDir
from unet_dist.train.capture import Capture
from unet_dist.train.checkpoint import TrainState, save_checkpoint
from unet_dist.train.rows import picture_row
from unet_dist.train.state import collect, weights_for_evaluation
from unet_dist.train.step import TrainStep

TOLD_EVERY_S = 2.0
"""How far a validation is; the quick ones say nothing."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the parts of the loop share; the changing state is ``TrainState``."""

    config: Config
    run: RunDir
    dataset: Dataset
    comm: Communicator
    net: UNet
    step: TrainStep
    predictor: Predictor[Member]
    records: RecordWriter
    board: TensorBoard | None
    """On rank 0."""
    capture: Capture
    is_trial: bool
    """Of a search, which may ask for the latency."""


def telling(
    comm: Communicator, records: RecordWriter, step: int, samples: Sequence[Sample]
) -> Callable[[int, int], None]:
    """Beats for each image of this rank's share, and says how far all are if that takes long: a
    network that was hardly trained may find so many small objects that images are enlarged."""
    last = time.monotonic()

    def on_image(done: int, total: int) -> None:
        nonlocal last
        doing = f"image {done + 1} of {total}" if done < total else "comparing"
        comm.heartbeat.beat("validation", step=step, doing=doing)
        if done < total and time.monotonic() - last >= TOLD_EVERY_S:
            last = time.monotonic()
            number = len(samples)
            done = min(done * comm.world, number)
            records.write("progress", step=step, phase="validating", done=done, total=number)

    return on_image


def validate(training: Training, state: TrainState, loader: TrainLoader) -> TrainState:
    """Scores the validation images, chooses the threshold, and notes whether this is the best."""
    started = time.monotonic()
    on_image = telling(training.comm, training.records, state.step, training.dataset.splits.val)
    on_image(0, len(training.dataset.splits.val))
    training.predictor.members[0].load(weights_for_evaluation(training.net, training.step))
    samples = training.dataset.splits.val
    scores = score_samples(
        training.predictor, training.dataset, samples, training.comm, on_image=on_image
    )
    threshold, source = threshold_for(training.config, scores)
    summary = summary_of(training.config, "val", scores, threshold, source)
    judged = state.judged(summary.dice, threshold)
    record = training.records.write(
        "eval",
        step=state.step,
        epoch=state.step / loader.steps_per_epoch,
        split="val",
        dice=summary.dice,
        iou=summary.mean.iou,
        dice_of_class=dice_of_classes(summary, training.config.data),
        threshold=threshold,
        dice_by_threshold=threshold_curve(scores),
        images=summary.images,
        latency_ms=training.predictor.members[0].latency_ms() if training.is_trial else None,
        best=judged is not state,
        tied=summary.dice == state.best_dice,
        duration_s=time.monotonic() - started,
    )
    if training.board:
        training.board.evaluation(record)
        dice = {score.id: quality.dice for score, quality in summary.per_image}
        shown = samples[: training.config.log.images]
        rows = [
            picture_row(training.predictor, training.dataset, sample, threshold, dice[sample.id])
            for sample in shown
        ]
        training.board.images(state.step, rows)
    return judged


def dice_of_classes(summary: EvalSummary, data: DataConfig) -> dict[str, float]:
    """By the classes' names; empty with one foreground class, whose Dice is the Dice."""
    if data.classes == 2:
        return {}
    dice = (one.dice for one in summary.per_class)
    return dict(zip(data.names[1:], dice, strict=True))


def save(training: Training, state: TrainState) -> None:
    training.comm.heartbeat.beat("checkpoint", step=state.step)
    collected = collect(training.net, training.step, state, training.comm)
    if training.comm.rank == 0:
        started = time.monotonic()
        save_checkpoint(
            training.run.checkpoints,
            collected.checkpoint,
            keep=training.config.checkpoint.keep,
            best=state.best_step == state.step,
        )
        training.records.write(
            "checkpoint",
            step=state.step,
            sha256=collected.sha256,
            duration_s=time.monotonic() - started,
        )
