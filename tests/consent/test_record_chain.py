"""The chain finds what was altered, taken out, moved, cut or written anew; erasing breaks none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.running import wait_for

from consent.event import Event, EventKind
from consent.keyring import Keyring
from consent.record import Checkpoint, Record, RecordError
from consent.record.chain import Entry, entry_hash, genesis
from consent.record.indexes import SILENT_SECONDS
from consent.record.schema import event as table
from consent.signing import SigningError, SigningKey, TrustedKeys

CALLED = 447700900123
AT = 1_790_000_000.25


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.load_or_create(tmp_path / "keyring.json")


KEY = SigningKey(Ed25519PrivateKey.generate())


@pytest.fixture
def signer(tmp_path: Path) -> SigningKey:
    return SigningKey.create(tmp_path / "ledger.key")


@pytest.fixture
def record(record_url: str, keyring: Keyring, signer: SigningKey) -> Iterator[Record]:
    record = Record.open(record_url, keyring=keyring, signer=signer, clock=lambda: AT)
    for n in range(1, 4):
        record.entities.put(f"bank-{n}", title="Bank", categories=["banking"], actor="test")
    yield record
    record.close()


def event(kind: str, body: dict[str, Any], *, called: int = CALLED, at: float = AT) -> Event:
    return Event(0, at, EventKind(kind), called, body)


def append(record: Record, kind: str, body: dict[str, Any], *, called: int = CALLED) -> Event:
    (kept,) = record.ledger.append([event(kind, body, called=called)], actor="test")
    return kept


def fill(record: Record, count: int = 10) -> None:
    for n in range(count):
        append(record, "preferences.set", {"refused": ["loans"]}, called=CALLED + n % 4)


def flaw(record: Record, *checkpoints: Checkpoint) -> str:
    return str(record.ledger.first_flaw(checkpoints) or "")


def test_whole(record: Record) -> None:
    """A ledger that nobody touched holds, empty and with events; every look is told of."""
    assert flaw(record) == ""
    fill(record)
    told: list[int] = []
    assert record.ledger.first_flaw([], progress=told.append) is None
    assert sum(told) == 10


TAMPERED: dict[str, tuple[list[str], str]] = {
    "body": (["UPDATE event SET body = subject_id WHERE sequence = 4"], "event 4: altered"),
    "instant": (["UPDATE event SET at_us = at_us - 1 WHERE sequence = 4"], "event 4: altered"),
    "recorded": (["UPDATE event SET recorded_us = 1 WHERE sequence = 4"], "event 4: altered"),
    "kind": (["UPDATE event SET kind = 'all.refused' WHERE sequence = 1"], "event 1: altered"),
    "actor": (["UPDATE event SET actor = 'me' WHERE sequence = 10"], "event 10: altered"),
    "entity": (["UPDATE event SET entity_id = 1 WHERE sequence = 4"], "event 4: altered"),
    "subject": (
        [
            (
                "UPDATE event SET subject_id = (SELECT id FROM subject ORDER BY id DESC LIMIT 1) "
                "WHERE sequence IN (1, 2)"
            )
        ],
        "event ",
    ),
    "hash": (["UPDATE event SET hash = subject_id WHERE sequence = 4"], "event 4: altered"),
    "taken out": (
        ["DELETE FROM event WHERE sequence = 4"],
        "event 4: missing, the next one there is 5",
    ),
    "first taken out": (["DELETE FROM event WHERE sequence = 1"], "event 1: missing"),
    "swapped": (
        [
            "UPDATE event SET sequence = 99 WHERE sequence = 4",
            "UPDATE event SET sequence = 4 WHERE sequence = 7",
            "UPDATE event SET sequence = 7 WHERE sequence = 99",
        ],
        "event 4: out of order: it stands at 7",
    ),
    "closed up": (
        [
            "DELETE FROM event WHERE sequence = 4",
            "UPDATE event SET sequence = -sequence WHERE sequence > 4",
            "UPDATE event SET sequence = -sequence - 1 WHERE sequence < 0",
        ],
        "event 4: altered",
    ),
}


@pytest.mark.parametrize(("changes", "found"), TAMPERED.values(), ids=TAMPERED)
def test_tampered(record: Record, changes: list[str], found: str) -> None:
    """The first event that is not as it was is named, whatever was done to it."""
    fill(record)
    with record._database.write() as connection:
        for change in changes:
            connection.execute(sa.text(change))
    assert flaw(record).startswith(found)


def test_tail_cut(record: Record) -> None:
    """Only a checkpoint kept elsewhere knows of what came after the new end."""
    fill(record)
    kept = record.ledger.checkpoint()
    assert kept is not None
    with record._database.write() as connection:
        connection.execute(sa.text("DELETE FROM event WHERE sequence > 6"))
        connection.execute(sa.text("DELETE FROM checkpoint"))
    assert flaw(record) == "event 7: missing: the ledger was cut, it had 10 events"
    with record._database.write() as connection:
        connection.execute(sa.text("UPDATE counter SET value = 6 WHERE name = 'event'"))
    assert flaw(record) == ""
    assert flaw(record, kept).startswith("event 7: missing: the ledger was cut, since the checkp")


def test_rewritten(record: Record) -> None:
    """A chain made anew holds by itself, and not against a checkpoint kept elsewhere."""
    fill(record)
    kept = record.ledger.checkpoint()
    assert kept is not None
    rewrite(record, altered=4)
    assert flaw(record) == ""
    assert flaw(record, kept).startswith("event 10: the chain was written anew at or before it")


def rewrite(record: Record, *, altered: int) -> None:
    """What a forger does who can write to the database: alter an event, and all hashes after."""
    with record._database.write() as connection:
        ledger = connection.execute(
            sa.text("SELECT value FROM setting WHERE name = 'ledger'")
        ).scalar_one()
        head = genesis(bytes.fromhex(ledger))
        columns = [table.c[name] for name in Entry._fields]
        for row in connection.execute(sa.select(*columns).order_by(table.c.sequence)).all():
            entry = Entry(*row)
            if entry.sequence == altered:
                entry = entry._replace(actor="forger")
            head = entry_hash(head, entry)
            mine = table.c.sequence == entry.sequence
            connection.execute(sa.update(table).where(mine).values(actor=entry.actor, hash=head))


def test_another_ledger(record: Record, tmp_path: Path, keyring: Keyring) -> None:
    """A checkpoint of one ledger says nothing of another with the same events."""
    other = Record.open(
        str(tmp_path / "other.db"), keyring=keyring, signer=SigningKey.create(tmp_path / "k")
    )
    fill(other)
    kept = other.ledger.checkpoint()
    other.close()
    assert kept is not None
    fill(record)
    assert flaw(record, kept) == "event 10: a checkpoint is of another ledger"


@given(at=st.floats(1e9, 4e9))
def test_a_checkpoint_holds_as_it_was_signed(at: float) -> None:
    """Whatever the instant: what its line says is what the signature is of."""
    mark = Checkpoint.sign("ab" * 16, 7, b"head", at, KEY)
    assert Checkpoint.parse(mark.line()) == mark
    Checkpoint.parse(mark.line()).check(TrustedKeys.of([KEY]))


def test_checkpoints(record: Record, tmp_path: Path, signer: SigningKey) -> None:
    """One is made when the ledger went on, is read back as it was made, and holds for its key."""
    assert record.ledger.checkpoint() is None
    fill(record, 3)
    first = record.ledger.checkpoint()
    assert record.ledger.checkpoint() is None
    fill(record, 1)
    second = record.ledger.checkpoint()
    assert first is not None
    assert second is not None
    assert (first.sequence, second.sequence, first.at) == (3, 4, AT)
    assert record.ledger.checkpoints() == [first, second]
    assert record.ledger.checkpoints(3) == [second]
    assert [Checkpoint.parse(each.line()) for each in (first, second)] == [first, second]
    assert flaw(record, first, second) == ""

    (tmp_path / "trusted").write_text(signer.line())
    trusted = TrustedKeys.load(tmp_path / "trusted")
    first.check(trusted)
    SigningKey.create(tmp_path / "stranger")
    (tmp_path / "strange").write_text(SigningKey.load(tmp_path / "stranger").line())
    with pytest.raises(SigningError, match="no signature of a trusted key"):
        first.check(TrustedKeys.load(tmp_path / "strange"))
    for forged in (
        first.line().replace('"sequence": 3', '"sequence": 4'),
        first.line().replace(first.head.hex(), second.head.hex()),
        first.line().replace(":20", ":21", 1),
    ):
        assert forged != first.line()
        with pytest.raises(SigningError):
            Checkpoint.parse(forged).check(trusted)
    for broken in ("", "{}", "[]", first.line()[:-3], first.line().replace("=", "!")):
        with pytest.raises(ValueError, match="no checkpoint"):
            Checkpoint.parse(broken)


def test_signed_by_count(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever appends the last of so many events signs, without waiting for the time."""
    monkeypatch.setattr("consent.record.ledger.CHECKPOINT_EVENTS", 4)
    fill(record, 9)
    assert [each.sequence for each in record.ledger.checkpoints()] == [4, 8]


def test_migrated(tmp_path: Path, keyring: Keyring) -> None:
    """Events from before there was a chain are chained as they are."""
    path = tmp_path / "record.db"
    record = Record.open(str(path), keyring=keyring)
    fill(record, 5)
    with record._database.write() as connection:
        for statement in (
            "DROP INDEX ix_event_steps",
            "ALTER TABLE event DROP COLUMN hash",
            "ALTER TABLE event DROP COLUMN recorded_us",
            "DROP TABLE notice",
            "DROP TABLE timing",
            "DROP TABLE list_exception",
            "DROP TABLE number_stage",
            "DROP TABLE warning",
            "DROP TABLE complaint",
            "DROP TABLE appeal",
            "ALTER TABLE entity DROP COLUMN stages",
            "ALTER TABLE catalogue DROP COLUMN max_age_s",
            "DROP INDEX ix_audit_subject",
            "ALTER TABLE entity DROP COLUMN acts_for",
            "DROP INDEX ix_subject_erase_after",
            "ALTER TABLE subject DROP COLUMN erase_after",
            "DROP TABLE checkpoint",
            "DROP TABLE request",
            "DELETE FROM setting",
            "UPDATE alembic_version SET version_num = '0002'",
        ):
            connection.execute(sa.text(statement))
    record.close()
    record = Record.open(str(path), keyring=keyring)
    assert flaw(record) == ""
    fill(record, 2)
    assert len(list(record.ledger.events())) == 7
    assert flaw(record) == ""
    record.close()


GRANT = {"entity": 1, "categories": ["loans", "property"], "expires": int(AT) + 500}


def test_consent_changed(record: Record) -> None:
    """A renewal, a narrowing and an end say the whole of the consent as it then is."""
    append(record, "consent.granted", GRANT)
    renewed = append(record, "consent.renewed", {"entity": 1, "expires": int(AT) + 900})
    assert renewed.body["categories"] == ["loans", "property"]
    narrowed = append(record, "consent.narrowed", {"entity": 1, "withdrawn": ["loans"]})
    assert (narrowed.body["categories"], narrowed.body["expires"]) == (["property"], int(AT) + 900)
    ended = append(record, "consent.expired", {"entity": 1})
    assert (ended.body["categories"], ended.body["expires"]) == (["property"], int(AT))
    held = record.ledger.held(CALLED).consents[1]
    assert (held.sequence, held.state(AT + 1), held.at) == (4, "expired", AT)


def test_narrowed_from_all(record: Record) -> None:
    """Consent to every category, without one, is consent to each of the others."""
    append(record, "consent.granted", {"entity": 1, "categories": ["all"]})
    narrowed = append(record, "consent.narrowed", {"entity": 1, "withdrawn": ["loans"]})
    assert "all" not in narrowed.body["categories"]
    assert "loans" not in narrowed.body["categories"]
    assert "visas" in narrowed.body["categories"]


@pytest.mark.parametrize(
    ("before", "kind", "body", "message"),
    [
        ([], "consent.renewed", {"entity": 1, "expires": int(AT) + 9}, "body.entity has no consen"),
        ([], "consent.narrowed", {"entity": 1, "withdrawn": ["loans"]}, "body.entity has no cons"),
        (["consent.revoked"], "consent.expired", {"entity": 1}, "body.entity has no consent"),
        (
            [],
            "consent.granted",
            {**GRANT, "evidence": {"basis": "explicitly"}},
            "evidence has a basis that is 'explicitly', the nearest is 'explicit'",
        ),
        (
            [],
            "consent.granted",
            {**GRANT, "evidence": {"base": "explicit"}},
            "body.evidence has 'base': the nearest is 'basis'",
        ),
        ([], "consent.granted", {**GRANT, "evidence": {"sha256": "AB"}}, "SHA-256 of 64"),
        ([], "consent.granted", {**GRANT, "evidence": {"purpose": "a\nb"}}, "purpose that is no t"),
    ],
    ids=["renewed", "narrowed", "expired", "basis", "field", "hash", "control character"],
)
def test_change_refused(
    record: Record, before: list[str], kind: str, body: dict[str, Any], message: str
) -> None:
    """A change of what is not held, and evidence that is none, are refused and not kept."""
    for each in before:
        append(record, each, {"entity": 1})
    with pytest.raises(RecordError, match=message):
        append(record, kind, body)
    assert record.ledger.last_sequence() == len(before)


def test_narrowed_to_nothing(record: Record) -> None:
    """What would be left of nothing is a revocation, and has to be said so."""
    append(record, "consent.granted", GRANT)
    with pytest.raises(RecordError, match="leaves nothing: revoke the consent"):
        append(record, "consent.narrowed", {"entity": 1, "withdrawn": ["loans", "property"]})


def test_all_refused(record: Record) -> None:
    """It voids every consent, whatever the preferences were, and keeps zone and prefixes."""
    append(record, "consent.granted", GRANT)
    append(record, "consent.granted", {**GRANT, "entity": 2})
    wish = {"refused": ["loans"], "bands": [3], "zone": "Europe/Paris"}
    append(record, "preferences.set", {**wish, "prefixes": [["441", "allow"]]})
    said = append(record, "all.refused", {"evidence": {"channel": "sms"}})
    assert said.body["refused"] == ["all"]
    assert (said.body["bands"], said.body["zone"]) == ([], "Europe/Paris")
    held = record.ledger.held(CALLED)
    assert [each.state(AT) for each in held.consents.values()] == ["revoked", "revoked"]
    assert held.preferences["prefixes"] == [["441", "allow"]]
    again = append(record, "consent.granted", GRANT)
    assert record.ledger.held(CALLED).consents[1].state(again.at) == "granted"


def test_evidence_is_kept(record: Record) -> None:
    """Every field of the consent record comes back as it was given."""
    evidence = {
        "jurisdiction": "GB", "basis": "explicit", "brand": "Bank", "purpose": "loans by phone",
        "channel": "web", "captured": "account page, 203.0.113.7", "text_sha256": "ab" * 32,
        "text_locale": "zh-Hans-CN", "text_version": "3", "uri": "https://e.example/1",
        "sha256": "cd" * 32, "author": "guardian", "verification": "v-1", "notice_version": "n2",
        "confirmed": int(AT), "retain_until": int(AT) + 5, "legal_hold": True, "source": "crm",
    }  # fmt: skip
    append(record, "consent.granted", {**GRANT, "evidence": evidence})
    assert record.ledger.held(CALLED).consents[1].evidence == evidence


def test_a_new_subscription(record: Record) -> None:
    """Who has the number now has nothing of who had it, and another id."""
    append(record, "consent.granted", GRANT)
    before = record.ledger.entries_of(CALLED)[0][1].subject_id
    passed_on = append(record, "subscription.reassigned", {"since": int(AT) - 9})
    append(record, "consent.granted", {**GRANT, "entity": 2})
    assert passed_on.body == {"since": int(AT) - 9, "before": before.hex()}
    assert list(record.ledger.held(CALLED).consents) == [2]
    entries = [entry for _, entry in record.ledger.entries_of(CALLED)]
    assert [entry.sequence for entry in entries] == [2, 3]
    assert before not in {entry.subject_id for entry in entries}
    assert [each.sequence for each in record.ledger.events()] == [1, 2, 3]


def test_passed_on_within_an_append(record: Record) -> None:
    """A number that changes hands twice among events that are appended together."""
    made = [
        event("consent.granted", GRANT),
        event("subscription.reassigned", {}),
        event("consent.granted", {**GRANT, "entity": 2}),
        event("subscription.reassigned", {}),
        event("personal.set", {"calling": 1, "action": "block"}),
    ]
    record.ledger.append(made, actor="test")
    held = record.ledger.held(CALLED)
    assert (held.consents, held.personal) == ({}, {1: "block"})
    assert [each.sequence for each in record.ledger.events_of(CALLED)] == [4, 5]
    assert flaw(record) == ""


def test_erased(record: Record, keyring: Keyring) -> None:
    """Once the index has followed, nothing says any more what it was or whose; the chain holds."""
    append(record, "consent.granted", GRANT)
    append(record, "preferences.set", {"refused": ["all"]}, called=CALLED + 1)
    erased = append(record, "subscription.erased", {})
    assert record.ledger.held(CALLED).sequence == 0
    assert record.ledger.finish_erasures(erased.sequence - 1) == 0
    assert record.ledger.erasures_waiting() == 1
    assert [each.sequence for each in record.ledger.events()] == [1, 2, 3]
    later = append(record, "consent.granted", {**GRANT, "entity": 2})
    assert record.ledger.finish_erasures(later.sequence) == 1
    assert record.ledger.erasures_waiting() == 0
    assert [each.sequence for each in record.ledger.events()] == [2, 4]
    assert [each.sequence for each in record.ledger.events_of_entity(1)] == []
    assert list(record.ledger.held(CALLED).consents) == [2]
    assert flaw(record) == ""
    with record._database.read() as connection:
        rows = connection.execute(
            sa.text("SELECT sealed, token FROM subject WHERE token_version = 0")
        ).all()
    assert [bytes(row.sealed) for row in rows] == [b""]
    assert bytes(rows[0].token) not in keyring.digests(CALLED)


@pytest.mark.parametrize(
    "changing",
    [
        "UPDATE event SET body = CAST(x'00ff' AS TEXT) WHERE sequence = 4",
        "UPDATE event SET hash = CAST(x'ff' AS TEXT) WHERE sequence = 4",
        "UPDATE event SET at_us = 'then' WHERE sequence = 4",
    ],
)
def test_what_is_of_another_type_was_altered(
    tmp_path: Path, keyring: Keyring, changing: str
) -> None:
    """SQLite lets whoever has the file put anything into any column."""
    record = Record.open(str(tmp_path / "r.db"), keyring=keyring, clock=lambda: AT)
    for n in range(1, 4):
        record.entities.put(f"bank-{n}", title="Bank", categories=["banking"], actor="test")
    fill(record)
    with record._database.write() as connection:
        connection.execute(sa.text(changing))
    assert flaw(record) == "event 4: altered"
    record.close()


def test_an_index_in_the_making_keeps_keys_while_it_lives(
    record_url: str, keyring: Keyring
) -> None:
    """It may have read what an erased subscriber had said. One whose maker says that it goes on
    keeps them for as long as it takes; one of which nothing is heard is given up within minutes."""
    now = [AT]
    record = Record.open(record_url, keyring=keyring, clock=lambda: now[0])
    record.entities.put("bank", title="Bank", categories=["banking"], actor="test")
    append(record, "consent.granted", GRANT)
    erased = append(record, "subscription.erased", {}).sequence

    def finished(seconds: float) -> int:
        now[0] += seconds
        return record.ledger.finish_erasures(erased)

    with record.indexes.making("slow", sign_seconds=0.005):
        for _ in range(20):
            before = _building(record)
            assert finished(SILENT_SECONDS - 1) == 0
            wait_for(lambda said=before: _building(record) != said, seconds=10, what="a sign")
        record.indexes.complete("slow")
    record.indexes.begin("killed")
    assert finished(SILENT_SECONDS - 1) == 0
    record.indexes.sign("killed")
    assert finished(SILENT_SECONDS - 1) == 0
    assert finished(1) == 1
    with pytest.raises(RecordError, match="index killed was given up"):
        record.indexes.sign("killed")
    with pytest.raises(RecordError, match="index killed was given up"):
        record.indexes.complete("killed")
    record.close()


def _building(record: Record) -> str:
    """What the record says of the index that is being made."""
    with record._database.read() as connection:
        query = sa.text("SELECT value FROM setting WHERE name = 'index_building'")
        return str(connection.execute(query).scalar_one())


def test_token_keys_rotate(
    record: Record, record_url: str, tmp_path: Path, keyring: Keyring
) -> None:
    """Only the table of subjects is written: the chain and every event stay as they were, and a
    process with the old keys takes in the new ones before it writes."""
    fill(record)
    append(record, "subscription.reassigned", {})
    with record._database.read() as connection:
        before = connection.execute(sa.select(table)).all()
    turned = Keyring.rotate(tmp_path / "keyring.json", "token")
    turned = Keyring.rotate(tmp_path / "keyring.json", "data")
    other = Record.open(record_url, keyring=turned)
    told: list[int] = []
    assert other.ledger.rotate(progress=told.append) == sum(told) == 5
    with record._database.read() as connection:
        assert connection.execute(sa.select(table)).all() == before
        versions = sa.text("SELECT DISTINCT token_version FROM subject ORDER BY 1")
        assert connection.execute(versions).scalars().all() == [0, 2]
    assert keyring.version("token") == 1
    kept = append(record, "preferences.set", {"refused": ["visas"]}, called=CALLED + 1)
    assert keyring.version("token") == 2
    assert other.ledger.events_of(CALLED + 1)[-1] == kept
    assert len(other.ledger.events_of(CALLED + 1)) == 4
    assert flaw(other) == ""
    other.close()


def test_a_node_without_the_new_keys(record: Record, record_url: str, tmp_path: Path) -> None:
    """It is refused, since it would take a known subscriber for a new one."""
    fill(record, 1)
    behind = tmp_path / "behind.json"
    behind.write_bytes((tmp_path / "keyring.json").read_bytes())
    behind.chmod(0o600)
    turned = Record.open(record_url, keyring=Keyring.rotate(tmp_path / "keyring.json", "token"))
    turned.ledger.rotate()
    turned.close()
    node = Record.open(record_url, keyring=Keyring.load_or_create(behind))
    with pytest.raises(RecordError, match="token key version 2 and the key file has none above 1"):
        append(node, "preferences.set", {"refused": ["loans"]})
    node.close()
