"""What called parties complained of: each complainant once a caller and day, numbers sealed.

A complaint is kept whether or not its call is found in the decision record; what was found, and
who answers for the calling number, stand beside it.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, insert, select, update

from consent.complaint import Complaint
from consent.entity import Party
from consent.keyring import Keyring
from consent.record.database import Database, RecordError
from consent.record.instant import Clock, from_us, to_us
from consent.record.schema import complaint
from consent.record.subjects import follow_token_version

DAY: Final = 86_400.0
BLOCK: Final = 10_000
"""Numbers of a block, from which bombing is recognised."""

_NAMED: Final = 100
"""Complaints of a caller that are opened to find its number."""

_REMEMBERED: Final = 100_000

_SEALED_FOR: Final = b"complaint"


@dataclass(frozen=True, slots=True)
class Found:
    """The call that a complaint is about, as the decision record has it; `calling` is a token."""

    at: float
    decision_id: str
    action: str
    rule: str
    category: str
    entity: int
    calling: str
    authenticated: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A complaint of the record; `complainant` and `block` are tokens, "" where it names nobody.

    `entity` is 0 and `decision_id` "" where none was found; instants are epoch seconds.
    """

    id: int
    at: float
    received: float
    complainant: str
    block: str
    caller: str
    jurisdiction: str
    entity: int
    category: str
    subject: str
    decision_id: str
    action: str
    rule: str
    authenticated: bool
    void: bool
    source: str


class Complaints:
    """The complaints."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._numbers: dict[str, int] = {}
        """Callers by their tokens, so that who looks often opens each once."""

    def add(
        self,
        each: Complaint,
        *,
        jurisdiction: str,
        entity: int,
        found: Found | None,
    ) -> Kept | None:
        """Keeps a complaint; None where this complainant has complained of this caller that day.

        Raises RecordUnavailable.
        """
        with self._database.write() as connection:
            follow_token_version(connection, self._keyring)
            row = self._row(each, jurisdiction=jurisdiction, entity=entity, found=found)
            if each.called and self._said_before(connection, each, found):
                return None
            made = connection.execute(insert(complaint).values(**row).returning(complaint.c.id))
            row["id"] = made.scalar_one()
        return _kept(row)

    def _said_before(self, connection: Connection, each: Complaint, found: Found | None) -> bool:
        """Whether this complainant has complained of this caller on the day of the call.

        One and the same caller may be known by its number, or by the token that a record of the
        log had under whichever key: what the complainant named that day is opened and compared.
        """
        callers = set(self._keyring.tokens(each.calling)) if each.calling else set()
        callers |= {found.calling} - {""} if found else set()
        day = datetime.fromtimestamp(each.at, UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        said = select(complaint.c.caller, complaint.c.sealed).where(
            complaint.c.complainant.in_(self._keyring.tokens(each.called)),
            complaint.c.at_us >= to_us(day.timestamp()),
            complaint.c.at_us < to_us(day.timestamp() + DAY),
        )
        for row in connection.execute(said):
            number = self._parties(row.sealed)[0]
            known = {row.caller, *(self._keyring.tokens(number) if number else ())} - {""}
            if known & callers or not (known or callers):
                return True
        return False

    def _row(
        self, each: Complaint, *, jurisdiction: str, entity: int, found: Found | None
    ) -> dict[str, Any]:
        complainant, caller = self._mark(each.called), self._mark(each.calling)
        if found and not caller:
            caller = found.calling
        numbers = each.calling.to_bytes(8) + each.called.to_bytes(8)
        sealed = self._keyring.encrypt(numbers + each.text.encode(), _SEALED_FOR)
        day = datetime.fromtimestamp(each.at, UTC).date().toordinal()
        told_apart = f"{complainant} {caller} {day}".encode() if complainant else sealed
        return {
            "once": hashlib.sha256(told_apart).digest(),
            "at_us": to_us(each.at),
            "received_us": to_us(self._clock()),
            "complainant": complainant,
            "block": self._mark(each.called // BLOCK),
            "caller": caller,
            "jurisdiction": jurisdiction,
            "entity_id": entity or None,
            "category": each.category or (found.category if found else ""),
            "subject": each.subject,
            "sealed": sealed,
            "decision_id": found.decision_id if found else "",
            "action": found.action if found else "",
            "rule": found.rule if found else "",
            "authenticated": bool(found and found.authenticated),
            "void": False,
            "source": each.source,
        }

    def _mark(self, number: int) -> str:
        """What tells a number from others, "" for none: of the oldest key, so that a rotation of
        keys makes nobody another."""
        return self._keyring.tokens(number)[-1] if number else ""

    def of_party(self, party: Party, jurisdiction: str, *, since: float) -> list[Kept]:
        """Those of calls since an instant for which a party answers, by id; void ones not."""
        theirs = (
            self._of_number(party.number) if party.number else complaint.c.entity_id == party.entity
        )
        return self._read(
            select(complaint)
            .where(
                theirs,
                complaint.c.jurisdiction == jurisdiction,
                complaint.c.at_us >= to_us(since),
                complaint.c.void.is_(False),
            )
            .order_by(complaint.c.id)
        )

    def _of_number(self, number: int) -> ColumnElement[bool]:
        """Whether a complaint is of a number for which no entity answered."""
        theirs = complaint.c.caller.in_(self._keyring.tokens(number))
        return theirs & complaint.c.entity_id.is_(None)

    def accused(self, *, since: float, least: int) -> list[tuple[Party, str]]:
        """Who was complained of since an instant, each with the country.

        Of numbers for which no entity answers those that `least` complainants or more name; one
        that every complaint names by its decision alone is not known here.
        """
        recent = (complaint.c.at_us >= to_us(since)) & complaint.c.void.is_(False)
        entities = select(complaint.c.entity_id, complaint.c.jurisdiction).where(
            recent, complaint.c.entity_id.is_not(None)
        )
        distinct = func.count(complaint.c.complainant.distinct())
        callers = (
            select(complaint.c.caller, complaint.c.jurisdiction, distinct)
            .where(recent, complaint.c.entity_id.is_(None), complaint.c.caller != "")
            .where(complaint.c.complainant != "")
            .group_by(complaint.c.caller, complaint.c.jurisdiction)
        )
        if self._keyring.version("token") == 1:
            callers = callers.having(distinct >= least)
        found: set[tuple[Party, str]] = set()
        with self._database.read() as connection:
            for row in connection.execute(entities.distinct()):
                found.add((Party(row.entity_id), row.jurisdiction))
            # After a rotation a caller has a token for each key, and complainants by each.
            counts = {(row[0], row[1]): int(row[2]) for row in connection.execute(callers)}
            for caller, country in counts:
                if number := self._named(connection, caller):
                    tokens = self._keyring.tokens(number)
                    if sum(counts.get((token, country), 0) for token in tokens) >= least:
                        found.add((Party(number=number), country))
        return sorted(found)

    def _named(self, connection: Connection, caller: str) -> int:
        """The number of a caller as complainants named it, 0 where none did."""
        if number := self._numbers.get(caller):
            return number
        query = select(complaint.c.sealed).where(complaint.c.caller == caller)
        for sealed in connection.execute(query.order_by(complaint.c.id).limit(_NAMED)).scalars():
            if number := self._parties(sealed)[0]:
                if len(self._numbers) >= _REMEMBERED:
                    self._numbers.clear()
                self._numbers[caller] = number
                return number
        return 0

    def _parties(self, sealed: bytes) -> tuple[int, int]:
        """Who called, 0 where the complainant did not name it, and who complained."""
        plain = self._keyring.decrypt(sealed, _SEALED_FOR)
        return int.from_bytes(plain[:8]), int.from_bytes(plain[8:16])

    def naming(self, number: int) -> int:
        """How many name a number, as who complained or of whom."""
        query = select(func.count()).where(_naming(self._keyring.tokens(number)))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def hand_over(self, number: int, entity: int) -> None:
        """What was complained of a number is from now on of the entity that answers for it."""
        theirs = update(complaint).where(self._of_number(number), complaint.c.void.is_(False))
        with self._database.write() as connection:
            connection.execute(theirs.values(entity_id=entity))

    def latest(self, limit: int = 100, *, before: int | None = None) -> list[Kept]:
        """The newest first; `before` is the id to page on from."""
        query = select(complaint).order_by(complaint.c.id.desc()).limit(limit)
        return self._read(query if before is None else query.where(complaint.c.id < before))

    def text(self, complaint_id: int) -> str:
        """What the complainant wrote, "" where there is no such complaint."""
        query = select(complaint.c.sealed).where(complaint.c.id == complaint_id)
        with self._database.read() as connection:
            sealed = connection.execute(query).scalar()
        return "" if sealed is None else self._keyring.decrypt(sealed, _SEALED_FOR)[16:].decode()

    def shares(self, month: str, jurisdiction: str = "") -> dict[str, int]:
        """Complaints received in a month (YYYY-MM, UTC) by category, "" for those without."""
        first, end = month_of(month)
        within = [complaint.c.received_us >= to_us(first), complaint.c.received_us < to_us(end)]
        if jurisdiction:
            within.append(complaint.c.jurisdiction == jurisdiction)
        query = select(complaint.c.category, func.count()).where(*within)
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(complaint.c.category)).all()
        return {str(category): int(count) for category, count in sorted(rows, key=_by_count)}

    def _read(self, query: Select[Any]) -> list[Kept]:
        with self._database.read() as connection:
            return [_kept(row) for row in connection.execute(query).mappings()]


def forget(connection: Connection, keyring: Keyring, number: int) -> None:
    """Takes a number out of every complaint, with what it wrote: it was erased.

    The complaint is counted as before, of somebody whom nothing tells any more.
    """
    tokens = keyring.tokens(number)
    rows = connection.execute(select(complaint).where(_naming(tokens))).all()
    for row in rows:
        plain = keyring.decrypt(row.sealed, _SEALED_FOR)
        calling, called, text = plain[:8], plain[8:16], plain[16:]
        gone: dict[str, Any] = {"once": secrets.token_bytes(32)}
        if row.complainant in tokens:
            called, text = bytes(8), b""
            gone |= {"complainant": _nobody(), "block": _nobody()}
        if row.caller in tokens:
            calling = bytes(8)
            gone |= {"caller": _nobody()}
        gone["sealed"] = keyring.encrypt(calling + called + text, _SEALED_FOR)
        connection.execute(update(complaint).where(complaint.c.id == row.id).values(**gone))


def _naming(tokens: list[str]) -> ColumnElement[bool]:
    return complaint.c.complainant.in_(tokens) | complaint.c.caller.in_(tokens)


def _nobody() -> str:
    """A token that is no number's."""
    return secrets.token_hex(8)


def month_of(month: str) -> tuple[float, float]:
    """The first instant of a month (YYYY-MM, UTC) and that of the next, epoch seconds.

    Raises RecordError for what is no month.
    """
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise RecordError(f"month {month!r}: expected one such as 2026-11", field="month") from None
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.timestamp(), following.timestamp()


def _by_count(row: Any) -> tuple[int, str]:
    return -row[1], row[0]


def _kept(row: Mapping[Any, Any]) -> Kept:
    return Kept(
        id=row["id"],
        at=from_us(row["at_us"]),
        received=from_us(row["received_us"]),
        complainant=row["complainant"],
        block=row["block"],
        caller=row["caller"],
        jurisdiction=row["jurisdiction"],
        entity=row["entity_id"] or 0,
        category=row["category"],
        subject=row["subject"],
        decision_id=row["decision_id"],
        action=row["action"],
        rule=row["rule"],
        authenticated=bool(row["authenticated"]),
        void=bool(row["void"]),
        source=row["source"],
    )
