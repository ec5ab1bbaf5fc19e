"""Announcements reach who follows, and who follows comes back after a loss by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.conftest import server_program
from tests.servers import IndexServer

from consent.index import IndexStore, announcements
from consent.index import announcement as module

CHANNEL = "screening:test"


@asynccontextmanager
async def following(url: str) -> AsyncIterator["asyncio.Queue[bytes]"]:
    """Everything that is announced, from the moment on that the server has agreed."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def follow() -> None:
        async with aclosing(announcements(url, CHANNEL)) as announced:
            async for each in announced:
                heard.put_nowait(each)

    task = asyncio.create_task(follow())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def next_of(heard: "asyncio.Queue[bytes]") -> bytes:
    async with asyncio.timeout(20):
        return await heard.get()


async def test_an_announcement_is_heard_and_answered(index_url: str) -> None:
    """The caller learns how many heard it, and what they said in time."""

    async def answer(heard: "asyncio.Queue[bytes]") -> None:
        assert await next_of(heard) == b"7"
        replies = IndexStore(index_url)
        await asyncio.to_thread(replies.publish, f"{CHANNEL}:7", b"done")
        replies.close()

    store = IndexStore(index_url)
    async with following(index_url) as one, following(index_url) as two:
        assert [await next_of(one), await next_of(two)] == [b"", b""]
        called = asyncio.create_task(asyncio.to_thread(store.call, CHANNEL, "7", within_seconds=20))
        await asyncio.gather(answer(one), answer(two))
        assert await called == (2, [b"done", b"done"])
    store.close()


async def test_nobody_follows(index_url: str) -> None:
    """Then nothing is waited for."""
    store = IndexStore(index_url)
    assert await asyncio.to_thread(store.call, CHANNEL, "7", within_seconds=600) == (0, [])
    store.close()


async def test_an_announcement_that_is_too_long_is_none(index_url: str) -> None:
    """The next one is heard all the same."""
    store = IndexStore(index_url)
    async with following(index_url) as heard:
        assert await next_of(heard) == b""
        store.publish(CHANNEL, b"x" * (module.MOST_BYTES + 1))
        store.publish(CHANNEL, b"8")
        assert await next_of(heard) == b"8"
    store.close()


async def test_a_server_that_was_gone_is_followed_again(index_server: IndexServer) -> None:
    """The first word after a loss is empty: something may have been missed."""
    async with following(index_server.url) as heard:
        assert await next_of(heard) == b""
        index_server.kill()
        index_server.start()
        assert await next_of(heard) == b""
        store = IndexStore(index_server.url)
        store.publish(CHANNEL, b"9")
        store.close()
        assert await next_of(heard) == b"9"


async def test_a_server_that_fell_silent_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection whose PING is answered is kept, one whose is not is given up for another."""
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.1)
    answered: asyncio.Queue[int] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(CHANNEL.encode() + b"\r\n")
            writer.write(b"+PONG\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
            for _ in range(3):
                await reader.readuntil(b"PING\r\n")
                writer.write(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n")
            left = await reader.read()
            answered.put_nowait(left.count(b"PING"))
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    async with server, following(f"unix://{tmp_path / 's'}") as heard:
        assert [await next_of(heard), await next_of(heard)] == [b"", b""]
        async with asyncio.timeout(20):
            assert await answered.get() == 1


async def test_a_server_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    """Who follows waits for it and hears it once it comes."""
    async with following(f"unix://{tmp_path / 's'}?db=0") as heard:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await heard.get()
        server = IndexServer(server_program("valkey"), tmp_path)
        await asyncio.to_thread(server.start)
        try:
            assert await next_of(heard) == b""
        finally:
            server.kill()
