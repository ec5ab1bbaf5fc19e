"""The way of a decision: in the ledger, then in the index, or pending until that is back."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.running import wait_for
from tests.servers import IndexServer

from consent import projection
from consent.event import Event, EventKind
from consent.index import IndexStore, layout, name_epoch
from consent.keyring import Keyring
from consent.record import Once, RecordConflict, RecordError
from consent.signing import SigningKey
from screening import registrar as module
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State

CALLED = 447700900123


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that was gone is asked again at once."""
    monkeypatch.setattr(module, "ASKED_AGAIN_SECONDS", 0.0)


@pytest.fixture
def node(
    record_url: str, index_server: IndexServer, tmp_path: Path
) -> Iterator[Callable[[], State]]:
    """Makes the state of a node on one record and one index, with an entity."""
    url = record_url if "://" in record_url else f"sqlite:///{record_url}"
    settings = Settings(state_dir=tmp_path, database_url=url, redis_url=index_server.url)
    keyring = Keyring.load_or_create(tmp_path / "secrets.json")
    signer = SigningKey.load_or_create(tmp_path / "checkpoint.pem")
    with contextlib.ExitStack() as stack:

        def make() -> State:
            return stack.enter_context(
                contextlib.closing(State(settings, keyring, signer, index_server.url))
            )

        make().record().entities.put("bank", title="Bank", categories=["loans"], actor="test")
        yield make


def granted(called: int = CALLED) -> Event:
    body = {"entity": 1, "categories": ["loans"]}
    return Event(0, time.time(), EventKind.CONSENT_GRANTED, called, body)


def revoked(called: int = CALLED) -> Event:
    return Event(0, time.time(), EventKind.CONSENT_REVOKED, called, {"entity": 1})


def indexed(state: State, called: int = CALLED) -> bool | None:
    """Whether the index has a consent of this number that is not revoked; None for nothing."""
    with state.index() as store:
        width = layout.bucket_width(state.record().index_epoch())
        value = store._server.hget(
            layout.SIDES[0].bucket_key(called, width), layout.consent_field(called, 1, width)
        )
    return None if value is None else not layout.decode_consent(value).revoked


def test_what_is_in_force_is_in_the_index(node: Callable[[], State]) -> None:
    """Each decision is there when it has been taken; a repeat of a request adds nothing."""
    state = node()
    with contextlib.closing(Registrar(state)) as registrar:
        once = Once("key", "one", b"grant")
        first = registrar.take([granted()], actor="test", once=once)
        assert (first.sequence, first.in_force, indexed(state)) == (1, True, True)
        assert registrar.take([granted()], actor="test", once=once) == first
        taken = registrar.take([revoked()], actor="test", unchanged={CALLED: 1})
        assert (taken.sequence, taken.in_force, indexed(state)) == (2, True, False)
        with pytest.raises(RecordConflict):
            registrar.take([granted()], actor="test", unchanged={CALLED: 1})
        with pytest.raises(RecordError, match="entity"):
            registrar.take(
                [Event(0, time.time(), EventKind.CONSENT_REVOKED, CALLED, {"entity": 9})],
                actor="test",
            )
        assert state.record().ledger.last_sequence() == 2
        assert registrar.take([], actor="test").in_force


def test_two_registrars_leave_no_gap(node: Callable[[], State]) -> None:
    """What one committed and did not bring up comes up with what another does."""
    state, other = node(), node()
    other.record().ledger.append([granted(CALLED + 1)], actor="died before the index")
    with contextlib.closing(Registrar(state)) as registrar:
        assert registrar.take([granted()], actor="test").in_force
    assert indexed(state, CALLED + 1)


def scripts_run(server: IndexServer) -> int:
    """How many scripts the index server has run."""
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"])


def test_a_write_asks_its_own_shards_once(
    node: Callable[[], State], index_server: IndexServer
) -> None:
    """One script a shard of its numbers, and none to learn how far the others have come."""
    state = node()
    with contextlib.closing(Registrar(state)) as registrar:
        assert registrar.take([granted()], actor="test").in_force
        before = scripts_run(index_server)
        assert registrar.take([revoked()], actor="test").in_force
        assert scripts_run(index_server) == before + 1
        three = [granted(CALLED + n * layout.BLOCK) for n in range(3)]
        assert registrar.take(three, actor="test").in_force
        assert scripts_run(index_server) == before + 4
        with state.index() as store:
            assert store.applied() == 1, "the shards that were not asked are the keeper's"
        assert registrar.in_force(5)
        with state.index() as store:
            assert store.applied() == 5


def test_what_others_wrote_of_the_same_shard_comes_first(
    node: Callable[[], State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that has an event has those before it, whoever committed them, few or many."""
    state, other = node(), node()
    far = CALLED + layout.BLOCK
    with contextlib.closing(Registrar(state)) as registrar:
        assert registrar.take([granted(CALLED + 9)], actor="test").in_force
        other.record().ledger.append([granted(), granted(far)], actor="died before the index")
        assert registrar.take([granted(CALLED + 1)], actor="test").in_force
        assert (indexed(state), indexed(state, far)) == (True, None)
        assert registrar.take([granted(far + 1)], actor="test").in_force
        assert indexed(state, far)
        monkeypatch.setattr(projection, "MOST_WAITING", 2)
        other.record().ledger.append([revoked(), revoked(far), revoked(CALLED + 9)], actor="died")
        assert registrar.take([granted(far + 2)], actor="test").in_force
        assert (indexed(state), indexed(state, far)) == (False, False)


def test_a_shard_that_went_back_is_brought_up_again(
    node: Callable[[], State], index_server: IndexServer
) -> None:
    """A replica that lagged takes over: the next write brings what was lost, then itself."""
    state = node()
    with contextlib.closing(Registrar(state)) as registrar:
        assert registrar.take([granted()], actor="test").in_force
        with index_server.client() as client:
            key = layout.SIDES[0].stamp_key(layout.shard_of(CALLED))
            client.hset(key, "q", 0)
            client.delete(layout.SIDES[0].bucket_key(CALLED, layout.BUCKET_WIDTH))
        assert registrar.take([granted(CALLED + 1)], actor="test").in_force
    assert indexed(state)
    assert indexed(state, CALLED + 1)


def test_many_at_once(node: Callable[[], State]) -> None:
    """Threads that write together are all in force, though not each brings up the index."""
    state = node()
    with contextlib.closing(Registrar(state)) as registrar:
        found: list[bool] = []

        def write(n: int) -> None:
            found.extend(
                registrar.take([granted(called)], actor="test").in_force
                for called in range(CALLED + 10 * n, CALLED + 10 * n + 10)
            )

        threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [True] * 60
    assert all(indexed(state, called) for called in range(CALLED, CALLED + 60))


def test_pending_while_the_index_is_gone(
    node: Callable[[], State], index_server: IndexServer
) -> None:
    """It is in the ledger, said to be pending, and in force once the server is back."""
    state = node()
    with contextlib.closing(Registrar(state)) as registrar:
        assert registrar.take([granted()], actor="test").in_force
        index_server.kill()
        taken = registrar.take([revoked()], actor="test")
        assert (taken.sequence, taken.in_force) == (2, False)
        assert registrar.failure
        assert state.record().ledger.held(CALLED).consents[1].revoked_at
        assert not registrar.in_force(2)
        index_server.start()
        wait_for(lambda: registrar.in_force(2), seconds=10, what="the index to have it")
        assert registrar.failure == ""
    assert indexed(state) is False


def test_a_frozen_index_does_not_hold_up_those_who_wait(
    node: Callable[[], State], index_server: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for its answer; whoever came meanwhile is pending with it."""
    monkeypatch.setattr(module, "ASKED_AGAIN_SECONDS", 3600.0)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    state = node()
    with contextlib.closing(Registrar(state)) as registrar:
        assert registrar.take([granted()], actor="test").in_force
        index_server.freeze()
        try:
            taken = [registrar.take([granted(CALLED + n)], actor="test") for n in range(20)]
        finally:
            index_server.thaw()
    assert not any(each.in_force for each in taken)
    assert state.record().ledger.last_sequence() == 21


def test_an_index_made_anew_is_followed(node: Callable[[], State]) -> None:
    """After a rebuild under another epoch the next decision is in force there."""
    state = node()
    with contextlib.closing(Registrar(state)) as registrar:
        assert registrar.take([granted()], actor="test").in_force
        store = IndexStore(state.redis_url)
        events = state.record().ledger.events()
        epoch = name_epoch("fedcba")
        store.rebuild(epoch, generations=[], events=events, last_sequence=1)
        store.close()
        state.record().set_index_epoch(epoch)
        assert registrar.take([granted(CALLED + 1)], actor="test").in_force
    assert indexed(state)
    assert indexed(state, CALLED + 1)
