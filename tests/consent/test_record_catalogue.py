"""The catalogue: generations of lists come into force and go out of it whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consent.keyring import Keyring
from consent.record import Generation, GenerationState, Record, RecordError

DNC = {"kind": "dnc", "region": "GB", "category": "all"}
FILE: dict[str, Any] = {
    "format": "numbers",
    "source": "list.txt",
    "sha256": "ab" * 32,
    "size_bytes": 100,
}
COUNTS: dict[str, Any] = {"loaded": 10, "duplicates": 2, "rejected": 1, "checksum": "c"}


FULL = {
    "sqlite": ["CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END"],
    "postgresql": ["ALTER TABLE audit ADD CONSTRAINT full_audit CHECK (actor = '') NOT VALID"],
}
"""What makes a database refuse every row of the audit from now on."""


@pytest.fixture
def instants() -> list[float]:
    return [1000.0]


@pytest.fixture
def record(record_url: str, tmp_path: Path, instants: list[float]) -> Iterator[Record]:
    record = Record.open(
        record_url,
        keyring=Keyring.load_or_create(tmp_path / "keyring.json"),
        clock=lambda: instants[-1],
    )
    yield record
    record.close()


def begin(record: Record, name: str = "tps", **words: Any) -> Generation:
    return record.catalogue.begin(name, **(DNC | FILE | {"actor": "ops"} | words))


def load(record: Record, name: str = "tps", **words: Any) -> Generation:
    return record.catalogue.activate(begin(record, name, **words), **COUNTS, actor="ops")


def states(record: Record, name: str = "tps") -> dict[int, str]:
    return {each.generation: each.state for each in record.catalogue.generations(name)}


def test_load(record: Record, instants: list[float]) -> None:
    """A list is in force from activation, with its counts; its age is since loading began."""
    began = begin(record)
    assert (began.generation, began.state, began.activated_at) == (1, "loading", None)
    (before,) = record.catalogue.lists()
    assert (before.name, before.kind, before.category) == ("tps", "dnc", "all")
    assert (before.active, before.age_s) == (None, None)

    instants.append(1060.5)
    active = record.catalogue.activate(began, **COUNTS, actor="nightly")
    assert active == Generation(
        list_id=before.id,
        list_name="tps",
        generation=1,
        state=GenerationState.ACTIVE,
        **FILE,
        **COUNTS,
        loaded_at=1000.0,
        activated_at=1060.5,
        retired_at=None,
        actor="ops",
    )
    instants.append(1100.0)
    (after,) = record.catalogue.lists()
    assert (after.active, after.age_s) == (active, 100.0)


def test_next_generation_replaces(record: Record) -> None:
    """The next generation replaces the one before when it is activated, not earlier."""
    load(record)
    second = begin(record)
    assert states(record) == {1: "active", 2: "loading"}
    record.catalogue.activate(second, **COUNTS, actor="ops")
    assert states(record) == {1: "replaced", 2: "active"}


def test_failed_changes_nothing_in_force(record: Record) -> None:
    """A generation given up leaves the one in force, and cannot be activated any more."""
    load(record)
    second = begin(record)
    assert record.catalogue.fail(second, reason="truncated", actor="ops").state == "failed"
    with pytest.raises(RecordError, match="generation 2 of list 'tps' is failed, expected loading"):
        record.catalogue.activate(second, **COUNTS, actor="ops")
    assert states(record) == {1: "active", 2: "failed"}


def test_loader_that_died(record: Record) -> None:
    """A load begun anew gives up the one that never ended, whose loader is refused if it lives."""
    first, second = begin(record), begin(record)
    assert states(record) == {1: "failed", 2: "loading"}
    with pytest.raises(RecordError, match="a later load has taken its place"):
        record.catalogue.activate(first, **COUNTS, actor="ops")
    record.catalogue.activate(second, **COUNTS, actor="ops")
    assert states(record) == {1: "failed", 2: "active"}


def test_rollback(record: Record) -> None:
    """Rollback goes back generation by generation, over failed ones; a load then goes on."""
    for _ in range(3):
        load(record)
    record.catalogue.fail(begin(record), reason="test", actor="ops")
    assert record.catalogue.rollback("tps", actor="ops").generation == 2
    assert states(record) == {1: "replaced", 2: "active", 3: "rolled_back", 4: "failed"}
    back = record.catalogue.rollback("tps", actor="ops")
    assert (back.generation, back.state, back.retired_at) == (1, "active", None)
    with pytest.raises(RecordError, match="list 'tps' has no earlier generation"):
        record.catalogue.rollback("tps", actor="ops")
    assert states(record) == {1: "active", 2: "rolled_back", 3: "rolled_back", 4: "failed"}
    assert load(record).generation == 5
    assert record.catalogue.rollback("tps", actor="ops").generation == 1


def test_lists_do_not_mix(record: Record) -> None:
    """Each list has generations of its own, and lists come by name."""
    load(record)
    load(record, "spam", kind="block", category="")
    load(record, "spam", kind="block", category="")
    record.catalogue.rollback("spam", actor="ops")
    assert states(record) == {1: "active"}
    assert states(record, "spam") == {1: "active", 2: "rolled_back"}
    assert [(each.name, each.kind) for each in record.catalogue.lists()] == [
        ("spam", "block"),
        ("tps", "dnc"),
    ]


@pytest.mark.parametrize(
    ("words", "field", "message"),
    [
        ({"kind": "blok"}, "kind", "kind 'blok' is none, the nearest is 'block'"),
        ({"region": "gb"}, "region", "two capital letters"),
        ({"category": "loan"}, "category", "category 'loan' is none, the nearest is 'loans'"),
        ({"category": ""}, "category", "category '' is none"),
        ({"kind": "block"}, "category", "a list of kind block has no category, given 'all'"),
        ({"sha256": "AB" * 32}, "sha256", "64 hexadecimal"),
        ({"name": "T P S"}, "name", "list name 'T P S'"),
        ({"name": "441632960001"}, "name", "with a letter"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_refused(record: Record, words: dict[str, str], field: str, message: str) -> None:
    """Words that are none are refused by name, with the nearest that is one."""
    with pytest.raises(RecordError, match=message) as refused:
        begin(record, **words)
    assert refused.value.field == field
    assert record.catalogue.lists() == []


def test_description_is_kept(record: Record) -> None:
    """A list in force keeps kind, region and category; one that never was may be described anew."""
    begin(record, region="FR")
    load(record)
    with pytest.raises(RecordError, match="list 'tps' has region 'GB', not 'FR'"):
        begin(record, region="FR")
    assert states(record) == {1: "failed", 2: "active"}


def test_unknown_list(record: Record) -> None:
    """An unknown list is answered with the nearest known."""
    with pytest.raises(RecordError, match="no list is named 'tpss', there are none"):
        record.catalogue.generations("tpss")
    load(record)
    with pytest.raises(RecordError, match="no list is named 'tpss', the nearest is 'tps'"):
        record.catalogue.rollback("tpss", actor="ops")


def test_revision_rises(record: Record) -> None:
    """Every change that workers must take in raises the revision; refused ones and reads do not."""
    seen = [record.revision()]

    def rose() -> bool:
        seen.append(record.revision())
        return seen[-1] > seen[-2]

    load(record)
    assert rose()
    load(record)
    assert rose()
    record.catalogue.rollback("tps", actor="ops")
    assert rose()
    record.entities.put("bank", title="Bank", categories=["banking"], actor="ops")
    assert rose()
    record.catalogue.lists()
    with pytest.raises(RecordError):
        record.catalogue.rollback("tps", actor="ops")
    assert not rose()


def test_audited(record: Record) -> None:
    """What was done to a list is in the audit, with who did it; what was refused is not."""
    load(record)
    record.catalogue.fail(begin(record), reason="truncated", actor="ann")
    load(record)
    record.catalogue.rollback("tps", actor="bob")
    with pytest.raises(RecordError):
        record.catalogue.rollback("tps", actor="eve")
    entries = [(entry.action, entry.actor, entry.subject) for entry in record.audit.latest()]
    assert entries == [
        ("list.rollback", "bob", "tps"),
        ("list.activate", "ops", "tps"),
        ("list.fail", "ann", "tps"),
        ("list.activate", "ops", "tps"),
    ]
    assert record.audit.latest(1)[0].detail == {"generation": 1, "left": 3}


def test_all_or_nothing(record: Record) -> None:
    """Where the audit cannot be written the list does not change either."""
    load(record)
    second = begin(record)
    with record._database.write() as connection:
        for statement in FULL[connection.dialect.name]:
            connection.exec_driver_sql(statement)
    revision = record.revision()
    with pytest.raises(RecordError):
        record.catalogue.activate(second, **COUNTS, actor="ops")
    assert states(record) == {1: "active", 2: "loading"}
    assert record.revision() == revision
