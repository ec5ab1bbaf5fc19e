"""Exceptions from network lists: a number that a list names and that is as if it did not.

An exception is of the list and not of its generation, so the next load of the list does not undo
it. It is an event about the number's subscription, and ends with that.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from consent.event import Event, EventKind
from consent.keyring import Keyring
from consent.record.audit import write_audit
from consent.record.catalogue import ListKind
from consent.record.database import Database, RecordError, next_value
from consent.record.instant import Clock, to_us
from consent.record.ledger import Ledger
from consent.record.schema import catalogue, list_exception, subject
from consent.record.subjects import Subjects, open_subject


@dataclass(frozen=True, slots=True)
class Excepted:
    """An exception in force: the number, from which list, since when, and why."""

    list_name: str
    number: int
    sequence: int
    at: float
    reason: str


class Exceptions:
    """The exceptions from every network list."""

    def __init__(self, database: Database, keyring: Keyring, ledger: Ledger, clock: Clock) -> None:
        self._database = database
        self._keyring = keyring
        self._ledger = ledger
        self._clock = clock

    def grant(self, list_name: str, number: int, *, reason: str, actor: str) -> bool:
        """Excepts a number from a list; False where it was excepted before.

        Raises RecordError where there is no such list of calling numbers.
        """
        return self._change(EventKind.LIST_EXCEPTED, list_name, number, reason, actor)

    def restore(self, list_name: str, number: int, *, reason: str, actor: str) -> None:
        """The list names the number again. Raises RecordError where it is not excepted."""
        if not self._change(EventKind.LIST_RESTORED, list_name, number, reason, actor):
            raise RecordError(f"list {list_name!r}: this number is not excepted", field="number")

    def _change(
        self, kind: EventKind, list_name: str, number: int, reason: str, actor: str
    ) -> bool:
        granted = kind is EventKind.LIST_EXCEPTED
        event = Event(0, self._clock(), kind, number, {"list": list_name, "reason": reason})
        with self._database.write() as connection:
            list_id = _calling_list(connection, list_name)
            tokens = self._keyring.digests(number)
            known = (
                select(list_exception.c.subject_id)
                .join_from(list_exception, subject)
                .where(list_exception.c.list_id == list_id, subject.c.token.in_(tokens))
            )
            if (connection.execute(known).first() is not None) is granted:
                return False
            kept = self._ledger.append_within(connection, event, actor=actor)
            next_value(connection, "revision")
            who = Subjects(connection, self._keyring, [number]).of(number)
            if granted:
                row = {"list_id": list_id, "subject_id": who.id, "sequence": kept.sequence}
                connection.execute(insert(list_exception).values(**row))
            else:
                mine = list_exception.c.list_id == list_id
                connection.execute(
                    delete(list_exception).where(mine, list_exception.c.subject_id == who.id)
                )
            write_audit(
                connection,
                str(kind),
                subject=list_name,
                actor=actor,
                at_us=to_us(self._clock()),
                detail={
                    "event": kept.sequence,
                    "number": self._keyring.token(number),
                    "reason": reason,
                },
            )
        return True

    def in_force(self) -> Mapping[int, frozenset[str]]:
        """The numbers that are excepted, each with the names of the lists: what workers go by."""
        query = (
            select(catalogue.c.name, subject.c.id, subject.c.sealed)
            .select_from(list_exception.join(catalogue).join(subject))
            .where(subject.c.sealed != b"")
        )
        found: dict[int, set[str]] = defaultdict(set)
        with self._database.read() as connection:
            for row in connection.execute(query):
                found[open_subject(self._keyring, row.id, row.sealed).number].add(row.name)
        return {number: frozenset(names) for number, names in found.items()}

    def all(self) -> list[Excepted]:
        """Every exception in force with what was said for it, in order."""
        with self._database.read() as connection:
            sequences = connection.execute(select(list_exception.c.sequence)).scalars().all()
        return [
            Excepted(each.body["list"], each.called, each.sequence, each.at, each.body["reason"])
            for each in self._ledger.numbered(sequences)
        ]


def _calling_list(connection: Connection, name: str) -> int:
    row = connection.execute(select(catalogue).where(catalogue.c.name == name)).one_or_none()
    if row is None or row.kind == ListKind.DNC:
        raise RecordError(f"list {name!r} is no list of calling numbers", field="list")
    return int(row.id)
