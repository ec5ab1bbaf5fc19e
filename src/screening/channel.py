"""Messages between the supervisor and a worker, over a socket that only these two hold.

A message is a JSON object behind its length in four bytes. The end of the stream is the death of
the other side: the kernel tells it whatever became of that process.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Final, Self

import orjson

Message = dict[str, Any]

_LENGTH: Final = struct.Struct(">I")
MOST_BYTES: Final = 64 * 2**20
"""Of one message: the metrics of a worker take some hundred kilobytes."""


class Channel:
    """One end. Belongs to one event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """The channel over a connected socket, which it owns from now on."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Queue a message; one to a process that is gone is lost."""
        if not self._writer.is_closing():
            content = orjson.dumps(message)
            self._writer.write(_LENGTH.pack(len(content)) + content)

    async def drained(self) -> None:
        """Return once what was sent has left this process, or the other is gone."""
        self._writer.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def messages(self) -> AsyncIterator[Message]:
        """What the other side sends, until it is gone."""
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if length > MOST_BYTES:
                    return
                yield orjson.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return

    def close(self) -> None:
        """Tell the other side that this one is gone."""
        self._writer.close()


def receive(end: socket.socket) -> Message | None:
    """The next message of a blocking socket; None when the other side is gone."""
    head = _exactly(end, _LENGTH.size)
    content = _exactly(end, _LENGTH.unpack(head)[0]) if head else b""
    return orjson.loads(content) if content else None


def _exactly(end: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = end.recv(size - len(content))
        if not part:
            return b""
        content += part
    return content
