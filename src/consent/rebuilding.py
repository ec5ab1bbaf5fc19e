"""An index made anew beside the one in force, and switched to at one instant.

Calls are decided by the old one until the record names the new one, and each worker keeps to it
until it has heard so. Decisions that are taken meanwhile go to the old one, from when the new one
is complete to both, and for a while after the switch still to both. So whichever a worker reads,
it has all that was said to be in force. Whoever dies on the way leaves the old one in force; what
was made so far lies on the other side, which the next rebuild clears first, or the service does
after a while.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from consent.event import Event
from consent.index import SHARDS, IndexBehind, IndexStore
from consent.loading import dnc_generations, restore_lists
from consent.projection import catch_up
from consent.record import Record

MOST_LOOKS: Final = 10
"""At what has changed since, before a rebuild gives up: lists come hours apart."""

EVENTS_TOLD: Final = 100

LEFT_SECONDS: Final = 5.0
"""Until no worker reads the old index: one looks at the record every half second, and one that
cannot reach it for longer allows calls as degraded until it can."""


class Stage(StrEnum):
    """Where a rebuild is, in words for people."""

    MAKING = "making"
    READING = "reading the ledger"
    FOLLOWING = "following"
    LEAVING = "leaving the old one"
    REMOVING = "removing the old one"


def rebuild_beside(
    record: Record,
    store: IndexStore,
    folder: Path,
    *,
    epoch: str,
    progress: Callable[[int], None],
    stage: Callable[[Stage], None],
    left_seconds: float = LEFT_SECONDS,
) -> int:
    """Make the index of a new epoch, put it in force and remove the one before.

    `epoch` lies on the other side than the one in force, which goes `left_seconds` after the
    switch. `progress` hears of numbers while it is `Stage.MAKING`, and of events of the ledger
    while it is `Stage.READING`. The answer is the sequence of the ledger through which the new one
    was complete when it came into force.

    Raises IndexUnavailable and its kinds where a server failed or was failed over, LoadError
    where an original is gone, and RecordError where another rebuild has begun; up to the switch
    the old index is then in force as before, and after it the new one: see `remove_left`.
    """
    old = record.index_epoch()
    with record.indexes.making(epoch):
        stage(Stage.MAKING)
        store.rebuild(
            epoch,
            generations=dnc_generations(record, folder),
            events=reading(record.ledger.events(), progress=progress, stage=stage),
            last_sequence=record.ledger.last_sequence(),
            progress=progress,
        )
        stage(Stage.FOLLOWING)
        record.indexes.complete(epoch)
        for _ in range(MOST_LOOKS):
            # What was committed before writers knew of this index, and lists that have changed.
            catch_up(record, store)
            lists = restore_lists(record, store, folder)
            # Last, so that a shard that a failover has put back is seen.
            last = catch_up(record, store)
            if record.indexes.switch(epoch, lists):
                break
        else:
            raise IndexBehind(f"index {epoch}: lists change faster than they can be written")
    if old and len(store.lost_shards(old)) < SHARDS:
        stage(Stage.LEAVING)
        time.sleep(left_seconds)
    if old:
        stage(Stage.REMOVING)
        remove_left(record, store, old)
    return last


def remove_left(record: Record, store: IndexStore, old: str) -> None:
    """Remove an index that no worker reads any more. Raises IndexUnavailable; begun again, it is
    gone on with."""

    def unclaimed() -> bool:
        # Where another is made in its place, its maker clears that, and nobody else.
        return not record.indexes.epochs().building

    # Nobody need write to what nobody can read, so its stamps go first.
    store.withdraw(old)
    if record.indexes.epochs().building == old:
        record.indexes.give_up(old)
    record.indexes.leave(old)
    if store.remove(old, while_=unclaimed):
        record.indexes.removed(old)


def reading(
    events: Iterable[Event], *, progress: Callable[[int], None], stage: Callable[[Stage], None]
) -> Iterator[Event]:
    """The events, of which `progress` hears a hundred at a time from `Stage.READING` on."""
    stage(Stage.READING)
    at = 0
    for at, each in enumerate(events, 1):
        yield each
        if not at % EVENTS_TOLD:
            progress(EVENTS_TOLD)
    progress(at % EVENTS_TOLD)
