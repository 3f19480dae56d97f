"""What is judged over mpirun's daemon on a host that is cut off, and what is ended there."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.light import is_alive, wait_until
from unet_dist.cluster import watchdog
from unet_dist.cluster.guard import start_watchdog
from unet_dist.cluster.watchdog import Silence, retransmissions, sockets_of, tcp_table, watch

TABLE = """
 0: 00000000:ACE1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 101 1 0 100
 1: 0200630A:BA01 0100630A:9A8D 01 00000000:00000000 02:00000054 00000000  0  1 102 2 0 20 4
 2: 0200630A:E3EF 0100630A:85E3 01 00000264:00000000 01:00000001 00000000  0  0 103 3 0 20 4
 3: 0200630A:E3F0 0100630A:85E3 01 00000264:00000000 01:00000135 0000000A  0  0 104 3 0 20 4
 4: 0200630A:E3F1 0100630A:85E3 01 00000264:00000000 01:00000135 0000000A  0  0 105 3 0 20 4
 5: 0200630A:E8C9 0100630A:98B5 04 00000262:00000000 01:000000E7 00000005  0  0 0 3 0 20 4
"""
"""Of Linux 6.18: listening, silent with keepalive, just sent, twice without an answer, closed."""


def test_only_what_was_sent_again_by_a_socket_of_the_daemon_counts() -> None:
    lines = TABLE.strip().splitlines()
    assert retransmissions(lines, {"101", "102", "103", "104"}) == {"104": 10}


def test_the_sockets_of_a_process_are_found_in_the_table_of_its_network() -> None:
    code = (
        "import socket, sys\n"
        "sockets = socket.create_server(('127.0.0.1', 0)), socket.create_server(('', 0))\n"
        "print(flush=True)\nsys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        sockets = sockets_of(process.pid)
        listed = {line.split()[9] for line in tcp_table(process.pid)}
        process.stdin.close()
    assert len(sockets) == 2
    assert sockets <= listed
    assert sockets_of(process.pid) == set()
    assert tcp_table(process.pid) == []


def test_a_connection_without_an_answer_is_lost_after_the_limit() -> None:
    silence = Silence(5.0)
    assert not silence.too_long({"7": 1}, now=100.0)
    assert not silence.too_long({"7": 4}, now=104.9)
    assert silence.too_long({"7": 4}, now=105.0)


@pytest.mark.parametrize("between", [{"7": 1}, {"8": 9}, {}])
def test_an_answer_or_another_connection_begins_anew(between: dict[str, int]) -> None:
    silence = Silence(5.0)
    assert not silence.too_long({"7": 3}, now=100.0)
    assert not silence.too_long(between, now=104.0)
    assert not silence.too_long({"7": 9}, now=106.0)
    assert not silence.too_long({"7": 9}, now=108.9)
    assert silence.too_long({"7": 9}, now=111.0)


GUARD = (
    "import os, subprocess\n"
    "rank = subprocess.Popen(['sleep', '60'])\n"
    "print(os.getpid(), rank.pid, flush=True)\n"
    "rank.wait()\n"
)
DAEMON = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GUARD!r}])"


@pytest.fixture
def family() -> "tuple[subprocess.Popen[str], int, int]":
    """A daemon, its guard that does not mind the daemon's end, and the rank below that."""
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    guard, rank = map(int, daemon.stdout.readline().split())
    return daemon, guard, rank


def run_watch(daemon: int, unanswered: dict[str, int]) -> threading.Thread:
    thread = threading.Thread(target=watch, args=(daemon, 0.5, lambda: unanswered))
    thread.start()
    return thread


def test_a_lost_daemon_is_killed_and_so_is_a_guard_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, family: "tuple[subprocess.Popen[str], int, int]"
) -> None:
    monkeypatch.setattr(watchdog, "GUARDS_S", 3.0)
    daemon, guard, rank = family
    os.kill(guard, signal.SIGSTOP)
    thread = run_watch(daemon.pid, {"7": 3})
    assert daemon.wait(5) == -signal.SIGKILL
    assert is_alive(guard), "it has a moment to end its rank"
    assert is_alive(rank)
    thread.join(30)
    wait_until(lambda: not is_alive(guard) and not is_alive(rank))


def test_a_guard_may_end_by_itself_after_a_lost_daemon(
    monkeypatch: pytest.MonkeyPatch, family: "tuple[subprocess.Popen[str], int, int]"
) -> None:
    monkeypatch.setattr(watchdog, "GUARDS_S", 60.0)
    daemon, guard, rank = family
    thread = run_watch(daemon.pid, {"7": 3})
    assert daemon.wait(5) == -signal.SIGKILL
    os.kill(rank, signal.SIGKILL)  # its guard goes with it
    thread.join(30)
    assert not thread.is_alive()
    assert not is_alive(guard)


def test_a_daemon_that_is_answered_is_left_alone_and_its_end_is_the_watchs() -> None:
    daemon = subprocess.Popen(["sleep", "60"])
    thread = run_watch(daemon.pid, {})
    time.sleep(1.5)
    assert daemon.poll() is None
    assert thread.is_alive()
    daemon.kill()
    daemon.wait()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(("local_rank", "limit_s"), [("0", 0.0), ("1", 5.0)])
def test_neither_a_second_guard_nor_one_that_never_misses_a_host_starts_one(
    monkeypatch: pytest.MonkeyPatch, local_rank: str, limit_s: float
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", local_rank)
    assert start_watchdog(os.getpid(), limit_s) == []


def test_the_one_that_a_guard_starts_goes_with_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "0")
    daemon = subprocess.Popen(["sleep", "60"])
    [started] = start_watchdog(daemon.pid, 5.0)
    time.sleep(0.5)
    assert is_alive(started)
    daemon.kill()
    daemon.wait()
    wait_until(lambda: not is_alive(started))


def test_no_watch_stands_over_a_daemon_that_has_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    begun = time.monotonic()
    watch(gone.pid, 60.0, lambda: {"7": 3})
    assert time.monotonic() - begun < 30
