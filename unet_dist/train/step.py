"""One optimiser step, as graphs with the sum over ranks between or inside them.

backward (per accumulation step) -> sum over ranks -> global norm -> clip and update.

The sum carries the loss and the counts of the training Dice with the gradients, so a step has
one point where ranks meet. The overflow test comes after it: an inf on one rank is then inf on
all, so that every rank skips the same step without asking.
"""

import math
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from unet_dist.comm import Communicator, split_like
from unet_dist.config import LossConfig, TrainConfig
from unet_dist.data.loader import Batch
from unet_dist.model.losses import loss_sums
from unet_dist.model.unet import UNet

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


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
        weight: ms.Tensor,
        scale: ms.Tensor,
        stop: ms.Tensor,
    ) -> tuple[ms.Tensor, ms.Tensor]:
        loss, intersection, predicted, truth = loss_sums(
            self.net(x, keep), target, valid, weight, self.config
        )
        counts = ops.stack((loss, intersection, predicted, truth, weight.sum(), stop))
        return loss * scale, counts


class _Update(nn.Cell):
    """Clipping, the optimiser and the moving average of the weights.

    The update itself is MindSpore's fused operator (Adam with bias correction, Momentum); the
    decay of AdamW is applied to the weights before it, not to norms and biases.
    """

    def __init__(self, parameters: list[ms.Parameter], config: TrainConfig) -> None:
        super().__init__(auto_prefix=False)
        self.weights = ms.ParameterTuple(parameters)
        self.adamw = config.optimizer == "adamw"
        self.first = self.weights.clone("moment1", "zeros")
        self.second = self.weights.clone("moment2", "zeros") if self.adamw else ()
        self.average = self.weights.clone("average", "same") if config.ema else ()
        self.adam = ops.Adam()
        self.apply_momentum = ops.ApplyMomentum()
        self.decay = config.weight_decay
        self.momentum = config.momentum

    def construct(
        self,
        gradients: tuple[ms.Tensor, ...],
        factor: ms.Tensor,
        lr: ms.Tensor,
        power1: ms.Tensor,
        power2: ms.Tensor,
        average_decay: ms.Tensor,
    ) -> ms.Tensor:
        done = factor
        for i in range(len(gradients)):
            weight = self.weights[i]
            gradient = gradients[i] * factor
            decays = self.decay > 0 and weight.ndim > 1
            if self.adamw:
                if decays:
                    ops.assign(weight, weight * (1 - lr * self.decay))
                self.adam(
                    weight,
                    self.first[i],
                    self.second[i],
                    power1,
                    power2,
                    lr,
                    BETA1,
                    BETA2,
                    EPSILON,
                    gradient,
                )
            else:
                if decays:
                    gradient = gradient + self.decay * weight
                self.apply_momentum(weight, self.first[i], lr, gradient, self.momentum)
            if self.average:
                moved = average_decay * self.average[i] + (1 - average_decay) * weight
                ops.assign(self.average[i], moved)
        return done


class TrainStep:
    """Owns the weights' optimiser state and the compiled graphs of a rank."""

    def __init__(
        self, net: UNet, *, loss: LossConfig, train: TrainConfig, comm: Communicator
    ) -> None:
        self.comm = comm
        self.config = train
        self.parameters = net.trainable_params()
        backward = _Backward(net, loss)
        backward.set_train()
        self._update_cell = update = _Update(self.parameters, train)
        gradient_sum = comm.gradient_sum() if comm.world > 1 else None
        # Inside the backward graph the sum overlaps with the computation. With accumulation it
        # must wait for the last part, and runs as a graph of its own.
        fused = gradient_sum is not None and train.accumulation == 1
        differentiate = ms.value_and_grad(backward, None, self.parameters, has_aux=True)

        @ms.jit
        def backward_graph(x, keep, target, valid, weight, scale, stop):  # type: ignore[no-untyped-def]
            (_, counts), gradients = differentiate(
                x, keep, target, valid, weight, scale, stop
            )
            tensors = (counts,) + gradients
            return gradient_sum(tensors) if fused else tensors

        @ms.jit
        def sum_graph(tensors):  # type: ignore[no-untyped-def]
            return gradient_sum(tensors)

        @ms.jit
        def add_graph(left, right):  # type: ignore[no-untyped-def]
            total = ()
            for i in range(len(left)):
                total = total + (left[i] + right[i],)
            return total

        @ms.jit
        def norm_graph(gradients):  # type: ignore[no-untyped-def]
            squares = ()
            for gradient in gradients:
                squares = squares + ((gradient * gradient).sum(),)
            return ops.sqrt(ops.stack(squares).sum())

        @ms.jit
        def update_graph(gradients, factor, lr, power1, power2, decay):  # type: ignore[no-untyped-def]
            return update(gradients, factor, lr, power1, power2, decay)

        self._backward, self._add, self._norm = backward_graph, add_graph, norm_graph
        self._update = update_graph
        if comm.world == 1 or fused:
            self._sum_over_ranks = _unchanged
        else:
            self._sum_over_ranks = self._sum_on_host if gradient_sum is None else sum_graph

    def optimizer_state(self) -> dict[str, ms.Parameter]:
        update = self._update_cell
        return {p.name: p for p in (*update.first, *update.second)}

    def averaged_weights(self) -> list[ms.Parameter]:
        """The moving average, in the order of ``parameters``; the weights if there is none."""
        return list(self._update_cell.average) or self.parameters

    def averages(self) -> dict[str, ms.Parameter]:
        return {p.name: p for p in self._update_cell.average}

    def gradients(
        self, batches: list[Batch], *, loss_scale: float, stop: bool
    ) -> tuple[NDArray[np.float32], tuple[ms.Tensor, ...]]:
        """Counts and gradients, summed over ranks and the step's batches.

        The loss is divided by the images of the whole step, so sums are means.
        """
        scale = _scalar(loss_scale / batches[0].step_images)
        total: tuple[ms.Tensor, ...] = ()
        for i, batch in enumerate(batches):
            tensors = self._backward(
                ms.Tensor(batch.x_nchw),
                ms.Tensor(batch.keep_nc),
                ms.Tensor(batch.target_nhw),
                ms.Tensor(batch.valid_nhw),
                ms.Tensor(batch.weight_n),
                scale,
                _scalar(float(stop and i == 0)),
            )
            total = self._add(total, tensors) if total else tensors
        total = self._sum_over_ranks(total)
        return total[0].asnumpy(), total[1:]

    def _sum_on_host(self, tensors: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        arrays = [tensor.asnumpy() for tensor in tensors]
        flat = np.concatenate([array.ravel() for array in arrays])
        self.comm.host_sum(flat)
        return tuple(ms.Tensor(piece) for piece in split_like(flat, arrays))

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
        counts, gradients = self.gradients(batches, loss_scale=loss_scale, stop=stop)
        norm = float(self._norm(gradients).asnumpy()) / loss_scale
        overflow = not math.isfinite(norm)
        if not overflow:
            limit = self.config.clip_norm
            clip = min(1.0, limit / norm) if limit and norm > 0 else 1.0
            self._update(
                gradients,
                _scalar(clip / loss_scale),
                _scalar(lr),
                _scalar(BETA1 ** (updates + 1)),
                _scalar(BETA2 ** (updates + 1)),
                _scalar(average_decay),
            )
        loss, intersection, predicted, truth, images, stops = (float(c) for c in counts)
        areas = predicted + truth
        return StepResult(
            loss=loss / images,
            dice=2 * intersection / areas if areas else math.nan,
            gradient_norm=norm,
            overflow=overflow,
            stop=stops > 0,
        )


def _unchanged(tensors: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
    return tensors


def _scalar(value: float) -> ms.Tensor:
    return ms.Tensor(np.float32(value))
