"""The lookup as an ASGI application: POST and GET /v1/screen.

Kept apart from FastAPI's routes because nothing may be done for a call that could be done before
it: no dependency graph, no model building.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from screening.access import Client
from screening.contract import BODY_LIMIT_BYTES
from screening.lookup import Answered, Lookup
from screening.problem import malformed, problem
from screening.wire import MalformedCall

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON: Final = (b"content-type", b"application/json")


class BodyTooLarge(Exception):
    """The body is longer than the contract's limit."""


class LookupEndpoint:
    """Hands requests to the lookup and its answers back."""

    def __init__(self, lookup: Lookup, *, client_of: Callable[[Scope], Client]) -> None:
        self._lookup = lookup
        self._client_of = client_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; every way out sends a complete response."""
        arrived = self._lookup.clock()
        try:
            answered = await self._answer(scope, receive, arrived)
        except BodyTooLarge:
            self._lookup.refused("body")
            detail = f"the body is longer than {BODY_LIMIT_BYTES} bytes"
            await problem(413, "Body too large", detail)(scope, receive, send)
            return
        if answered is None:
            refusal = problem(405, "Method not allowed", "expected GET or POST")
            refusal.headers["Allow"] = "GET, POST"
            await refusal(scope, receive, send)
            return
        if isinstance(answered, MalformedCall):
            await malformed(answered)(scope, receive, send)
            return
        body = answered.body()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [_JSON, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: Scope, receive: Receive, arrived: float
    ) -> Answered | MalformedCall | None:
        method = scope["method"]
        client = self._client_of(scope)
        waiting: asyncio.Future[Answered | MalformedCall]
        waiting = asyncio.get_running_loop().create_future()

        def reply(answered: Answered | MalformedCall) -> None:
            if not waiting.done():
                waiting.set_result(answered)

        if method == "POST":
            body = await _body(scope, receive)
            if body is None:
                self._lookup.refused("")
                return MalformedCall("", "the connection was closed before the body was whole")
            self._lookup.ask_json(body, client=client, arrived=arrived, reply=reply)
        elif method == "GET":
            query = scope["query_string"]
            self._lookup.ask_query(query, client=client, arrived=arrived, reply=reply)
        else:
            return None
        return await waiting


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, at most the contract's limit, and the rest is not read; None where the
    connection ends before it does."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if len(declared) > 12 or (declared.isdigit() and int(declared) > BODY_LIMIT_BYTES):
        raise BodyTooLarge
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > BODY_LIMIT_BYTES:
            raise BodyTooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
