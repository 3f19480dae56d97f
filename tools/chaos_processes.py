"""Processes of one case of ``tools/chaos.py``, found by a mark in their environment."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "CHAOS_ID"
"""Every process of a case inherits it, whatever session or parent it ends up with."""
POLL_S = 0.02


class Interrupted(Exception):
    """Ctrl-C, or SIGTERM: the cases under way are cleaned up and not judged."""


def marked(mark: str) -> list[int]:
    """Living processes of a case, or of all cases whose mark begins so. Zombies have no
    environment left, and do not count."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
                environment = Path(f"/proc/{entry}/environ").read_bytes()
                if any(item.startswith(wanted) for item in environment.split(b"\0")):
                    found.append(int(entry))
    return [pid for pid in found if pid != os.getpid()]


def kill_marked(mark: str) -> None:
    while left := marked(mark):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def start(
    command: Sequence[str], mark: str, output: Path, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """In a session of its own: a Ctrl-C is for chaos, which then ends the case."""
    with output.open("wb") as stdout, output.with_suffix(".err").open("wb") as stderr:
        return subprocess.Popen(
            command,
            env={**os.environ, **(env or {}), MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


def wait_for_file(
    path: Path, process: "subprocess.Popen[bytes]", stop: threading.Event, limit_s: float
) -> bool:
    """Whether it came into being while the process lived."""
    deadline = time.monotonic() + limit_s
    while not path.exists():
        if stop.is_set():
            raise Interrupted
        if process.poll() is not None or time.monotonic() > deadline:
            return path.exists()
        time.sleep(POLL_S)
    return True


def wait_until_gone(
    mark: str, launcher: "subprocess.Popen[bytes]", stop: threading.Event, *, until: float
) -> float | None:
    """The moment from which only the launcher was left; None if that did not come ``until``."""
    while time.time() < until:
        if stop.is_set():
            raise Interrupted
        now = time.time()
        launcher.poll()
        if not [pid for pid in marked(mark) if pid != launcher.pid]:
            return now
        time.sleep(POLL_S)
    return None


def wait_for_end(
    process: "subprocess.Popen[bytes]", stop: threading.Event, *, until: float
) -> float | None:
    """The moment of its end; None if that did not come ``until``."""
    while process.poll() is None:
        if stop.is_set():
            raise Interrupted
        if time.time() > until:
            return None
        time.sleep(POLL_S)
    return time.time()
