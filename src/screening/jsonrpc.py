"""JSON-RPC 2.0: requests out of what came in, responses for what goes out. No I/O.

https://www.jsonrpc.org/specification. Invariants: every request that has an id is answered once,
in whatever order; a notification never is; the responses of a batch leave as one, when the last
of them is there.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson

from screening.access import Client
from screening.logs import log_where

log = logging.getLogger(__name__)

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

REASONS: Final = {
    PARSE_ERROR: "parse_error",
    INVALID_REQUEST: "invalid_request",
    METHOD_NOT_FOUND: "method_not_found",
    INVALID_PARAMS: "invalid_params",
    INTERNAL_ERROR: "internal_error",
}
"""The codes as metrics name them."""

BATCH_LIMIT: Final = 256
"""Requests in one batch: a frame of empty ones would otherwise be answered with megabytes."""

_ABSENT: Final = object()


class Peer(Protocol):
    """Who a response goes to, and who counts."""

    def send(self, response: bytes) -> None:
        """Take a whole response."""

    def called(self, method: str) -> None:
        """Count a request by its method, one of those that there are."""

    def refused(self, reason: str) -> None:
        """Count a request that was answered with an error."""


class Request:
    """One request to be answered by `result` or `error`, once, at any time.

    `client` is who asks, `arrived` the monotonic instant. A notification takes answers and drops
    them.
    """

    __slots__ = ("_id", "_peer", "arrived", "client", "params")

    def __init__(
        self, params: Any, identity: bytes | None, peer: Peer, client: Client, arrived: float
    ) -> None:
        self.params: Final = params
        self.client: Final = client
        self.arrived: Final = arrived
        self._id = identity
        self._peer = peer

    @property
    def is_notification(self) -> bool:
        """Whether nobody waits for an answer."""
        return self._id is None

    def result(self, document: bytes) -> None:
        """Answer with a result, given as JSON."""
        if self._id is not None:
            self._peer.send(b'{"jsonrpc":"2.0","result":%b,"id":%b}' % (document, self._id))

    def error(self, code: int, message: str, *, field: str = "") -> None:
        """Answer that the request was wrong; `field` names the parameter at fault."""
        self._peer.refused(REASONS[code])
        if self._id is not None:
            self._peer.send(error_response(code, message, identity=self._id, field=field))


Method = Callable[[Request], None]


class _Batch:
    """Where the responses of a batch are gathered until the last one is there."""

    __slots__ = ("_expected", "_peer", "_responses")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._responses: list[bytes] = []
        self._expected = 0
        """Known, and not 0, once the batch has been read."""

    def expect(self, responses: int) -> None:
        self._expected = responses
        self._settle()

    def send(self, response: bytes) -> None:
        self._responses.append(response)
        self._settle()

    def _settle(self) -> None:
        if self._expected and len(self._responses) == self._expected:
            self._peer.send(b"[%b]" % b",".join(self._responses))

    def called(self, method: str) -> None:
        self._peer.called(method)

    def refused(self, reason: str) -> None:
        self._peer.refused(reason)


def dispatch(
    document: bytes, methods: Mapping[str, Method], *, peer: Peer, client: Client, arrived: float
) -> bool:
    """Call the methods that a document asks for. What is wrong with it is answered to the peer.

    Whether the peer is sent a response, now or later.
    """
    try:
        asked = orjson.loads(document)
    except orjson.JSONDecodeError as broken:
        peer.refused(REASONS[PARSE_ERROR])
        peer.send(error_response(PARSE_ERROR, f"no JSON: {broken}"))
        return True
    if type(asked) is dict:
        return _call(asked, methods, peer, client, arrived)
    if type(asked) is list and 0 < len(asked) <= BATCH_LIMIT:
        batch = _Batch(peer)
        responses = sum(_call(each, methods, batch, client, arrived) for each in asked)
        batch.expect(responses)
        return responses > 0
    return _refuse(peer, f"expected an object, or a list of 1 to {BATCH_LIMIT} of them")


def _call(
    asked: Any, methods: Mapping[str, Method], peer: Peer, client: Client, arrived: float
) -> bool:
    """Call the method of one request; whether that has a response."""
    if type(asked) is not dict:
        return _refuse(peer, "expected an object")
    given = asked.get("id", _ABSENT)
    identity: bytes | None
    if type(given) is int:
        identity = b"%d" % given
    elif given is _ABSENT:
        identity = None
    elif given is None or type(given) in (str, float):
        identity = orjson.dumps(given)
    else:
        return _refuse(peer, "`id` is neither a string nor a number")
    name = asked.get("method")
    if asked.get("jsonrpc") != "2.0" or type(name) is not str:
        return _refuse(peer, '`jsonrpc` is to be "2.0" and `method` a string', identity)
    request = Request(asked.get("params"), identity, peer, client, arrived)
    method = methods.get(name)
    if method is None:
        request.error(METHOD_NOT_FOUND, f"no such method; there are {', '.join(sorted(methods))}")
    else:
        peer.called(name)
        try:
            method(request)
        except Exception as broken:  # noqa: BLE001 - a fault of ours must not end the connection
            log_where(log, "a request was answered with an error", broken)
            request.error(INTERNAL_ERROR, "the error is in the log of the service")
    return identity is not None


def _refuse(peer: Peer, message: str, identity: bytes | None = None) -> bool:
    peer.refused(REASONS[INVALID_REQUEST])
    peer.send(error_response(INVALID_REQUEST, message, identity=identity or b"null"))
    return True


def error_response(code: int, message: str, *, identity: bytes = b"null", field: str = "") -> bytes:
    """The response to a request that was wrong."""
    error: dict[str, Any] = {"code": code, "message": message}
    if field:
        error["data"] = {"field": field}
    return b'{"jsonrpc":"2.0","error":%b,"id":%b}' % (orjson.dumps(error), identity)
