"""An index over several nodes: one read a call, slots that move, a node that comes back empty."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import server_program
from tests.servers import Cluster, Node, Watched, client_of, eventually, free_ports, running_cluster

from consent.category import BIT
from consent.event import Event, EventKind
from consent.facts import CALLED_SIDE, UNKNOWN, Consent, Facts
from consent.index import (
    SHARDS,
    IndexLost,
    IndexReader,
    IndexRefused,
    IndexStore,
    IndexUnavailable,
    Question,
    layout,
    name_epoch,
)
from consent.index.conduct import ConductStore
from consent.index.topology import SLOTS

EPOCH = name_epoch("9f3a6c")
ALL = BIT["all"]
NUMBERS = tuple(441632960000 + block * layout.BLOCK for block in range(SHARDS))
"""One of each shard."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three primaries of this module alone, whose data dies with them."""
    with running_cluster(server_program("redis"), tmp_path_factory.mktemp("c")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """The same, empty."""
    yield running
    running.await_whole()
    with client_of(running.url) as client:
        client.flushall()


@contextlib.contextmanager
def opened(url: str, *, epoch: str = "") -> Iterator[IndexStore]:
    store = IndexStore(url)
    try:
        if epoch:
            store.attach(epoch)
        yield store
    finally:
        store.close()


@contextlib.asynccontextmanager
async def reading(url: str) -> AsyncIterator[IndexReader]:
    reader = IndexReader(url, epoch=EPOCH)
    await reader.start()
    try:
        yield reader
    finally:
        await reader.close()


def fill(store: IndexStore) -> None:
    """A consent for each of NUMBERS, and all of them listed."""
    store.create(EPOCH)
    store.write_generation(1, 1, ALL, np.array(NUMBERS, np.uint64))
    store.publish_generation(1, 1)
    store.apply(EVENTS, through=SHARDS)


EVENTS = [
    Event(at, 0.0, EventKind.CONSENT_GRANTED, called, {"entity": 7, "categories": ["all"]})
    for at, called in enumerate(NUMBERS, 1)
]
FACTS = [Facts(1, consent=Consent(at, False, 0, 1), generations=(("1", 1),))
         for at in range(1, SHARDS + 1)]  # fmt: skip


def attached(store: IndexStore) -> bool:
    """Whether the store has found the index; its servers may not agree yet where it is."""
    try:
        store.attach(EPOCH)
    except IndexLost:
        raise
    except IndexUnavailable:
        return False
    return True


async def ask(reader: IndexReader, called: int) -> Facts:
    question = Question(called, entity=7, lists=((1, 1),), categories=(ALL,), consent=True)
    return await reader.facts(question, deadline=asyncio.get_running_loop().time() + 5)


async def ask_all(reader: IndexReader) -> list[Facts]:
    return await asyncio.gather(*(ask(reader, called) for called in NUMBERS))


async def until_known(reader: IndexReader) -> None:
    async with asyncio.timeout(20):
        while await ask_all(reader) != FACTS:
            await asyncio.sleep(0.01)


def on(cluster: Cluster, node: Node) -> list[int]:
    """The shards that a node holds."""
    with client_of(cluster.url) as client:
        return [
            shard
            for shard in range(SHARDS)
            if client.get_node_from_key(layout.SIDES[0].stamp_key(shard)).name == node.name
        ]


async def test_slots_move_under_a_reader(cluster: Cluster) -> None:
    """While a slot moves key by key and after, facts are right or unknown, and soon known.

    Before and after a call costs one read of one node.
    """
    with opened(cluster.url) as store:
        fill(store)
    shard = on(cluster, cluster.nodes[0])[0]
    called = next(each for each in NUMBERS if layout.shard_of(each) == shard)
    right = FACTS[NUMBERS.index(called)]
    stamp = layout.SIDES[0].stamp_key(shard)
    source, target = (node.client() for node in cluster.nodes[:2])
    ids = [client.execute_command("CLUSTER", "MYID").decode() for client in (source, target)]

    def move(key: bytes) -> None:
        port = cluster.nodes[1].port
        source.execute_command("MIGRATE", "127.0.0.1", port, key, 0, 5000)

    async with reading(cluster.url) as reader:
        assert await ask_all(reader) == FACTS
        reads = reader.nodes.counts()["reads"]
        assert await ask_all(reader) == FACTS
        assert reader.nodes.counts()["reads"] == reads + SHARDS
        target.execute_command("CLUSTER", "SETSLOT", SLOTS[shard], "IMPORTING", ids[0])
        source.execute_command("CLUSTER", "SETSLOT", SLOTS[shard], "MIGRATING", ids[1])
        assert await ask(reader, called) == right, "nothing has moved yet"
        keys = [key for key in source.keys("*") if key[:4] == stamp[:4] and key != stamp]
        move(keys[0])
        for key in keys[1:]:
            assert await ask(reader, called) in (UNKNOWN, right)
            move(key)
        assert await ask(reader, called) == UNKNOWN, "moved, and its proof has not"
        move(stamp)
        assert await ask(reader, called) == right, "all has moved, the slot has not"
        for client in (target, source):
            client.execute_command("CLUSTER", "SETSLOT", SLOTS[shard], "NODE", ids[1])
        assert await ask(reader, called) == right, "sent to the other node, once"
        reads = reader.nodes.counts()["reads"]
        assert await ask(reader, called) == right
        assert reader.nodes.counts()["reads"] == reads + 1
    with opened(cluster.url, epoch=EPOCH) as store:
        assert store.applied() == SHARDS
    source.close()
    target.close()


async def test_slots_move_under_a_consent_that_counts_calls(cluster: Cluster) -> None:
    """It is read twice, and either read may be sent elsewhere: with the calls or unknown, never
    without them. Asked all the while, and soon right at the other node."""
    with opened(cluster.url) as store:
        fill(store)
        shard = on(cluster, cluster.nodes[0])[0]
        called = next(each for each in NUMBERS if layout.shard_of(each) == shard)
        terms = {"calls": 2, "per_days": 7}
        body = {"entity": 7, "categories": ["all"], "terms": terms}
        event = Event(300, 0.0, EventKind.CONSENT_GRANTED, called, body)
        store.apply([event], after=SHARDS, through=300)
    conduct, now = ConductStore(cluster.url, node="n"), time.time()
    conduct.write_calls([(called, 7, now - 7200, "a"), (called, 7, now - 3600, "b")])
    conduct.close()
    source, target = (node.client() for node in cluster.nodes[:2])
    ids = [client.execute_command("CLUSTER", "MYID").decode() for client in (source, target)]
    tag, slot = layout.TAGS[shard], SLOTS[shard]
    keys = [key for key in source.keys("*") if key.startswith(tag)]
    assert layout.frequency_key(called) in keys
    right: Facts | None = None
    seen: list[Facts] = []

    async with reading(cluster.url) as reader:
        enough = asyncio.Event()

        async def asking() -> None:
            while not enough.is_set():
                seen.append(await ask(reader, called))

        async def once_more() -> None:
            least = len(seen) + 2
            async with asyncio.timeout(20):
                while len(seen) < least:
                    await asyncio.sleep(0)

        right = await ask(reader, called)
        assert len(right.entity_calls) == 2
        asker = asyncio.create_task(asking())
        target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        for key in keys:
            source.execute_command("MIGRATE", "127.0.0.1", cluster.nodes[1].port, key, 0, 5000)
            await once_more()
        assert await ask(reader, called) == right, "all has moved, the slot has not"
        for client in (target, source):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            await once_more()
        enough.set()
        await asker
        assert set(seen) <= {right, UNKNOWN}
        reads = reader.nodes.counts()["reads"]
        assert await ask(reader, called) == right
        assert reader.nodes.counts()["reads"] == reads + 2
    source.close()
    target.close()


async def test_a_writer_follows_a_slot(cluster: Cluster) -> None:
    """Events reach a slot that has moved since the map was learnt, and keys on their way."""
    with opened(cluster.url) as store:
        fill(store)
        shard = on(cluster, cluster.nodes[0])[0]
        source, target = (node.client() for node in cluster.nodes[:2])
        ids = [client.execute_command("CLUSTER", "MYID").decode() for client in (source, target)]
        slot = SLOTS[shard]
        target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        tag = layout.TAGS[shard]
        keys = [key for key in source.keys("*") if key.startswith(tag)]
        port = cluster.nodes[1].port
        source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
        store.attach(EPOCH)
        for client in (target, source):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        event = EVENTS[next(at for at, n in enumerate(NUMBERS) if layout.shard_of(n) == shard)]
        revoked = Event(300, 0.0, EventKind.CONSENT_REVOKED, event.called, {"entity": 7})
        assert store.apply([revoked], after=SHARDS, through=300) == 300
        assert store.applied() == 300
        source.close()
        target.close()
    async with reading(cluster.url) as reader:
        facts = await ask(reader, event.called)
    assert facts.consent is not None
    assert facts.consent.revoked


async def test_a_primary_that_comes_back_empty(cluster: Cluster) -> None:
    """Its facts are unknown, those of the others known throughout, and only it is rebuilt."""
    with opened(cluster.url) as store:
        fill(store)
    lost = on(cluster, cluster.nodes[1])
    kept = [called for called in NUMBERS if layout.shard_of(called) not in lost]

    def rebuild() -> None:
        with opened(cluster.url) as store:
            assert list(store.lost_shards(EPOCH)) == lost
            assert [node.lost for node in store.nodes(EPOCH) if node.lost] == [len(lost)]
            with pytest.raises(IndexLost):
                store.attach(EPOCH)
            generation = (1, 1, ALL, np.array(NUMBERS, np.uint64))
            store.rebuild(
                EPOCH, generations=[generation], events=EVENTS, last_sequence=SHARDS, shards=lost
            )
            assert store.unreadable([(1, 1)]) == []
            assert store.applied() == SHARDS

    async with reading(cluster.url) as reader:
        assert await ask_all(reader) == FACTS
        cluster.nodes[1].kill()
        cluster.nodes[1].start()
        await asyncio.to_thread(cluster.await_whole)
        async with asyncio.timeout(20):
            while reader.state != "closed":
                await asyncio.sleep(0.01)
        for called, facts in zip(NUMBERS, await ask_all(reader), strict=True):
            assert facts.unknown == (frozenset() if called in kept else CALLED_SIDE)
        rebuilding = asyncio.create_task(asyncio.to_thread(rebuild))
        while not rebuilding.done():
            for called in kept[:20]:
                assert await ask(reader, called) == FACTS[NUMBERS.index(called)]
        await rebuilding
        await until_known(reader)


async def test_a_node_that_is_gone_takes_its_own_facts(cluster: Cluster) -> None:
    """The breaker is the node's: facts of the others stay known, and writers say which is gone."""
    with opened(cluster.url) as store:
        fill(store)
    lost = on(cluster, cluster.nodes[2])
    async with reading(cluster.url) as reader:
        assert await ask_all(reader) == FACTS
        cluster.nodes[2].freeze()
        async with asyncio.timeout(20):
            while reader.state != "open":
                await asyncio.sleep(0.01)
        assert reader.nodes.states()[cluster.nodes[2].name] == "open"
        for called, facts in zip(NUMBERS, await ask_all(reader), strict=True):
            known = layout.shard_of(called) not in lost
            assert facts == (FACTS[NUMBERS.index(called)] if known else UNKNOWN)
        cluster.nodes[2].thaw()
        await until_known(reader)


async def test_login_to_every_node(cluster: Cluster) -> None:
    """User and password of the URL hold for the nodes that it does not name, too."""
    clients = [node.client() for node in cluster.nodes]
    doors = cluster.nodes[0].name
    try:
        for client in clients:
            client.execute_command("ACL", "SETUSER", "me", "on", ">p@ss", "~*", "&*", "+@all")
            client.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
        url = f"redis+cluster://me:p%40ss@{doors}/"
        with opened(url) as store:
            fill(store)
        async with reading(url) as reader:
            assert await ask_all(reader) == FACTS
        wrong = f"redis+cluster://me:secret@{doors}"
        with pytest.raises(IndexUnavailable) as refusal:
            IndexStore(wrong)
        assert "secret" not in str(refusal.value)
        async with reading(wrong) as reader:
            assert await ask(reader, NUMBERS[0]) == UNKNOWN
            assert "nobody says where it is" in reader.last_error
            assert "secret" not in reader.last_error
    finally:
        for client in clients:
            client.execute_command("ACL", "SETUSER", "default", "nopass")
            client.close()


def test_what_the_servers_are_is_said(cluster: Cluster, tmp_path: Path) -> None:
    """A node of a cluster is not an index of its own, and one server is no cluster."""
    with pytest.raises(IndexRefused, match=r"expected a URL with redis\+cluster://"):
        IndexStore(f"redis://{cluster.nodes[0].name}")
    alone = Node(server_program("valkey"), tmp_path / "alone", *free_ports(1))
    alone.start()
    try:
        with pytest.raises(IndexUnavailable, match="cluster support disabled"):
            IndexStore(f"redis+cluster://{alone.name}")
        with pytest.raises(IndexUnavailable):
            IndexStore(f"redis+sentinel://{alone.name}/calls")
    finally:
        alone.kill()


async def test_sentinels_are_followed(tmp_path: Path) -> None:
    """A reader and a writer find the primary, and the one that takes its place."""
    watched = Watched(server_program("valkey"), tmp_path)
    try:
        watched.start()
        with opened(watched.url) as store:
            fill(store)
            async with reading(watched.url) as reader:
                assert await ask_all(reader) == FACTS
                with watched.nodes[0].client() as client:
                    assert client.execute_command("WAIT", 1, 5000) == 1
                watched.nodes[0].kill()
                await asyncio.to_thread(
                    eventually, lambda: watched.nodes[1].role() == "master", within_s=30
                )
                await until_known(reader)
                assert list(reader.nodes.states()) == [watched.nodes[1].name]
            eventually(lambda: attached(store), within_s=30)
            store.apply([], after=SHARDS, through=SHARDS + 1)
            assert store.applied() == SHARDS + 1
    finally:
        watched.kill()
