"""Normalisation layers: of one image (group, instance), of a rank's images, of all ranks'."""

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer

from unet_dist.model.norm_rules import EPSILON, groups_of

Tensors = tuple[ms.Tensor, ...]

KEEP_STATISTICS = 0.9
"""Share of the old running statistics that one step keeps."""


def make_norm(kind: str, channels: int, all_reduce: nn.Cell | None) -> nn.Cell:
    """The norm of that kind; ``all_reduce`` sums a tensor over ranks, None for one rank."""
    if kind == "none":
        return nn.Identity()
    if kind in ("group", "instance"):
        return GroupNorm(channels, channels if kind == "instance" else groups_of(channels))
    if kind == "batch" or all_reduce is None:
        norm = nn.BatchNorm2d(channels, eps=EPSILON, momentum=KEEP_STATISTICS)
    else:
        norm = SyncBatchNorm(channels, all_reduce)
    norm.is_norm = True
    return norm


class GroupNorm(nn.Cell):
    """Group normalisation (Wu and He, arXiv:1803.08494); one channel a group is instance norm.

    MindSpore's own InstanceNorm2d has no CPU kernel; this operator runs everywhere.
    """

    is_norm = True

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.gamma = Parameter(initializer("ones", channels), name="gamma")
        self.beta = Parameter(initializer("zeros", channels), name="beta")

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return ops.group_norm(x, self.groups, self.gamma, self.beta, EPSILON)


class SyncBatchNorm(nn.Cell):
    """Batch norm whose statistics, forward and backward, are those of all ranks' images.

    MindSpore's own is for Ascend alone, so that no simulated rank would prove it. The names are
    those of nn.BatchNorm2d, so a checkpoint fits either. Every rank holds equally many pixels.
    """

    def __init__(self, channels: int, all_reduce: nn.Cell) -> None:
        super().__init__()
        self.gamma = Parameter(initializer("ones", channels), name="gamma")
        self.beta = Parameter(initializer("zeros", channels), name="beta")
        self.moving_mean = Parameter(
            initializer("zeros", channels), name="moving_mean", requires_grad=False
        )
        self.moving_variance = Parameter(
            initializer("ones", channels), name="moving_variance", requires_grad=False
        )
        self.normalise = _Normalise(all_reduce)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.training:
            return _scale_and_shift(
                x, self.moving_mean, self.moving_variance, self.gamma, self.beta
            )
        y, mean, variance = self.normalise(x, self.gamma, self.beta)
        keep, new = KEEP_STATISTICS, 1 - KEEP_STATISTICS
        new_mean = keep * self.moving_mean + new * ops.stop_gradient(mean)
        new_variance = keep * self.moving_variance + new * ops.stop_gradient(variance)
        updates = (
            ops.assign(self.moving_mean, new_mean),
            ops.assign(self.moving_variance, new_variance),
        )
        return ops.depend(y, updates)


def _scale_and_shift(
    x: ms.Tensor, mean: ms.Tensor, variance: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor
) -> ms.Tensor:
    scale = (gamma / ops.sqrt(variance + EPSILON)).reshape(1, -1, 1, 1)
    return (x - mean.reshape(1, -1, 1, 1)) * scale + beta.reshape(1, -1, 1, 1)


class _Normalise(nn.Cell):
    """``(x, gamma, beta) -> (y, mean, variance)`` over all ranks.

    The backward pass is written out (Ioffe and Szegedy, arXiv:1502.03167, section 3): it needs
    one all-reduce, and MindSpore's automatic one takes minutes to compile for three levels.
    """

    def __init__(self, all_reduce: nn.Cell) -> None:
        super().__init__()
        self.all_reduce = all_reduce
        self.world = all_reduce.world

    def construct(
        self, x: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        channels = x.shape[1]
        pixels = x.size // channels * self.world
        # First the mean, then squares about it: E[x^2] - E[x]^2 would cancel in float32.
        mean = self.all_reduce(x.sum(axis=(0, 2, 3))) / pixels
        centred = x - mean.reshape(1, channels, 1, 1)
        variance = self.all_reduce((centred * centred).sum(axis=(0, 2, 3))) / pixels
        return _scale_and_shift(x, mean, variance, gamma, beta), mean, variance

    def bprop(
        self, x: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor, out: Tensors, dout: Tensors
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        channels = x.shape[1]
        pixels = x.size // channels * self.world
        inverse = 1 / ops.sqrt(out[2] + EPSILON)
        normed = (x - out[1].reshape(1, channels, 1, 1)) * inverse.reshape(1, channels, 1, 1)
        dy = dout[0]
        # This rank's share: the gradients of parameters are summed over ranks later.
        dbeta = dy.sum(axis=(0, 2, 3))
        dgamma = (dy * normed).sum(axis=(0, 2, 3))
        means = self.all_reduce(ops.concat((dbeta, dgamma))) / pixels
        mean_dy = means[:channels].reshape(1, channels, 1, 1)
        mean_dy_normed = means[channels:].reshape(1, channels, 1, 1)
        scale = (gamma * inverse).reshape(1, channels, 1, 1)
        return scale * (dy - mean_dy - normed * mean_dy_normed), dgamma, dbeta
