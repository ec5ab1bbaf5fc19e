"""What is announced on a channel of the index server, followed for as long as there is one.

An announcement makes workers look at once and says nothing that they believe: whoever misses
one, since the server was gone, finds the same in the record a little later.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, Final

import hiredis

from consent.index.address import Address, Servers, parse_servers
from consent.index.link import encode_command, greeting
from consent.index.nodes import connect, owners

CONNECT_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 5.0
"""After it the server is asked whether it is there, after twice that taken as gone."""

MOST_BYTES: Final = 1024
"""Of one announcement; ours have 20."""


async def announcements(
    url: str, channel: str, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[bytes, None]:
    """Every announcement from now on, and b"" for each connection: some may have been missed.

    Never ends and never raises for a server that is gone: it is tried again.
    """
    servers = parse_servers(url)
    while True:
        with suppress(OSError, EOFError, TimeoutError, hiredis.HiredisError):
            async with asyncio.timeout(CONNECT_SECONDS):
                address = await _home(servers, tls)
                reader, writer = await connect(address, tls)
            try:
                async for announced in _heard(reader, writer, channel, address):
                    yield announced
            finally:
                writer.close()
        await asyncio.sleep(RETRY_SECONDS)


async def _home(servers: Servers, tls: ssl.SSLContext | None) -> Address:
    """The node that announcements are made on: that of the first shard.

    A cluster spreads them to all nodes, but who announces is told of those heard at one.
    """
    found = await owners(servers, (), tls)
    if found is None or (home := found[0][0]) is None:
        raise EOFError
    return home


async def _heard(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, channel: str, address: Address
) -> AsyncGenerator[bytes, None]:
    replies = hiredis.Reader()
    writer.write(b"".join(greeting(address)) + encode_command("SUBSCRIBE", channel))
    asked = False
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                received = await reader.read(65536)
        except TimeoutError:
            if asked:
                raise
            asked = True
            writer.write(encode_command("PING"))
            continue
        if not received:
            raise EOFError
        asked = False
        replies.feed(received)
        while (reply := replies.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            announced = _announced(reply)
            if announced is not None:
                yield announced


def _announced(reply: Any) -> bytes | None:
    match reply:
        case [b"subscribe", *_]:
            return b""
        case [b"message", _, bytes(announced)] if len(announced) <= MOST_BYTES:
            return announced
    return None
