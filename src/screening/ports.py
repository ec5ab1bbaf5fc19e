"""The listeners beside HTTP, of one worker: where they listen, how they start and drain.

The port that each has is written to a file of the state folder while it listens, for those who
asked for a free one.
"""

import asyncio
import socket
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from screening.counts import PortCounts, PortsCollector
from screening.rpc import RpcPort
from screening.rpc_methods import TRANSPORT, lookup_methods
from screening.service import Service
from screening.settings import Settings

Sockets = Mapping[str, list[socket.socket]]
"""Bound sockets by the name of their listener."""

RPC: Final = "rpc"


def bind_ports(settings: Settings) -> dict[str, list[socket.socket]]:
    """The sockets of the listeners that are not off. Raises OSError, which names the setting."""
    bound: dict[str, list[socket.socket]] = {}
    for name, port in ((RPC, settings.rpc_port),):
        if port == "off":
            continue
        try:
            bound[name] = [_bound(settings.host, port)]
        except OSError as refused:
            for each in chain.from_iterable(bound.values()):
                each.close()
            where = f"SCREENING_{name.upper()}_PORT: cannot listen on {settings.host}:{port}"
            raise OSError(refused.errno, f"{where}: {refused.strerror}") from None
    return bound


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


class Ports:
    """The listeners of one worker over its service."""

    def __init__(self, service: Service) -> None:
        self._folder = service.settings.state_dir
        self._drain_seconds = service.settings.drain_seconds
        rpc = PortCounts(TRANSPORT)
        service.metrics.registry.register(PortsCollector([rpc]))
        self.methods = lookup_methods(service.lookup)
        self._rpc = RpcPort(self.methods, client_at=service.client_at, counts=rpc)
        self._names: list[str] = []

    async def listen(self, sockets: Sockets) -> None:
        """Start those that have sockets."""
        for name, bound in sockets.items():
            if name == RPC:
                await self._rpc.listen(bound)
            self._file(name).write_text(str(bound[0].getsockname()[1]))
            self._names.append(name)

    async def drain(self) -> None:
        """Let open calls end, for a bounded time, and close."""
        await asyncio.gather(self._rpc.drain(within_seconds=self._drain_seconds))
        for name in self._names:
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.port"
