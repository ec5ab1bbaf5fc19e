"""The ledger of what subscribers decided: appended to, read in order, never changed.

Sequences rise by one without gaps, and each event's hash covers the one before it.
"""

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, cast, func, insert, select, update

from consent.entity import Party
from consent.event import Event, EventKind
from consent.held import Held
from consent.keyring import Keyring, KeyringError, seal, unseal
from consent.record.audit import write_audit
from consent.record.body import check, completed, needs_held
from consent.record.chain import ID_BYTES, Checkpoint, Entry, Flaw, entry_hash, first_flaw, genesis
from consent.record.complaints import forget
from consent.record.database import Database, RecordError, current_value, hold, next_value
from consent.record.indexes import being_made
from consent.record.instant import Clock, from_us, to_us
from consent.record.once import Once, RecordConflict, done_before, keep_done
from consent.record.schema import checkpoint, entity, event, subject
from consent.record.standing import let_go
from consent.record.subjects import (
    VARIABLES,
    Subject,
    Subjects,
    expect_token_version,
    follow_token_version,
    ledger_id,
    open_subject,
    rotate_subjects,
    set_token_version,
    stale,
)
from consent.signing import SigningKey

PAGE: Final = 1000
"""Rows of one read: short transactions, so that a long replay does not hold back the WAL."""

SAMPLED_AT_ONCE: Final = 50

CHECKPOINT_EVENTS: Final = 10_000
"""Events after which the chain is signed, though less time has passed than between two signings."""


class Ledger:
    """The events of every subscriber, as one chain."""

    def __init__(
        self, database: Database, keyring: Keyring, clock: Clock, signer: SigningKey | None
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._signer = signer

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
        where it changes a consent that is not held; where a subscriber would have more personal
        entries than its lists hold; RecordConflict where a number has changed meanwhile, or the
        key of `once` was used for something else.
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
                return [self._event(row) for row in rows if row.sealed]
            expect_token_version(connection, self._keyring)
            self._expect_unchanged(connection, unchanged or {})
            last = next_value(connection, "event", len(checked)) if checked else 0
            now_us = to_us(self._clock())
            if once:
                keep_done(connection, once, last - len(checked) + 1, last, at_us=now_us)
            if not checked:
                return []
            _expect_entities(connection, checked)
            numbered = [
                replace(each, sequence=n) for n, each in enumerate(checked, last - len(checked) + 1)
            ]
            appended = self._append(connection, numbered, actor=actor, now_us=now_us)
            self._audit(connection, appended, actor=actor, now_us=now_us)
            return appended

    def append_within(self, connection: Connection, each: Event, *, actor: str) -> Event:
        """Append an event in a transaction that does more with it, and keeps its own audit.

        To be called before anything else that takes a number. Raises what `append` raises.
        """
        expect_token_version(connection, self._keyring)
        sequence = next_value(connection, "event")
        kept = replace(
            each, sequence=sequence, at=from_us(to_us(each.at)), body=check(each, where="event")
        )
        _expect_entities(connection, [kept])
        return self._append(connection, [kept], actor=actor, now_us=to_us(self._clock()))[0]

    def _audit(
        self, connection: Connection, events: list[Event], *, actor: str, now_us: int
    ) -> None:
        """One line for what was appended together; numbers by their tokens."""
        first, last = events[0], events[-1]
        called = {each.called for each in events}
        write_audit(
            connection,
            first.kind if len({each.kind for each in events}) == 1 else "ledger.append",
            subject=(
                self._keyring.token(first.called)
                if len(called) == 1
                else f"{len(called)} subscribers"
            ),
            actor=actor,
            at_us=now_us,
            detail={"event": first.sequence}
            if len(events) == 1
            else {"first": first.sequence, "last": last.sequence},
        )

    def _append(
        self, connection: Connection, events: list[Event], *, actor: str, now_us: int
    ) -> list[Event]:
        subjects = Subjects(connection, self._keyring, {each.called for each in events})
        held = self._held(connection, events, subjects)
        ledger = bytes.fromhex(ledger_id(connection))
        first, last = events[0].sequence, events[-1].sequence
        newest = select(event.c.hash).where(event.c.sequence < first)
        before = connection.execute(newest.order_by(event.c.sequence.desc()).limit(1)).scalar()
        head = before or genesis(ledger)
        rows, complete = [], []
        for n, each in enumerate(events):
            who = subjects.of(each.called)
            ends = each.kind in (EventKind.REASSIGNED, EventKind.ERASED)
            if ends and let_go(connection, who.id, self._keyring.tokens(each.called)):
                next_value(connection, "revision")
            if each.kind == EventKind.ERASED:
                forget(connection, self._keyring, each.called)
            if each.kind == EventKind.REASSIGNED:
                each.body["before"] = who.id.hex()
                who = subjects.renew(each.called)
            if each.called in held:
                completed(each, held[each.called], where=f"events[{n}]")
                held[each.called].follow(each)
            entry = _entry(each, who, actor, now_us)
            head = entry_hash(head, entry)
            rows.append(entry._replace(hash=head)._asdict())
            complete.append(each)
            if each.kind == EventKind.ERASED:
                subjects.end(each.called, erase_after=each.sequence)
        connection.execute(insert(event), rows)
        if self._signer is not None and last - _last_checkpoint(connection) >= CHECKPOINT_EVENTS:
            _keep_checkpoint(
                connection,
                Checkpoint.sign(ledger.hex(), last, head, from_us(now_us), self._signer),
            )
        return complete

    def _held(
        self, connection: Connection, events: list[Event], subjects: Subjects
    ) -> dict[int, Held]:
        """What is held for the numbers of which an event needs to know it."""
        held = {}
        for called in {each.called for each in events if needs_held(each)}:
            query = _sealed().where(event.c.subject_id == subjects.of(called).id)
            rows = connection.execute(query)
            held[called] = Held.of([self._event(row) for row in rows])
        return held

    def events(self, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The events beyond a sequence, in order, as they are when each page is read.

        Those of erased subscriptions are passed over: what they said was deleted at their end.
        Raises RecordError for an event that the keyring does not open.
        """
        while limit is None or limit > 0:
            page = PAGE if limit is None else min(PAGE, limit)
            query = _sealed().where(event.c.sequence > after).limit(page)
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                if row.sealed:
                    yield self._event(row)
            if len(rows) < page:
                return
            after = rows[-1].sequence
            limit = None if limit is None else limit - page

    def events_of(self, called: int) -> list[Event]:
        """Every event of the number's present subscription, in order."""
        return [each for each, _ in self.entries_of(called)]

    def entries_of(self, called: int) -> list[tuple[Event, Entry]]:
        """The same with each event's row as the chain has it: the proof that goes with it."""
        query = _sealed(entries=True)
        with self._database.read() as connection:
            follow_token_version(connection, self._keyring)
            query = query.where(subject.c.token.in_(self._keyring.digests(called)))
            rows = connection.execute(query).all()
        return [(self._event(row), Entry(*row[: len(Entry._fields)])) for row in rows]

    def sample(self, count: int) -> list[int]:
        """Numbers that the ledger knows, at random: runs of subjects, whose ids are random."""
        found: set[int] = set()
        known = select(subject.c.id, subject.c.sealed)
        known = known.where(subject.c.sealed != b"", subject.c.token_version != 0)
        for _ in range(-(-count // SAMPLED_AT_ONCE)):
            first = secrets.token_bytes(ID_BYTES)
            query = known.order_by(subject.c.id).limit(min(count, SAMPLED_AT_ONCE))
            with self._database.read() as connection:
                rows = connection.execute(query.where(subject.c.id >= first)).all()
                # Beyond the last one it goes on with the first.
                rows = rows or connection.execute(query).all()
            found |= {open_subject(self._keyring, row.id, row.sealed).number for row in rows}
        return sorted(found)

    def held(self, called: int) -> Held:
        """What the events of a number amount to."""
        return Held.of(self.events_of(called))

    def events_of_each(self, numbers: Collection[int]) -> dict[int, list[Event]]:
        """Every event of the present subscription of each of some numbers, in order."""
        found: dict[int, list[Event]] = {number: [] for number in numbers}
        with self._database.read() as connection:
            follow_token_version(connection, self._keyring)
            tokens = [token for number in found for token in self._keyring.digests(number)]
            for start in range(0, len(tokens), VARIABLES):
                theirs = subject.c.token.in_(tokens[start : start + VARIABLES])
                for row in connection.execute(_sealed().where(theirs)).all():
                    each = self._event(row)
                    found[each.called].append(each)
        return found

    def links(self, sequences: Collection[int]) -> dict[int, bytes]:
        """The hash that the chain has at each of some sequences, the genesis at 0."""
        wanted = sorted(sequences)
        with self._database.read() as connection:
            found = {0: genesis(bytes.fromhex(ledger_id(connection)))}
            for start in range(0, len(wanted), VARIABLES):
                these = event.c.sequence.in_(wanted[start : start + VARIABLES])
                query = select(event.c.sequence, event.c.hash).where(these)
                found |= {row.sequence: row.hash for row in connection.execute(query)}
        return found

    def events_of_entity(self, entity_id: int, after: int = 0, limit: int = 100) -> list[Event]:
        """What subscribers decided of an entity beyond a sequence, in order, `limit` at most."""
        query = _sealed().where(
            event.c.entity_id == entity_id,
            event.c.sequence > after,
            event.c.kind != EventKind.LADDER_STEPPED,
            subject.c.sealed != b"",
        )
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit)).all()
        return [self._event(row) for row in rows]

    def steps(self, party: Party | None = None) -> list[Event]:
        """The steps of the ladder in order, of one party or of all."""
        with self._database.read() as connection:
            return self.steps_within(connection, party)

    def steps_within(self, connection: Connection, party: Party | None = None) -> list[Event]:
        """The same in an open transaction. Those of a number are of its present subscription."""
        # Only where the kind stands in the words of the query is the index of steps made use of.
        query = _sealed().where(
            event.c.kind == bindparam("kind", EventKind.LADDER_STEPPED.value, literal_execute=True),
            subject.c.sealed != b"",
            subject.c.token_version != 0,
        )
        if party is not None and party.number:
            follow_token_version(connection, self._keyring)
            query = query.where(subject.c.token.in_(self._keyring.digests(party.number)))
        elif party is not None:
            query = query.where(event.c.entity_id == party.entity)
        return [self._event(row) for row in connection.execute(query).all()]

    def numbered(self, sequences: Collection[int]) -> list[Event]:
        """The events of some sequences, in order; those that were erased are passed over."""
        wanted, found = sorted(sequences), []
        with self._database.read() as connection:
            for start in range(0, len(wanted), VARIABLES):
                these = event.c.sequence.in_(wanted[start : start + VARIABLES])
                query = _sealed().where(these, subject.c.sealed != b"")
                found += [self._event(row) for row in connection.execute(query).all()]
        return found

    def last_sequence(self) -> int:
        """The sequence of the newest event, 0 where there is none."""
        with self._database.read() as connection:
            return current_value(connection, "event")

    # The chain

    def id(self) -> str:
        """What the chain begins with: no other ledger has it."""
        with self._database.read() as connection:
            return ledger_id(connection)

    def checkpoint(self) -> Checkpoint | None:
        """Signs where the chain has come to, if it went on since it was last signed."""
        if self._signer is None:
            return None
        with self._database.write() as connection:
            last = connection.execute(
                select(event.c.sequence, event.c.hash).order_by(event.c.sequence.desc()).limit(1)
            ).one_or_none()
            if last is None or last.sequence <= _last_checkpoint(connection):
                return None
            made = Checkpoint.sign(
                ledger_id(connection), last.sequence, last.hash, self._clock(), self._signer
            )
            _keep_checkpoint(connection, made)
        return made

    def checkpoints(self, after: int = 0) -> list[Checkpoint]:
        """What was signed of the chain beyond a sequence, in order."""
        query = select(checkpoint).where(checkpoint.c.sequence > after)
        with self._database.read() as connection:
            ledger = ledger_id(connection)
            rows = connection.execute(query.order_by(checkpoint.c.sequence)).all()
        return [
            Checkpoint(
                ledger, row.sequence, row.head, from_us(row.at_us), row.key_id, row.signature
            )
            for row in rows
        ]

    def first_flaw(
        self, checkpoints: Iterable[Checkpoint], *, progress: Callable[[int], None] | None = None
    ) -> Flaw | None:
        """The first event that is not as it was when it was appended: see `consent.record.chain`.

        `checkpoints` are those to hold it against, of signatures that hold; `progress` is told
        how many events were looked at since it was told before.
        """
        with self._database.read() as connection:
            ledger, last = ledger_id(connection), current_value(connection, "event")
        return first_flaw(bytes.fromhex(ledger), self._entries(progress), checkpoints, through=last)

    def _entries(self, progress: Callable[[int], None] | None) -> Iterator[Entry]:
        after = 0
        # SQLite gives what was put into a column, whatever the column's type: told as altered.
        columns = [cast(event.c[name], event.c[name].type).label(name) for name in Entry._fields]
        query = select(*columns).order_by(event.c.sequence).limit(PAGE)
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query.where(event.c.sequence > after)).all()
            for row in rows:
                yield Entry(*row)
            if not rows:
                return
            if progress:
                progress(len(rows))
            after = rows[-1].sequence

    # Keys

    def follow_keys(self) -> None:
        """Takes in token keys that another process has added: what is written with them is not
        found without. Raises RecordError where the key file does not have them."""
        with self._database.read() as connection:
            follow_token_version(connection, self._keyring)

    def rotate(self, *, progress: Callable[[int], None] | None = None) -> int:
        """Writes what is not under the newest keys anew; the answer is how many subjects that was.

        May be broken off and begun again. The chain is not touched.
        """
        with self._database.write() as connection:
            set_token_version(connection, self._keyring)
        return rotate_subjects(self._database, self._keyring, progress)

    def unrotated(self) -> int:
        """How many subjects are not under the newest keys: what a rotation has still to do."""
        query = select(func.count()).where(stale(self._keyring))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def finish_erasures(self, applied: int) -> int:
        """Destroys the keys of erased subscriptions; the answer is how many.

        `applied` is the sequence through which the index has followed: before that it could not
        learn any more whose facts it has to delete. Nor could one that is being made beside it,
        so until that is in force none is destroyed.
        """
        with self._database.read() as connection:
            due = subject.c.erase_after <= applied
            waiting = connection.execute(select(subject.c.id).where(due).limit(1)).first()
        if waiting is None:
            return 0
        with self._database.write() as connection:
            hold(connection, "event")
            if being_made(connection, self._clock()):
                return 0
            done = connection.execute(
                update(subject).where(due).values(sealed=b"", erase_after=None)
            )
        return done.rowcount

    def subscriptions(self) -> int:
        """How many present subscriptions something was decided of."""
        query = select(func.count()).where(subject.c.sealed != b"", subject.c.token_version != 0)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def erasures_waiting(self) -> int:
        """How many erased subscriptions still have their key, since the index has not followed."""
        query = select(func.count()).where(subject.c.erase_after.is_not(None))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def _event(self, row: Row[Any]) -> Event:
        try:
            who = open_subject(self._keyring, row.subject_id, row.sealed)
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


def _entry(each: Event, who: Subject, actor: str, now_us: int) -> Entry:
    body = json.dumps(each.body, ensure_ascii=False, separators=(",", ":")).encode()
    return Entry(
        sequence=each.sequence,
        at_us=to_us(each.at),
        recorded_us=now_us,
        kind=str(each.kind),
        subject_id=who.id,
        entity_id=each.body.get("entity"),
        body=seal(who.key, body, _place(who.id, each.sequence, each.kind)),
        actor=actor,
    )


def _place(subject_id: bytes, sequence: int, kind: str) -> bytes:
    """What a sealed body is bound to, so that none can be moved to another event."""
    return subject_id + sequence.to_bytes(8) + kind.encode()


def _sealed(*, entries: bool = False) -> Select[Any]:
    """The query of sealed events with what opens them, in order; `entries`: their whole rows."""
    names = Entry._fields if entries else ("sequence", "at_us", "kind", "subject_id", "body")
    return (
        select(*(event.c[name] for name in names))
        .add_columns(subject.c.sealed)
        .join_from(event, subject)
        .order_by(event.c.sequence)
    )


def _last_checkpoint(connection: Connection) -> int:
    return connection.execute(select(func.max(checkpoint.c.sequence))).scalar() or 0


def _keep_checkpoint(connection: Connection, made: Checkpoint) -> None:
    connection.execute(
        insert(checkpoint).values(
            sequence=made.sequence,
            head=made.head,
            at_us=to_us(made.at),
            key_id=made.key_id,
            signature=made.signature,
        )
    )
