"""The writer of signals: many commands at once, and what becomes of them when one is refused."""

from collections.abc import Iterator

import pytest
from tests.servers import client_of

from consent.index import IndexUnavailable, layout
from consent.index.conduct import ConductStore

PACKED = bytes(range(24))


@pytest.fixture
def store(index_url: str) -> Iterator[ConductStore]:
    conduct = ConductStore(index_url, node="n")
    yield conduct
    conduct.close()


def test_thousands_of_signals_are_written_and_taken_away(
    index_url: str, store: ConductStore
) -> None:
    """Those that are renewed with a time to live; nothing else is touched."""
    numbers = [441632960000 + n for n in range(2_500)]
    store.write_signals({number: (PACKED, number % 2 == 0) for number in numbers})
    assert store.read_signals(numbers[-1]) == [PACKED]
    with client_of(index_url) as client:
        assert client.dbsize() == len(numbers)
        lives = [client.ttl(layout.signals_key(number)) for number in numbers[:2]]
    assert lives[0] > 86_400
    assert lives[1] == -1
    store.write_signals(dict.fromkeys(numbers, (None, False)))
    assert store.read_signals(numbers[0]) == []


def test_a_refused_command_is_told_and_the_next_ones_are_not_out_of_step(
    index_url: str, store: ConductStore
) -> None:
    """All others of its round trip are carried out."""
    with client_of(index_url) as client:
        client.set(layout.signals_key(1), "no hash")
        with pytest.raises(IndexUnavailable):
            store.write_signals({1: (PACKED, True), 2: (PACKED, True)})
        client.delete(layout.signals_key(1))
    assert store.read_signals(2) == [PACKED]
    store.write_signals({1: (PACKED, True)})
    assert store.read_signals(1) == [PACKED]


def test_a_connection_that_was_closed_is_made_anew(index_url: str, store: ConductStore) -> None:
    """Within the same write; and each shard says whose signals it holds."""
    assert len(store.lost()) == layout.SHARDS
    store.beat(1e9)
    with client_of(index_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    store.write_signals({1: (PACKED, True)})
    assert store.read_signals(1) == [PACKED]
    assert store.lost() == []
