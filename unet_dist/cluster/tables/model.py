"""A rank table, whatever dialect it was written in: which card of which server has which rank."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unet_dist.errors import UserError

Dialect = Literal["1.0", "template2", "lab", "1.2", "2.0"]
Chip = Literal["910A", "910B", "910C", "950"]


@dataclass(frozen=True, kw_only=True)
class Device:
    device_id: int
    """Physical card on its server."""
    rank: int
    ip: str = ""
    """Of the card's own network port; empty if the table has none, several with commas."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The other keys of the file, kept as they are."""


@dataclass(frozen=True, kw_only=True)
class Server:
    server_id: str
    devices: tuple[Device, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RankTable:
    """Ranks 0 to N-1, each once; a table that breaks this is never built."""

    dialect: Dialect
    servers: tuple[Server, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> int:
        return sum(len(server.devices) for server in self.servers)

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
