"""`screening serve`: one worker under uvicorn, from the first line printed to the last."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from socket import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from screening.fast_lane import FastLane, Lane
from screening.ports import Ports, Sockets, bind_ports
from screening.service import Service

KEEP_ALIVE_SECONDS = 75
"""Longer than switches and proxies keep an idle connection, so that they close it, not we."""

SWITCH_SECONDS = 0.0005
"""Python's own 5 ms is what a call would wait for a thread that computes."""


class Worker(uvicorn.Server):
    """uvicorn's server that says when it is ready and that it drains."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        *,
        beside: Sockets,
        ready: Callable[[str, int], None],
    ) -> None:
        super().__init__(config)
        self._service = service
        self._beside = beside
        self._ports = Ports(service)
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Bind, start the application, then tell where it listens."""
        await super().startup(sockets)
        if self.started and not self.should_exit:
            await self._ports.listen(self._beside)
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._ready(host, port)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Drain the listeners; the application stops after the last of them."""
        await self._ports.drain()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Say in /readyz that no new calls shall come, then stop as uvicorn does."""
        self._service.drain()
        super().handle_exit(sig, frame)


def run(app: FastAPI, service: Service, *, ready: Callable[[str, int], None]) -> None:
    """Serve until SIGINT or SIGTERM; open calls get `drain_seconds` to end.

    The port is written to `http.port` of the state folder while it listens, for those who asked
    for a free one. Raises SystemExit with 1 when it cannot listen.
    """
    settings = service.settings
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol(service) if settings.fast_lane else "httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        backlog=4096,
    )
    # A call that comes in while a thread takes in rules or lists waits no longer than this.
    sys.setswitchinterval(SWITCH_SECONDS)
    port_file = settings.state_dir / "http.port"

    def listening(host: str, port: int) -> None:
        _write(port_file, str(port))
        ready(host, port)

    # uvicorn raises the signal that stopped it again once it is done: it must find a handler
    # that lets the embedded server be stopped too.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    worker = Worker(config, service, beside=bind_ports(settings), ready=listening)
    try:
        worker.run()
    finally:
        port_file.unlink(missing_ok=True)
    if not worker.started:
        raise SystemExit(1)


def protocol(service: Service) -> type[FastLane]:
    """What speaks HTTP with the clients of a service."""
    return FastLane.over(Lane(service.lookup, client_for=service.client_for))


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _write(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)
