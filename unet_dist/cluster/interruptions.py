"""How people stop a job: by signals, counted so that a second one is told from the first."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruptions:
    """Ctrl-C and its like, counted from the first attempt to the last.

    Args:
        told: by whoever leads several jobs, in place of signals, which only one can count.
    """

    def __init__(self, *, told: bool = False) -> None:
        self.received: list[int] = []
        self._counting = told

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Counts from the outermost on: jobs beside each other, in threads of their own, share
        what their launcher's main thread counts, since only that one can set handlers."""
        if self._counting:
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self.received.append(number)

        old = {
            number: signal.signal(number, note)
            for number in STOP_SIGNALS
            if signal.getsignal(number) != signal.SIG_IGN  # as by nohup
        }
        self._counting = True
        try:
            yield
        finally:
            self._counting = False
            for number, handler in old.items():
                signal.signal(number, handler)
