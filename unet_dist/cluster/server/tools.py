"""The vendor's programs and files on a server: where they are, and asking them within bounds.

Nothing here has run against the real programs: there was no Ascend card to develop on. What they
print is taken from the vendor's manuals and from outputs that users published.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from unet_dist.cluster.guard import descendants

TIMEOUT_S = 3.0
"""A healthy npu-smi takes about a second; one whose driver hangs never ends."""
MOST_BYTES = 8_000_000
"""The parts of a rank table of a thousand servers are two million."""
MOST_AT_ONCE = 64

PLACES: Mapping[str, tuple[str, ...]] = {
    "npu-smi": ("usr/local/bin/npu-smi", "usr/local/sbin/npu-smi"),
    "hccn_tool": ("usr/local/Ascend/driver/tools/hccn_tool", "usr/bin/hccn_tool"),
}
"""Where the driver installs them; a shell opened by ssh seldom has these folders on its PATH."""
HCCN_CONF = "etc/hccn.conf"
ASCEND = "usr/local/Ascend"
CARD_FILES = "dev"
CARD_FILE_PREFIX = "davinci"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a program said, or why it said nothing."""

    text: str = ""
    fault: str = ""
    """Empty if it ended well; there may be text beside a fault."""
    missing: bool = False
    """The program is not on this machine."""


def find_tool(name: str, root: Path = Path("/")) -> str | None:
    """PATH first, so that a user can put another one before it."""
    places = [str(root / place) for place in PLACES.get(name, ())]
    return next(filter(None, map(shutil.which, (name, *places))), None)


def ask(name: str, *arguments: str, root: Path = Path("/"), timeout_s: float = TIMEOUT_S) -> Answer:
    """Runs a program of the vendor and returns what it printed."""
    program = find_tool(name, root)
    if program is None:
        return Answer(fault=f"{name} is not on this machine", missing=True)
    return run((program, *arguments), shown=" ".join((name, *arguments)), timeout_s=timeout_s)


def ask_at_once(
    questions: Sequence[Sequence[str]], *, root: Path = Path("/"), timeout_s: float = TIMEOUT_S
) -> list[Answer]:
    """Asks side by side, so that cards that do not answer cost one timeout and not one each."""
    if not questions:
        return []
    with ThreadPoolExecutor(min(len(questions), MOST_AT_ONCE)) as pool:
        return list(pool.map(lambda q: ask(*q, root=root, timeout_s=timeout_s), questions))


def run(argv: Sequence[str], *, shown: str, timeout_s: float, grace_s: float = 0) -> Answer:
    """Runs any program: bounded in time and in output, with nothing of it left behind.

    Args:
        grace_s: after the timeout, from SIGTERM to SIGKILL.
    """
    deadline = time.monotonic() + timeout_s
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        return Answer(fault=f"{shown} cannot be started: {error.strerror}")
    assert process.stdout is not None
    with process.stdout as output:
        content, ended = _read_until(output.fileno(), deadline)
    text = content.decode(errors="replace")
    code = _code_or_kill(process, deadline if ended else 0.0, grace_s)
    if len(content) >= MOST_BYTES:
        return Answer(text=text, fault=f"{shown} printed more than {MOST_BYTES} bytes")
    if code is None:
        return Answer(text=text, fault=f"{shown} gave no answer in {timeout_s:.1f} s")
    if code != 0:
        said = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
        return Answer(text=text, fault=f"{shown} ended with {code} and said: {said[:200]}")
    return Answer(text=text)


def _read_until(handle: int, deadline: float) -> tuple[bytes, bool]:
    """What came until the end, the deadline or the limit; whether it was the end."""
    content = bytearray()
    while len(content) < MOST_BYTES:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([handle], [], [], left)[0]:
            return bytes(content), False
        part = os.read(handle, 65536)
        if not part:
            return bytes(content), True
        content += part
    return bytes(content[:MOST_BYTES]), False


def _code_or_kill(
    process: "subprocess.Popen[bytes]", deadline: float, grace_s: float
) -> int | None:
    """The exit code; None if the process, and what it started, had to be killed.

    One that waits inside the driver ignores even SIGKILL, so nobody waits for its end.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(max(deadline - time.monotonic(), 0))
    below = descendants(process.pid)  # mpirun gives each ssh a session of its own
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 0.1)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
    for pid in below:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return None


def read_file(path: Path) -> str | None:
    """A small file of the system; None if it is not there or not readable."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return None


def card_files(root: Path = Path("/")) -> tuple[int, ...]:
    """The numbers of /dev/davinci*: the physical cards that this machine or container was given."""
    try:
        names = os.listdir(root / CARD_FILES)
    except OSError:
        return ()
    numbers = [name.removeprefix(CARD_FILE_PREFIX) for name in names]
    return tuple(sorted({int(n) for n in numbers if n.isascii() and n.isdecimal() and len(n) < 5}))
