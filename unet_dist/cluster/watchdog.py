"""Ends mpirun's daemon on a host that is cut off from the launcher, and what the daemon leaves.

    python -S -E -m unet_dist.cluster.watchdog DAEMON LIMIT_S

The daemon misses a silent connection by keepalive probes (``cluster/plan.py``). The kernel sends
none while something waits to be acknowledged: what a daemon sends as the cable is cut, such as the
end of a rank, is sent again and again, and the connection is given up after 15 minutes
(net.ipv4.tcp_retries2). This process looks at that from outside.

There is one on each host but the launcher's. It outlives the guard that starts it, and reads no
file of the run: the shared file system may be cut off as well. A guard then waits in the kernel for
its answer, sees nothing of the daemon's end, and is killed. Standard library only.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from unet_dist.cluster.guard import SWEEP_S, began, children_of, descendants

POLL_S = 0.1
LOOKS = 5
"""At the connections, within the limit."""
LOOK_AT_MOST_EVERY_S = 1.0
GUARDS_S = SWEEP_S + 1.0
"""What guards may take for their end after the daemon's."""
RETRANSMITS = "01"
"""The timer of a connection that has sent what was not acknowledged (proc_net_tcp of Linux)."""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when the daemon goes
    daemon, limit_s = int(sys.argv[1]), float(sys.argv[2])
    watch(daemon, limit_s, lambda: retransmissions(tcp_table(daemon), sockets_of(daemon)))


def watch(daemon: int, limit_s: float, look: Callable[[], Mapping[str, int]]) -> None:
    """Until the daemon has ended, or until it was ended and its guards have."""
    silence, begun = Silence(limit_s), began(daemon)
    while begun and began(daemon) == begun:
        if silence.too_long(look(), time.monotonic()):
            guards = {pid: began(pid) for pid in children_of().get(daemon, [])}
            # SIGTERM would make it kill the guards before they have ended their ranks.
            kill(daemon)
            end_guards(guards)
            return
        next_look = time.monotonic() + max(LOOK_AT_MOST_EVERY_S, limit_s / LOOKS)
        while time.monotonic() < next_look and began(daemon) == begun:
            time.sleep(POLL_S)


class Silence:
    """How long connections have had no answer to what they sent."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seen: dict[str, tuple[int, float]] = {}

    def too_long(self, retransmitted: Mapping[str, int], now: float) -> bool:
        """
        Args:
            retransmitted: how often each connection that waits for an answer has sent the same
                again; an answer in between sets that back.
        """
        before, self._seen = self._seen, {}
        for connection, times in retransmitted.items():
            counted, since = before.get(connection, (times, now))
            self._seen[connection] = (times, since if times >= counted else now)
        return any(now - since >= self._limit_s for _, since in self._seen.values())


def retransmissions(table: Iterable[str], sockets: set[str]) -> dict[str, int]:
    """Of the connections of these sockets, those without an answer: inode to the number of
    retransmissions.

    ::

        sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
         2: 0200630A:E3EF 0100630A:85E3 01 00000264:00000000 01:00000073 00000004   0       0 17021
    """
    found = {}
    for fields in map(str.split, table):
        inode, timer, times = fields[9], fields[5].partition(":")[0], int(fields[6], 16)
        if inode in sockets and timer == RETRANSMITS and times:
            found[inode] = times
    return found


def tcp_table(pid: int) -> list[str]:
    """The TCP connections of the network that this process is in."""
    lines: list[str] = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):  # a kernel without IPv6, or the process has ended
            lines += Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    return lines


def sockets_of(pid: int) -> set[str]:
    """Inodes of its open sockets."""
    inodes = set()
    with contextlib.suppress(OSError):
        for handle in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                inodes.add(os.readlink(f"/proc/{pid}/fd/{handle}"))
    return {name[len("socket:[") : -1] for name in inodes if name.startswith("socket:[")}


def end_guards(guards: Mapping[int, str]) -> None:
    """Kills those that have not ended by themselves in time, and what is below them."""
    deadline = time.monotonic() + GUARDS_S
    while left := [pid for pid, begun in guards.items() if begun and began(pid) == begun]:
        if time.monotonic() > deadline:
            for pid in left:
                below = descendants(pid)  # before: nobody inherits the orphans of a guard
                for each in (pid, *below):
                    kill(each)
            return
        time.sleep(POLL_S)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # of another user: setuid
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
