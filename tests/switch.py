"""Switches as tests need them: keep-alive connections that ask one question after the other."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson


@dataclass
class Exchange:
    """One question answered: seconds it took, HTTP status, the verdict."""

    seconds: float
    status: int
    verdict: dict[str, Any]


@dataclass
class Traffic:
    """What a run of questions came to."""

    exchanges: list[Exchange] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: dict[str, Any]
) -> Exchange:
    """One question over an open connection."""
    body = orjson.dumps(question)
    started = time.perf_counter()
    writer.write(
        b"POST /v1/screen HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    )
    answer = await reader.readexactly(length)
    seconds = time.perf_counter() - started
    return Exchange(seconds, int(head[9:12]), orjson.loads(answer))


async def traffic(
    url: str,
    *,
    questions: Callable[[int], dict[str, Any]],
    connections: int,
    calls_per_second: float,
    until: asyncio.Event,
    into: Traffic,
) -> None:
    """Ask `questions(n)` over some connections at a steady rate until the event is set."""
    parts = urlsplit(url)
    numbers: Iterator[int] = itertools.count()
    pause = connections / calls_per_second

    async def switch() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            while not until.is_set():
                exchange = await ask(reader, writer, questions(next(numbers)))
                into.exchanges.append(exchange)
                await asyncio.sleep(max(0.0, pause - exchange.seconds))
        except (OSError, asyncio.IncompleteReadError, ValueError) as failed:
            into.errors.append(repr(failed))
        finally:
            writer.close()

    await asyncio.gather(*(switch() for _ in range(connections)))
