"""A rank table, whatever dialect it was written in: which card of which server has which rank."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unet_dist.errors import UserError

Dialect = Literal["1.0", "template2", "lab", "1.2", "2.0"]
Chip = Literal["910A", "910B", "910C", "950"]

CHIPS: tuple[Chip, ...] = ("910A", "910B", "910C", "950")
CHIPS_OF: Mapping[Dialect, tuple[Chip, ...]] = {
    "1.0": ("910A", "910B", "910C"),
    "template2": ("910A",),
    "lab": ("910A",),
    "1.2": ("910C",),
    "2.0": ("950",),
}
"""The chips that the documents give each dialect for."""


@dataclass(frozen=True, kw_only=True)
class Device:
    device_id: int
    """Physical card on its server."""
    rank: int
    ip: str = ""
    """Of the card's own network port; empty if the table has none, several with commas."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The other keys of the file, kept as they are."""
    pod: Mapping[str, Any] = field(default_factory=dict)
    """Template 2 only: the keys of its instance, ``pod_name`` among them."""


@dataclass(frozen=True, kw_only=True)
class Server:
    server_id: str
    """In 2.0, which has no servers, the network instance of layer 0."""
    devices: tuple[Device, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RankTable:
    """Ranks 0 to N-1, each once; a table that breaks this is never built."""

    dialect: Dialect
    servers: tuple[Server, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other keys of the file as they are: ``super_pod_list``, ``cluster_list``, unknown ones."""
    group: Mapping[str, Any] = field(default_factory=dict)
    """Template 2 only: the other keys of its group, ``group_name`` among them."""

    def __post_init__(self) -> None:
        ranks = sorted(device.rank for server in self.servers for device in server.devices)
        assert ranks == list(range(len(ranks)))

    @property
    def world(self) -> int:
        return sum(len(server.devices) for server in self.servers)

    def by_rank(self) -> list[tuple[Server, Device]]:
        pairs = [(server, device) for server in self.servers for device in server.devices]
        return sorted(pairs, key=lambda pair: pair[1].rank)

    def server(self, server_id: str | None) -> Server:
        """The named server, or the only one."""
        if server_id is None and len(self.servers) == 1:
            return self.servers[0]
        for server in self.servers:
            if server.server_id == server_id:
                return server
        names = ", ".join(server.server_id for server in self.servers)
        raise UserError(
            "--server-id",
            f"which server of the rank table is this one? Pass one of: {names}"
            if server_id is None
            else f"there is no server {server_id} in the rank table; it lists {names}",
        )
