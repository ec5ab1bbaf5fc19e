"""The index follows the record: by sequence, idempotently, without a person."""

from consent.index import IndexStore
from consent.record import ListKind, Record


def catch_up(record: Record, store: IndexStore) -> int:
    """Bring every event that the index lacks into it; the answer is how far the ledger went.

    Safe to run beside other writers and after a crash at any point: each shard knows what it
    has. Raises IndexLost where the index is not the record's, IndexUnavailable, and
    RecordUnavailable.
    """
    last = record.ledger.last_sequence()
    applied = store.applied()
    if last > applied:
        store.apply(record.ledger.events(applied), after=applied, through=last)
    return last


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


def lacks_lists(record: Record, store: IndexStore) -> bool:
    """Whether a do-not-call list in force is not readable in every shard."""
    in_force = [
        (each.id, each.active.generation)
        for each in record.catalogue.lists()
        if each.kind is ListKind.DNC and each.active is not None
    ]
    return bool(store.unreadable(in_force))
