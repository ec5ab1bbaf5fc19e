"""The ledger keeps what it was given, whole, in order, sealed, and refuses what is none."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.category import BIT
from consent.event import Event, EventKind
from consent.held import Held
from consent.keyring import Keyring
from consent.record import Record, RecordError

CALLED = 447700900123
CALLING = 441632960456
AT = 1_790_000_000.25


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.load_or_create(tmp_path / "keyring.json")


@pytest.fixture
def record(record_url: str, keyring: Keyring) -> Iterator[Record]:
    record = Record.open(record_url, keyring=keyring)
    for n in range(1, 4):
        record.entities.put(f"bank-{n}", title="Bank", categories=["banking"], actor="test")
    yield record
    record.close()


def event(kind: str, body: dict[str, Any], *, called: int = CALLED, at: float = AT) -> Event:
    return Event(0, at, EventKind(kind), called, body)


def granted(entity: int = 1, *, called: int = CALLED) -> Event:
    return event("consent.granted", {"entity": entity, "categories": ["loans"]}, called=called)


def personal(calling: int, action: str = "block", *, called: int = CALLED) -> Event:
    return event("personal.set", {"calling": calling, "action": action}, called=called)


COMPLETE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "consent.granted",
        {"entity": 1, "categories": ["property", "loans", "loans"]},
        {"entity": 1, "categories": ["loans", "property"], "expires": 0},
    ),
    (
        "consent.granted",
        {"entity": 2, "categories": ["all"], "expires": int(AT) + 1},
        {"entity": 2, "categories": ["all"], "expires": int(AT) + 1},
    ),
    ("consent.revoked", {"entity": 3}, {"entity": 3}),
    (
        "preferences.set",
        {},
        {
            "refused": [],
            "accepted": [],
            "bands": [],
            "days": [],
            "modes": [],
            "zone": "",
            "prefixes": [],
        },
    ),
    (
        "preferences.set",
        {
            "refused": ["all"],
            "accepted": ["health"],
            "bands": [21, 0, 23],
            "days": [7, 6],
            "modes": ["prerecorded"],
            "zone": "Europe/London",
            "prefixes": [["441632", "allow"], ["400", "block"], ["400", "block"]],
        },
        {
            "refused": ["all"],
            "accepted": ["health"],
            "bands": [0, 21, 23],
            "days": [6, 7],
            "modes": ["prerecorded"],
            "zone": "Europe/London",
            "prefixes": [["441632", "allow"], ["400", "block"]],
        },
    ),
    ("preferences.set", {"zone": None, "bands": None}, {"zone": "", "bands": []}),
    (
        "personal.set",
        {"calling": CALLING, "action": "allow"},
        {"calling": CALLING, "action": "allow"},
    ),
    (
        "personal.set",
        {"calling": 2**63 - 1, "action": "block"},
        {"calling": 2**63 - 1, "action": "block"},
    ),
    ("personal.cleared", {"calling": CALLING}, {"calling": CALLING}),
    ("subscription.reassigned", {}, {}),
]


@pytest.mark.parametrize(("kind", "body", "complete"), COMPLETE, ids=[row[0] for row in COMPLETE])
def test_kept(record: Record, kind: str, body: dict[str, Any], complete: dict[str, Any]) -> None:
    """An event comes back with its sequence and every field of its body."""
    (kept,) = record.ledger.append([event(kind, body)], actor="test")
    assert (kept.sequence, kept.at, kept.kind, kept.called) == (1, AT, kind, CALLED)
    assert complete.items() <= kept.body.items()
    assert list(record.ledger.events()) == [kept]
    assert record.ledger.events_of(CALLED) == [kept]


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("no entity", "consent.granted", {"categories": ["loans"]}, "body.entity is absent"),
    ("unknown entity", "consent.revoked", {"entity": 9}, "body.entity is 9, which is no regis"),
    ("entity zero", "consent.revoked", {"entity": 0}, "body.entity is no integer from 1"),
    ("entity too wide", "consent.revoked", {"entity": 2**32}, "body.entity is no integer"),
    ("entity true", "consent.revoked", {"entity": True}, "body.entity is no integer"),
    ("entity text", "consent.revoked", {"entity": "1"}, "body.entity is no integer"),
    ("no category", "consent.granted", {"entity": 1, "categories": []}, "body.categories is no"),
    (
        "misspelt category",
        "consent.granted",
        {"entity": 1, "categories": ["loan"]},
        "body.categories is 'loan', the nearest is 'loans'",
    ),
    (
        "category no list",
        "consent.granted",
        {"entity": 1, "categories": "loans"},
        "body.categories is no list",
    ),
    (
        "expired",
        "consent.granted",
        {"entity": 1, "categories": ["loans"], "expires": int(AT)},
        "body.expires is not after",
    ),
    (
        "expiry beyond 32 bits",
        "consent.granted",
        {"entity": 1, "categories": ["loans"], "expires": 2**32},
        "body.expires is no integer",
    ),
    ("unknown field", "preferences.set", {"band": [1]}, "body has 'band', no field.*'bands'"),
    ("hour 24", "preferences.set", {"bands": [24]}, "body.bands is no integer from 0 to 23"),
    ("day 8", "preferences.set", {"days": [8]}, "body.days is no integer from 0 to 7"),
    ("mode", "preferences.set", {"modes": ["fax"]}, "body.modes is 'fax', expected one of"),
    ("zone", "preferences.set", {"zone": "Europe/Londn"}, "the nearest is 'Europe/London'"),
    (
        "refused and accepted",
        "preferences.set",
        {"refused": ["loans"], "accepted": ["loans"]},
        "body.accepted has 'loans', which is refused as well",
    ),
    (
        "four prefixes",
        "preferences.set",
        {"prefixes": [[f"44{n}00", "block"] for n in range(4)]},
        "body.prefixes is no list of at most 3",
    ),
    ("short prefix", "preferences.set", {"prefixes": [["44", "block"]]}, "not 3 to 15 digits"),
    ("no digits", "preferences.set", {"prefixes": [["+441", "block"]]}, "not 3 to 15 digits"),
    ("other digits", "preferences.set", {"prefixes": [["٤٤١٦", "block"]]}, "not 3 to 15 digits"),
    (
        "prefix both ways",
        "preferences.set",
        {"prefixes": [["4416", "block"], ["4416", "allow"]]},
        "both allows and blocks",
    ),
    ("prefix alone", "preferences.set", {"prefixes": ["4416"]}, "no pair of digits and action"),
    ("action", "personal.set", {"calling": CALLING, "action": "deny"}, "body.action is 'deny'"),
    ("calling text", "personal.cleared", {"calling": "x"}, "body.calling is no number"),
    ("calling negative", "personal.cleared", {"calling": -1}, "body.calling is no number"),
    ("calling too wide", "personal.cleared", {"calling": 2**63}, "body.calling is no number"),
    ("reassigned says more", "subscription.reassigned", {"to": 1}, "body has 'to', no field"),
]


@pytest.mark.parametrize(
    ("kind", "body", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(record: Record, kind: str, body: dict[str, Any], message: str) -> None:
    """A body that is none is refused by event and field, and what came with it is not kept."""
    with pytest.raises(RecordError, match=rf"^events\[1\]\.{message}|^events\[1\]\..*{message}"):
        record.ledger.append([granted(), event(kind, body), granted()], actor="test")
    assert record.ledger.last_sequence() == 0
    assert list(record.ledger.events()) == []


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (event("consent.revoked", {"entity": 1}, called=0), "called"),
        (event("consent.revoked", {"entity": 1}, called=10**15), "called"),
        (event("consent.revoked", {"entity": 1}, at=0), "at"),
        (event("consent.revoked", {"entity": 1}, at=float("nan")), "at"),
        (Event(0, AT, "consent.grant", CALLED, {}), "kind"),  # type: ignore[arg-type]
    ],
    ids=["no number", "16 digits", "no instant", "NaN", "no kind"],
)
def test_refused_outside_the_body(record: Record, made: Event, field: str) -> None:
    """Whom, when and what are checked like the body, and the error names the field."""
    with pytest.raises(RecordError) as refused:
        record.ledger.append([made], actor="test")
    assert refused.value.field == field


def test_refusal_quotes_no_number(record: Record) -> None:
    """Messages about numbers in the wrong place do not repeat them."""
    number = str(CALLING)
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("personal.set", {"calling": number, "action": "block"}),
        ("personal.set", {"calling": 1, "action": number}),
        ("personal.set", {number: "block"}),
        ("preferences.set", {"prefixes": [[number * 2, "block"]]}),
        ("preferences.set", {"bands": [CALLING]}),
        ("preferences.set", {"zone": number}),
    ]
    for kind, body in bodies:
        with pytest.raises(RecordError) as refused:
            record.ledger.append([event(kind, body)], actor="test")
        assert number not in str(refused.value)


def test_personal_lists_are_bounded(record: Record) -> None:
    """A subscriber has at most 1,000 entries in each personal list: the next is refused until
    one goes, an entry set again takes no room, and a reassigned number begins anew."""
    ledger = record.ledger
    ledger.append([personal(CALLING + n) for n in range(1000)], actor="test")
    with pytest.raises(RecordError, match=r"events\[1\]: .* block list is full, .* 1000"):
        ledger.append([personal(CALLING), personal(CALLING + 1000)], actor="test")
    ledger.append([personal(CALLING + 1000, "allow")], actor="test")
    ledger.append([personal(CALLING + 1000, called=CALLED + 1)], actor="test")
    cleared = event("personal.cleared", {"calling": CALLING})
    ledger.append([cleared, personal(CALLING + 1000)], actor="test")
    with pytest.raises(RecordError, match="block list is full"):
        ledger.append([personal(CALLING)], actor="test")
    ledger.append([event("subscription.reassigned", {}), personal(CALLING)], actor="test")


def test_pages(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading gives each event beyond a sequence once, in order, whatever the size of pages."""
    monkeypatch.setattr("consent.record.ledger.PAGE", 3)
    kept = record.ledger.append([granted(called=CALLED + n % 4) for n in range(10)], actor="test")
    for after in range(12):
        for limit in (None, 0, 1, 2, 3, 4, 6, 20):
            expected = kept[after:] if limit is None else kept[after : after + limit]
            assert list(record.ledger.events(after, limit)) == expected
    assert record.ledger.events_of(CALLED + 1) == kept[1::4]
    assert record.ledger.events_of(CALLED + 9) == []


def test_many_subscribers_in_one_append(record: Record) -> None:
    """A batch larger than a statement's variables finds and makes its subjects."""
    numbers = [CALLED + n for n in range(1200)]
    first = record.ledger.append([granted(called=number) for number in numbers], actor="test")
    again = record.ledger.append([granted(2, called=number) for number in numbers], actor="test")
    assert [each.called for each in record.ledger.events()] == numbers + numbers
    assert record.ledger.events_of(numbers[-1]) == [first[-1], again[-1]]


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
def test_sealed_at_rest(record: Record, tmp_path: Path, keyring: Keyring) -> None:
    """No file of the record holds a subscriber's number, a personal entry or a prefix, as digits
    or as an integer, and the same event twice leaves different bytes."""
    prefix = "44163296"
    preferences = event("preferences.set", {"prefixes": [[prefix, "block"]], "refused": ["visas"]})
    record.ledger.append([personal(CALLING), personal(CALLING), preferences], actor="test")
    record.close()
    forms = [prefix.encode(), b"visas"]
    for number in (CALLED, CALLING):
        text = str(number)
        forms += [text.encode(), text[2:].encode(), text.encode("utf-16-le")]
        forms += [number.to_bytes(length) for length in (5, 6, 8)]
        forms += [number.to_bytes(length, "little") for length in (5, 6, 8)]
    for file in tmp_path.glob("record.db*"):
        content = file.read_bytes()
        assert not [form for form in forms if form in content]
    with sqlite3.connect(tmp_path / "record.db") as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM event")]
    connection.close()
    assert len(set(bodies)) == 3


def test_other_keys_open_nothing(record: Record, record_url: str, tmp_path: Path) -> None:
    """With another keyring events are refused by sequence, and a number finds no subject."""
    record.ledger.append([granted()], actor="test")
    stranger = Record.open(record_url, keyring=Keyring.load_or_create(tmp_path / "other.json"))
    with pytest.raises(RecordError, match="event 1 of the ledger: a sealed value does not open"):
        list(stranger.ledger.events())
    assert stranger.ledger.events_of(CALLED) == []
    stranger.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event SET body = (SELECT body FROM event WHERE sequence = 2) WHERE sequence = 1",
        "UPDATE event SET kind = 'personal.cleared' WHERE sequence = 1",
        "UPDATE event SET sequence = 9 WHERE sequence = 1",
        "UPDATE event SET subject_id = (SELECT subject_id FROM event WHERE sequence = 3)",
        "UPDATE subject SET sealed = (SELECT sealed FROM subject s WHERE s.id != subject.id)",
    ],
    ids=["body of another", "kind", "sequence", "subject", "subjects swapped"],
)
def test_moved_is_noticed(record: Record, change: str) -> None:
    """A body opens only in the event, and a subject only in the row, that it was sealed for."""
    record.ledger.append(
        [personal(CALLING), personal(CALLING + 1), personal(CALLING, called=CALLED + 1)],
        actor="test",
    )
    with record._database.write() as connection:
        connection.execute(sa.text(change))
    with pytest.raises(RecordError, match="does not open"):
        list(record.ledger.events())


def test_rotated_keys(record: Record, record_url: str, tmp_path: Path) -> None:
    """After rotation what was written is read, and a number stays one subject."""
    old = record.ledger.append([granted()], actor="test")
    for purpose in ("token", "data"):
        keyring = Keyring.rotate(tmp_path / "keyring.json", purpose)
    turned = Record.open(record_url, keyring=keyring)
    new = turned.ledger.append([granted(2), granted(called=CALLED + 1)], actor="test")
    assert turned.ledger.events_of(CALLED) == [*old, new[0]]
    assert list(turned.ledger.events()) == [*old, *new]
    turned.close()


bodies = st.one_of(
    st.builds(
        lambda entity, categories: (
            "consent.granted",
            {"entity": entity, "categories": categories},
        ),
        st.integers(1, 3),
        st.lists(st.sampled_from(sorted(BIT)), min_size=1),
    ),
    st.builds(
        lambda refused, bands, days: (
            "preferences.set",
            {"refused": refused, "bands": bands, "days": days},
        ),
        st.lists(st.sampled_from(sorted(BIT))),
        st.lists(st.integers(0, 23)),
        st.lists(st.integers(0, 7)),
    ),
    st.builds(
        lambda calling, action: ("personal.set", {"calling": calling, "action": action}),
        st.integers(1, 2**63 - 1),
        st.sampled_from(["allow", "block"]),
    ),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(
        st.lists(st.tuples(bodies, st.integers(1, 10**15 - 1)), max_size=4), max_size=3
    )
)
def test_ledger_law(
    record: Record, batches: list[list[tuple[tuple[str, dict[str, Any]], int]]]
) -> None:
    """What append gives is what a later read gives; sequences go on by one; a complete body is
    its own completion."""
    before = record.ledger.last_sequence()
    given = []
    for batch in batches:
        made = [event(kind, body, called=called) for (kind, body), called in batch]
        given += record.ledger.append(made, actor="test")
    assert list(record.ledger.events(before)) == given
    assert [each.sequence for each in given] == list(range(before + 1, before + len(given) + 1))
    assert record.ledger.last_sequence() == before + len(given)
    again = record.ledger.append(given, actor="test")
    assert [json.dumps(each.body) for each in again] == [json.dumps(each.body) for each in given]


def test_the_first_ledgers_had_no_evidence() -> None:
    """What was granted then is held as it was: an event is never written anew."""
    body = {"entity": 1, "categories": ["loans"], "expires": 0}
    held = Held.of([Event(1, 0.0, EventKind.CONSENT_GRANTED, 447700900123, body)])
    assert (held.consents[1].categories, held.consents[1].evidence) == (("loans",), {})


def test_steps_are_found_by_index(tmp_path: Path, keyring: Keyring) -> None:
    """They are looked for every ten seconds: the ledger, a nation's, is not read through. Of SQLite
    alone: of a few rows PostgreSQL reads the table whatever indexes there are."""
    record = Record.open(str(tmp_path / "record.db"), keyring=keyring)
    engine = record.ledger._database._engine
    plans: list[str] = []

    def explain(
        connection: sa.Connection, _cursor: Any, words: str, values: Any, _context: Any, _many: bool
    ) -> None:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        if words.startswith("SELECT event."):
            rows = driver.execute(f"EXPLAIN QUERY PLAN {words}", values)
            plans.append(" ".join(row[3] for row in rows))

    sa.event.listen(engine, "before_cursor_execute", explain)
    assert record.steps.all() == []
    assert len(plans) == 1
    assert "ix_event_steps" in plans[0], plans[0]
    record.close()
