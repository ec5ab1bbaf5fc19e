"""The reader when its server is slow, frozen, killed, restarted: on time, in order, recovering."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from consent.event import Event, EventKind
from consent.facts import UNKNOWN, Facts
from consent.index import IndexReader, IndexStore, Question, Timing, name_epoch
from consent.index.link import Link

EPOCH = name_epoch("9f3a6c")
FIRST = 441632960000
COUNT = 64
CALLING = 441632960900


pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
"""Both loops, since both may carry the service."""


def fill(url: str) -> None:
    """Give every number a consent whose sequence says whose it is."""
    store = IndexStore(url)
    store.create(EPOCH)
    body = {"entity": 7, "categories": ["all"], "expires": 0}
    store.apply(
        Event(n, 0.0, EventKind.CONSENT_GRANTED, FIRST + n, body) for n in range(1, COUNT + 1)
    )
    store.close()


@pytest.fixture
async def reader(index_server: Any) -> AsyncIterator[IndexReader]:
    await asyncio.to_thread(fill, index_server.url)
    reader = IndexReader(index_server.url, epoch=EPOCH)
    await reader.start()
    yield reader
    await reader.close()


async def ask(reader: IndexReader, n: int, *, within_s: float = 5.0) -> Facts:
    question = Question(FIRST + n, calling=CALLING, entity=7, consent=True, personal=True)
    return await reader.facts(question, deadline=asyncio.get_running_loop().time() + within_s)


def link_of(reader: IndexReader) -> Link:
    """The one connection to the one server."""
    (link,) = reader.nodes.links.values()
    return link


def is_of(n: int, facts: Facts) -> bool:
    return facts.consent is not None and facts.consent.sequence == n


async def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


async def test_frozen_server_leaves_facts_unknown_in_time(
    reader: IndexReader, index_server: Any
) -> None:
    """Calls to a frozen server end at their deadline; then the breaker answers at once."""
    index_server.freeze()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(2):
        answers = await asyncio.gather(*(ask(reader, n, within_s=0.02) for n in range(20)))
    assert answers == [UNKNOWN] * 20
    assert (reader.state, link_of(reader).timeouts) == ("open", 20)
    read = link_of(reader).reads
    settled: list[Facts] = []
    reader.read(Question(FIRST, profile=True), deadline=loop.time() + 60, done=settled.append)
    assert settled == [UNKNOWN], "settled before the call returned"
    assert read == link_of(reader).reads, "nothing is written while the breaker is open"


async def test_breaker_follows_a_freeze_without_traffic(
    reader: IndexReader, index_server: Any
) -> None:
    """The heartbeat alone opens the breaker, and closes it when the server goes on."""
    assert reader.state == "closed"
    index_server.freeze()
    await until(lambda: reader.state == "open")
    index_server.thaw()
    await until(lambda: reader.state == "closed")
    assert is_of(3, await ask(reader, 3))


async def test_server_silent_for_long_is_left_and_found_again(
    reader: IndexReader, index_server: Any
) -> None:
    """A frozen server keeps its sockets: the reader drops them, and connects when it goes on."""
    index_server.freeze()
    await until(lambda: "said nothing" in reader.last_error or "answer in" in reader.last_error)
    index_server.thaw()
    await until(lambda: reader.state == "closed")
    assert link_of(reader).connections == 2
    assert is_of(3, await ask(reader, 3))


async def test_killed_server(reader: IndexReader, index_server: Any) -> None:
    """Losing the connection settles all that wait; a restart on the same data is found."""
    index_server.freeze()
    waiting = [asyncio.ensure_future(ask(reader, n, within_s=60)) for n in range(1, 9)]
    await until(lambda: link_of(reader).reads == 8)
    index_server.kill()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [UNKNOWN] * 8
    assert reader.state == "open"
    assert await ask(reader, 1) == UNKNOWN
    index_server.start()
    await until(lambda: reader.state == "closed")
    assert is_of(5, await ask(reader, 5))


async def test_server_that_is_not_there_yet(index_server: Any) -> None:
    """A reader starts without its server, answers unknown, and finds it when it comes."""
    index_server.kill()
    reader = IndexReader(index_server.url, epoch=EPOCH)
    await reader.start()
    assert (reader.state, await ask(reader, 1)) == ("open", UNKNOWN)
    assert "cannot be reached" in reader.last_error
    index_server.start()
    await asyncio.to_thread(fill, index_server.url)
    await until(lambda: reader.state == "closed")
    assert is_of(1, await ask(reader, 1))
    await reader.close()
    assert await ask(reader, 1) == UNKNOWN


async def test_late_replies_reach_nobody_else(reader: IndexReader, index_server: Any) -> None:
    """Through freezes at random, every answer is that of its own question, or unknown.

    Deadlines of 0.1 to 30 ms make many replies late; each consent names its number.
    """
    chance = random.Random(20_261_123)
    known = unknown = 0
    for _ in range(16):
        index_server.freeze()
        asked = [chance.randint(1, COUNT) for _ in range(40)]
        calls = [
            asyncio.ensure_future(ask(reader, n, within_s=chance.choice([0.0001, 0.005, 0.03, 5])))
            for n in asked
        ]
        for call in chance.sample(calls, 5):
            asyncio.get_running_loop().call_later(0.001, call.cancel)
        await asyncio.sleep(chance.choice([0, 0.001, 0.01]))
        index_server.thaw()
        for n, call in zip(asked, calls, strict=True):
            with contextlib.suppress(asyncio.CancelledError):
                facts = await call
                assert facts == UNKNOWN or is_of(n, facts)
                known += facts != UNKNOWN
                unknown += facts == UNKNOWN
        await until(lambda: reader.state == "closed")
    assert known > 50, (known, unknown)
    assert unknown > 50, (known, unknown)
    assert link_of(reader).timeouts > 0
    for n in range(1, COUNT + 1):
        assert is_of(n, await ask(reader, n))


async def test_slow_server_opens_the_breaker_until_it_is_fast(
    reader: IndexReader, index_server: Any
) -> None:
    """A server that is alive but late helps nobody: three misses in a row open the breaker."""
    with index_server.client() as client:
        sleeping = asyncio.ensure_future(
            asyncio.to_thread(client.execute_command, "DEBUG", "SLEEP", "0.5")
        )
        async with asyncio.timeout(10):
            while reader.state == "closed":
                await ask(reader, 1, within_s=0.01)
        assert link_of(reader).timeouts >= 3
        await sleeping
    await until(lambda: reader.state == "closed")
    assert link_of(reader).connections == 1, "a pause alone does not cost the connection"
    assert is_of(2, await ask(reader, 2))


async def test_waiting_line_is_bounded(index_server: Any) -> None:
    """What does not fit in the line is unknown at once; the line itself is still answered."""
    await asyncio.to_thread(fill, index_server.url)
    reader = IndexReader(index_server.url, epoch=EPOCH, most_waiting=10)
    await reader.start()
    answers = await asyncio.gather(*(ask(reader, n) for n in range(1, 31)))
    assert link_of(reader).rejected >= 20
    assert [is_of(n, answers[n - 1]) for n in range(1, 11)] == [True] * 10
    assert {UNKNOWN} == set(answers[10:])
    await reader.close()


async def test_deadline_already_past(reader: IndexReader) -> None:
    """A question that comes too late is not sent."""
    assert await ask(reader, 1, within_s=-1) == UNKNOWN
    assert (link_of(reader).reads, link_of(reader).rejected) == (0, 1)


async def test_fault_of_one_caller_is_its_own(reader: IndexReader) -> None:
    """A callback that raises is reported, and the calls after it get their answers."""
    loop = asyncio.get_running_loop()
    reported: list[Any] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail(_: Facts) -> None:
        raise LookupError

    reader.read(Question(FIRST + 1, profile=True), deadline=loop.time() + 5, done=fail)
    assert is_of(2, await ask(reader, 2))
    loop.set_exception_handler(None)
    assert [LookupError] == [type(error) for error in reported]


async def test_question_out_of_range_is_unknown(reader: IndexReader) -> None:
    """A number that cannot be encoded is unknown, and the connection goes on."""
    question = Question(FIRST, calling=-1, personal=True)
    deadline = asyncio.get_running_loop().time() + 5
    assert await reader.facts(question, deadline=deadline) == UNKNOWN
    assert is_of(2, await ask(reader, 2))


async def test_login_and_database(index_server: Any) -> None:
    """Password and database of the URL are used; a wrong password is said, not shown."""
    with index_server.client() as client:
        client.execute_command("ACL", "SETUSER", "me", "on", ">right", "~*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
    path = index_server.socket
    url = f"unix://me:right@{path}?db=3"
    await asyncio.to_thread(fill, url)
    reader = IndexReader(url, epoch=EPOCH)
    await reader.start()
    assert is_of(2, await ask(reader, 2))
    await reader.close()
    for wrong in (f"unix://me:wrong@{path}", f"unix://{path}"):
        reader = IndexReader(wrong, epoch=EPOCH, timing=Timing(backoff_most_s=0.02))
        await reader.start()
        assert (reader.state, await ask(reader, 2)) == ("open", UNKNOWN)
        assert "refused" in reader.last_error
        assert "wrong@" not in reader.last_error
        await reader.close()


async def test_not_an_index_server(tmp_path: Any) -> None:
    """A peer that speaks another protocol is left alone, with the reason."""

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(speak, tmp_path / "s")
    reader = IndexReader(f"unix://{tmp_path}/s", epoch=EPOCH)
    await reader.start()
    assert (reader.state, await ask(reader, 2)) == ("open", UNKNOWN)
    await reader.close()
    server.close()
    await server.wait_closed()
