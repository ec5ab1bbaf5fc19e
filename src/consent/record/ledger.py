"""The ledger of what subscribers decided: appended to, read in order, never changed.

Sequences rise by one without gaps. A subscriber is a random id with a data key of its own, under
which every body is sealed; the number itself stands only in `subject`, sealed likewise.
"""

import json
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, func, insert, select

from consent.event import Event, EventKind
from consent.keyring import KEY_BYTES, Keyring, KeyringError, seal, unseal
from consent.record.body import PERSONAL_LIMIT, check
from consent.record.database import Database, RecordError, current_value, next_value
from consent.record.instant import from_us, to_us
from consent.record.once import Once, RecordConflict, done_before, keep_done
from consent.record.schema import entity, event, subject

PAGE: Final = 1000
"""Rows of one read: short transactions, so that a long replay does not hold back the WAL."""

VARIABLES: Final = 500
"""Values in one `IN (...)`: a statement takes a limited number of them."""

ID_BYTES: Final = 16


class Ledger:
    """The events of every subscriber."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def append(
        self,
        events: Iterable[Event],
        *,
        actor: str,
        once: Once | None = None,
        unchanged: Mapping[int, int] | None = None,
    ) -> list[Event]:
        """Commits events together, and gives them with their sequences and complete bodies.

        The `sequence` of what is given is not looked at. A request that was carried out before,
        by its `once`, gives what it gave then. `unchanged` are numbers with the sequence of the
        newest event that their decision rests on, 0 for none. Raises RecordError, and commits
        none, where one is refused: see `consent.record.body`; where its entity is not registered;
        where a subscriber would have more personal entries than its lists hold; RecordConflict
        where a number has changed meanwhile, or the key of `once` was used for something else.
        """
        checked = [
            replace(
                each,
                at=from_us(to_us(each.at)),
                kind=EventKind(each.kind),
                body=body,
            )
            for n, each in enumerate(events)
            for body in [check(each, where=f"events[{n}]")]
        ]
        if not checked and once is None:
            return []
        with self._database.write() as connection:
            done = done_before(connection, once) if once else None
            if done is not None:
                first, last = done
                rows = connection.execute(_sealed().where(event.c.sequence.between(first, last)))
                return [self._event(row) for row in rows]
            self._expect_unchanged(connection, unchanged or {})
            last = next_value(connection, "event", len(checked)) if checked else 0
            if once:
                first = last - len(checked) + 1
                keep_done(connection, once, first, last, at_us=to_us(time.time()))
            if not checked:
                return []
            _expect_entities(connection, checked)
            subjects = self._subjects(connection, {each.called for each in checked})
            self._expect_room(connection, checked, subjects)
            first = last - len(checked) + 1
            numbered = [replace(each, sequence=n) for n, each in enumerate(checked, first)]
            connection.execute(
                insert(event),
                [_row(each, subjects[each.called], actor) for each in numbered],
            )
        return numbered

    def events(self, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The events beyond a sequence, in order, as they are when each page is read.

        Raises RecordError for an event that the keyring does not open.
        """
        while limit is None or limit > 0:
            page = PAGE if limit is None else min(PAGE, limit)
            query = _sealed().where(event.c.sequence > after).limit(page)
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                yield self._event(row)
            if len(rows) < page:
                return
            after = rows[-1].sequence
            limit = None if limit is None else limit - page

    def events_of(self, called: int) -> list[Event]:
        """Every event of one number, in order, those of earlier subscriptions with it too."""
        query = _sealed().where(subject.c.token.in_(self._keyring.digests(called)))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [self._event(row) for row in rows]

    def events_of_entity(self, entity_id: int, after: int = 0, limit: int = 100) -> list[Event]:
        """The events that name an entity beyond a sequence, in order, `limit` at most."""
        query = _sealed().where(event.c.entity_id == entity_id, event.c.sequence > after)
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit)).all()
        return [self._event(row) for row in rows]

    def last_sequence(self) -> int:
        """The sequence of the newest event, 0 where there is none."""
        with self._database.read() as connection:
            return current_value(connection, "event")

    def _event(self, row: Row[Any]) -> Event:
        try:
            who = self._open(row.subject_id, row.sealed)
            body = unseal(who.key, row.body, _place(row.subject_id, row.sequence, row.kind))
        except KeyringError as error:
            raise RecordError(f"event {row.sequence} of the ledger: {error}") from error
        return Event(
            sequence=row.sequence,
            at=from_us(row.at_us),
            kind=EventKind(row.kind),
            called=who.number,
            body=json.loads(body),
        )

    def _expect_unchanged(self, connection: Connection, unchanged: Mapping[int, int]) -> None:
        for called, sequence in unchanged.items():
            newest = connection.execute(
                select(func.max(event.c.sequence))
                .join_from(event, subject)
                .where(subject.c.token.in_(self._keyring.digests(called)))
            ).scalar()
            if (newest or 0) != sequence:
                raise RecordConflict(
                    f"what is held for this number has changed: it is at {newest or 0}, "
                    f"expected {sequence}",
                    field="sequence",
                )

    def _subjects(self, connection: Connection, numbers: Collection[int]) -> "dict[int, _Subject]":
        """The subject of each number; those that have none yet are made."""
        tokens = [token for number in numbers for token in self._keyring.digests(number)]
        found = {}
        for start in range(0, len(tokens), VARIABLES):
            known = subject.c.token.in_(tokens[start : start + VARIABLES])
            for row in connection.execute(select(subject.c.id, subject.c.sealed).where(known)):
                who = self._open(row.id, row.sealed)
                found[who.number] = who
        made = [
            _Subject(secrets.token_bytes(ID_BYTES), secrets.token_bytes(KEY_BYTES), number)
            for number in numbers
            if number not in found
        ]
        if made:
            connection.execute(insert(subject), [self._subject_row(who) for who in made])
        return found | {who.number: who for who in made}

    def _subject_row(self, who: "_Subject") -> dict[str, Any]:
        return {
            "id": who.id,
            "token": self._keyring.digest(who.number),
            "token_version": self._keyring.version("token"),
            "sealed": self._keyring.encrypt(who.key + who.number.to_bytes(8), who.id),
        }

    def _open(self, subject_id: bytes, sealed: bytes) -> "_Subject":
        plain = self._keyring.decrypt(sealed, subject_id)
        return _Subject(subject_id, plain[:KEY_BYTES], int.from_bytes(plain[KEY_BYTES:]))

    def _expect_room(
        self, connection: Connection, events: list[Event], subjects: "dict[int, _Subject]"
    ) -> None:
        """Refuses the event that would make a personal list of a subscriber too long."""
        setting = {each.called for each in events if each.kind == EventKind.PERSONAL_SET}
        entries: dict[int, dict[int, str]] = {}
        for called in setting:
            entries[called] = {}
            query = _sealed().where(event.c.subject_id == subjects[called].id)
            for row in connection.execute(query.where(event.c.kind.in_(PERSONAL))):
                _follow(entries[called], self._event(row))
        for n, each in enumerate(events):
            if each.called not in entries:
                continue
            held = entries[each.called]
            _follow(held, each)
            if each.kind != EventKind.PERSONAL_SET or len(held) <= PERSONAL_LIMIT:
                continue
            action = each.body["action"]
            if sum(kept == action for kept in held.values()) > PERSONAL_LIMIT:
                raise RecordError(
                    f"events[{n}]: the subscriber's personal {action} list is full, expected at "
                    f"most {PERSONAL_LIMIT} entries",
                    field="body.calling",
                )


class _Subject(NamedTuple):
    """Whom an event is about."""

    id: bytes
    key: bytes
    number: int


PERSONAL: Final = (EventKind.PERSONAL_SET, EventKind.PERSONAL_CLEARED, EventKind.REASSIGNED)


def _follow(entries: dict[int, str], each: Event) -> None:
    """Keeps a subscriber's personal entries, calling number to action, up with an event."""
    if each.kind == EventKind.PERSONAL_SET:
        entries[each.body["calling"]] = each.body["action"]
    elif each.kind == EventKind.PERSONAL_CLEARED:
        entries.pop(each.body["calling"], None)
    elif each.kind == EventKind.REASSIGNED:
        entries.clear()


def _expect_entities(connection: Connection, events: list[Event]) -> None:
    named = sorted({each.body["entity"] for each in events if "entity" in each.body})
    registered: set[int] = set()
    for start in range(0, len(named), VARIABLES):
        known = entity.c.id.in_(named[start : start + VARIABLES])
        registered |= set(connection.execute(select(entity.c.id).where(known)).scalars())
    for n, each in enumerate(events):
        if each.body.get("entity", 0) not in registered | {0}:
            raise RecordError(
                f"events[{n}].body.entity is {each.body['entity']}, which is no registered entity",
                field="body.entity",
            )


def _row(each: Event, who: _Subject, actor: str) -> dict[str, Any]:
    body = json.dumps(each.body, ensure_ascii=False, separators=(",", ":")).encode()
    return {
        "sequence": each.sequence,
        "at_us": to_us(each.at),
        "kind": str(each.kind),
        "subject_id": who.id,
        "entity_id": each.body.get("entity"),
        "body": seal(who.key, body, _place(who.id, each.sequence, each.kind)),
        "actor": actor,
    }


def _place(subject_id: bytes, sequence: int, kind: str) -> bytes:
    """What a sealed body is bound to, so that none can be moved to another event."""
    return subject_id + sequence.to_bytes(8) + kind.encode()


def _sealed() -> Select[Any]:
    """The query of sealed events with what opens them, in order."""
    return (
        select(event.c.sequence, event.c.at_us, event.c.kind, event.c.subject_id, event.c.body)
        .add_columns(subject.c.sealed)
        .join_from(event, subject)
        .order_by(event.c.sequence)
    )
