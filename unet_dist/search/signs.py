"""Signs of life of the controllers of a study. Each writes its own, by the database's clock, since
the clocks of machines differ; and watches those of others by how long nothing new comes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy import text

from unet_dist.search.storage import engine_of, told

CONTROLLER = "unet_dist:controller:"
LOST_AFTER_S = 60.0
"""Without a sign of life of its controller, a trial is anybody's."""
BEAT_EVERY_S = 10.0


@dataclass(kw_only=True)
class Signs:
    storage: Any
    study_id: int
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of each controller its last word, and when it was first seen here."""

    def give(self, controller: str) -> None:
        self._write(controller, self.storage.do(_time_of))

    def leave(self, controller: str) -> None:
        """The time is below 0 from then on."""
        self._write(controller, -self.storage.do(_time_of))

    def _write(self, controller: str, beat: float) -> None:
        self.storage.set_study_user_attr(self.study_id, CONTROLLER + controller, beat)

    def alive(self) -> dict[str, float]:
        """The last word of each controller that said something new lately."""
        now = time.monotonic()
        for key, beat in self.storage.get_study_user_attrs(self.study_id).items():
            if not key.startswith(CONTROLLER):
                continue
            name = key.removeprefix(CONTROLLER)
            if beat <= 0:
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


def silence_s(url: str, names: Sequence[str]) -> float | None:
    """Seconds since a controller last gave a sign of life, or left; None if none ever did.

    Args:
        names: of the studies that it may be at work on.

    Raises:
        UserError: the database cannot be read.
    """
    beats: list[float] = []
    with told(url):
        storage = RDBStorage(url, engine_kwargs=engine_of(url))
        for name in names:
            try:
                attributes = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
            except KeyError:
                continue  # not begun yet
            beats += [abs(beat) for key, beat in attributes.items() if key.startswith(CONTROLLER)]
        return _time_of(storage) - max(beats) if beats else None


def _time_of(storage: RDBStorage) -> float:
    """By the database's clock; a file has this machine's."""
    if storage.engine.dialect.name != "postgresql":
        return time.time()
    with storage.engine.connect() as connection:
        now = connection.execute(text("select extract(epoch from clock_timestamp())"))
        return float(now.scalar_one())
