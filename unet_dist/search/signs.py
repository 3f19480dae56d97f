"""Signs of life of the controllers of a study. Each writes its own, and watches those of others by
its own clock, since the clocks of machines differ."""

import time
from dataclasses import dataclass, field
from typing import Any

CONTROLLER = "unet_dist:controller:"
LOST_AFTER_S = 60.0
"""Without a sign of life of its controller, a trial is anybody's."""
BEAT_EVERY_S = 10.0
GONE = 0.0
"""In place of the time: the controller has left."""


@dataclass(kw_only=True)
class Signs:
    storage: Any
    study_id: int
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of each controller its last word, and when it was first seen here."""

    def give(self, controller: str) -> None:
        self.storage.set_study_user_attr(self.study_id, CONTROLLER + controller, time.time())

    def leave(self, controller: str) -> None:
        self.storage.set_study_user_attr(self.study_id, CONTROLLER + controller, GONE)

    def alive(self) -> dict[str, float]:
        """The last word of each controller that said something new lately."""
        now = time.monotonic()
        for key, beat in self.storage.get_study_user_attrs(self.study_id).items():
            if not key.startswith(CONTROLLER):
                continue
            name = key.removeprefix(CONTROLLER)
            if beat == GONE:
                self._seen.pop(name, None)
            elif name not in self._seen or self._seen[name][0] != beat:
                self._seen[name] = (beat, now)
        return {name: beat for name, (beat, at) in self._seen.items() if now - at < LOST_AFTER_S}

    def any_besides(self, controller: str) -> bool:
        """Whether another controller says something new while it is watched for a moment: its last
        word alone may be that of one that was killed."""
        before, deadline = self.alive(), time.monotonic() + 2 * BEAT_EVERY_S
        while True:
            others = {name: beat for name, beat in self.alive().items() if name != controller}
            if any(before.get(name) != beat for name, beat in others.items()):
                return True
            if not others or time.monotonic() > deadline:
                return False
            time.sleep(BEAT_EVERY_S / 10)
