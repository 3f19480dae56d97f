"""Where the user wants the ranks, and how they are to be watched."""

import os
import re
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from unet_dist.cluster import host
from unet_dist.cluster.limits import Limits
from unet_dist.cluster.plan import Command, CommKind, LaunchPlan, make_plan, worker_command
from unet_dist.cluster.restart import RestartPolicy
from unet_dist.cluster.server.discover import cores_near_cards, host_addresses
from unet_dist.cluster.server.part import hosts_of
from unet_dist.cluster.tables.here import server_here
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.cluster.topology import (
    Host,
    Topology,
    from_rank_table,
    parse_part,
    parts_of_batch,
    simulated,
)
from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.runs import AttemptDir, RunDir

MASTER_PORT = 8118
CARD_RESTART_DELAY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Simulated ranks on this CPU or on hosts, or one rank on each card of a table."""

    simulate: int = 0
    rank_table: str = ""
    server_id: str = ""
    hosts: tuple[Host, ...] = ()
    """mpirun starts the ranks there."""
    part: str = ""
    """``I/N``: this command starts part I of the ranks, the others are started elsewhere."""
    master: str = ""
    """``HOST:PORT`` of part 0, for MindSpore's collectives on CPUs of several machines."""
    comm: CommKind = "mpi"
    bind_cores: bool = True
    """Give the rank of each card CPU cores of the card's NUMA node."""
    cores: tuple[int, ...] = ()
    """CPU cores that simulated ranks size their thread pools by; empty: all."""

    def __post_init__(self) -> None:
        parse_part(self.part)
        faults = []
        if self.simulate and self.rank_table:
            faults.append(
                "--simulate and --rank-table: choose one: simulated ranks on CPUs, or the cards "
                "of a table"
            )
        if self.rank_table and self.comm != "mpi":
            faults.append("--comm has no effect with --rank-table: cards use HCCL; leave it out")
        if self.server_id and not self.rank_table:
            faults.append("--server-id names a server of a --rank-table; there is none")
        if self.hosts and (self.part or self.server_id):
            faults.append("--hosts starts all ranks by mpirun; leave out --part and --server-id")
        if self.hosts and self.comm == "mindspore":
            faults.append("--comm mindspore takes no --hosts; start each machine with --part")
        if self.part and self.server_id:
            faults.append("--part and --server-id: one of them says which ranks are started here")
        meets = bool(self.part) and self.comm == "mindspore"
        if self.part and self.simulate and not meets:
            faults.append(
                "--part: simulated ranks that talk over MPI are started by one mpirun: use "
                "--hosts, or --comm mindspore"
            )
        if meets and not re.fullmatch(r".+:\d{1,5}", self.master):
            faults.append(
                f"--master is {self.master!r}, but must be HOST:PORT, reachable from all machines: "
                "the address of the one with part 0, and a free port there, such as "
                f"10.0.0.1:{MASTER_PORT}"
            )
        if self.master and not meets:
            faults.append("--master is for --comm mindspore with --part")
        if faults:
            raise UserError("where the ranks run", faults)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> "Placement":
        hosts = tuple(Host(**host) for host in value.get("hosts", ()))
        return cls(**{**value, "hosts": hosts, "cores": tuple(value.get("cores", ()))})

    def or_else(self, earlier: Mapping[str, Any]) -> "Placement":
        """This placement if it says where the ranks run, else the one of an earlier attempt with
        what this one says otherwise. Which part a command starts is said anew each time; without,
        all ranks run here."""
        if self.simulate or self.rank_table or not earlier:
            return self
        before, usual = Placement.of_json(earlier), Placement()
        said = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != getattr(usual, each.name)
        }
        anew: dict[str, Any] = {"part": "", "server_id": "", "cores": ()}
        if before.part and not self.part:
            anew |= {"master": "", "comm": "mpi"}
        return replace(before, **{**anew, **said})

    def topology(self) -> Topology:
        part = parse_part(self.part)
        if self.rank_table:
            path = Path(self.rank_table)
            table = load_rank_table(path)
            server_id = self.server_id
            if not (server_id or part or self.hosts):
                here = server_here(table, {}, (*host_addresses(), socket.gethostname()))
                server_id = here.server_id if here else ""
            return from_rank_table(table, path, server_id=server_id, part=part, hosts=self.hosts)
        ranks = self.simulate or sum(each.slots or 1 for each in self.hosts) or 1
        cores = self.cores or host.usable_cores()
        return simulated(ranks, cores, hosts=self.hosts, part=part)

    def master_address(self) -> tuple[str, int]:
        """Where MindSpore's scheduler listens."""
        if self.comm != "mindspore":
            return "127.0.0.1", 0
        if not self.part:
            return "127.0.0.1", host.free_port()
        name, _, port = self.master.rpartition(":")
        return name, int(port)


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """How the ranks are watched, and what follows a failure."""

    limits: Limits = field(default_factory=Limits)
    restarts: RestartPolicy = field(default_factory=lambda: RestartPolicy(max_restarts=0))
    shown_ranks: tuple[int, ...] = ()
    """Whose logs are shown while they grow."""


def read_hosts(text: str) -> tuple[Host, ...]:
    """``a:2,b:2``, or the name of a hosts file with a line ``a slots=2`` for each."""
    lines = hosts_of(text) if text else ()
    return tuple(Host(line.name, line.slots or len(line.devices), line.server_id) for line in lines)


def parse_ranks(text: str, where: str) -> tuple[int, ...]:
    """``0,3`` or ``0-7``."""
    ranks: list[int] = []
    for item in filter(None, text.split(",")):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", item)
        if match is None:
            raise UserError(where, f"{item!r} must be a rank or a range of ranks, such as 0-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(where, f"{item!r} goes backwards; write {last}-{first}")
        ranks += range(first, last + 1)
    return tuple(dict.fromkeys(ranks))


def plan_job(
    run: RunDir,
    job: Mapping[str, Any],
    placement: Placement,
    limits: Limits,
    *,
    argv: Sequence[str] = (),
    attempt: AttemptDir | None = None,
) -> tuple[LaunchPlan, AttemptDir]:
    """The next attempt, or one that another launcher leads.

    Args:
        argv: a command of the user's for every rank; without it, this program's worker.
    """
    topology = placement.topology()
    if topology.target == "Ascend" and placement.bind_cores and not topology.hosts:
        cores = cores_near_cards(slot.device_id for slot in topology.my_slots)
        topology = topology.with_cores(cores)
    attempt = attempt or run.attempt(run.next_attempt())
    job = {**job, "run": str(run.path.resolve()), "placement": asdict(placement)}
    worker = worker_command(attempt.part_plan(topology.part.index).resolve(), job)
    plan = make_plan(
        topology,
        attempt,
        Command(argv=tuple(argv), job=job) if argv else worker,
        comm="mindspore" if topology.target == "Ascend" else placement.comm,
        limits=limits,
        master=placement.master_address(),
        cpu_flags=host.cpu_flags(),
        environment=os.environ,
    )
    return plan, attempt


def check_fit(config: Config, world: int, target: str, *, open_keys: Collection[str] = ()) -> None:
    """Raises UserError for what cannot work, whoever computes it.

    Args:
        open_keys: whose values are chosen later; what depends on them is not judged.
    """
    if not {"train.batch", "train.accumulation"} & set(open_keys):
        parts_of_batch(config.train.batch, config.train.accumulation, world)
    if target == "CPU" and config.train.amp == "bf16" and "train.amp" not in open_keys:
        raise UserError(
            "train.amp", "bf16 has no convolution kernels on the CPU; use fp16 or off there"
        )
    start = "" if "train.start_from" in open_keys else config.train.start_from
    if start and not Path(start).is_file() and not RunDir(Path(start)).checkpoints.is_dir():
        raise UserError(
            "train.start_from", f"{start} is neither a file nor a run folder with checkpoints"
        )
