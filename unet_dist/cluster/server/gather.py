"""Collects the parts of a rank table from all hosts, through MPI.

    mpirun --host a,b --map-by ppr:1:node python -m unet_dist.cluster.server.gather HOSTS

``collect_parts`` starts it, one process on each host; the first of them prints all parts in one
line. So no file is copied by hand, and no port but mpirun's is needed.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from unet_dist.cluster.plan import find_mpirun
from unet_dist.cluster.server.discover import host_addresses
from unet_dist.cluster.server.part import HostLine, ServerPart, part_of_this_server
from unet_dist.cluster.server.tools import Answer, run
from unet_dist.errors import UserError

MARK = "unet-dist parts: "
"""Before the line of parts: login shells print what they like around it."""
START_S = 30.0
"""For mpirun to reach all hosts and Python to start there, on a slow network file system too."""
SECONDS_PER_HOST = 0.5
GRACE_S = 1.0
"""For mpirun to end what it started elsewhere."""
HOSTS_AT_ONCE = 8
SHOWN_LINES = 3
SHOWN_LETTERS = 400


def collect_parts(
    hosts: Sequence[HostLine], *, tell: Callable[[str], None]
) -> tuple[ServerPart, ...]:
    """The part of each host, in their order.

    If all together fail, each host is asked by itself, so that every one that cannot be reached
    is named, and not only the first.

    Args:
        tell: told what is being done, which may take a minute.
    """
    tell(f"asking {len(hosts)} hosts through mpirun")
    answer = _start(hosts)
    parts = _parts_in(answer.text)
    if parts is not None and len(parts) == len(hosts):
        return parts
    tell("asking each host by itself, because all together failed")
    with ThreadPoolExecutor(min(len(hosts), HOSTS_AT_ONCE)) as pool:
        alone = list(pool.map(_part_alone, hosts))
    if not any(part.faults for part in alone) and len({p.hostname for p in alone}) == len(alone):
        raise UserError(
            "mpirun",
            "each host answers by itself, but not all together; is a firewall between them? "
            f"{_reason(answer)}",
        )
    return tuple(alone)


def _part_alone(host: HostLine) -> ServerPart:
    answer = _start([host])
    parts = _parts_in(answer.text)
    if parts:
        return parts[0]
    reason = f"cannot be asked through mpirun: {_reason(answer)}"
    return ServerPart(host=host.name, hostname=host.name, faults=(reason,))


def _start(hosts: Sequence[HostLine]) -> Answer:
    names = ",".join(host.name for host in hosts)
    listed = json.dumps([asdict(host) for host in hosts])
    # TCP only: fabrics of the hosts take long to set up, and one line of text does not need them.
    argv: tuple[str, ...] = (
        find_mpirun(), "--host", names, "--map-by", "ppr:1:node", "-n", str(len(hosts)),
        "--bind-to", "none", "--mca", "pml", "ob1", "--mca", "btl", "self,tcp",
        sys.executable, "-m", "unet_dist.cluster.server.gather", listed,
    )  # fmt: skip
    if os.geteuid() == 0:
        argv = ("env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", *argv)
    limit_s = START_S + SECONDS_PER_HOST * len(hosts)
    return run(argv, shown="mpirun", timeout_s=limit_s, grace_s=GRACE_S)


def _parts_in(text: str) -> tuple[ServerPart, ...] | None:
    for line in text.splitlines():
        _, mark, rest = line.partition(MARK)
        if mark:
            try:
                return tuple(map(ServerPart.from_json, json.loads(rest)))
            except (ValueError, KeyError, TypeError):
                return None
    return None


def _reason(answer: Answer) -> str:
    lines = [line.strip() for line in answer.text.splitlines()]
    # ssh says in one line what mpirun takes a screen for.
    by_ssh = next((line for line in lines if line.startswith("ssh: ")), None)
    if by_ssh:
        return by_ssh[:SHOWN_LETTERS]
    told = [line for line in lines if line.strip("- ") and MARK not in line]
    return " / ".join(told[:SHOWN_LINES])[:SHOWN_LETTERS] or answer.fault or "it said nothing"


def own_line(hosts: Sequence[HostLine], rank: int) -> HostLine:
    """The line of the hosts file that means this machine: the rank's, unless another one names
    this machine's host name or address."""
    hostname = socket.gethostname().partition(".")[0]
    mine = {hostname, *host_addresses()}
    named = [host for host in hosts if {host.name, host.name.partition(".")[0]} & mine]
    return named[0] if len(named) == 1 else hosts[rank]


def main() -> None:
    from mpi4py import MPI

    hosts = [HostLine(**{**each, "devices": tuple(each["devices"])}) for each in _hosts_asked()]
    world = MPI.COMM_WORLD
    gathered: list[dict[str, Any]] | None = world.gather(
        part_of_this_server(own_line(hosts, world.rank)).to_json()
    )
    if gathered is not None:
        order = {host.name: index for index, host in enumerate(hosts)}
        gathered.sort(key=lambda part: order[part["host"]])
        sys.stdout.write(f"{MARK}{json.dumps(gathered)}\n")
        sys.stdout.flush()


def _hosts_asked() -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads(sys.argv[1])
    return value


if __name__ == "__main__":
    main()
