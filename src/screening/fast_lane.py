"""The fast lane: plain lookups answered where their bytes come in, all else left to uvicorn.

Invariants:
- what is answered here is a whole request of a form that httptools has found to be plain; every
  other byte goes to uvicorn's own protocol, unchanged and from the start of its request on;
- the two never have the floor at once: uvicorn's gets it when every answer of ours is written,
  and gives it back at the end of a request when every answer of its own is;
- answers leave in the order of their questions;
- of one connection at most `MOST_WAITING` questions are asked in a turn of the loop or wait for
  their facts, and of what it sends beyond them no more is read than one piece.

A head is plain if it is HTTP/1.1, keeps the connection, has at most one Content-Length, and none
of Transfer-Encoding, Expect and Upgrade. A switch sends the same head for every call, but for its
length: heads are looked at once and remembered.
"""

import asyncio
import re
from collections import deque
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from screening.access import Callers, bearer_of
from screening.contract import BODY_LIMIT_BYTES
from screening.lookup import Answered, Lookup
from screening.problem import malformed
from screening.wire import MalformedCall

MOST_WAITING: Final = 64
HEAD_LIMIT_BYTES: Final = 32_768
"""Of the request line and all header fields."""

PATIENCE_SECONDS: Final = 10.0
"""How long a head may take to come in, and how long a body may pause."""

CLOSE: Final = (b"connection", b"close")

_SWEEP_SECONDS: Final = 1.0
_HELD_HEAD_BYTES: Final = 4_096
_MOST_HEADS: Final = 4_096
_MOST_HEAD_BYTES: Final = 2_048
"""A longer head is looked at anew each time."""

_POST: Final = b"POST /v1/screen HTTP/1.1\r\n"
_GET: Final = b"GET /v1/screen?"
_VERSION: Final = b" HTTP/1.1"
_QUERY: Final = re.compile(rb"[!$-~]*")
"""No fragment, and nothing that a target may not have."""

_NOT_PLAIN_FIELDS: Final = frozenset(
    (b"transfer-encoding", b"expect", b"upgrade", b"proxy-connection", b"te", b"trailer")
)


class Head:
    """What the header fields of a request come to; `length` is -1 where they are not plain."""

    __slots__ = ("bearer", "length")

    def __init__(self, length: int, bearer: bytes | None) -> None:
        self.length: Final = length
        self.bearer: Final = bearer


NOT_PLAIN: Final = Head(-1, None)


class _Look:
    """httptools' view of one head."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.heads = 0
        self.more = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, _body: bytes) -> None:
        self.more = True


def read_head(fields: bytes) -> Head:
    """What header fields come to that stand in a POST; `fields` end with an empty line."""
    look = _Look()
    parser = httptools.HttpRequestParser(look)
    try:
        parser.feed_data(_POST + fields)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return NOT_PLAIN
    names = [name for name, _ in look.headers]
    lengths = [value for name, value in look.headers if name == b"content-length"]
    # A bare CR or LF, which parsers take for different things, is for the one that decides.
    lines = fields.count(b"\r\n")
    if (
        look.heads != 1
        or look.more
        or fields.count(b"\n") != lines
        or fields.count(b"\r") != lines
        or len(look.headers) != lines - 1
        or not parser.should_keep_alive()
        or not _NOT_PLAIN_FIELDS.isdisjoint(names)
        or len(lengths) > 1
    ):
        return NOT_PLAIN
    for name, value in look.headers:
        if name == b"connection" and value.strip().lower() != b"keep-alive":
            return NOT_PLAIN
    length = 0
    if lengths:
        if not re.fullmatch(rb"[0-9]{1,9}", lengths[0]) or int(lengths[0]) > BODY_LIMIT_BYTES:
            return NOT_PLAIN
        length = int(lengths[0])
    return Head(length, bearer_of(look.headers))


class Lane:
    """What the connections of one worker have in common."""

    def __init__(self, lookup: Lookup, callers: Callers) -> None:
        self.lookup: Final = lookup
        self.callers: Final = callers
        self.closing = False
        """Whether every answer closes its connection: the server drains."""
        self._heads: dict[bytes, Head] = {}
        self._defaults: object = None
        self._answer_head = b""
        self._sweeper: asyncio.TimerHandle | None = None
        self._connections: set[Any] = set()

    def head(self, fields: bytes) -> Head:
        """`read_head`, remembered."""
        head = self._heads.get(fields)
        if head is None:
            head = read_head(fields)
            if len(fields) <= _MOST_HEAD_BYTES:
                if len(self._heads) >= _MOST_HEADS:
                    self._heads.clear()
                self._heads[fields] = head
        return head

    def answer_head(self, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """What comes before the length of an answer; uvicorn makes new defaults every second."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self.closing = CLOSE in defaults
            lines = b"".join(b"%b: %b\r\n" % each for each in defaults if each != CLOSE)
            json = b"content-type: application/json\r\ncontent-length: "
            self._answer_head = STATUS_LINE[200] + lines + json
        return self._answer_head

    def watch(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        """Look after the connections from now on, once a second."""
        self._connections = connections
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = None
        now = self.lookup.clock()
        for connection in [*self._connections]:
            connection.look_after(now)
        if self._connections:
            self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep, loop)


class _Waiting:
    """A question in the line of its connection; called with what it came to."""

    __slots__ = ("_connection", "answered")

    def __init__(self, connection: "FastLane") -> None:
        self._connection = connection
        self.answered: Answered | MalformedCall | bytes | None = None

    def __call__(self, answered: Answered | MalformedCall | bytes) -> None:
        self.answered = answered
        if self._connection.waiting[0] is self:
            self._connection.write_answered()


class FastLane(HttpToolsProtocol):
    """One connection. uvicorn's protocol, which it extends, is "stock" here."""

    # Per connection, before anything came.
    _client_address = ""
    _held: bytearray | bytes = b""
    """What came of a request that cannot be taken yet, and what came after it."""
    _need = 0
    """Bytes of `_held` that make the request whole; 0 where its head is not."""
    _began = 0.0
    """When the request that is held, or the head that stock reads, began to come in."""
    _heard = 0.0
    _stock = False
    """Whether stock has the floor."""
    _in_head = False
    _in_message = False
    _head_bytes = 0
    _too_large = False
    _blocked = False
    """Whether reading is paused by us, until answers are written."""
    _write_paused = False
    _leaving = False

    def __init__(self, *given: Any, lane: Lane, **named: Any) -> None:
        """`lane` is that of the worker; the rest is as uvicorn gives it to its own."""
        super().__init__(*given, **named)
        self.lane: Final = lane

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.waiting: deque[_Waiting] = deque()
        self._client_address = self.client[0] if self.client else ""
        self._heard = self.lane.lookup.clock()
        self.lane.watch(self.loop, self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        """Calls that still wait are decided and counted; nobody hears of it."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._held = b""

    def data_received(self, data: bytes) -> None:
        """A piece of one request or of several."""
        self._heard = arrived = self.lane.lookup.clock()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._stock:
            if self._has_floor():
                super().data_received(data)
                return
            self._stock = False
        if not self._held:
            self._began = arrived
        else:
            self._held += data
            if len(self._held) < self._need or self._blocked:
                return
            data, self._held, self._need = bytes(self._held), b"", 0
        self._take(data, arrived)

    # Whole plain requests

    def _take(self, data: bytes, arrived: float) -> None:
        """Answer what is plain, from the start of a request on."""
        lane, waiting = self.lane, self.waiting
        at, size, taken = 0, len(data), 0
        while at < size:
            if len(waiting) >= MOST_WAITING or taken >= MOST_WAITING or self._write_paused:
                self._block(data[at:])
                if not waiting and not self._write_paused:
                    # The other connections have their turn first.
                    self.loop.call_soon(self._unblock)
                return
            taken += 1
            post = data[at : at + len(_POST)] == _POST
            if not post and data[at : at + len(_GET)] != _GET:
                begun = data[at : at + len(_POST)]
                if _POST.startswith(begun) or _GET.startswith(begun):
                    self._hold(data, at, 0, arrived)
                else:
                    self._hand_over(data[at:])
                return
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4:
                if size - at > _HELD_HEAD_BYTES:
                    self._hand_over(data[at:])
                else:
                    self._hold(data, at, 0, arrived)
                return
            if end - at > HEAD_LIMIT_BYTES:
                self._hand_over(data[at:])
                return
            begin = at + len(_POST) if post else data.index(b"\r\n", at) + 2
            head = lane.head(data[begin:end])
            whole = end + head.length
            if whole > size and post:
                self._hold(data, at, whole - at, arrived)
                return
            if post and head.length >= 0:
                question = data[end:whole]
            elif head.length == 0 and data.endswith(_VERSION, at, begin - 2):
                question = data[at + len(_GET) : begin - 2 - len(_VERSION)]
                if not _QUERY.fullmatch(question):
                    self._hand_over(data[at:])
                    return
            else:
                self._hand_over(data[at:])
                return
            at = whole
            if post and arrived >= lane.lookup.overload.late_at:
                shed = lane.lookup.shed_json(question, arrived)
                if shed is not None:
                    self._put(shed)
                    continue
            client = lane.callers.client(head.bearer, self._client_address)
            place = _Waiting(self)
            waiting.append(place)
            if post:
                lane.lookup.screen_json(question, client=client, arrived=arrived, reply=place)
            else:
                lane.lookup.ask_query(question, client=client, arrived=arrived, reply=place)

    def _put(self, body: bytes) -> None:
        """Put an answer in the line that is there at once."""
        if self.waiting:
            place = _Waiting(self)
            self.waiting.append(place)
            place(body)
        else:
            self._write(body)

    def write_answered(self) -> None:
        """Write what is answered at the head of the line."""
        waiting = self.waiting
        while waiting and (answered := waiting[0].answered) is not None:
            waiting.popleft()
            self._write(answered)
        if self._blocked and not self._write_paused and len(waiting) <= MOST_WAITING // 2:
            # Not from within a question that is being asked.
            self.loop.call_soon(self._unblock)

    def _write(self, answered: Answered | MalformedCall | bytes) -> None:
        """Write the answer whose turn it is."""
        lane, transport = self.lane, self.transport
        if transport.is_closing():
            return
        head = lane.answer_head(self.server_state.default_headers)
        last = (self._leaving or lane.closing) and not self.waiting and not self._held
        transport.write(self._response(answered, head, last=last))
        if last:
            transport.close()

    def _response(
        self, answered: Answered | MalformedCall | bytes, head: bytes, *, last: bool
    ) -> bytes:
        if not isinstance(answered, MalformedCall):
            body = answered if isinstance(answered, bytes) else answered.body()
            if not last:
                return b"%b%d\r\n\r\n%b" % (head, len(body), body)
            return b"%b%d\r\nconnection: close\r\n\r\n%b" % (head, len(body), body)
        refusal = malformed(answered)
        defaults = self.server_state.default_headers
        headers = [each for each in (*defaults, *refusal.raw_headers) if each != CLOSE]
        if last:
            headers.append(CLOSE)
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"%b%b\r\n%b" % (STATUS_LINE[400], lines, bytes(refusal.body))

    # What has to wait

    def _hold(self, data: bytes, at: int, need: int, arrived: float) -> None:
        """Keep a request that is not whole and begins at `at`."""
        if at:
            self._began = arrived
        self._held, self._need = bytearray(data[at:]), need

    def _block(self, data: bytes) -> None:
        """Keep what came, and read no more until answers are written."""
        self._held, self._need = bytearray(data), 0
        self._blocked = True
        self.flow.pause_reading()

    def _unblock(self) -> None:
        if not self._blocked or self.transport.is_closing():
            return
        self._blocked = False
        data, self._held = bytes(self._held), b""
        self.flow.resume_reading()
        self._take(data, self.lane.lookup.clock())

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        super().pause_writing()
        self._write_paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._write_paused = False
        if self._blocked:
            self.loop.call_soon(self._unblock)

    # Everything else

    def _hand_over(self, data: bytes) -> None:
        """Give stock the floor, as soon as our answers are written."""
        if self.waiting:
            self._block(data)
            return
        self._stock = True
        super().data_received(data)

    def _has_floor(self) -> bool:
        return self._stock and (
            self._in_message
            or bool(self.pipeline)
            or (self.cycle is not None and not self.cycle.response_complete)
        )

    def on_message_begin(self) -> None:
        """Of stock: a request begins."""
        self._in_message = self._in_head = True
        self._head_bytes = 0
        self._began = self._heard
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Of stock: a part of the target."""
        self._measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of stock: one header field."""
        self._measure(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Of stock: the head is whole."""
        self._in_head = False
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Of stock: a request is whole."""
        self._in_message = False
        super().on_message_complete()

    def _measure(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._too_large = True
            raise ValueError("head too large")

    def send_400_response(self, msg: str) -> None:
        """Of stock: refuse what is not HTTP, and close; 431 where the head was only too large."""
        if self._too_large:
            self._refuse(431, "Request header fields too large.")
        else:
            super().send_400_response(msg)

    def _refuse(self, status: int, text: str) -> None:
        lines = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(
            b"%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b"
            % (STATUS_LINE[status], lines, len(text), text.encode("ascii"))
        )
        self.transport.close()

    # Time

    def look_after(self, now: float) -> None:
        """Close a connection that sends too slowly, or nothing for too long."""
        if self.transport.is_closing() or self.waiting or self._blocked:
            return
        if self._has_floor():
            if self._in_head:
                answers = self.cycle is not None and not self.cycle.response_complete
                slow = not answers and now - self._began > PATIENCE_SECONDS
            else:
                reads = self._in_message and not self.flow.read_paused
                slow = reads and now - self._heard > PATIENCE_SECONDS
            started = not self._in_head and self.cycle.response_started
        elif self._held:
            slow, started = now - self._began > PATIENCE_SECONDS, False
        else:
            slow, started = now - self._heard > self.timeout_keep_alive, True
        if slow and started:
            self.transport.close()
        elif slow:
            self._refuse(408, "Request not received in time.")

    def shutdown(self) -> None:
        """Close when what has been asked is answered."""
        self._leaving = True
        if not self.waiting and not self._held:
            super().shutdown()
