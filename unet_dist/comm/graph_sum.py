"""Sums over ranks as nodes of a MindSpore graph."""

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from numpy.typing import NDArray

from unet_dist.comm import Communicator


def _same(value: Any) -> Any:
    return value


def _summed(comm: Communicator) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def summed(x: NDArray[np.float32]) -> NDArray[np.float32]:
        total = np.array(x)
        comm.host_sum(total)
        return total

    return summed


class HostSum(nn.Cell):
    """Leaves the graph for the sum: the only way for MPI on the CPU."""

    def __init__(self, comm: Communicator) -> None:
        super().__init__()
        self.world = comm.world
        self.operator = ops.Custom(_summed(comm), _same, _same, func_type="pyfunc")

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.operator(x)

    def bprop(self, x: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple[ms.Tensor]:
        return (self.operator(dout),)


class DeviceSum(nn.Cell):
    """MindSpore's all-reduce: HCCL on Ascend, MCCL on the CPU."""

    def __init__(self, world: int) -> None:
        super().__init__()
        self.world = world
        self.operator = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.operator(x)
