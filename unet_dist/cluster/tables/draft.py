"""A rank table as its file says it, before anyone knows whether that is right."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from unet_dist.cluster.tables.fields import inside, parse_number
from unet_dist.cluster.tables.model import Dialect
from unet_dist.cluster.tables.problems import Problem, plain, shown


@dataclass(frozen=True, kw_only=True)
class CardDraft:
    """One card; None stands for what the file does not say well enough."""

    path: str
    rank: int | None
    device_id: int | None
    ips: tuple[str, ...] = ()
    raw: Mapping[str, Any]
    pod: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServerDraft:
    path: str
    server_id: str | None
    cards: tuple[CardDraft, ...]
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return plain(self.server_id) if self.server_id else self.path

    @property
    def device_ids(self) -> list[int]:
        """Sorted; shorter than ``cards`` if one is not known."""
        return sorted(card.device_id for card in self.cards if card.device_id is not None)


@dataclass(frozen=True, kw_only=True)
class Draft:
    dialect: Dialect
    servers: tuple[ServerDraft, ...]
    tree: Mapping[str, Any]
    group: Mapping[str, Any] = field(default_factory=dict)

    def cards(self) -> Iterator[tuple[ServerDraft, CardDraft]]:
        for server in self.servers:
            for card in server.cards:
                yield server, card


def instance_path(card: CardDraft) -> str:
    """JSON path of the instance of template 2 that a card is in."""
    return card.path.rsplit(".devices[", 1)[0]


def ips_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses of a card; HCCL splits them at commas and overlooks one at the end."""
    ip = raw.get("device_ip")
    if not isinstance(ip, str) or not ip:
        return ()
    parts = ip.split(",")
    return tuple(parts[:-1] if parts[-1] == "" else parts)


def check_count(
    entry: Mapping[str, Any], key: str, path: str, problems: list[Problem], *, real: int
) -> None:
    """A count that 1.x writes as a string beside the list that it counts."""
    text = entry[key]
    if isinstance(text, str) and parse_number(text) != real:
        problems.append(
            Problem(
                path=inside(path, key),
                rule="R8",
                message=f"{key} is {shown(text)}, but there are {real}",
                fix=f'write "{real}"',
            )
        )
