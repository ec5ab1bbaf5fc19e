"""One contract on each real server: what is written is read, what is lost is unknown."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.servers import client_of

from consent.category import BIT
from consent.event import HELD_KINDS, Event, EventKind
from consent.facts import CALLED_SIDE, UNKNOWN, Consent, Facts, Profile
from consent.index import (
    BLOCK,
    IndexLost,
    IndexReader,
    IndexRefused,
    IndexStore,
    IndexUnavailable,
    Question,
    layout,
    name_epoch,
)

EPOCH = name_epoch("9f3a6c")
ALICE, BOB, CAROL = 441632960001, 441632960002, 447700900003
CALLING, OTHER = 441632960900, 441632960901
ALL, LOANS, INSURANCE = BIT["all"], BIT["loans"], BIT["insurance"]


@pytest.fixture
def store(index_url: str) -> Iterator[IndexStore]:
    store = IndexStore(index_url)
    store.create(EPOCH)
    yield store
    store.close()


@pytest.fixture
def client(index_url: str) -> Iterator["redis.Redis"]:
    with client_of(index_url) as client:
        yield client


@pytest.fixture
async def reader(index_url: str, store: IndexStore) -> AsyncIterator[IndexReader]:
    reader = IndexReader(index_url, epoch=EPOCH)
    await reader.start()
    yield reader
    await reader.close()


def numbers(*values: int) -> Any:
    return np.array(sorted(values), np.uint64)


def event(sequence: int, kind: EventKind, called: int, **body: Any) -> Event:
    return Event(sequence, 1_800_000_000.0, kind, called, body)


def granted(sequence: int, called: int, entity: int, *categories: str, expires: int = 0) -> Event:
    body = {"entity": entity, "categories": list(categories), "expires": expires}
    return event(sequence, EventKind.CONSENT_GRANTED, called, **body)


async def ask(reader: IndexReader, called: int, **asked: Any) -> Facts:
    question = Question(called, **asked)
    deadline = asyncio.get_running_loop().time() + 5
    return await reader.facts(question, deadline=deadline)


async def everything(reader: IndexReader, called: int, *, entity: int = 7) -> Facts:
    return await ask(
        reader,
        called,
        calling=CALLING,
        entity=entity,
        consent=True,
        personal=True,
        profile=True,
    )


async def test_new_index_knows_that_nothing_is_listed(reader: IndexReader) -> None:
    """A stamped, empty index answers no, and knows it."""
    assert Facts() == await everything(reader, ALICE)


async def test_listed_by_category_and_list(store: IndexStore, reader: IndexReader) -> None:
    """Each category of each list is a bitmap of its own; the facts name those that hold."""
    store.write_generation(1, 17, ALL, numbers(ALICE, CAROL))
    store.write_generation(1, 17, LOANS, numbers(BOB))
    store.write_generation(2, 5, LOANS, numbers(ALICE, BOB))
    store.publish_generation(1, 17)
    store.publish_generation(2, 5)
    lists = ((1, 17), (2, 5))
    bits = (ALL, LOANS, INSURANCE)
    found = {
        called: (await ask(reader, called, lists=lists, categories=bits)).listed
        for called in (ALICE, BOB, CAROL, CAROL + 1, 1)
    }
    assert found == {ALICE: 1 | 2, BOB: 2, CAROL: 1, CAROL + 1: 0, 1: 0}
    facts = await ask(reader, ALICE, lists=lists[:1], categories=(ALL,))
    assert facts.generations == (("1", 17),)


async def test_generation_unwritten_or_retired_is_unknown(
    store: IndexStore, reader: IndexReader
) -> None:
    """Whether a list refuses is unknown, never no, unless its generation is readable."""

    async def of(generation: int) -> tuple[int, bool]:
        facts = await ask(reader, ALICE, lists=((1, generation),), categories=(ALL,), profile=True)
        return facts.listed, "called.refuses" in facts.unknown

    store.write_generation(1, 17, ALL, numbers(ALICE))
    assert await of(17) == (0, True), "written, not yet published"
    store.publish_generation(1, 17)
    store.publish_generation(1, 17)
    store.write_generation(1, 18, ALL, numbers(BOB))
    store.publish_generation(1, 18)
    assert [await of(n) for n in (17, 18, 8)] == [(1, False), (0, False), (0, True)]
    store.retire_generation(1, 17)
    assert [await of(n) for n in (17, 18)] == [(0, True), (0, False)]


async def test_list_unknown_leaves_the_rest_known(store: IndexStore, reader: IndexReader) -> None:
    """A list that is not there takes only its own fact with it."""
    store.apply([event(1, EventKind.PERSONAL_SET, ALICE, calling=CALLING, action="block")])
    facts = await ask(
        reader, ALICE, calling=CALLING, personal=True, lists=((9, 1),), categories=(ALL,)
    )
    assert ("block", {"called.refuses"}) == (facts.personal, facts.unknown)


def test_retired_generation_leaves_no_key(store: IndexStore, client: "redis.Redis") -> None:
    """Retiring deletes every bitmap and manifest of that generation, and nothing else."""
    before = client.dbsize()
    store.write_generation(1, 1, ALL, numbers(*range(ALICE, ALICE + 10 * BLOCK, 1009)))
    store.write_generation(1, 1, LOANS, numbers(BOB))
    store.publish_generation(1, 1)
    assert client.dbsize() > before
    store.retire_generation(1, 1)
    assert before == client.dbsize()


def test_empty_list_is_a_list(store: IndexStore) -> None:
    """A list without numbers can be published: it says no for everyone."""
    assert store.write_generation(1, 1, ALL, numbers()) == 0
    store.publish_generation(1, 1)
    assert all(stamp and stamp.generations == {1: (1,)} for stamp in store.stamps())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param([2, 1], "not sorted", id="unsorted"),
        pytest.param([1, 1], "not sorted, or not unique", id="twice"),
    ],
)
def test_unsorted_numbers_are_refused(store: IndexStore, values: list[int], message: str) -> None:
    """Numbers that do not rise strictly are refused before anything is written."""
    with pytest.raises(IndexRefused, match=message):
        store.write_generation(1, 1, ALL, np.array(values, np.uint64))


def test_unwritten_generation_is_not_published(store: IndexStore) -> None:
    """What was never written, or was flushed away since, cannot become readable."""
    with pytest.raises(IndexLost):
        store.publish_generation(1, 1)


@st.composite
def lists_of_numbers(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Sorted numbers over a few blocks, dense here and sparse there, and numbers to ask for."""
    first = draw(st.integers(0, 10**15 // BLOCK)) * BLOCK
    chosen: set[int] = set()
    for block in range(draw(st.integers(0, 4))):
        start = first + block * BLOCK + draw(st.integers(0, BLOCK // 2))
        step = draw(st.integers(1, 3000))
        chosen.update(range(start, start + step * draw(st.integers(0, 9000)), step)[:9000])
    chosen = {n for n in chosen if n < first + 5 * BLOCK}
    few = draw(st.sets(st.integers(first, first + 5 * BLOCK - 1), max_size=10))
    chosen |= few
    some = set(sorted(chosen)[:: len(chosen) // 50 + 1]) | few
    other = draw(st.sets(st.integers(first, first + 5 * BLOCK - 1), max_size=20))
    return sorted(chosen), sorted(some | {n + 1 for n in some} | {n - 1 for n in few} | other)


@given(case=lists_of_numbers())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_a_generation_holds_its_numbers_and_no_other(
    store: IndexStore, reader: IndexReader, client: "redis.Redis", case: tuple[list[int], list[int]]
) -> None:
    """Any set of numbers, bitmap or gaps, reads back number by number, and leaves no key."""
    chosen, probes = case
    before = client.dbsize()
    store.write_generation(3, 1, LOANS, np.array(chosen, np.uint64))
    store.publish_generation(3, 1)
    listed = set(chosen)
    for number in probes:
        if number < 0:
            continue
        facts = await ask(reader, number, lists=((3, 1),), categories=(ALL, LOANS))
        assert facts.known
        assert (number in listed) == (facts.listed == 1 << LOANS)
    assert {LOANS: (len(chosen), len(chosen))} == store.count_generation(3, 1)
    store.retire_generation(3, 1)
    assert before == client.dbsize()


def test_list_in_parts(store: IndexStore, client: "redis.Redis") -> None:
    """Parts of one list share their form, whatever each would have chosen alone."""
    store.write_generation(1, 1, ALL, np.arange(0, BLOCK, 50, dtype=np.uint64))
    store.write_generation(1, 1, ALL, np.arange(BLOCK, 2 * BLOCK, 9000, dtype=np.uint64))
    store.write_generation(1, 1, ALL, np.arange(2 * BLOCK, 3 * BLOCK, 3, dtype=np.uint64))
    store.publish_generation(1, 1)
    entry = client.hget(layout.SIDES[0].stamp_key(9), "l1")
    assert entry is not None
    assert entry.startswith(b"1:0m")
    counts = 1960 + 11 + 32667
    assert {ALL: (counts, counts)} == store.count_generation(1, 1)


@pytest.mark.parametrize(
    ("density", "most"),
    [(0.3, 0.46), (0.1, 1.37), (0.05, 2.5), (0.02, 2.5), (0.005, 2.5), (0.00002, 140)],
)
def test_bytes_a_listed_number(
    store: IndexStore, client: "redis.Redis", density: float, most: float
) -> None:
    """A registered number costs 1.10 times its bare bitmap, or 2.5 bytes where that is more.

    Only a lone number in a block costs its key. Held for ten blocks spread at random.
    """
    first, chance = 8613 * 10**9 // BLOCK * BLOCK, np.random.default_rng(7)
    chosen = np.flatnonzero(chance.random(10 * BLOCK) < density) + first
    store.write_generation(1, 1, ALL, chosen.astype(np.uint64))
    keys = [key for key in client.scan_iter(count=1000) if b":d:" in key or b":p:" in key]
    assert sum(client.memory_usage(key) for key in keys) / len(chosen) <= most
    assert {b"listpack", b"raw"} >= {client.object("encoding", key) for key in keys}


async def test_consents(store: IndexStore, reader: IndexReader) -> None:
    """A consent is one entity's alone, the last event decides, and a revocation keeps its scope."""
    store.apply(
        [
            granted(1, ALICE, 7, "insurance", expires=1_900_000_000),
            granted(2, ALICE, 7 << 20, "all"),
            granted(3, BOB, 7, "loans"),
            event(4, EventKind.CONSENT_REVOKED, BOB, entity=7),
            event(5, EventKind.CONSENT_REVOKED, CAROL, entity=7),
        ]
    )
    found = [
        (await everything(reader, called, entity=entity)).consent
        for called, entity in [(ALICE, 7), (ALICE, 7 << 20), (ALICE, 8), (BOB, 7), (CAROL, 7)]
    ]
    assert found == [
        Consent(1, False, 1_900_000_000, 1 << INSURANCE),
        Consent(2, False, 0, 1),
        None,
        Consent(3, True, 0, 1 << LOANS),
        Consent(5, True, 0, 1),
    ]
    store.apply([granted(6, BOB, 7, "loans", "insurance")])
    assert (await everything(reader, BOB)).consent == Consent(
        6, False, 0, 1 << LOANS | 1 << INSURANCE
    )


async def test_preferences_and_personal_entries(store: IndexStore, reader: IndexReader) -> None:
    """What a subscriber sets is read by exact number, and replaced or cleared as told."""
    store.apply(
        [
            event(1, EventKind.PREFERENCES_SET, ALICE, refused=["all"], zone="Europe/London"),
            event(2, EventKind.PERSONAL_SET, ALICE, calling=CALLING, action="block"),
            event(3, EventKind.PERSONAL_SET, ALICE, calling=OTHER, action="block"),
            event(4, EventKind.PERSONAL_SET, BOB, calling=CALLING, action="allow"),
        ]
    )
    assert await everything(reader, ALICE) == Facts(
        profile=Profile(refused=1, zone="Europe/London"), personal="block"
    )
    assert await everything(reader, BOB) == Facts(personal="allow")
    store.apply(
        [
            event(5, EventKind.PREFERENCES_SET, ALICE),
            event(6, EventKind.PERSONAL_CLEARED, ALICE, calling=CALLING),
        ]
    )
    assert await everything(reader, ALICE) == Facts()


async def test_only_what_is_asked_is_answered(store: IndexStore, reader: IndexReader) -> None:
    """A fact outside the read plan is not read, though a neighbour in its bucket is."""
    store.apply(
        [
            granted(1, ALICE, 7, "all"),
            event(2, EventKind.PREFERENCES_SET, ALICE, refused=["all"]),
        ]
    )
    assert Facts() == await ask(reader, ALICE, entity=7)
    assert Facts(profile=Profile(refused=1)) == await ask(reader, ALICE, entity=7, profile=True)
    only_consent = await ask(reader, ALICE, entity=7, consent=True)
    assert Facts(consent=Consent(1, False, 0, 1)) == only_consent
    assert Facts() == await ask(reader, ALICE, consent=True)


async def test_reassignment_deletes_all_of_one_number(
    store: IndexStore, reader: IndexReader, client: "redis.Redis"
) -> None:
    """The new subscriber of a number inherits nothing; its neighbours lose nothing."""
    held = [
        granted(1, ALICE, 7, "all"),
        granted(2, ALICE, 700_000, "all"),
        event(3, EventKind.PREFERENCES_SET, ALICE, refused=["all"]),
        event(4, EventKind.PERSONAL_SET, ALICE, calling=CALLING, action="block"),
        granted(5, BOB, 7, "all"),
        event(6, EventKind.PERSONAL_SET, BOB, calling=CALLING, action="block"),
    ]
    store.apply([*held, event(7, EventKind.REASSIGNED, ALICE)])
    assert Facts() == await everything(reader, ALICE)
    assert Facts() == await everything(reader, ALICE, entity=700_000)
    assert await everything(reader, BOB) == Facts(consent=Consent(5, False, 0, 1), personal="block")
    assert not client.exists(layout.SIDES[0].personal_key(ALICE))
    store.apply([granted(8, ALICE, 7, "loans")])
    assert (await everything(reader, ALICE)).consent == Consent(8, False, 0, 1 << LOANS)


kinds = st.sampled_from(list(EventKind))
near_numbers = st.sampled_from([ALICE, BOB, CAROL, ALICE + BLOCK])


@st.composite
def ledgers(draw: st.DrawFn) -> list[Event]:
    events = []
    for sequence in range(1, draw(st.integers(2, 30))):
        kind = draw(kinds)
        body: dict[str, Any] = {}
        if kind in HELD_KINDS | {EventKind.CONSENT_GRANTED, EventKind.CONSENT_REVOKED}:
            body["entity"] = draw(st.sampled_from([1, 2, 300]))
        if kind in HELD_KINDS | {EventKind.CONSENT_GRANTED}:
            body["categories"] = [draw(st.sampled_from(["all", "loans"]))]
        if kind is EventKind.PREFERENCES_SET:
            body["refused"] = draw(st.sampled_from([[], ["all"], ["visas"]]))
        if kind is EventKind.REFUSED_ALL:
            body["refused"] = ["all"]
        if kind in {EventKind.PERSONAL_SET, EventKind.PERSONAL_CLEARED}:
            body["calling"] = draw(st.sampled_from([CALLING, OTHER]))
        if kind is EventKind.PERSONAL_SET:
            body["action"] = draw(st.sampled_from(["allow", "block"]))
        events.append(event(sequence, kind, draw(near_numbers), **body))
    return events


def contents(client: "redis.Redis") -> dict[bytes, Any]:
    return {key: client.hgetall(key) for key in client.scan_iter(count=1000)}


@given(events=ledgers(), cuts=st.lists(st.integers(0, 30), max_size=3))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_replaying_any_part_changes_nothing(
    index_url: str, client: "redis.Redis", events: list[Event], cuts: list[int]
) -> None:
    """Events applied once, or again from any earlier point, leave the same index."""
    client.flushdb()
    store = IndexStore(index_url)
    store.create(EPOCH)
    store.apply(events)
    once = contents(client)
    for cut in cuts:
        store.apply(events[cut:])
        assert once == contents(client)
    client.flushdb()
    store.create(EPOCH)
    for end in sorted(cuts):
        store.apply(events[:end])
    store.apply(events)
    assert once == contents(client)
    store.close()


def test_events_must_rise(store: IndexStore) -> None:
    """Events out of order are refused: an earlier one would be passed over for ever."""
    with pytest.raises(IndexRefused, match="event 1 after 2"):
        store.apply([granted(2, ALICE, 7, "all"), granted(1, BOB, 7, "all")])


def test_batch_after_a_failed_one_waits(store: IndexStore, client: "redis.Redis") -> None:
    """When one batch of a shard fails, no later one may pass it: the replay then finds all."""
    bucket = layout.SIDES[0].bucket_key(ALICE, layout.BUCKET_WIDTH)
    client.set(bucket, "not a hash")
    events = [granted(n, ALICE, n, "all") for n in range(1, 257)]
    events += [
        event(n, EventKind.PERSONAL_SET, ALICE, calling=n, action="block") for n in range(257, 300)
    ]
    with pytest.raises(IndexUnavailable):
        store.apply(events)
    client.delete(bucket)
    store.apply(events)
    assert client.hlen(bucket) == 256
    assert client.hlen(layout.SIDES[0].personal_key(ALICE)) == 43


def test_shard_that_went_back_takes_nothing_new(store: IndexStore, client: "redis.Redis") -> None:
    """Whoever knew it further along, before a failover, must begin again from what it has now."""
    store.apply([granted(1, ALICE, 7, "all"), granted(2, BOB, 7, "all")], through=2)
    before = store.applied()
    client.hset(layout.SIDES[0].stamp_key(layout.shard_of(ALICE)), "q", 1)
    for write in (
        lambda: store.apply([granted(3, ALICE, 8, "all")], after=before),
        lambda: store.apply([granted(3, CAROL, 8, "all")], after=before, through=3),
    ):
        with pytest.raises(IndexUnavailable, match="written again"):
            write()
    assert store.applied() == 1
    store.apply(
        [granted(2, BOB, 7, "all"), granted(3, ALICE, 8, "all")], after=store.applied(), through=3
    )
    assert store.applied() == 3


def test_loss_between_two_windows_is_noticed(store: IndexStore, client: "redis.Redis") -> None:
    """A replica that takes over in the middle of a long replay may lack what was just sent."""
    stamp = layout.SIDES[0].stamp_key(layout.shard_of(ALICE))

    def events() -> Iterator[Event]:
        yield from (granted(n, ALICE, 1 + n % 50, "all") for n in range(1, 20_001))
        client.hset(stamp, "q", 7)
        yield granted(20_001, ALICE, 7, "all")

    with pytest.raises(IndexUnavailable, match="written again"):
        store.apply(events())
    assert client.hget(stamp, "q") == b"7"


@pytest.mark.parametrize("gone", ["a block", "a part of one shard", "the last part"])
def test_generation_that_lost_something_is_not_published(
    store: IndexStore, client: "redis.Redis", gone: str
) -> None:
    """What a lost primary took with it between the writing and the switch stays unreadable."""
    chosen = np.arange(ALICE, ALICE + 20 * BLOCK, 3, dtype=np.uint64)
    store.write_generation(1, 1, ALL, chosen)
    store.write_generation(1, 1, LOANS, chosen)
    manifests = [
        layout.SIDES[0].manifest_key(s, list_id=1, generation=1) for s in range(layout.SHARDS)
    ]
    if gone == "a block":
        client.delete(next(key for key in client.scan_iter(count=1000) if b":d:" in key))
    else:
        part = b"%d.%d" % (LOANS, ALICE // BLOCK)
        for key in manifests if gone == "the last part" else manifests[:1]:
            assert client.hdel(key, part) == 1
    with pytest.raises(IndexUnavailable, match="written again"):
        store.publish_generation(1, 1)
    assert store.unreadable([(1, 1)]) == [(1, 1)]
    store.retire_generation(1, 1)
    store.write_generation(1, 1, ALL, chosen)
    store.publish_generation(1, 1)
    assert store.unreadable([(1, 1), (1, 2)]) == [(1, 2)]


def test_applied_is_the_least_of_the_shards(store: IndexStore) -> None:
    """`applied` is where a replay must start; `through` moves the shards that had no events."""
    store.apply([granted(5, ALICE, 7, "all")])
    assert store.applied() == 0
    store.apply([], through=5)
    assert store.applied() == 5
    store.apply([], through=4)
    assert store.applied() == 5


def test_buckets_stay_listpacks(store: IndexStore, client: "redis.Redis") -> None:
    """At 1 % of consents a number, with some profiles, a bucket is one listpack: 24 bytes each."""
    first = ALICE // layout.BUCKET_WIDTH * layout.BUCKET_WIDTH
    events = [
        granted(n, first + n * 100, 5000 + n, "insurance", expires=1_900_000_000 + n)
        for n in range(1, 98)
    ]
    long_profile = {
        "refused": ["political"],
        "bands": [3],
        "zone": "America/Port-au-Prince",
        "prefixes": [["9" * 15, "block"]] * 3,
    }
    events.append(event(98, EventKind.PREFERENCES_SET, first, **long_profile))
    store.apply(events)
    bucket = layout.SIDES[0].bucket_key(first, layout.BUCKET_WIDTH)
    assert client.object("encoding", bucket) == b"listpack"
    assert client.memory_usage(bucket) / 98 <= 24


async def test_flushed_index_is_unknown_in_the_next_read(
    store: IndexStore, reader: IndexReader, client: "redis.Redis"
) -> None:
    """FLUSHALL is an outage, not a nation without refusals; writers notice it too."""
    store.apply([event(1, EventKind.PERSONAL_SET, ALICE, calling=CALLING, action="block")])
    assert (await everything(reader, ALICE)).personal == "block"
    client.flushdb()
    assert await everything(reader, ALICE) == UNKNOWN
    assert reader.stale == 1
    for write in (
        lambda: store.apply([granted(2, ALICE, 7, "all")]),
        lambda: store.write_generation(1, 1, ALL, numbers(ALICE)),
        lambda: store.publish_generation(1, 1),
        lambda: store.apply([], through=2),
        lambda: store.attach(EPOCH),
        store.applied,
    ):
        with pytest.raises(IndexLost):
            write()
    assert client.dbsize() == 0
    assert store.is_empty()


async def test_index_of_another_epoch_is_unknown(
    index_url: str, store: IndexStore, reader: IndexReader
) -> None:
    """A server that holds another index (restored, mistaken) proves nothing about this one."""
    assert (await everything(reader, ALICE)).known
    reader.epoch = name_epoch("other")
    assert await everything(reader, ALICE) == UNKNOWN
    reader.epoch = EPOCH
    assert (await everything(reader, ALICE)).known
    with pytest.raises(IndexLost, match="no stamp of epoch"):
        store.attach(name_epoch("other"))


async def test_shard_that_went_back_is_unknown(
    store: IndexStore, reader: IndexReader, client: "redis.Redis"
) -> None:
    """A failover to a replica that lagged has lost acknowledged writes: unknown until replayed."""
    key = layout.SIDES[0].stamp_key(layout.shard_of(ALICE))
    store.apply([granted(1, ALICE, 7, "all"), granted(2, ALICE, 7, "all")])
    assert (await everything(reader, ALICE)).known
    client.hset(key, "q", 1)
    assert await everything(reader, ALICE) == UNKNOWN
    store.apply([granted(2, ALICE, 7, "all")])
    assert (await everything(reader, ALICE)).known


async def test_shard_that_is_behind_what_all_had_is_unknown(
    store: IndexStore, reader: IndexReader, client: "redis.Redis"
) -> None:
    """Also to a reader that never read it before: it is told how far every shard had come."""
    store.apply([granted(2, ALICE, 7, "all")], through=2)
    reader.expect(2)
    client.hset(layout.SIDES[0].stamp_key(layout.shard_of(BOB)), "q", 1)
    assert await everything(reader, BOB) == UNKNOWN
    assert (await everything(reader, CAROL)).known
    store.apply([granted(2, ALICE, 7, "all")], after=store.applied(), through=2)
    assert (await everything(reader, BOB)).known


async def test_rebuild_brings_everything_back(
    index_url: str, store: IndexStore, reader: IndexReader, client: "redis.Redis"
) -> None:
    """From lists and events a flushed index is made again under a new epoch, old keys gone."""
    events = [
        granted(1, ALICE, 7, "all"),
        event(2, EventKind.PERSONAL_SET, BOB, calling=CALLING, action="block"),
    ]
    store.apply([event(9, EventKind.PERSONAL_SET, CAROL, calling=CALLING, action="block")])
    seen = []
    epoch = name_epoch("fresh", bucket_width=1000)
    store.rebuild(
        epoch,
        generations=[(1, 3, ALL, numbers(ALICE)), (1, 3, LOANS, numbers(BOB))],
        events=events,
        last_sequence=12,
        progress=seen.append,
    )
    assert await everything(reader, ALICE) == UNKNOWN
    reader.epoch = epoch
    assert Facts(consent=Consent(1, False, 0, 1)) == await everything(reader, ALICE)
    assert Facts(personal="block") == await everything(reader, BOB)
    assert Facts() == await everything(reader, CAROL)
    listed = await ask(reader, BOB, lists=((1, 3),), categories=(ALL, LOANS))
    assert (listed.listed, listed.known) == (2, True)
    assert (epoch, 12, 2) == (store.epoch(), store.applied(), sum(seen))
    # Another process joins it.
    other = IndexStore(index_url)
    other.attach(epoch)
    other.apply([granted(13, BOB, 7, "all")])
    other.close()


async def test_rebuild_from_an_empty_ledger(store: IndexStore, reader: IndexReader) -> None:
    """Nothing to tell is a proven no, too."""
    store.rebuild(EPOCH, generations=[], events=[], last_sequence=0)
    assert await everything(reader, ALICE) == Facts()
    assert store.applied() == 0


async def test_unfinished_rebuild_is_unknown_and_closed_to_writers(
    index_url: str, store: IndexStore, reader: IndexReader
) -> None:
    """Until its last step a rebuild is an outage to readers and to every other writer."""
    other = IndexStore(index_url)
    other.attach(EPOCH)
    answers = []

    def events() -> Iterator[Event]:
        yield granted(1, ALICE, 7, "all")
        with pytest.raises(IndexLost):
            other.apply([granted(2, ALICE, 7, "all")])
        answers.append(asyncio.run_coroutine_threadsafe(everything(reader, ALICE), loop).result())

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(store.rebuild, EPOCH, generations=[], events=events(), last_sequence=1)
    other.close()
    assert answers == [UNKNOWN]
    assert (await everything(reader, ALICE)).known


def test_rebuild_notices_that_it_was_flushed(store: IndexStore, client: "redis.Redis") -> None:
    """A FLUSHALL in the middle of a rebuild cannot end in a half-filled index that looks whole."""

    def events() -> Iterator[Event]:
        yield granted(1, ALICE, 7, "all")
        client.flushdb()

    with pytest.raises(IndexLost):
        store.rebuild(
            EPOCH,
            generations=[(1, 1, ALL, numbers(ALICE))],
            events=events(),
            last_sequence=1,
        )
    assert store.epoch() == ""


def test_server_that_may_evict_is_refused(index_url: str, client: "redis.Redis") -> None:
    """An evicted refusal would read as none, so such a server is not used."""
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(IndexRefused, match="allkeys-lru: expected noeviction"):
            IndexStore(index_url)
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_index_is_not_created_over_another(store: IndexStore) -> None:
    """`create` is for an empty server."""
    with pytest.raises(IndexRefused, match="holds an index"):
        store.create(name_epoch("second"))


def test_server_out_of_memory_is_said(store: IndexStore, client: "redis.Redis") -> None:
    """A full server refuses the write with a reason, and the replay succeeds once it has room."""
    client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(IndexUnavailable, match=r"OOM|maxmemory"):
            store.apply([granted(1, ALICE, 7, "all")])
    finally:
        client.config_set("maxmemory", "0")
    assert store.apply([granted(1, ALICE, 7, "all")]) == 1


async def test_foreign_value_is_unknown(
    store: IndexStore, reader: IndexReader, client: "redis.Redis"
) -> None:
    """A key of the wrong type, or bytes that are no value of ours, never raise and never say no."""
    bucket = layout.SIDES[0].bucket_key(ALICE, layout.BUCKET_WIDTH)
    client.hset(bucket, layout.profile_field(ALICE, layout.BUCKET_WIDTH), b"\xff\xff")
    assert (await everything(reader, ALICE)).unknown == CALLED_SIDE
    client.delete(bucket)
    client.set(bucket, "not a hash")
    assert (await everything(reader, ALICE)).unknown == CALLED_SIDE
    assert str(ALICE) not in reader.last_error
    assert (await everything(reader, CAROL)).known


WRITTEN: dict[bytes, dict[bytes, bytes]] = {
    b"{52}:s": {b"e": b"9800.196cba8786d028a4", b"q": b"3", b"l1": b"1:0s49000"},
    b"{52}:p:1.1:0:247460": {b"\x00": b"\x9cO\x01\x01\x01"},
    b"{52}:b:1237301": {
        b"\x01-\x01": b"\x08\x01\x01", b"\x01.": b"! \x02\x08New_York",
        b"\x01h\x01": b"\x08\x03\x01",
    },
    b"{52}:f:12125550101": {b"\x01": b"\x07\x9d\x0b\x07\x9d\x0c"},
}  # fmt: skip
"""A shard of the sample as the version before two sides wrote it (2026-11-25, 80fa844)."""


async def test_what_an_earlier_version_wrote_is_read(index_url: str, client: "redis.Redis") -> None:
    """So an upgrade needs no rebuild. Who changes the layout so that this fails names epochs in
    another way: an index of such a name is rebuilt, and never misread."""
    for key, fields in WRITTEN.items():
        client.hset(key, mapping=fields)  # type: ignore[arg-type]
    reader = IndexReader(index_url, epoch="9800.196cba8786d028a4")
    await reader.start()
    asked: dict[str, Any] = {
        "entity": 1, "lists": ((1, 1),), "categories": (0,), "consent": True, "profile": True,
        "frequency": True,
    }  # fmt: skip
    lists = (("1", 1),)
    expected = {
        12125550101: Facts(
            consent=Consent(1, False, 0, 1 << LOANS), generations=lists,
            entity_calls=(0x079D0B * 3600, 0x079D0C * 3600),
        ),
        12125550102: Facts(
            profile=Profile(refused=1 << INSURANCE, zone="America/New_York"), generations=lists
        ),
        12125550139: Facts(generations=lists),
        12125550142: Facts(1, generations=lists),
        12125550160: Facts(consent=Consent(3, False, 0, 1 << LOANS), generations=lists),
    }  # fmt: skip
    assert {called: await ask(reader, called, **asked) for called in expected} == expected
    await reader.close()


async def test_another_version_s_layout_is_not_read(index_url: str, client: "redis.Redis") -> None:
    """Its stamps prove nothing to this version, which takes it for lost."""
    name = "2.9800.196cba8786d028a4"
    for shard in range(layout.SHARDS):
        client.hset(layout.SIDES[1].stamp_key(shard), mapping={"e": name, "q": "3"})
    store, reader = IndexStore(index_url), IndexReader(index_url, epoch=name)
    await reader.start()
    assert await ask(reader, ALICE, entity=1, consent=True) == UNKNOWN
    with pytest.raises(IndexLost, match="written by another version of the service"):
        store.attach(name)
    assert len(store.lost_shards(name)) == layout.SHARDS
    await reader.close()
    store.close()
