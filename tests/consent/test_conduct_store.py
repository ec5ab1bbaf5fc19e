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


def test_writing_that_is_spread_writes_all(index_url: str, store: ConductStore) -> None:
    """In the time that it has, or past it; what is last is as much there as what is first."""
    numbers = [441632960000 + n for n in range(250)]
    for within_s in (0.05, 1e-9):
        store.write_signals(dict.fromkeys(numbers, (PACKED, True)), within_s=within_s)
        assert [store.read_signals(number) for number in numbers] == [[PACKED]] * len(numbers)
        store.write_signals(dict.fromkeys(numbers, (None, False)), within_s=within_s)
        assert store.read_signals(numbers[-1]) == []
    calls = [
        (number, 7, 1_700_000_000.0 + number % 1000, f"01ARZ3NDEKTSV4RRFFQ69G5{number % 1000:03}")
        for number in numbers
    ]
    store.write_calls(calls, within_s=0.05)
    store.write_calls(calls, within_s=0.05)
    with client_of(index_url) as client:
        held = [client.hvals(layout.frequency_key(number)) for number in numbers]
    assert all(len(each) == 1 and len(each[0]) == 4 for each in held)
