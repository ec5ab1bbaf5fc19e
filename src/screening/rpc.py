"""The JSON-RPC listener: netstrings over TCP, as Kamailio's janssonrpcc speaks them.

Invariants:
- requests of a connection are answered as they are decided, in any order, told apart by id;
- what one connection can hold in memory is bounded: a frame that is not whole, questions that wait
  for their answer, answers that the peer does not read. At a bound its socket is read no further,
  and a peer that still does not read, or does not end its frame, is cut off;
- an idle connection is kept: a switch connects once and asks when there are calls;
- whatever ends a connection but its peer is counted by its reason.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, cast

from screening.acceptor import Acceptor
from screening.access import Client
from screening.counts import PortCounts
from screening.jsonrpc import INVALID_REQUEST, Method, dispatch, error_response
from screening.listeners import RPC
from screening.netstring import BrokenFrame, Frames, frame
from screening.place import Place

FRAME_LIMIT_BYTES: Final = 65_536
"""As a body over HTTP."""

QUESTIONS_LIMIT: Final = 4096
"""Waiting for their answer on one connection, before its socket is left unread."""

UNREAD_LIMIT_BYTES: Final = 262_144
"""Answers that wait for the peer to read them, before its socket is left unread."""

CUT_SECONDS: Final = 10.0
"""How long a peer may leave answers unread, or a frame without its end."""

CONNECTIONS_LIMIT: Final = 1024

_SWEEP_SECONDS: Final = 1.0
_KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    # A switch that is gone without a word is found out within two minutes.
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


class Connection(asyncio.Protocol):
    """One switch, connected."""

    def __init__(self, port: "RpcPort") -> None:
        self._port = port
        self._counts = port.counts
        self._frames = Frames(limit=FRAME_LIMIT_BYTES)
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._waiting = 0
        """Responses that are still to be sent."""
        self._corked: list[bytes] | None = None
        self._unread_since = 0.0
        self._frame_since = 0.0
        self._paused = False
        self._ends = False

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, unless there are too many."""
        self._transport = made = cast("asyncio.Transport", transport)
        made.set_write_buffer_limits(high=UNREAD_LIMIT_BYTES)
        own: socket.socket | None = made.get_extra_info("socket")
        if own is not None:
            with suppress(OSError):
                for option in _KEEP_ALIVE:
                    own.setsockopt(*option)
        peer = made.get_extra_info("peername")
        self._address = peer[0] if isinstance(peer, tuple) else ""
        self._port.opened(self)
        if len(self._port.connections) > CONNECTIONS_LIMIT:
            self.refused("too_many_connections")
            made.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let it go; answers that are still to come are dropped."""
        del exc
        self._transport = None
        self._port.closed(self)

    def data_received(self, data: bytes) -> None:
        """Answer what is asked in whole frames; what can be answered now leaves in one write."""
        port = self._port
        arrived = port.clock()
        documents: list[bytes] = []
        broken = None
        try:
            self._frames.feed(data, documents)
        except BrokenFrame as found:
            broken = found
        if documents:
            client = port.client_at(self._address)
            corked: list[bytes] = []
            self._corked = corked
            for document in documents:
                # Apart from the sum, which would read `_waiting` before `send` lowers it.
                responds = dispatch(
                    document, port.methods, peer=self, client=client, arrived=arrived
                )
                self._waiting += responds
            self._corked = None
            if corked and self._transport is not None:
                self._transport.write(b"".join(corked))
        if broken is not None:
            self._cut(broken.reason, str(broken))
            return
        if not self._frames.begun:
            self._frame_since = 0.0
        elif documents or not self._frame_since:
            self._frame_since = arrived
        if self._waiting > QUESTIONS_LIMIT:
            self._pace()

    def eof_received(self) -> bool:
        """What was asked before is answered before the connection is closed."""
        self.drain()
        return True

    def pause_writing(self) -> None:
        """The peer leaves its answers unread: no more questions are taken from it."""
        self._unread_since = self._port.clock()
        self._pace()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._unread_since = 0.0
        self._pace()

    # What answers call

    def send(self, response: bytes) -> None:
        """Send a response as a frame: now, or with the others of what is being read."""
        self._waiting -= 1
        if self._corked is not None:
            self._corked.append(frame(response))
            return
        if self._transport is None:
            return
        self._transport.write(frame(response))
        if self._paused:
            self._pace()
        if self._ends:
            self._close_when_answered()

    def called(self, method: str) -> None:
        """Count a request by its method."""
        self._counts.called[method] += 1

    def refused(self, reason: str) -> None:
        """Count a request that was wrong, or why the connection was cut off."""
        self._counts.refused[reason] += 1

    # What the listener calls

    def drain(self) -> None:
        """Take no more questions; close once all are answered."""
        self._ends = True
        self._pace()
        self._close_when_answered()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def look(self, now: float) -> None:
        """Cut off a peer that does not read, or that does not end what it began."""
        if self._unread_since and now - self._unread_since > CUT_SECONDS:
            self.refused("slow_reader")
            self.abort()
        elif self._frame_since and not self._paused and now - self._frame_since > CUT_SECONDS:
            self._cut("frame_stalled", f"the frame did not end within {CUT_SECONDS:.0f} s")

    def _pace(self) -> None:
        """Read the socket, or leave it unread."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        paused = self._ends or self._unread_since > 0 or self._waiting > QUESTIONS_LIMIT
        if paused and not self._paused:
            transport.pause_reading()
        elif self._paused and not paused:
            # The rest of a frame may have waited for us.
            self._frame_since = self._port.clock() if self._frames.begun else 0.0
            transport.resume_reading()
        self._paused = paused

    def _cut(self, reason: str, message: str) -> None:
        """Say what is wrong, then close: nobody can tell where the next frame would begin."""
        self.refused(reason)
        if self._transport is not None:
            self._transport.write(frame(error_response(INVALID_REQUEST, message)))
            self._frame_since = 0.0
            self.drain()

    def _close_when_answered(self) -> None:
        if self._waiting == 0 and self._transport is not None:
            self._transport.close()


class RpcPort:
    """The listener, its connections, and the methods that they may call.

    `methods` may be added to while it runs.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        client_at: Callable[[str], Client],
        counts: PortCounts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.methods: Final = methods
        self.client_at: Final = client_at
        self.counts: Final = counts
        self.clock: Final = clock
        self.connections: Final[set[Connection]] = set()
        self._acceptor: Acceptor | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()

    def listen(self, place: Place) -> None:
        """Serve on the sockets of this listener, which listen already."""
        self._acceptor = place.acceptor(
            RPC, lambda: Connection(self), open_connections=lambda: len(self.connections)
        )
        self._acceptor.start()
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def drain(self, *, within_seconds: float, leave_queue: bool = False) -> None:
        """Take no more connections and questions; answer those that wait; close.

        Connections that nobody has accepted yet are taken first, or left to other workers.
        """
        if self._acceptor is not None:
            self._acceptor.stop(leave_queue=leave_queue)
        if self._sweeping is not None:
            self._sweeping.cancel()
        for each in tuple(self.connections):
            each.drain()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_gone(), within_seconds)
        for each in tuple(self.connections):
            self.counts.refused["drain"] += 1
            each.abort()

    def opened(self, connection: Connection) -> None:
        """Remember a connection."""
        self.connections.add(connection)
        self.counts.connections = len(self.connections)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self.counts.connections = len(self.connections)
        self._gone.set()

    async def _all_gone(self) -> None:
        while self.connections:
            self._gone.clear()
            await self._gone.wait()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self.clock()
            for each in tuple(self.connections):
                each.look(now)
