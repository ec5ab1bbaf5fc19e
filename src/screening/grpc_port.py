"""The gRPC listener: screening.v1.Screening, grpc.health.v1 and reflection.

Invariants:
- a status other than OK means a malformed question or a missed deadline, never a fault of ours;
- answers of a stream leave as they are decided; those that are there together leave as one
  message, so that a busy stream costs a message a turn and not one an answer;
- a stream is read no further while too many of its questions wait or its answers are unread.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from screening.access import Client
from screening.counts import PortCounts
from screening.lookup import Answered, Lookup
from screening.protobuf import Messages, fields_of
from screening.v1 import screening_pb2 as v1
from screening.wire import MalformedCall

TRANSPORT: Final = "grpc"
SERVICE: Final = "screening.v1.Screening"
MESSAGE_LIMIT_BYTES: Final = 1_048_576
"""A question is far smaller; a message of a stream holds many."""

QUESTIONS_LIMIT: Final = 4096
"""Waiting for their answer on one stream, before it is read no further."""

READY_SECONDS: Final = 0.25

_OPTIONS: Final = (
    # Several workers share the address: this server takes no socket that is bound already.
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_metadata_size", 16_384),
    # A switch may probe an idle connection as often as it likes: that is no attack.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    # One that is gone without a word is found out within a minute and a half.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_concurrent_streams", 10_000),
)

Context = Any
"""grpc.aio.ServicerContext; the library is untyped."""


class GrpcPort:
    """The listener over the lookup."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        client_for: Callable[[bytes | None, str], Client],
        is_ready: Callable[[], bool],
        counts: PortCounts,
    ) -> None:
        """`client_for` knows a client by its key, None without one, and its address."""
        self._lookup = lookup
        self._client_for = client_for
        self._is_ready = is_ready
        self._counts = counts
        self._messages = Messages()
        self._health = health.HealthServicer()
        self._server: Any = None
        self._following: asyncio.Task[None] | None = None

    async def listen(self, address: str) -> int:
        """Serve on `host:port`; the answer is the port. Raises OSError when it cannot."""
        server = self._server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((self._handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        try:
            port: int = server.add_insecure_port(address)
        except RuntimeError as refused:
            raise OSError(f"SCREENING_GRPC_PORT: cannot listen on {address}") from refused
        await self._tell(self._is_ready())
        await server.start()
        self._following = asyncio.create_task(self._follow_readiness())
        return port

    async def drain(self, *, within_seconds: float) -> None:
        """Say that no calls shall come, let those that run end, close."""
        if self._server is None:
            return
        if self._following is not None:
            self._following.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(within_seconds)

    def _handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                # Bytes in and out: what is no message gets a status of ours.
                "Screen": grpc.unary_unary_rpc_method_handler(self._screen),
                "ScreenStream": grpc.stream_stream_rpc_method_handler(self._stream),
            },
        )

    async def _tell(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.ServingStatus
        told = status.SERVING if ready else status.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, told)

    async def _follow_readiness(self) -> None:
        told = None
        while True:
            ready = self._is_ready()
            if ready is not told:
                await self._tell(ready)
                told = ready
            await asyncio.sleep(READY_SECONDS)

    # One call

    async def _screen(self, message: bytes, context: Context) -> bytes:
        arrived = self._lookup.clock()
        self._counts.called["Screen"] += 1
        try:
            asked = v1.ScreenRequest.FromString(message)
        except DecodeError:
            await self._refuse(context, "", "the message is no ScreenRequest")
        waiting: asyncio.Future[Answered | MalformedCall]
        waiting = asyncio.get_running_loop().create_future()
        self._ask(asked.question, self._client(context), arrived, partial(_settle, waiting))
        answered = await waiting
        if isinstance(answered, MalformedCall):
            await self._refuse(context, answered.field, str(answered))
            raise answered  # `abort` has raised
        response: bytes = self._messages.response(answered).SerializeToString()
        return response

    def _ask(
        self,
        question: v1.Question,
        client: Client,
        arrived: float,
        reply: Callable[[Answered | MalformedCall], None],
    ) -> None:
        self._lookup.ask_fields(
            fields_of(question), client=client, arrived=arrived, reply=reply, transport=TRANSPORT
        )

    async def _refuse(self, context: Context, field: str, message: str) -> None:
        self._counts.refused["invalid_argument"] += 1
        trailing = (("field", field),) if field else ()
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message, trailing)

    def _client(self, context: Context) -> Client:
        key = None
        for name, value in context.invocation_metadata() or ():
            if name == "authorization" and value[:7].lower() == "bearer ":
                key = value[7:].strip().encode()
        return self._client_for(key, address_of(context.peer()))

    # Many calls

    async def _stream(self, messages: AsyncIterable[bytes], context: Context) -> None:
        stream = _Stream(context, self._messages)
        client = self._client(context)
        self._counts.connections += 1
        writing = asyncio.create_task(stream.write())
        try:
            async for message in messages:
                arrived = self._lookup.clock()
                try:
                    asked = v1.ScreenStreamRequest.FromString(message)
                except DecodeError:
                    await self._refuse(context, "", "a message is no ScreenStreamRequest")
                questions = asked.questions
                self._counts.called["ScreenStream"] += len(questions)
                stream.waiting += len(questions)
                for each in questions:
                    self._ask(each.question, client, arrived, partial(stream.answered, each.id))
                await stream.has_room()
            stream.end()
            await writing
        finally:
            self._counts.connections -= 1
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await writing


class _Stream:
    """The answers of one stream, on their way out."""

    def __init__(self, context: Context, messages: Messages) -> None:
        self._context = context
        self._messages = messages
        self._ready: list[v1.StreamedAnswer] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self.waiting = 0
        """Questions whose answers have not left."""

    def answered(self, identity: int, answered: Answered | MalformedCall) -> None:
        self._ready.append(self._messages.outcome(identity, answered))
        self._wake.set()

    async def has_room(self) -> None:
        while self.waiting > QUESTIONS_LIMIT:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """No more questions come."""
        self._ended = True
        self._wake.set()

    async def write(self) -> None:
        """Write what is there until the last answer has left."""
        while not (self._ended and self.waiting == 0):
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                ready, self._ready = self._ready, []
                message = v1.ScreenStreamResponse(answers=ready).SerializeToString()
                await self._context.write(message)
                self.waiting -= len(ready)
                self._room.set()


def _settle(
    waiting: "asyncio.Future[Answered | MalformedCall]", answered: Answered | MalformedCall
) -> None:
    if not waiting.done():  # the caller may have gone
        waiting.set_result(answered)


def address_of(peer: str) -> str:
    """The IP address in what gRPC calls a peer: "ipv4:192.0.2.1:1234", "ipv6:%5B::1%5D:1234"."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return unquote(rest).rpartition(":")[0].strip("[]")
