"""The listeners beside HTTP, of one worker: where they listen, how they start and drain.

The port that each has is written to a file of the state folder while it listens, for those who
asked for a free one.
"""

import asyncio
import socket
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from screening.counts import PortCounts, PortsCollector
from screening.rpc import RpcPort
from screening.rpc_methods import TRANSPORT, lookup_methods
from screening.service import Service
from screening.settings import Settings

if TYPE_CHECKING:
    from screening.grpc_port import GrpcPort

Sockets = Mapping[str, list[socket.socket]]
"""Bound sockets by the name of their listener."""

RPC: Final = "rpc"
GRPC: Final = "grpc"


def bind_ports(settings: Settings) -> dict[str, list[socket.socket]]:
    """The sockets of the listeners that are not off. Raises OSError, which names the setting."""
    bound: dict[str, list[socket.socket]] = {}
    for name, port in ((RPC, settings.rpc_port), (GRPC, settings.grpc_port)):
        if port == "off":
            continue
        try:
            bound[name] = [_bound(settings.host, port, shared=name == GRPC)]
        except OSError as refused:
            for each in chain.from_iterable(bound.values()):
                each.close()
            where = f"SCREENING_{name.upper()}_PORT: cannot listen on {settings.host}:{port}"
            raise OSError(refused.errno, f"{where}: {refused.strerror}") from None
    return bound


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    """A socket with an address. One that is `shared` only keeps it for servers that bind it too."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
        self._grpc_counts = PortCounts(GRPC)
        service.metrics.registry.register(PortsCollector([rpc, self._grpc_counts]))
        self._service = service
        self._grpc: GrpcPort | None = None
        self.methods = lookup_methods(service.lookup)
        self._rpc = RpcPort(self.methods, client_at=service.client_at, counts=rpc)
        self._names: list[str] = []

    async def listen(self, sockets: Sockets) -> None:
        """Start those that have sockets."""
        for name, bound in sockets.items():
            if name == RPC:
                await self._rpc.listen(bound)
            elif name == GRPC:
                await self._listen_grpc(bound[0])
            self._file(name).write_text(str(bound[0].getsockname()[1]))
            self._names.append(name)

    async def _listen_grpc(self, reserved: socket.socket) -> None:
        # Its library takes 0.2 s and 20 MB to load, which a service without it need not spend.
        from screening.grpc_port import GrpcPort

        service = self._service
        self._grpc = GrpcPort(
            service.lookup,
            client_for=service.client_for,
            is_ready=lambda: service.readiness()[0],
            counts=self._grpc_counts,
        )
        host, port = reserved.getsockname()[:2]
        await self._grpc.listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    async def drain(self) -> None:
        """Let open calls end, for a bounded time, and close."""
        draining = [self._rpc.drain(within_seconds=self._drain_seconds)]
        if self._grpc is not None:
            draining.append(self._grpc.drain(within_seconds=self._drain_seconds))
        await asyncio.gather(*draining)
        for name in self._names:
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.port"
