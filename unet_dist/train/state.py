"""The state of a training between the network, the optimiser and a checkpoint."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from unet_dist.comm import Communicator, gather_objects, mean_over_ranks, split_like
from unet_dist.config import Config
from unet_dist.model.unet import UNet, put
from unet_dist.train.checkpoint import PARTS, Checkpoint, TrainState, weights_digest
from unet_dist.train.starting import starting_weights
from unet_dist.train.step import TrainStep


class RanksDiffer(RuntimeError):
    """Weights that must be the same on all ranks are not. A training starts again from the last
    checkpoint, where they were."""


class Collected(NamedTuple):
    checkpoint: Checkpoint
    sha256: str
    """Of all arrays, equal on all ranks."""


def restore(
    net: UNet,
    step: TrainStep,
    checkpoint: Checkpoint | None,
    config: Config,
    comm: Communicator,
) -> TrainState:
    """Puts a checkpoint into the network and the optimiser, or the weights to start from into the
    network, then rank 0's weights on all."""
    if checkpoint is None:
        if config.train.start_from and comm.rank == 0:
            parameters = net.parameters_dict()
            shapes = {name: parameter.shape for name, parameter in parameters.items()}
            start = starting_weights(Path(config.train.start_from), shapes)
            for name, array in start.items():
                put(parameters[name], array)
        broadcast_parameters(comm, list(net.get_parameters()))
        step.take_weights({})
        scale = config.train.loss_scale if config.train.amp == "fp16" else 1.0
        return TrainState(seed=config.seed, loss_scale=scale)
    stored = {**checkpoint.weights, **checkpoint.optimizer}
    for name, parameter in {**net.parameters_dict(), **step.optimizer_state()}.items():
        put(parameter, stored[name])
    broadcast_parameters(comm, list(net.get_parameters()))
    step.take_weights(checkpoint.average)
    return checkpoint.state


def broadcast_parameters(comm: Communicator, parameters: list[ms.Parameter]) -> None:
    if comm.world == 1:
        return
    arrays = [parameter.asnumpy() for parameter in parameters]
    flat = comm.broadcast(np.concatenate([array.ravel() for array in arrays]))
    for parameter, array in zip(parameters, split_like(flat, arrays), strict=True):
        put(parameter, array)


def weights_for_evaluation(net: UNet, step: TrainStep) -> dict[str, NDArray[np.float32]]:
    """The moving average of the weights, with the running statistics as they are."""
    weights = {name: p.asnumpy() for name, p in net.parameters_dict().items()}
    return {**weights, **step.averaged_weights()}


def average_statistics(net: UNet, comm: Communicator) -> None:
    """Makes the running statistics of batch norm the same on all ranks: their mean."""
    statistics = [p for p in net.get_parameters() if not p.requires_grad]
    if comm.world == 1 or not statistics:
        return
    means = mean_over_ranks(comm, [p.asnumpy() for p in statistics])
    for parameter, mean in zip(statistics, means, strict=True):
        put(parameter, mean)


def collect(net: UNet, step: TrainStep, state: TrainState, comm: Communicator) -> Collected:
    """The checkpoint of this moment, proved to be the same on all ranks; their running
    statistics must have been averaged."""
    checkpoint = Checkpoint(
        state=state,
        weights={name: p.asnumpy() for name, p in net.parameters_dict().items()},
        optimizer={name: p.asnumpy() for name, p in step.optimizer_state().items()},
        average=step.averaged_weights(),
    )
    everything = {
        f"{part}.{name}": array
        for part in PARTS
        for name, array in getattr(checkpoint, part).items()
    }
    digests = gather_objects(comm, weights_digest(everything))
    return Collected(checkpoint, agreed(digests, state.step))


def agreed(digests: Sequence[str], step: int) -> str:
    """The digest of all ranks.

    Raises:
        RanksDiffer: it names the ranks outside the largest group.
    """
    [(common, _)] = Counter(digests).most_common(1)
    strangers = [number for number, digest in enumerate(digests) if digest != common]
    if strangers:
        raise RanksDiffer(
            f"step {step}: the weights of ranks {strangers} differ from those of the others: "
            "a card, a link or memory is faulty, or a kernel adds in no fixed order"
        )
    return common
