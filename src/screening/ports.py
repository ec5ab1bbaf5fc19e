"""The listeners beside HTTP, of one worker: how they start and drain."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from screening.counts import PortCounts, PortsCollector
from screening.listeners import GRPC, RPC
from screening.place import Place
from screening.rpc import RpcPort
from screening.rpc_methods import TRANSPORT, end_method, lookup_methods
from screening.service import Service

if TYPE_CHECKING:
    from screening.grpc_port import GrpcPort


class Ports:
    """The listeners of one worker over its service; those that have no sockets are off."""

    def __init__(self, service: Service, place: Place) -> None:
        self._place = place
        self._drain_seconds = service.settings.drain_seconds
        rpc = PortCounts(TRANSPORT)
        self._grpc_counts = PortCounts(GRPC)
        service.metrics.registry.register(PortsCollector([rpc, self._grpc_counts]))
        self._service = service
        self._grpc: GrpcPort | None = None
        self.methods = lookup_methods(service.lookup)
        self.methods["call_end"] = end_method(service.ends, partial(service.outbox.tell, "ends"))
        self._rpc = RpcPort(
            self.methods, client_at=partial(service.callers.client, None), counts=rpc
        )

    async def prepare(self) -> None:
        """Start those that bind their address by themselves."""
        if GRPC not in self._place.sockets:
            return
        # Its library takes 0.2 s and 20 MB to load, which a service without it need not spend.
        from screening.grpc_port import GrpcPort

        service = self._service
        self._grpc = GrpcPort(
            service.lookup,
            client_for=service.callers.client,
            is_ready=lambda: service.readiness()[0],
            counts=self._grpc_counts,
        )
        host, port = self._place.sockets[GRPC][0].getsockname()[:2]
        await self._grpc.listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def listen(self) -> None:
        """Accept from the sockets that are given and listen."""
        if RPC in self._place.sockets:
            self._rpc.listen(self._place)

    async def drain(self, *, leave_queue: bool) -> None:
        """Let open calls end, for a bounded time, and close."""
        draining = [self._rpc.drain(within_seconds=self._drain_seconds, leave_queue=leave_queue)]
        if self._grpc is not None:
            draining.append(self._grpc.drain(within_seconds=self._drain_seconds))
        await asyncio.gather(*draining)
