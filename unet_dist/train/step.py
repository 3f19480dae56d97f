"""One optimiser step, as graphs with the sum over ranks between or inside them.

backward (per accumulation step) -> sum over ranks -> global norm -> clip and update.

The sum carries the loss and the counts of the training Dice with the gradients, so a step has
one point where ranks meet. The overflow test comes after it: an inf on one rank is then inf on
all, so that every rank skips the same step without asking.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from unet_dist.comm import Communicator, split_like
from unet_dist.config import LossConfig, TrainConfig
from unet_dist.data.loader import Batch
from unet_dist.model.losses import loss_sums
from unet_dist.model.unet import UNet, put

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
NUM_COUNTS = 6
"""Numbers that precede the gradients in the vector that is summed over ranks."""
ROW = 4096
"""Numbers that a thread sums by itself."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Over all ranks, before the update."""

    loss: float
    dice: float
    """Of all pixels of the step's crops, at probability 0.5; NaN without any foreground."""
    gradient_norm: float
    overflow: bool
    stop: bool
    """Some rank asked to stop."""


class _Backward(nn.Cell):
    def __init__(self, net: UNet, config: LossConfig) -> None:
        super().__init__(auto_prefix=False)
        self.net = net
        self.config = config

    def construct(
        self,
        x: ms.Tensor,
        keep: ms.Tensor,
        target: ms.Tensor,
        valid: ms.Tensor,
        skeleton: ms.Tensor,
        weight: ms.Tensor,
        scale: ms.Tensor,
        stop: ms.Tensor,
    ) -> tuple[ms.Tensor, ms.Tensor]:
        stages = self.net.stages(x, keep)
        loss, intersection, predicted, truth = loss_sums(
            stages[-1], target, valid, skeleton, weight, self.config
        )
        for logits in stages[:-1]:
            loss = loss + loss_sums(logits, target, valid, skeleton, weight, self.config)[0]
        loss = loss / len(stages)
        counts = ops.stack((loss, intersection, predicted, truth, weight.sum(), stop))
        return loss * scale, counts


class _Update(nn.Cell):
    """Clipping, the optimiser and the moving average, on all weights as one vector.

    As one vector the graph has tens of nodes instead of a thousand, and compiles in a fifth of
    the time. The update itself is MindSpore's fused operator (Adam with bias correction,
    Momentum); AdamW's decay comes before it, and spares norms and biases.
    """

    def __init__(self, parameters: list[ms.Parameter], config: TrainConfig) -> None:
        super().__init__(auto_prefix=False)
        self.parameters_of_net = ms.ParameterTuple(parameters)
        self.sizes = tuple(parameter.size for parameter in parameters)
        self.starts = tuple(sum(self.sizes[:i]) for i in range(len(self.sizes)))
        self.shapes = tuple(parameter.shape for parameter in parameters)
        self.slice = ops.Slice()
        self.assign = ops.Assign()
        self.reshape = ops.Reshape()
        flat = np.concatenate([parameter.asnumpy().ravel() for parameter in parameters])
        decays = [np.full(p.size, config.weight_decay * (p.ndim > 1)) for p in parameters]
        self.decay = ms.Tensor(np.concatenate(decays).astype(np.float32))
        self.has_decay = config.weight_decay > 0
        self.adamw = config.optimizer == "adamw"
        self.has_average = config.ema > 0
        self.weights = ms.Parameter(ms.Tensor(flat), name="weights")
        self.moment1 = ms.Parameter(ms.Tensor(np.zeros_like(flat)), name="moment1")
        self.moment2 = ms.Parameter(ms.Tensor(np.zeros_like(flat)), name="moment2")
        self.average = ms.Parameter(ms.Tensor(flat), name="average")
        self.adam = ops.Adam()
        self.apply_momentum = ops.ApplyMomentum()
        self.momentum = config.momentum

    def construct(
        self,
        gradient: ms.Tensor,
        factor: ms.Tensor,
        lr: ms.Tensor,
        power1: ms.Tensor,
        power2: ms.Tensor,
        average_decay: ms.Tensor,
    ) -> ms.Tensor:
        gradient = gradient * factor
        if self.adamw:
            if self.has_decay:
                ops.assign(self.weights, self.weights * (1 - lr * self.decay))
            self.adam(
                self.weights,
                self.moment1,
                self.moment2,
                power1,
                power2,
                lr,
                BETA1,
                BETA2,
                EPSILON,
                gradient,
            )
        else:
            if self.has_decay:
                gradient = gradient + self.decay * self.weights
            self.apply_momentum(self.weights, self.moment1, lr, gradient, self.momentum)
        if self.has_average:
            moved = average_decay * self.average + (1 - average_decay) * self.weights
            ops.assign(self.average, moved)
        for i in range(len(self.sizes)):
            piece = self.slice(self.weights, (self.starts[i],), (self.sizes[i],))
            self.assign(self.parameters_of_net[i], self.reshape(piece, self.shapes[i]))
        return factor


class TrainStep:
    """Owns the optimiser's state and the compiled graphs of a rank."""

    def __init__(
        self, net: UNet, *, loss: LossConfig, train: TrainConfig, comm: Communicator
    ) -> None:
        self.comm = comm
        self.config = train
        self.parameters = net.trainable_params()
        backward = _Backward(net, loss)
        backward.set_train()
        # The graph of a function, unlike that of a cell, does not do this by itself: kernels are
        # named by their place in the network, which profiles tell time by.
        backward.generate_scope()
        self._state = update = _Update(self.parameters, train)
        gradient_sum = comm.gradient_sum() if comm.world > 1 else None
        self._sums_in_graph = gradient_sum is not None
        # Inside the backward graph the sum overlaps with the computation. With accumulation it
        # must wait for the last part, and runs as a graph of its own.
        fused = gradient_sum is not None and train.accumulation == 1
        reshape, concat = ops.Reshape(), ops.Concat()
        differentiate = ms.value_and_grad(backward, None, self.parameters, has_aux=True)

        @ms.jit
        def backward_graph(x, keep, target, valid, skeleton, weight, scale, stop):  # type: ignore[no-untyped-def]
            (_, counts), gradients = differentiate(
                x, keep, target, valid, skeleton, weight, scale, stop
            )
            tensors = (counts,) + gradients
            if fused:
                tensors = gradient_sum(tensors)  # type: ignore[misc]
            flat: tuple[ms.Tensor, ...] = ()
            for tensor in tensors:
                flat = flat + (reshape(tensor, (-1,)),)
            return concat(flat)

        @ms.jit
        def sum_graph(flat):  # type: ignore[no-untyped-def]
            return gradient_sum((flat,))[0]  # type: ignore[misc]

        @ms.jit
        def add_graph(left, right):  # type: ignore[no-untyped-def]
            return left + right

        @ms.jit
        def norm_graph(flat):  # type: ignore[no-untyped-def]
            return flat[:NUM_COUNTS], norm_of(flat[NUM_COUNTS:])

        @ms.jit
        def update_graph(flat, factor, lr, power1, power2, decay):  # type: ignore[no-untyped-def]
            return update(flat[NUM_COUNTS:], factor, lr, power1, power2, decay)

        self._backward, self._add, self._norm = backward_graph, add_graph, norm_graph
        self._update = update_graph
        self._sum_over_ranks: Callable[[ms.Tensor], ms.Tensor]
        if comm.world == 1 or fused:
            self._sum_over_ranks = _unchanged
        else:
            self._sum_over_ranks = self._sum_on_host if gradient_sum is None else sum_graph

    def optimizer_state(self) -> dict[str, ms.Parameter]:
        """Vectors over all weights, in the order of ``parameters``."""
        names = ("moment1", "moment2") if self._state.adamw else ("moment1",)
        return {name: getattr(self._state, name) for name in names}

    def averaged_weights(self) -> dict[str, NDArray[np.float32]]:
        """The moving average by the parameters' names; the weights themselves without one."""
        flat = self._state.average if self._state.has_average else self._state.weights
        arrays = split_like(flat.asnumpy(), [p.asnumpy() for p in self.parameters])
        return {p.name: array for p, array in zip(self.parameters, arrays, strict=True)}

    def take_weights(self, average: Mapping[str, NDArray[np.float32]]) -> None:
        """Makes the optimiser work on the network's present weights and the given average."""
        weights = [parameter.asnumpy() for parameter in self.parameters]
        averages = [average.get(p.name, w) for p, w in zip(self.parameters, weights, strict=True)]
        for vector, arrays in ((self._state.weights, weights), (self._state.average, averages)):
            put(vector, np.concatenate([array.ravel() for array in arrays]))

    def summed(self, batches: list[Batch], *, loss_scale: float, stop: bool) -> ms.Tensor:
        """Counts and gradients as one vector, summed over ranks and the step's batches.

        The loss is divided by the images of the whole step, so sums are means.
        """
        scale = _scalar(loss_scale / batches[0].step_images)
        total = None
        for i, batch in enumerate(batches):
            flat = self._backward(
                ms.Tensor(batch.x_nchw),
                ms.Tensor(batch.keep_nc),
                ms.Tensor(batch.target_nhw),
                ms.Tensor(batch.valid_nhw),
                ms.Tensor(batch.skeleton_nhw),
                ms.Tensor(batch.weight_n),
                scale,
                _scalar(float(stop and i == 0)),
            )
            total = flat if total is None else self._add(total, flat)
        return self._sum_over_ranks(total)

    def _sum_on_host(self, flat: ms.Tensor) -> ms.Tensor:
        summed = np.array(flat.asnumpy())
        self.comm.host_sum(summed)
        return ms.Tensor(summed)

    def __call__(
        self,
        batches: list[Batch],
        *,
        updates: int,
        lr: float,
        average_decay: float,
        loss_scale: float,
        stop: bool,
    ) -> StepResult:
        """One step; the weights stay as they are if a gradient is not finite.

        Args:
            batches: one for each accumulation step.
            updates: optimiser updates so far, for Adam's bias correction.
        """
        # Where the sum is part of a graph, being in the graph is all that can be told.
        told = self.comm.heartbeat.waiting("the step's graph")
        with told if self._sums_in_graph else nullcontext():
            flat = self.summed(batches, loss_scale=loss_scale, stop=stop)
            counts, scaled_norm = self._norm(flat)
            norm = float(scaled_norm.asnumpy()) / loss_scale
        overflow = not math.isfinite(norm)
        if not overflow:
            limit = self.config.clip_norm
            clip = min(1.0, limit / norm) if limit and norm > 0 else 1.0
            self._update(
                flat,
                _scalar(clip / loss_scale),
                _scalar(lr),
                _scalar(BETA1 ** (updates + 1)),
                _scalar(BETA2 ** (updates + 1)),
                _scalar(average_decay),
            )
        loss, intersection, predicted, truth, images, stops = map(float, counts.asnumpy())
        areas = predicted + truth
        return StepResult(
            loss=loss / images,
            dice=2 * intersection / areas if areas else math.nan,
            gradient_norm=norm,
            overflow=overflow,
            stop=stops > 0,
        )


def norm_of(vector: ms.Tensor) -> ms.Tensor:
    """The Euclidean norm, in a graph: the same bits each time, on every rank.

    MindSpore's CPU kernel adds the parts of a sum over more than 200,000 numbers in the order in
    which its threads end. A rank whose norm differs by a rounding clips by another factor, and its
    weights leave those of the others. So rows are summed first.
    """
    squares = vector * vector
    length = vector.shape[0]
    whole = length - length % ROW
    if whole == 0:
        return ops.sqrt(squares.sum())
    total = squares[:whole].reshape((-1, ROW)).sum(axis=1).sum()
    # The sum of no number would be whatever the memory holds.
    if whole < length:
        total = total + squares[whole:].sum()
    return ops.sqrt(total)


def _unchanged(flat: ms.Tensor) -> ms.Tensor:
    return flat


def _scalar(value: float) -> ms.Tensor:
    return ms.Tensor(np.float32(value))
