"""One connection to one index server: pipelined, bounded in time and number, with a breaker.

Invariants:
- every question asked is settled exactly once: with its replies, or with None by its deadline
  (and a few milliseconds), at once while the breaker is open;
- replies are matched by order alone, so a question keeps its place in the line after it has
  missed its deadline, and its late replies are dropped when they come;
- a reply never reaches a question of another connection: losing one empties its line.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final, Literal, cast

import hiredis

from consent.index.address import Address
from consent.index.topology import Redirect, read_redirect

PING: Final = b"*1\r\n$4\r\nPING\r\n"
ROLE: Final = b"*1\r\n$4\r\nROLE\r\n"
_MISPLACED: Final = ("MOVED ", "CLUSTERDOWN ", "LOADING ", "MASTERDOWN ", "READONLY ")
_ReplyError: Final = hiredis.ReplyError
_LATE_TIMER_S: Final = 0.002
_HELD_UP_S: Final = 0.1
_RECOVERED_S: Final = 0.05


def encode_command(*words: bytes | str | int) -> bytes:
    """A command in the server's protocol (RESP), as bytes to be sent."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type] # any length
    return packed


@dataclass(frozen=True, slots=True)
class Redirected:
    """A node of a cluster sends the question elsewhere; the replies hold its errors."""

    replies: list[Any]
    where: Redirect


Settle = Callable[[list[Any] | Redirected | None], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the link waits for what, in seconds.

    A heartbeat unanswered for `stall_s` opens the breaker, for `silence_s` it ends the
    connection: a frozen server keeps its sockets open, and the kernel accepts for it.
    """

    heartbeat_s: float = 0.2
    stall_s: float = 0.3
    silence_s: float = 1.0
    connect_s: float = 1.0
    backoff_first_s: float = 0.02
    backoff_most_s: float = 0.5


class _Ask:
    """A question in the line; `settle` is None once it is settled."""

    __slots__ = ("deadline", "error", "expected", "replies", "settle")

    def __init__(self, expected: int, deadline: float, settle: Settle) -> None:
        self.expected = expected
        self.deadline = deadline
        self.settle: Settle | None = settle
        self.replies: list[Any] = []
        self.error = ""


class _Wire(asyncio.Protocol):
    """One socket: bytes in and out for the link that made it, until it is lost."""

    def __init__(self, link: "Link", loop: asyncio.AbstractEventLoop) -> None:
        self.link = link
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.replies = hiredis.Reader()
        self.line: deque[_Ask] = deque()
        self.out: list[bytes] = []
        self.heard = loop.time()
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, ask: _Ask, payload: bytes) -> None:
        """Put a question in the line; all of one turn of the loop leave in one write."""
        if not self.out:
            self.loop.call_soon(self._flush)
        self.out.append(payload)
        self.line.append(ask)

    def _flush(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self.out))
        self.out.clear()

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        gets, line = self.replies.gets, self.line
        try:
            self.replies.feed(data)
            ask: _Ask | None = None
            while (reply := gets()) is not False:
                if ask is None:
                    ask = line[0]
                if type(reply) is _ReplyError:
                    ask.error = str(reply)
                ask.replies.append(reply)
                if len(ask.replies) == ask.expected:
                    line.popleft()
                    if ask.settle is not None:
                        self.link.answered(ask)
                    ask = None
        except (hiredis.ProtocolError, IndexError) as error:
            # IndexError: a reply that nobody asked for, so the order can be trusted no more.
            self.end(f"not the protocol of an index server: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(f"connection lost: {exc or 'closed by the server'}")

    def end(self, why: str) -> None:
        """Close, and settle all that wait in the line with None."""
        if self.transport is not None:
            self.transport.abort()
        if not self.lost.done():
            self.lost.set_result(None)
            self.link.dropped(self, why)
        line, self.line = self.line, deque()
        for ask in line:
            if ask.settle is not None:
                self.link.give_up(ask)


class Link:
    """A connection kept up for as long as the link is started. Belongs to one event loop.

    A link to one node of several tells `troubled` when another may have taken its node's place.
    With `primary` the node must not be a replica.
    """

    def __init__(
        self,
        address: Address,
        *,
        timing: Timing = Timing(),
        most_waiting: int = 4096,
        tls: ssl.SSLContext | None = None,
        troubled: Callable[[], None] | None = None,
        primary: bool = False,
    ) -> None:
        self.address = address
        self.troubled = troubled
        self.primary = primary
        self.timing = timing
        self.most_waiting = most_waiting
        self.tls = (tls or ssl.create_default_context()) if address.tls else None
        self.state: Literal["closed", "open"] = "open"
        self.reads = self.timeouts = self.errors = self.rejected = self.connections = 0
        self.last_error = "not started"
        self._wire: _Wire | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._heart: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_at = inf
        self._missed = 0
        self._budget_s = _RECOVERED_S
        self._ping: _Ask | None = None
        self._pinged = 0.0

    async def start(self) -> None:
        """Connect and keep connected; returns after the first attempt, whatever came of it."""
        self._loop = asyncio.get_running_loop()
        first = self._loop.create_future()
        self._keeper = self._loop.create_task(self._keep(first))
        self._beat_by(self._loop.time() + self.timing.heartbeat_s / 2)
        await first

    async def close(self) -> None:
        """End the connection and settle what still waits with None."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        for timer in (self._heart, self._sweeper):
            if timer is not None:
                timer.cancel()
        if self._wire is not None:
            self._wire.end("closed by this service")
            self._wire = None
        self._open("closed by this service")

    def ask(self, payload: bytes, *, expected: int, deadline: float, settle: Settle) -> None:
        """Send commands that bring `expected` replies; `settle` gets them, or None.

        `deadline` is an instant of the loop's clock. Never raises, never waits.
        """
        wire = self._wire
        if wire is None or self.state == "open":
            settle(None)
            return
        budget = deadline - self._loop.time()
        if budget <= 0 or len(wire.line) >= self.most_waiting:
            self.rejected += 1
            settle(None)
            return
        self.reads += 1
        self._budget_s = budget
        wire.send(_Ask(expected, deadline, settle), payload)
        if deadline < self._sweep_at:
            self._sweep_by(deadline)

    # Called by the wire.

    def answered(self, ask: _Ask) -> None:
        """All replies of a question came in time."""
        if ask.error:
            if self.troubled is not None:
                if ask.error.startswith(_MISPLACED):
                    self.troubled()
                where = read_redirect(ask.error, asked=self.address)
                if where is not None:
                    self._settle(ask, Redirected(ask.replies, where))
                    return
            self.errors += 1
            self.last_error = ask.error
            self.give_up(ask)
            return
        self._missed = 0
        self._settle(ask, ask.replies)

    def give_up(self, ask: _Ask) -> None:
        self._settle(ask, None)

    def dropped(self, wire: _Wire, why: str) -> None:
        if wire is self._wire:
            self._wire = None
            self._open(why)

    def _settle(self, ask: _Ask, replies: list[Any] | Redirected | None) -> None:
        settle, ask.settle = ask.settle, None
        if settle is None:
            return
        try:
            settle(replies)
        except Exception as error:  # noqa: BLE001 - one caller's fault must not reach the others
            self._loop.call_exception_handler(
                {"message": "a callback of an index read failed", "exception": error}
            )

    # Deadlines: one timer for all that wait, set to the earliest.

    def _sweep_by(self, instant: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweep_at = instant
        self._sweeper = self._loop.call_at(instant, self._sweep)

    def _sweep(self, *, put_off: bool = False) -> None:
        now = self._loop.time()
        self._sweep_at, self._sweeper = inf, None
        wire = self._wire
        if wire is None:
            return
        if not put_off:
            # Timers come before sockets: replies may lie unread in there. Read before judging.
            self._sweep_at = now
            self._sweeper = self._loop.call_at(now, partial(self._sweep, put_off=True))
            return
        earliest = inf
        for ask in wire.line:
            if ask.settle is None:
                continue
            if ask.deadline <= now:
                self.timeouts += 1
                self._missed += 1
                self.give_up(ask)
            elif ask.deadline < earliest:
                earliest = ask.deadline
        if self._missed >= 3:
            self._open(f"{self._missed} reads in a row missed their deadline")
        # A new question asked from a callback above may have set an earlier timer already.
        if earliest < self._sweep_at:
            self._sweep_by(max(earliest, now + 0.001))

    # The breaker and its heartbeat.

    def _open(self, why: str) -> None:
        self.last_error = why
        self.state = "open"
        if self.troubled is not None:
            self.troubled()

    def _beat_by(self, instant: float) -> None:
        self._beat_due = instant
        self._heart = self._loop.call_at(instant, self._beat)

    def _beat(self) -> None:
        now, timing, wire = self._loop.time(), self.timing, self._wire
        late = now > self._beat_due + _HELD_UP_S
        self._beat_by(now + (_LATE_TIMER_S if late else timing.heartbeat_s / 2))
        if wire is None or late:  # read before judging, as in _sweep
            return
        waited = now - max(self._pinged, wire.heard)
        if self._ping is None or self._ping.settle is None:
            if self.state == "open" or now - self._pinged >= timing.heartbeat_s:
                self._pinged = now
                self._ping = _Ask(1, inf, self._pong)
                wire.send(self._ping, PING)
        elif waited > timing.silence_s:
            wire.end(f"the server said nothing for {timing.silence_s:g} s")
        elif waited > timing.stall_s and self.state == "closed":
            self._open(f"a heartbeat was not answered in {timing.stall_s:g} s")

    def _pong(self, replies: list[Any] | Redirected | None) -> None:
        # Recovered means fast enough to be of use, not only alive.
        took = self._loop.time() - self._pinged
        if replies is not None and took <= max(0.005, min(self._budget_s, _RECOVERED_S)):
            self._missed = 0
            self.state = "closed"

    # The connection.

    async def _keep(self, first: asyncio.Future[None]) -> None:
        backoff = self.timing.backoff_first_s
        while True:
            try:
                async with asyncio.timeout(self.timing.connect_s):
                    wire = await self._connect()
            except TimeoutError:
                wire = None
                self._open(f"{self.address.name} did not answer in {self.timing.connect_s:g} s")
            except OSError as error:
                wire = None
                self._open(f"{self.address.name} cannot be reached: {error}")
            if wire is not None:
                backoff = self.timing.backoff_first_s
                self.connections += 1
                self._wire = wire
                self._ping = None
                self._missed = 0
                self.state = "closed"
            if not first.done():
                first.set_result(None)
            if wire is not None:
                await wire.lost
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, self.timing.backoff_most_s)

    async def _connect(self) -> _Wire | None:
        """A wire that has logged in and answered a PING, or None with the reason noted."""
        loop, address = self._loop, self.address
        wire = _Wire(self, loop)
        try:
            if address.path:
                await loop.create_unix_connection(lambda: wire, address.path)
            else:
                await loop.create_connection(lambda: wire, address.host, address.port, ssl=self.tls)
            refusal = await self._log_in(wire)
        except BaseException:
            wire.end("not connected")
            raise
        if refusal:
            self._open(f"{address.name} refused: {refusal}")
            wire.end(refusal)
            return None
        return wire

    async def _log_in(self, wire: _Wire) -> str:
        commands = list(greeting(self.address)) + ([ROLE] if self.primary else [])
        answer: asyncio.Future[bool] = self._loop.create_future()

        def settle(replies: list[Any] | Redirected | None) -> None:
            if not answer.done():
                answer.set_result(replies is not None)

        ask = _Ask(len(commands), inf, settle)
        wire.send(ask, b"".join(commands))
        if not await answer:
            return ask.error or "it closed the connection"
        if self.primary and ask.replies[-1][0] != b"master":
            return "it is not the primary"
        return ""


def greeting(address: Address) -> Iterable[bytes]:
    """The commands that log in and prove that the server answers."""
    if address.password:
        user = (address.user,) if address.user else ()
        yield encode_command("AUTH", *user, address.password)
    if address.database:
        yield encode_command("SELECT", address.database)
    yield PING
