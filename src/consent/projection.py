"""The index follows the record: by sequence, idempotently, without a person."""

import contextlib
from collections.abc import Iterable
from typing import Final

from consent.event import CALLER_KINDS, Event
from consent.index import SHARDS, IndexLost, IndexStore
from consent.index.layout import shard_of
from consent.index.target import unreadable
from consent.record import ListKind, Record

MOST_WAITING: Final = 2_000
"""Events of other writers that one keeps in mind before it brings up every shard."""


def catch_up(record: Record, store: IndexStore) -> int:
    """Bring every event that the index lacks into it; the answer is how far the ledger went.

    Safe to run beside other writers and after a crash at any point: each shard knows what it
    has. Raises IndexLost where the index is not the record's, IndexUnavailable, and
    RecordUnavailable.
    """
    last = record.ledger.last_sequence()
    return _bring(record, store, last, store.sequences())


def follow(record: Record, store: IndexStore) -> int:
    """`catch_up` of an index whose lists are looked at, too: it is asked once for both.

    Raises also IndexLost where a do-not-call list in force is not readable in every shard.
    """
    in_force = [
        (each.id, each.active.generation)
        for each in record.catalogue.lists()
        if each.kind is ListKind.DNC and each.active is not None
    ]
    last = record.ledger.last_sequence()
    stamps = store.present()
    _bring(record, store, last, [stamp.sequence for stamp in stamps])
    if unreadable(stamps, in_force):
        raise IndexLost("a list in force is not readable in every shard of the index")
    return last


def _bring(record: Record, store: IndexStore, last: int, reached: list[int]) -> int:
    behind = min(reached)
    if last > behind:
        store.apply_to(record.ledger.events(behind), reached)
        store.advance(last, reached)
    return last


def catch_up_beside(record: Record, store: IndexStore) -> None:
    """The same of the index that lies beside the one in force, if one does and is complete."""
    beside = record.indexes.epochs().beside
    if beside and beside != store.attached:
        # What is lost there will not come into force, or was left.
        with contextlib.suppress(IndexLost), store.beside(beside) as other:
            catch_up(record, other)


class Following:
    """One writer's view of an index that it follows shard by shard.

    A write waits for the shards of its own events, which are asked once, by a script that proves
    that they have what came before. The others are left to whoever calls `catch_up` now and then.
    After any exception a new one must be made.

    Invariant: an event of the ledger through `_through` is in `_waiting` under its shard, unless
    that shard is known to have it.
    """

    def __init__(self, record: Record, store: IndexStore) -> None:
        """Brings up every shard first. Raises as `catch_up` does."""
        self._record = record
        self._store = store
        self._catch_up()

    def _catch_up(self) -> None:
        self._through = catch_up(self._record, self._store)
        self._reached = [self._through] * SHARDS
        self._waiting: dict[int, list[Event]] = {}
        self._waiting_count = 0

    def has(self, events: Iterable[Event]) -> bool:
        """Whether the shards of these events are known to have them."""
        return all(self._reached[shard] >= last for shard, last in _ends(events).items())

    def bring(self, events: Iterable[Event]) -> None:
        """Bring committed events into the index, and of their shards all before them.

        Raises as `catch_up` does, and IndexBehind where a shard has lost what it had.
        """
        wanted = {
            shard: last for shard, last in _ends(events).items() if self._reached[shard] < last
        }
        last = max(wanted.values(), default=0)
        if last - self._through + self._waiting_count > MOST_WAITING:
            self._catch_up()
            return
        self._read(last)
        mine = [each for shard in wanted for each in self._waiting.pop(shard, ())]
        self._waiting_count -= len(mine)
        self._store.apply_to(sorted(mine, key=lambda each: each.sequence), self._reached)
        for shard, sequence in wanted.items():
            # What was erased meanwhile is not read any more: then every shard had it.
            self._reached[shard] = max(self._reached[shard], sequence)

    def bring_all(self, through: int) -> None:
        """Bring every shard up to a sequence of the ledger."""
        if min(self._reached) < through:
            self._catch_up()

    def _read(self, through: int) -> None:
        # Sequences have no gaps and become visible in their order, so nothing comes in between.
        behind = through - self._through
        if behind <= 0:
            return
        for each in self._record.ledger.events(self._through, limit=behind):
            if each.kind not in CALLER_KINDS:
                self._waiting.setdefault(shard_of(each.called), []).append(each)
                self._waiting_count += 1
        self._through = through


def _ends(events: Iterable[Event]) -> dict[int, int]:
    """The newest of these events in each shard; what is said of callers is in none."""
    ends: dict[int, int] = {}
    for each in events:
        if each.kind not in CALLER_KINDS:
            shard = shard_of(each.called)
            ends[shard] = max(each.sequence, ends.get(shard, 0))
    return ends


def attach(record: Record, store: IndexStore, *, new_epoch: str) -> str:
    """Tie the store to the record's index, made on the first start; the answer is its epoch.

    `new_epoch` names the index that is made on an empty server for a record that never had one.
    Raises IndexLost where the server does not hold the record's index.
    """
    epoch = record.index_epoch()
    if not epoch and store.is_empty():
        store.create(new_epoch)
        record.set_index_epoch(new_epoch)
        return new_epoch
    store.attach(epoch)
    return epoch
