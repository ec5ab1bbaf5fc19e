"""The addresses that the service listens on: bound once, and kept while workers come and go.

The supervisor binds them and hands them to every worker, which all accept from the same queue.
So a connection that waits in the queue of a worker that dies waits in the queue of all others,
which sockets of SO_REUSEPORT, one a worker, would lose. To add a listener:

1. name it in `listeners`, with the setting of its port;
2. in the worker, start it in `screening.ports.Ports`, with `Place.acceptor(NAME, …)`, which keeps
   workers even;
3. end its connections when the worker drains, within `drain_seconds`.

A server that can only bind by itself (gRPC) is named with `inherited=False`: the supervisor keeps
the port for it, and each worker binds the same address with SO_REUSEPORT. The port that each has
is written to `NAME.port` of the state folder by the supervisor.
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from screening.settings import Settings

Sockets = dict[str, list[socket.socket]]
"""Bound sockets by the name of their listener, one for each address that its host has."""

HTTP: Final = "http"
RPC: Final = "rpc"
GRPC: Final = "grpc"
BACKLOG: Final = 4096
_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class Listener:
    """One address; `inherited` says that workers accept from the supervisor's own sockets."""

    name: str
    host: str
    port: int
    inherited: bool = True


def listeners(settings: Settings) -> tuple[Listener, ...]:
    """Every listener of the service that is not off."""
    ports = ((HTTP, settings.port), (RPC, settings.rpc_port), (GRPC, settings.grpc_port))
    return tuple(
        Listener(name, settings.host, port, inherited=name != GRPC)
        for name, port in ports
        if port != "off"
    )


@contextlib.contextmanager
def bound(wanted: Iterable[Listener]) -> Iterator[Sockets]:
    """Sockets of each listener, bound and not yet listening; closed when the block ends.

    Raises OSError, which names the setting and the address.
    """
    with contextlib.ExitStack() as opened:
        sockets: Sockets = {}
        for each in wanted:
            try:
                sockets[each.name] = [opened.enter_context(made) for made in _bind(each)]
            except OSError as refused:
                setting = "SCREENING_PORT" if each.name == HTTP else f"SCREENING_{each.name}_PORT"
                where = f"{setting.upper()}: cannot listen on {each.host}:{each.port}"
                raise OSError(refused.errno, f"{where}: {refused.strerror}") from None
        yield sockets


def listen(sockets: Iterable[socket.socket]) -> None:
    """Take connections in from now on; once for all processes that hold the sockets."""
    for each in sockets:
        if not each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):  # it only keeps a port
            each.listen(BACKLOG)


def port_file(folder: Path, name: str) -> Path:
    """Where the port of a listener is written while it listens."""
    return folder / f"{name}.port"


def write_port(folder: Path, name: str, sockets: list[socket.socket]) -> None:
    """Write the port, whole or not at all."""
    path = port_file(folder, name)
    beside = path.with_suffix(".new")
    beside.write_text(str(sockets[0].getsockname()[1]))
    beside.replace(path)


def _bind(listener: Listener) -> list[socket.socket]:
    """One socket for each address of the host, all with the same port, a free one too."""
    found = dict.fromkeys(
        (family, address)
        for family, _, _, _, address in socket.getaddrinfo(
            listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    )
    for attempt in range(_ATTEMPTS):
        with contextlib.ExitStack() as undo:
            made: list[socket.socket] = []
            port = listener.port
            try:
                for family, address in found:
                    each = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
                    _prepare(each, shared=not listener.inherited)
                    each.bind((address[0], port, *address[2:]))
                    port = each.getsockname()[1]
                    made.append(each)
            except OSError:
                # The free port of one address may be another's on the next.
                if listener.port or not made or attempt == _ATTEMPTS - 1:
                    raise
                continue
            undo.pop_all()
            return made
    raise AssertionError  # the last attempt returned or raised


def _prepare(each: socket.socket, *, shared: bool) -> None:
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Connections take it over: an answer leaves when it is written.
    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if each.family == socket.AF_INET6:
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    each.setblocking(False)
    os.set_inheritable(each.fileno(), False)
