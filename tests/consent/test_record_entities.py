"""The registry of entities: ids for good, one owner for each calling number."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consent.entity import Entity, EntityStatus
from consent.keyring import Keyring
from consent.record import Record, RecordError

BASE = 441632960000


@pytest.fixture
def record(record_url: str, tmp_path: Path) -> Iterator[Record]:
    record = Record.open(record_url, keyring=Keyring.load_or_create(tmp_path / "keyring.json"))
    yield record
    record.close()


def put(record: Record, name: str = "bank", **words: Any) -> Entity:
    defaults: dict[str, Any] = {
        "title": "A bank",
        "categories": ["loans", "banking"],
        "actor": "ops",
    }
    return record.entities.put(name, **(defaults | words))


def test_kept(record: Record) -> None:
    """An entity comes back as it was put, its categories and numbers sorted."""
    made = put(record, numbers=[BASE + 9, BASE + 1], ranges=[(BASE + 20, BASE + 29)])
    assert made == Entity(
        id=1,
        name="bank",
        title="A bank",
        categories=("banking", "loans"),
        numbers=(BASE + 1, BASE + 9),
        ranges=((BASE + 20, BASE + 29),),
        status=EntityStatus.ACTIVE,
    )
    assert record.entities.all() == [made]


def test_replaced_whole(record: Record) -> None:
    """Putting an entity again replaces all but its id, and frees the numbers it no longer has."""
    put(record, numbers=[BASE, BASE + 1])
    again = put(record, title="B", categories=["loans"], numbers=[BASE + 1], ranges=[(5, 9)])
    assert (again.id, again.title, again.numbers) == (1, "B", (BASE + 1,))
    assert record.entities.all() == [again]
    other = put(record, "other", numbers=[BASE])
    assert other.id == 2
    assert record.entities.all() == [again, other]


def test_suspended(record: Record) -> None:
    """A suspended entity is not among the active, and keeps its numbers."""
    put(record, numbers=[BASE])
    suspended = put(record, numbers=[BASE], status="suspended")
    assert record.entities.all() == []
    assert record.entities.all(status=None) == [suspended]
    with pytest.raises(RecordError, match="belongs to entity 'bank'"):
        put(record, "other", numbers=[BASE])


OWNED: dict[str, Any] = {
    "numbers": [BASE + 5],
    "ranges": [(BASE + 10, BASE + 19), (BASE + 40, BASE + 49)],
}


@pytest.mark.parametrize(
    ("words", "owned"),
    [
        ({"numbers": [BASE + 5]}, True),
        ({"numbers": [BASE + 10]}, True),
        ({"numbers": [BASE + 19]}, True),
        ({"numbers": [BASE + 1, BASE + 45]}, True),
        ({"ranges": [(BASE, BASE + 99)]}, True),
        ({"ranges": [(BASE + 19, BASE + 20)]}, True),
        ({"ranges": [(BASE + 9, BASE + 10)]}, True),
        ({"ranges": [(BASE + 12, BASE + 13)]}, True),
        ({"numbers": [BASE + 4, BASE + 6, BASE + 9, BASE + 20]}, False),
        ({"ranges": [(BASE + 20, BASE + 39)]}, False),
        ({"ranges": [(1, BASE + 4), (BASE + 50, 2**63 - 1)]}, False),
    ],
    ids=[
        "number",
        "first of range",
        "last of range",
        "second of two",
        "around all",
        "over the end",
        "over the begin",
        "inside",
        "numbers between",
        "range between",
        "all the rest",
    ],
)
def test_one_owner(record: Record, words: dict[str, Any], owned: bool) -> None:
    """A number or range that touches another entity's is refused, and nothing of it kept."""
    owner = put(record, **OWNED)
    if not owned:
        other = put(record, "other", **words)
        assert record.entities.all() == [owner, other]
        return
    with pytest.raises(
        RecordError, match=r"entity 'other': .* belongs to entity 'bank'"
    ) as refused:
        put(record, "other", **words)
    assert str(BASE)[:9] not in str(refused.value)
    assert record.entities.all(status=None) == [owner]


@pytest.mark.parametrize(
    ("words", "field", "message"),
    [
        ({"name": "A Bank"}, "name", "entity name 'A Bank'"),
        ({"categories": ["loan"]}, "categories", "'loan' is none, the nearest is 'loans'"),
        ({"categories": ["all"]}, "categories", "'all' is none"),
        ({"status": "gone"}, "status", "'gone' is none, expected one of active, suspended"),
        ({"numbers": [BASE, 0]}, "numbers[1]", "is no number"),
        ({"numbers": [2**63]}, "numbers[0]", "is no number"),
        ({"ranges": [(BASE + 1, BASE)]}, "ranges[0]", "the first not above the last"),
        ({"ranges": [(5, 9), (9, 12)]}, "ranges[1]", r"ranges\[1\] overlaps ranges\[0\]"),
        ({"numbers": [7], "ranges": [(5, 9)]}, "numbers[0]", r"numbers\[0\] overlaps ranges"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refused(record: Record, words: dict[str, Any], field: str, message: str) -> None:
    """What is no entity is refused by its field."""
    with pytest.raises(RecordError, match=message) as refused:
        put(record, **({"name": "bank"} | words))
    assert refused.value.field == field
    assert record.entities.all(status=None) == []


def test_audited(record: Record) -> None:
    """Each change of an entity is in the audit, without its numbers."""
    put(record, numbers=[BASE])
    (entry,) = record.audit.latest()
    assert (entry.action, entry.subject, entry.actor) == ("entity.put", "bank", "ops")
    assert entry.detail == {
        "id": 1,
        "categories": ["banking", "loans"],
        "status": "active",
        "numbers": 1,
    }
