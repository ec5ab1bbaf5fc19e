"""One worker under uvicorn: from the sockets that it is given to the last open call."""

import asyncio
import sys
from functools import partial
from socket import socket
from types import FrameType
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from screening.acceptor import Acceptor
from screening.channel import Channel
from screening.fast_lane import FastLane, Lane
from screening.listeners import HTTP
from screening.place import Place
from screening.ports import Ports
from screening.service import Service
from screening.siblings import Siblings

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than switches and proxies keep an idle connection, so that they close it, not we."""

SWITCH_SECONDS: Final = 0.0005
"""Python's own 5 ms is what a call would wait for a thread that computes."""

LINGER_SECONDS: Final = 0.25
"""On a stop, how long an idle connection may yet send a call that is on its way."""

CLOSE: Final = (b"connection", b"close")


class Worker(uvicorn.Server):
    """uvicorn's server over inherited sockets, that drains without dropping a call.

    A connection is closed with the answer to a call, not between two: an idle one may have the
    next call on its way. So while draining every answer says `Connection: close`, and only
    connections that stay idle to the end of the bound are closed as they are.
    """

    def __init__(self, config: uvicorn.Config, service: Service, place: Place) -> None:
        super().__init__(config)
        self._service = service
        self._place = place
        self._ports = Ports(service, place)
        self._leave_queue = False
        self._acceptor: Acceptor | None = None
        self._attending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:  # noqa: ARG002
        """Start the application, and tell the supervisor, which says when to accept."""
        place = self._place
        channel = await Channel.over(place.channel)
        siblings = Siblings(
            channel,
            self._service.metrics.registry,
            told=self._service.told,
            accept=self._accept,
            drain=self._drain,
        )
        self._service.siblings = siblings
        self._attending = asyncio.create_task(siblings.attend())
        await super().startup(sockets=[])
        if self.started and not self.should_exit:
            self._acceptor = place.acceptor(
                HTTP,
                self._protocol,
                open_connections=lambda: len(self.server_state.connections),
            )
            await self._ports.prepare()
            siblings.ready()

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    def _accept(self) -> None:
        if self._acceptor is not None and not self.should_exit:
            self._acceptor.start()
            self._ports.listen()

    def _drain(self, leave_queue: bool) -> None:
        self._leave_queue = leave_queue
        self._service.drain()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A worker that is told to end by a person drains as if replaced."""
        asyncio.get_running_loop().call_soon_threadsafe(self._drain, True)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Accept no more, let connections end with their next answer, then close what is left."""
        loop = asyncio.get_running_loop()
        bound = self._service.settings.drain_seconds
        until = loop.time() + bound
        if self._acceptor is not None:
            self._acceptor.stop(leave_queue=self._leave_queue)
        beside = asyncio.create_task(self._ports.drain(leave_queue=self._leave_queue))
        state = self.server_state
        state.default_headers = [*state.default_headers, CLOSE]
        linger = bound if self._leave_queue else min(bound, LINGER_SECONDS)
        await self._without_connections(until=loop.time() + linger)
        for each in tuple(state.connections):
            each.shutdown()  # at once where no call is being answered
        await self._without_connections(until=until)
        for each in tuple(state.connections):
            transport: Any = each.transport
            transport.abort()
        await beside
        self.config.timeout_graceful_shutdown = 1
        await super().shutdown(sockets)
        if self._service.siblings is not None:
            await self._service.siblings.leave()
        if self._attending is not None:
            self._attending.cancel()

    async def _without_connections(self, *, until: float) -> None:
        loop = asyncio.get_running_loop()
        while self.server_state.connections and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # uvicorn's set of them tells nobody when it is empty


def run(app: FastAPI, service: Service, place: Place) -> None:
    """Serve until the supervisor says so or is gone; open calls get `drain_seconds` to end.

    Raises SystemExit with 1 when the application does not start.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol(service) if service.settings.fast_lane else "httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    # A call that comes in while a thread takes in rules or lists waits no longer than this.
    sys.setswitchinterval(SWITCH_SECONDS)
    worker = Worker(config, service, place)
    worker.run()
    if not worker.started:
        raise SystemExit(1)


def protocol(service: Service) -> Any:
    """What speaks HTTP with the clients of a service: made for each connection, as uvicorn does."""
    return partial(FastLane, lane=Lane(service.lookup, service.callers))
