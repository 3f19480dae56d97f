"""Ranks over MindSpore's own collectives: HCCL on Ascend cards, MCCL on the CPU.

On the CPU only SUM, all-gather and broadcast of float32 exist, so everything is built of them.
"""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import communication, nn, ops
from numpy.typing import NDArray

from unet_dist.heartbeat import Heartbeat

SMALLEST_BLOCK = 1024
"""Payloads are padded to this times a power of two: each new shape compiles a graph."""


class _Gather(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.operator = ops.AllGather()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.operator(x)


class _Broadcast(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.operator = ops.Broadcast(0)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.operator((x,))[0]


class MindsporeCommunicator:
    """Construct it after the device is chosen and before any network is built."""

    def __init__(self, heartbeat: Heartbeat | None = None) -> None:
        self.heartbeat = heartbeat or Heartbeat()
        with self.heartbeat.waiting("the start of MindSpore's cluster"):
            communication.init()
        self.rank: int = communication.get_rank()
        self.world: int = communication.get_group_size()
        self._gather = _Gather()
        self._broadcast = _Broadcast()

    def all_gather(self, payload: bytes) -> list[bytes]:
        lengths = self._gather_floats(np.array([len(payload) // 4096, len(payload) % 4096]))
        sizes = [int(high) * 4096 + int(low) for high, low in lengths.reshape(-1, 2)]
        longest = max(sizes)
        if longest == 0:
            return [b""] * self.world
        # A byte is a whole number that float32 holds exactly.
        padded = np.zeros(max(SMALLEST_BLOCK, 1 << (longest - 1).bit_length()))
        padded[: len(payload)] = np.frombuffer(payload, np.uint8)
        rows = self._gather_floats(padded).reshape(self.world, -1).astype(np.uint8)
        return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]

    def _gather_floats(self, values: NDArray[Any]) -> NDArray[np.float32]:
        with self.heartbeat.waiting("all-gather"):
            gathered: NDArray[np.float32] = self._gather(
                ms.Tensor(values.astype(np.float32))
            ).asnumpy()
        return gathered

    def broadcast(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        with self.heartbeat.waiting("broadcast"):
            received: NDArray[np.float32] = self._broadcast(ms.Tensor(flat)).asnumpy()
        return np.array(received)

    def host_sum(self, flat: NDArray[np.float32]) -> None:
        raise AssertionError("gradients are summed inside the graph")

    def gradient_sum(self) -> Any:
        return GradientSum()

    def graph_sum(self) -> Any:
        from unet_dist.comm.graph_sum import DeviceSum

        return DeviceSum(self.world)


class GradientSum(nn.Cell):
    """Sums a tuple of gradients; on Ascend MindSpore fuses the all-reduces of a group and
    overlaps them with the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.operator = ops.AllReduce(ops.ReduceOp.SUM)
        self.operator.add_prim_attr("fusion", 1)

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        summed: tuple[ms.Tensor, ...] = ()
        for gradient in gradients:
            summed = summed + (self.operator(gradient),)
        return summed
