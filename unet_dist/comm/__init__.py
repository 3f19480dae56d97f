"""How ranks talk: one interface, over MPI for simulated ranks, over MindSpore for cards.

Everything beyond these methods is arithmetic on what ``all_gather`` returns, in rank order, so
that all ranks compute the same bits.
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unet_dist.heartbeat import Heartbeat


class Communicator(Protocol):
    rank: int
    world: int
    heartbeat: Heartbeat
    """Told of every collective operation."""

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Every rank's bytes, in rank order. Lengths may differ."""

    def broadcast(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rank 0's vector, on every rank."""

    def graph_sum(self) -> Any:
        """A MindSpore cell that sums a float32 tensor over ranks, for use inside a graph; its
        gradient is summed likewise. It has the attribute ``world``."""

    def gradient_sum(self) -> Any:
        """A cell that sums a tuple of gradients inside the backward graph, or None where
        ``host_sum`` does it between graphs."""

    def host_sum(self, flat: NDArray[np.float32]) -> None:
        """Sums a vector over ranks in place, on the host."""


def gather_objects(comm: Communicator, value: Any) -> list[Any]:
    """Every rank's JSON value, in rank order."""
    return [json.loads(item) for item in comm.all_gather(json.dumps(value).encode())]


def mean_over_ranks(
    comm: Communicator, arrays: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Means in float64 and rank order, so the same bits on every rank."""
    if not arrays or comm.world == 1:
        return [np.array(array) for array in arrays]
    flat = np.concatenate([array.ravel() for array in arrays])
    parts = [np.frombuffer(part, np.float32) for part in comm.all_gather(flat.tobytes())]
    mean = np.asarray(np.mean(np.stack(parts), axis=0, dtype=np.float64))
    return split_like(mean.astype(np.float32), arrays)


def split_like(
    flat: NDArray[np.float32], arrays: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Cuts a vector into pieces of the arrays' shapes, in their order."""
    ends = np.cumsum([array.size for array in arrays])[:-1]
    return [
        piece.reshape(array.shape)
        for piece, array in zip(np.split(flat, ends), arrays, strict=True)
    ]


def barrier(comm: Communicator) -> None:
    comm.all_gather(b"")
