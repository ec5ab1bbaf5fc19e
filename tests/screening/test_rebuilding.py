"""An index made anew beside the one in force: calls keep their facts, and nothing is lost."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.running import Running, running_service, wait_for
from tests.screening.test_failing import BLOCKED, calls_running, until_seen
from tests.screening.test_failover import FIRST, primary_and_replica, servers, until
from tests.servers import Cluster, Watched

from consent.event import Event, EventKind
from consent.index import (
    BLOCK,
    SHARDS,
    IndexReader,
    IndexUnavailable,
    Question,
    name_epoch,
)
from consent.projection import catch_up
from consent.rebuilding import Stage, rebuild_beside
from consent.record import IndexEpochs
from screening.keeper import REMAINS_SECONDS, Keeper
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State, open_state

__all__ = ["servers"]

pytestmark = pytest.mark.timely

REVOKED = 10_000
AT_ONCE = 100


async def test_calls_keep_their_facts(own_service: Running) -> None:
    """From the first step of a rebuild to the last every call is decided with its facts."""
    before = own_service.cli("index", "status").stdout
    async with calls_running(own_service) as seen:
        await until_seen(seen, 50)
        done = await asyncio.to_thread(own_service.cli, "index", "rebuild")
        await until_seen(seen, 50)
    assert "the index holds" in done.stdout
    # Without a terminal it says so in lines: of the lists' numbers, then of the ledger's events.
    said = [line.partition(",")[0] for line in done.stdout.splitlines()]
    assert "making: 100.0% of 6 numbers" in said, done.stdout
    assert "reading the ledger: 100.0% of 3 events" in said, done.stdout
    assert not seen.errors
    assert {(each.verdict["action"], each.verdict["degraded"]) for each in seen.exchanges} == {
        ("block", False)
    }
    after = own_service.cli("index", "status").stdout
    assert "lost" not in after
    assert epoch_in(before) != epoch_in(after)
    # The other way round as well: the next one lies where the first did.
    own_service.cli("index", "rebuild")
    assert own_service.screen(**BLOCKED)["degraded"] is False


def epoch_in(status: str) -> str:
    return next(line for line in status.splitlines() if line.startswith("epoch")).split(",")[0]


async def test_a_rebuild_and_a_failover_lose_no_revocation(
    servers: Cluster | Watched,
    tmp_path: Path,
) -> None:
    """Ten thousand, taken while an index is made and a primary is lost: all are in force."""
    state = tmp_path / "state"
    options = {"redis_url": servers.url, "facts_budget_ms": "200"}
    with (
        running_service(state, "--sample", **options) as service,
        open_state(Settings(state_dir=state, redis_url=servers.url)) as own,
    ):
        writer = Revoking(own)
        writer.grant()
        primary, replica = primary_and_replica(servers)
        revoking = asyncio.create_task(asyncio.to_thread(writer.revoke))
        await until(lambda: writer.done >= REVOKED // 20)
        rebuilding = asyncio.create_task(
            asyncio.to_thread(service.cli, "index", "rebuild", check=False)
        )
        await until(lambda: own.record().indexes.epochs().building)
        assert writer.done < REVOKED
        primary.kill()
        await until(lambda: servers.has_promoted(replica))
        ended = await rebuilding
        await revoking
        assert ended.returncode == 0, ended.stderr
        async with asyncio.timeout(20):
            while await writer.missing(servers.url):
                await asyncio.sleep(0.2)
        writer.registrar.close()
        assert "Traceback" not in service.log


class Revoking:
    """A writer of decisions about numbers of all shards, as the service's own is."""

    def __init__(self, own: State) -> None:
        self.record = own.record()
        self.registrar = Registrar(own)
        self.done = 0
        self.entity = self.record.entities.put(
            "rebuilt", title="rebuilt", categories=["loans"], numbers=[441632960901], actor="test"
        ).id
        self._called = [FIRST + n % SHARDS * BLOCK + n // SHARDS for n in range(REVOKED)]

    def grant(self) -> None:
        granted = {"entity": self.entity, "categories": ["all"], "expires": 0}
        for first in range(0, REVOKED, 1000):
            self._take(EventKind.CONSENT_GRANTED, self._called[first : first + 1000], granted)

    def revoke(self) -> None:
        for first in range(0, REVOKED, AT_ONCE):
            called = self._called[first : first + AT_ONCE]
            self._take(EventKind.CONSENT_REVOKED, called, {"entity": self.entity})
            self.done += AT_ONCE

    def _take(self, kind: EventKind, called: list[int], body: dict[str, object]) -> None:
        now = time.time()
        events = [Event(0, now, kind, number, dict(body)) for number in called]
        self.registrar.take(events, actor="test")

    async def missing(self, url: str) -> list[int]:
        """The numbers whose consent is not revoked to a call."""
        reader = IndexReader(url, epoch=self.record.index_epoch())
        await reader.start()
        missing = []
        for first in range(0, REVOKED, 1000):  # a reader lets no more than 4,096 wait
            some = self._called[first : first + 1000]
            found = await asyncio.gather(*(self._revoked(reader, called) for called in some))
            missing += [called for called, there in zip(some, found, strict=True) if not there]
        await reader.close()
        return missing

    async def _revoked(self, reader: IndexReader, called: int) -> bool:
        question = Question(called, entity=self.entity, consent=True)
        deadline = asyncio.get_running_loop().time() + 5
        facts = await reader.facts(question, deadline=deadline)
        return facts.known and facts.consent is not None and facts.consent.revoked


def test_what_cannot_be_made_leaves_the_old_index(tmp_path: Path) -> None:
    """A rebuild that breaks off is given up, and the next one begins where it did."""
    with open_state(Settings(state_dir=tmp_path)) as own, own.index() as store:
        record, old = own.record(), own.record().index_epoch()
        new = name_epoch("new", beside=old)
        entity = record.entities.put(
            "left", title="left", categories=["loans"], numbers=[441632960902], actor="test"
        ).id
        granted = {"entity": entity, "categories": ["all"], "expires": 0}
        event = Event(0, time.time(), EventKind.CONSENT_GRANTED, FIRST, granted)
        record.ledger.append([event], actor="test")
        catch_up(record, store)

        def rebuild(stage: Callable[[Stage], None]) -> int:
            return rebuild_beside(
                record, store, tmp_path, epoch=new,
                progress=lambda _numbers: None, stage=stage, left_seconds=0,
            )  # fmt: skip

        with pytest.raises(IndexUnavailable, match="broken off"):
            rebuild(break_off)
        assert record.indexes.epochs() == IndexEpochs(in_force=old, left=new)
        store.attach(old)
        assert store.applied() == 1
        assert rebuild(lambda _stage: None) == 1
        assert record.indexes.epochs() == IndexEpochs(in_force=new)
        assert store.applied() == 1
        assert len(store.lost_shards(old)) == SHARDS


def test_an_index_of_another_version_is_made_anew(own_service: Running) -> None:
    """By itself, as soon as the service sees it: what this version cannot read is lost to it."""
    assert own_service.screen(**BLOCKED)["degraded"] is False
    settings = Settings(state_dir=own_service.state)
    with open_state(settings) as own:
        own.record().set_index_epoch(f"2.{own.record().index_epoch()}")
        wait_for(
            lambda: not own.record().index_epoch().startswith("2."), seconds=30, what="a new index"
        )
    wait_for(
        lambda: own_service.screen(**BLOCKED)["degraded"] is False, seconds=10, what="the facts"
    )
    assert "written by another version of the service" in own_service.log
    assert "lost" not in own_service.cli("index", "status").stdout


async def test_what_a_killed_rebuild_left_is_removed(tmp_path: Path) -> None:
    """Half-made, or the one before: by the service, once nothing was heard of it for a while. One
    that is being made meanwhile is none of its business."""
    now = [0.0]
    with open_state(Settings(state_dir=tmp_path)) as own, own.index() as store:
        record, old = own.record(), own.record().index_epoch()
        keeper = Keeper(own, clock=lambda: now[0])
        new = name_epoch("new", beside=old)

        async def looked() -> IndexEpochs:
            for _ in range(2):
                assert await keeper.step() == ""
                now[0] += REMAINS_SECONDS
            assert await keeper.step(rebuild=False) == ""
            return record.indexes.epochs()

        with pytest.raises(IndexUnavailable, match="broken off"):
            rebuild_beside(
                record, store, tmp_path, epoch=new, progress=lambda _: None, stage=break_off
            )
        assert len(store.lost_shards(new)) < SHARDS
        assert await looked() == IndexEpochs(in_force=old)
        assert len(store.lost_shards(new)) == SHARDS
        record.indexes.begin(new)
        assert await looked() == IndexEpochs(in_force=old, building=new)
        record.indexes.give_up(new)
        with pytest.raises(IndexUnavailable, match="broken off"):
            rebuild_beside(
                record, store, tmp_path, epoch=new, progress=lambda _: None, stage=killed,
                left_seconds=0,
            )  # fmt: skip
        assert record.indexes.epochs() == IndexEpochs(in_force=new, beside=old)
        assert not store.remove(old, while_=lambda: False)
        assert len(store.lost_shards(old)) < SHARDS
        assert await looked() == IndexEpochs(in_force=new)
        assert len(store.lost_shards(old)) == SHARDS


def killed(stage: Stage) -> None:
    """As a process that ends between the switch and the removal."""
    if stage is Stage.REMOVING:
        raise IndexUnavailable("broken off by the test")


def break_off(stage: Stage) -> None:
    """As a server that is lost when the new index is whole but for the newest events."""
    if stage is Stage.FOLLOWING:
        raise IndexUnavailable("broken off by the test")
