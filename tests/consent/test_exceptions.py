"""Exceptions from network lists: of the list whatever is loaded, of the subscription, undone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from consent.calling import (
    BLOCK,
    DNO,
    CallingList,
    CallingLists,
    CallingSide,
    load_exceptions,
    save_exceptions,
    write_calling,
)
from consent.event import Event, EventKind
from consent.keyring import Keyring
from consent.record import Record, RecordError

CALLER = 12125550196
AT = 1_790_000_000.0


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    keyring = Keyring.load_or_create(tmp_path / "keyring.json")
    record = Record.open(str(tmp_path / "record.db"), keyring=keyring, clock=lambda: AT)
    for name, kind, category in (("reports", "block", ""), ("refusals", "dnc", "all")):
        record.catalogue.begin(
            name, kind=kind, format="csv", source="", sha256="0" * 64, size_bytes=1,
            category=category, actor="test",
        )  # fmt: skip
    yield record
    record.close()


def test_granted_and_undone(record: Record) -> None:
    """Each is an event of the number's subscription and a change that workers see, once."""
    revision = record.revision()
    assert record.exceptions.grant("reports", CALLER, reason="appeal 1", actor="test")
    assert record.revision() == revision + 1
    assert not record.exceptions.grant("reports", CALLER, reason="appeal 1", actor="test")
    assert record.exceptions.in_force() == {CALLER: frozenset({"reports"})}
    (one,) = record.exceptions.all()
    assert (one.list_name, one.number, one.reason) == ("reports", CALLER, "appeal 1")
    record.exceptions.restore("reports", CALLER, reason="an error", actor="test")
    assert record.exceptions.in_force() == {}
    with pytest.raises(RecordError, match="not excepted"):
        record.exceptions.restore("reports", CALLER, reason="an error", actor="test")
    kinds = [each.kind for each in record.ledger.events_of(CALLER)]
    assert kinds == [EventKind.LIST_EXCEPTED, EventKind.LIST_RESTORED]
    assert record.ledger.first_flaw([]) is None


@pytest.mark.parametrize("name", ["refusals", "unknown"])
def test_no_list_of_callers(record: Record, name: str) -> None:
    """A do-not-call list is of called numbers: who refuses is not excepted from it."""
    with pytest.raises(RecordError, match="no list of calling numbers"):
        record.exceptions.grant(name, CALLER, reason="appeal 1", actor="test")


@pytest.mark.parametrize("kind", [EventKind.REASSIGNED, EventKind.ERASED])
def test_it_ends_with_the_subscription(record: Record, kind: EventKind) -> None:
    """Who has the number next was not heard."""
    record.exceptions.grant("reports", CALLER, reason="appeal 1", actor="test")
    record.ledger.append([Event(0, AT, kind, CALLER, {})], actor="test")
    assert record.exceptions.in_force() == {}
    assert record.exceptions.all() == []


def test_workers_go_by_it(tmp_path: Path) -> None:
    """A number, and one of a range, is as if the list did not name it; other lists still do."""
    empty = np.zeros(0, np.uint64)
    span = np.array([[CALLER - 10, CALLER + 10]], np.uint64)
    reports = CallingList("reports", 1, "block", np.array([CALLER], np.uint64), span)
    write_calling(
        tmp_path, [reports, CallingList("dno", 1, "dno", np.array([CALLER], np.uint64), empty)]
    )
    save_exceptions(tmp_path, {CALLER: frozenset({"reports"}), CALLER + 1: frozenset({"reports"})})
    lists = CallingLists.load(tmp_path)
    side = CallingSide(lists, exceptions=load_exceptions(tmp_path))
    assert [side.flags(CALLER + n) for n in range(3)] == [DNO, 0, BLOCK]
    assert [set(side.naming(CALLER + n)) for n in range(3)] == [{"dno"}, set(), {"reports"}]
    assert CallingSide(lists).flags(CALLER) == DNO | BLOCK
