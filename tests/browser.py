"""A Chromium that a test looks at a page with, by the DevTools protocol over a pipe."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
DEADLINE_S = 60.0
# Drawing by the CPU: containers have nothing else.
OPTIONS = (
    "--headless=shell",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


def find_browser() -> str | None:
    """The program that UNET_DIST_BROWSER names, or the first known one on the PATH."""
    named = os.environ.get("UNET_DIST_BROWSER")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


@dataclass
class Tab:
    """One page; what it asked for and complained of is kept."""

    commands: IO[bytes]
    answers: IO[bytes]
    session: str = ""
    number: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        self.commands.write(json.dumps(request).encode() + b"\0")
        self.commands.flush()
        answer: dict[str, Any] = {}
        while answer.get("id") != self.number:
            answer = self._next()
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, url: str) -> None:
        """Until it is loaded, pictures and all."""
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression)["result"]["value"]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def set_width(self, width: int) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def requests(self) -> list[str]:
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["method"] in COMPLAINTS]

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser ended, or did not answer in time"
            message += byte
        tree: dict[str, Any] = json.loads(message)
        if "method" in tree:
            self.events.append(tree)
        return tree


@contextmanager
def browser_tab(program: str, profile: Path) -> Iterator[Tab]:
    """An empty page of a browser that ends with the block, and after a minute at the latest."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # Away from 3 and 4, which are the numbers that the browser wants them to have.
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
    os.close(theirs_in)
    os.close(theirs_out)
    renumber = 'reading=$1 writing=$2; shift 2; exec "$@" 3<&"$reading" 4>&"$writing"'
    command = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", renumber, "bash", *map(str, theirs), *command],
        pass_fds=theirs,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for end in theirs:
        os.close(end)
    deadline = threading.Timer(DEADLINE_S, os.killpg, (process.pid, 9))
    deadline.start()
    try:
        with os.fdopen(ours_out, "wb") as commands, os.fdopen(ours_in, "rb") as answers:
            tab = Tab(commands, answers)
            [page] = [
                target["targetId"]
                for target in tab.call("Target.getTargets")["targetInfos"]
                if target["type"] == "page"
            ]
            attached = tab.call("Target.attachToTarget", targetId=page, flatten=True)
            tab.session = attached["sessionId"]
            for domain in ("Page", "Log", "Runtime", "Network"):
                tab.call(f"{domain}.enable")
            yield tab
    finally:
        deadline.cancel()
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait()
