"""The training loop of one rank, from its first step to its last checkpoint."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from unet_dist.comm import Communicator, gather_objects
from unet_dist.config import Config
from unet_dist.data.dataset import Dataset, Normalisation
from unet_dist.data.loader import TrainLoader
from unet_dist.errors import TrainingDiverged, UserError
from unet_dist.evaluate.forward import new_predictor
from unet_dist.model.target import on_cpu
from unet_dist.model.unet import UNet, build_unet, parameter_count, set_precision
from unet_dist.profiling.capture import CapturePlan
from unet_dist.records import RecordWriter
from unet_dist.report.tensorboard import TensorBoard
from unet_dist.runs import RunDir
from unet_dist.train.capture import Capture, captured
from unet_dist.train.checkpoint import TrainState, load_latest
from unet_dist.train.profiler import mindspore_profiler
from unet_dist.train.rungs import NO_RUNGS, Rungs, goes_on
from unet_dist.train.schedule import LossScale, average_decay, learning_rate
from unet_dist.train.state import average_statistics, restore
from unet_dist.train.step import StepResult, TrainStep
from unet_dist.train.training import Training, save, validate

SMALLEST_LOSS_SCALE = 1.0
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    stopped: bool
    """Stopped on request, before the last step."""
    state: TrainState
    paused_at_epoch: int | None = None
    """The rung of a search where it was paused."""


def train(
    config: Config,
    run: RunDir,
    dataset: Dataset,
    normalisation: Normalisation,
    comm: Communicator,
    *,
    resume: bool,
    until_dice: float,
    stop_requested: Callable[[], bool],
    rungs: Rungs = NO_RUNGS,
    profile: CapturePlan | None = None,
    is_trial: bool = False,
) -> Outcome:
    """Trains until the last step, until some rank is asked to stop, or until a search pauses it at
    a rung, and checkpoints there.

    Args:
        until_dice: the training is over once a validation exceeds this Dice; 0 for never.
    """
    net = build_net(config, comm)
    step = TrainStep(net, loss=config.loss, train=config.train, comm=comm)
    checkpoint, warnings = load_latest(run.checkpoints) if resume else (None, [])
    state = restore(net, step, checkpoint, config, comm)
    if len(set(steps := gather_objects(comm, state.step))) > 1:
        raise UserError(
            str(run.checkpoints),
            f"the ranks would go on from different steps, {steps}: all of them must see the same "
            "run folder",
        )
    loader = TrainLoader(
        dataset,
        config,
        rank=comm.rank,
        world=comm.world,
        mean=np.array(normalisation.mean, np.float32),
        std=np.array(normalisation.std, np.float32),
        dropout_channels=net.deepest_channels,
    )
    total_steps = config.train.epochs * loader.steps_per_epoch
    with (
        RecordWriter(run.records(comm.rank), resume_step=state.step) as records,
        TensorBoard(run.tensorboard, resumed_at=state.step)
        if comm.rank == 0
        else nullcontext() as board,
        captured(
            Capture(
                plan=profile,
                run=run,
                comm=comm,
                records=records,
                simulated=on_cpu(),
                make_profiler=mindspore_profiler,
            )
        ) as capture,
    ):
        training = Training(
            config=config,
            run=run,
            dataset=dataset,
            comm=comm,
            net=net,
            step=step,
            predictor=new_predictor(config, [normalisation]),
            records=records,
            board=board,
            capture=capture,
            is_trial=is_trial,
        )
        for warning in warnings:
            records.write("warning", step=state.step, message=warning)
        records.write("start", **arithmetic(config, comm, loader, net, state, total_steps))
        return run_steps(training, loader, state, total_steps, until_dice, stop_requested, rungs)


def run_steps(
    training: Training,
    loader: TrainLoader,
    state: TrainState,
    total_steps: int,
    until_dice: float,
    stop_requested: Callable[[], bool],
    rungs: Rungs,
) -> Outcome:
    config, records = training.config, training.records
    validate_every = config.evaluate.every_epochs * loader.steps_per_epoch
    save_every = config.checkpoint.every_epochs * loader.steps_per_epoch
    losses: list[float] = []
    mark = time.monotonic()
    heartbeat, phase = training.comm.heartbeat, "compile"
    rung = rungs.epoch_at(state.step, loader.steps_per_epoch)
    if rung is not None and not goes_on(training.run, rung, state.step, heartbeat):
        return Outcome(stopped=True, state=state, paused_at_epoch=rung)
    heartbeat.beat(phase, step=state.step + 1, doing="loading images")
    for waited in timed(loader.steps(state.step, total_steps)):
        training.capture.step_begins(state.step + 1, waited.waited_s)
        heartbeat.beat(phase, step=state.step + 1, doing="computing")
        lr = learning_rate(state.step, total_steps, config.train)
        result = training.step(
            waited.item,
            updates=state.updates,
            lr=lr,
            average_decay=average_decay(state.updates, config.train),
            loss_scale=state.loss_scale,
            stop=stop_requested(),
        )
        refuse_nonsense(result, state, config, losses, lr)
        losses = [*losses[-9:], result.loss]
        state = advance(state, result, config)
        duration_s = time.monotonic() - mark
        if state.step % config.log.every_steps == 0 or state.step == total_steps:
            record = records.write(
                "step",
                step=state.step,
                epoch=state.step / loader.steps_per_epoch,
                loss=result.loss,
                dice=result.dice,
                lr=lr,
                gradient_norm=result.gradient_norm,
                loss_scale=state.loss_scale,
                overflow=result.overflow,
                step_s=duration_s,
                data_wait_s=waited.waited_s,
                images_per_s=waited.item[0].step_images / duration_s,
            )
            if training.board:
                training.board.step(record)

        finished = state.step == total_steps
        last = finished or result.stop
        # Who is asked to stop has no time for a validation: the checkpoint comes first.
        rung = rungs.epoch_at(state.step, loader.steps_per_epoch)
        # A rung is judged even then: after a resume it would not be met again.
        due = finished or rung is not None or (state.step % validate_every == 0 and not last)
        validates = due and training.dataset.splits.val
        saves = validates or last or rung is not None or state.step % save_every == 0
        if saves:
            average_statistics(training.net, training.comm)
        if validates:
            with training.capture.beside("validation"):
                state = validate(training, state, loader)
            # All ranks know all scores, so all of them stop here.
            finished = finished or 0 < until_dice < state.best_dice
            last = last or finished
        if saves:
            with training.capture.beside("checkpoint"):
                save(training, state)
        training.capture.step_ends(state.step)
        if last:
            return Outcome(stopped=not finished, state=state)
        if rung is not None and not goes_on(training.run, rung, state.step, heartbeat):
            return Outcome(stopped=True, state=state, paused_at_epoch=rung)
        mark = time.monotonic()
        phase = "step"
        heartbeat.beat(phase, step=state.step + 1, doing="loading images")
    return Outcome(stopped=False, state=state)  # resumed at the end: nothing was left to do


def build_net(config: Config, comm: Communicator) -> UNet:
    sync = comm.world > 1 and config.model.norm == "sync_batch"
    net = build_unet(
        config.model,
        in_channels=config.data.in_channels,
        classes=config.data.classes,
        seed=config.seed,
        all_reduce=comm.graph_sum() if sync else None,
    )
    set_precision(net, config.train.amp)
    return net


def arithmetic(
    config: Config,
    comm: Communicator,
    loader: TrainLoader,
    net: UNet,
    state: TrainState,
    total_steps: int,
) -> dict[str, object]:
    """What a step and an epoch consist of, for the first record."""
    return {
        "step": state.step,
        "ranks": comm.world,
        "images_per_rank": config.train.batch // comm.world // config.train.accumulation,
        "accumulation": config.train.accumulation,
        "batch": config.train.batch,
        "crops": loader.num_crops,
        "crop_size": list(loader.size),
        "steps_per_epoch": loader.steps_per_epoch,
        "total_steps": total_steps,
        "parameters": parameter_count(net),
    }


def advance(state: TrainState, result: StepResult, config: Config) -> TrainState:
    state = replace(state, step=state.step + 1, updates=state.updates + (not result.overflow))
    if config.train.amp != "fp16":
        return state
    scale = LossScale(state.loss_scale, state.good_steps).after(
        overflow=result.overflow, window=config.train.loss_scale_window
    )
    return replace(state, loss_scale=scale.value, good_steps=scale.good_steps)


def refuse_nonsense(
    result: StepResult, state: TrainState, config: Config, losses: list[float], lr: float
) -> None:
    """Raises TrainingDiverged where a smaller loss scale would not help. All ranks decide alike,
    since they look at the same sums."""
    fp16 = config.train.amp == "fp16"
    if not result.overflow or (fp16 and state.loss_scale > SMALLEST_LOSS_SCALE):
        return
    # The step's own forward pass is bad only if earlier updates made the weights so.
    if not losses:
        cause = "the first step already: the images or the loss settings hold extreme values"
    elif fp16:
        cause = (
            f"fp16 overflows even at loss scale {state.loss_scale:g}: use train.amp=off, or a "
            f"smaller train.lr (now {lr:.3g})"
        )
    else:
        cause = f"most likely train.lr is too high (now {lr:.3g}); try train.lr={lr / 10:.1g}" + (
            "" if config.train.clip_norm else ", and set train.clip_norm=1"
        )
    before = ", ".join(f"{loss:.4g}" for loss in losses[-5:]) or "none"
    raise TrainingDiverged(
        f"step {state.step + 1}: the loss is {result.loss:.4g} and the norm of the gradients "
        f"{result.gradient_norm:.4g}; losses before: {before}. Cause: {cause}."
    )


@dataclass(frozen=True)
class Waited(Generic[Item]):
    item: Item
    waited_s: float


def timed(items: Iterable[Item]) -> Iterator[Waited[Item]]:
    """Items with how long each kept its reader waiting."""
    iterator = iter(items)
    while True:
        started = time.monotonic()
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield Waited(item, time.monotonic() - started)
