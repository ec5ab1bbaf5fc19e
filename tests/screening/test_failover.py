"""Primaries lost in traffic, with a replica that takes over and without one."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from tests.conftest import server_program
from tests.running import running_service, wait_for
from tests.screening.test_failing import BLOCKED, LISTED, calls_running, holds, until_seen
from tests.servers import Cluster, Node, Watched, client_of, running_cluster
from tests.switch import Traffic

from consent.event import Event, EventKind
from consent.facts import Facts
from consent.index import (
    SHARDS,
    IndexReader,
    IndexStore,
    IndexUnavailable,
    Question,
    layout,
)
from consent.keyring import Keyring
from consent.projection import catch_up
from consent.record import Record

log = logging.getLogger(__name__)

pytestmark = pytest.mark.timely

ELSEWHERE = "+14155550142"
"""A listed number whose facts another primary of the cluster holds."""

STAMP = layout.SIDES[0].stamp_key(layout.shard_of(int(LISTED)))
ENTITY = "failover"
FIRST = 441632960000


class Grants:
    """Consents granted one after the other, of numbers of all shards, in a thread of its own.

    One counts as acknowledged once the ledger has it; the index follows as it can, by this
    writer and by the keeper of the service.
    """

    def __init__(self, state: Path, url: str) -> None:
        self.record = Record.open(
            f"sqlite:///{state / 'record.db'}",
            keyring=Keyring.load_or_create(state / "secrets.json"),
        )
        self.url = url
        self.acknowledged: dict[int, int] = {}
        self.entity = self.record.entities.put(
            ENTITY, title=ENTITY, categories=["loans"], numbers=[441632960900], actor="test"
        ).id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._grant)

    def _grant(self) -> None:
        at = 0
        while not self._ended.wait(0.005):
            at += 1
            called = FIRST + at % SHARDS * layout.BLOCK + at // SHARDS
            body = {"entity": self.entity, "categories": ["all"], "expires": 0}
            event = Event(0, time.time(), EventKind.CONSENT_GRANTED, called, body)
            (kept,) = self.record.ledger.append([event], actor="test")
            self.acknowledged[called] = kept.sequence
            with contextlib.suppress(IndexUnavailable):
                store = IndexStore(self.url, connect_timeout_s=0.2, timeout_s=0.5)
                try:
                    store.attach(self.record.index_epoch())
                    catch_up(self.record, store)
                finally:
                    store.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.record.close()

    async def missing(self) -> list[int]:
        """The acknowledged consents that a call would not find."""
        reader = IndexReader(self.url, epoch=self.record.index_epoch())
        await reader.start()
        found = await asyncio.gather(*(self._found(reader, called) for called in self.acknowledged))
        await reader.close()
        return [
            called
            for (called, sequence), facts in zip(self.acknowledged.items(), found, strict=True)
            if facts.consent is None or facts.consent.sequence < sequence
        ]

    async def _found(self, reader: IndexReader, called: int) -> Facts:
        question = Question(called, entity=self.entity, consent=True)
        return await reader.facts(question, deadline=asyncio.get_running_loop().time() + 5)


@pytest.fixture(params=["valkey-cluster", "redis-sentinel"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster | Watched]:
    """Primaries that each have a replica, of this test alone."""
    name, _, kind = request.param.partition("-")
    program = server_program(name)
    if kind == "cluster":
        with running_cluster(program, tmp_path, replicas=1) as cluster:
            yield cluster
        return
    watched = Watched(program, tmp_path)
    try:
        watched.start()
        yield watched
    finally:
        watched.kill()


def primary_and_replica(servers: Cluster | Watched) -> tuple[Node, Node]:
    """Those of the listed number's shard."""
    if isinstance(servers, Watched):
        return servers.nodes[0], servers.nodes[1]
    primary = servers.primary_of(STAMP)
    return primary, servers.nodes[servers.nodes.index(primary) + 3]


def degraded(seen: Traffic) -> int:
    """How many calls were decided without facts."""
    return sum(bool(each.verdict["degraded"]) for each in seen.exchanges)


def unscreened(seen: Traffic) -> int:
    """How many calls were decided without the facts of the called number, which block them.

    They may be degraded: the calling number's own signals can lie on the node that is gone.
    """
    return sum(each.verdict["action"] != "block" for each in seen.exchanges)


async def until(condition: Any, *, within_s: float = 30) -> float:
    """The instant at which a condition has come true."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)
    return time.monotonic()


async def test_a_primary_killed_in_traffic(servers: Cluster | Watched, tmp_path: Path) -> None:
    """The replica takes over: no call fails, no acknowledged consent is lost, all is whole again.

    How long after the failover, as the servers tell it, calls are screened again is logged.
    """
    state = tmp_path / "state"
    options = {"redis_url": servers.url, "facts_budget_ms": "200"}
    with running_service(state, "--sample", **options) as service:
        assert service.screen(**BLOCKED)["action"] == "block"
        primary, replica = primary_and_replica(servers)
        with Grants(state, servers.url) as grants:
            async with (
                calls_running(service) as seen,
                calls_running(service, called=ELSEWHERE) as steady,
            ):
                await until_seen(seen, 100)
                killed = time.monotonic()
                primary.kill()
                promoted = await until(lambda: servers.has_promoted(replica))
                whole = await until(lambda: service.screen(**BLOCKED)["degraded"] is False)
                before = len(grants.acknowledged)
                await until(lambda: len(grants.acknowledged) > before + 50)
                await until_seen(seen, 50)
            log.warning(
                "failover %.2f s, screening whole %.2f s after it; of %d calls %d degraded",
                promoted - killed, whole - promoted, len(seen.exchanges),
                degraded(seen),
            )  # fmt: skip
        holds(seen, partly=True)
        holds(steady, partly=True)
        if isinstance(servers, Cluster):
            assert unscreened(steady) < 0.05 * len(steady.exchanges)
        assert service.screen(**BLOCKED)["action"] == "block"
        async with asyncio.timeout(20):
            while await grants.missing():
                await asyncio.sleep(0.1)
        assert service.ready()["index"]["breaker"] == "closed"  # type: ignore[index]
        status = service.cli("index", "status").stdout
        assert replica.name in status or isinstance(servers, Watched)
        assert "lost" not in status
        assert "Traceback" not in service.log


@pytest.fixture
def volatile(tmp_path: Path) -> Iterator[Cluster]:
    """Three primaries that keep nothing."""
    with running_cluster(server_program("redis"), tmp_path) as cluster:
        yield cluster


async def test_a_primary_replaced_by_an_empty_one(volatile: Cluster, tmp_path: Path) -> None:
    """It is an outage of its numbers, not a nation without refusals, and only it is rebuilt."""
    with running_service(
        tmp_path / "state", "--sample", redis_url=volatile.url, facts_budget_ms="200"
    ) as service:
        assert service.screen(**BLOCKED)["action"] == "block"
        primary = volatile.primary_of(STAMP)
        others = epochs(volatile, primary)
        async with (
            calls_running(service) as seen,
            calls_running(service, called=ELSEWHERE) as steady,
        ):
            await until_seen(seen, 50)
            primary.kill()
            await until_seen(seen, 50)
            assert seen.exchanges[-1].verdict["degraded"] is True
            primary.start()
            await until(lambda: service.screen(**BLOCKED)["degraded"] is False)
        holds(seen, partly=True)
        holds(steady, partly=True)
        assert unscreened(steady) < 0.05 * len(steady.exchanges)
        assert service.screen(**BLOCKED)["action"] == "block"
        assert others == epochs(volatile, primary)
        wait_for(lambda: not service.ready()["failures"], seconds=10, what="no failure")


def epochs(cluster: Cluster, but: Node) -> dict[int, bytes]:
    """The epoch of each shard that another node holds."""
    with client_of(cluster.url) as client:
        return {
            shard: client.hget(key, "e")
            for shard in range(SHARDS)
            if client.get_node_from_key(key := layout.SIDES[0].stamp_key(shard)).name != but.name
        }
