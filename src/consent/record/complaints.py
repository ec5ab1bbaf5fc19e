"""What called parties complained of: each complainant once a caller and day, numbers sealed.

A complaint is kept whether or not its call is found in the decision record; what was found, and
who answers for the calling number, stand beside it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Select, func, insert, select

from consent.complaint import Complaint
from consent.keyring import Keyring
from consent.record.database import Database, RecordError
from consent.record.instant import Clock, from_us, to_us
from consent.record.schema import complaint

BLOCK: Final = 10_000
"""Numbers of a block, from which bombing is recognised."""

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
        row = self._row(each, jurisdiction=jurisdiction, entity=entity, found=found)
        with self._database.write() as connection:
            known = select(complaint.c.id).where(complaint.c.once == row["once"])
            if each.called and connection.execute(known).first() is not None:
                return None
            made = connection.execute(insert(complaint).values(**row).returning(complaint.c.id))
            row["id"] = made.scalar_one()
        return _kept(row)

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

    def of_entity(self, entity_id: int, jurisdiction: str, *, since: float) -> list[Kept]:
        """Those of calls since an instant for which an entity answers, by id; void ones not."""
        return self._read(
            select(complaint)
            .where(
                complaint.c.entity_id == entity_id,
                complaint.c.jurisdiction == jurisdiction,
                complaint.c.at_us >= to_us(since),
                complaint.c.void.is_(False),
            )
            .order_by(complaint.c.id)
        )

    def accused(self, *, since: float) -> list[tuple[int, str]]:
        """The entities that were complained of since an instant, each with the country."""
        query = select(complaint.c.entity_id, complaint.c.jurisdiction).where(
            complaint.c.at_us >= to_us(since), complaint.c.entity_id.is_not(None)
        )
        with self._database.read() as connection:
            rows = connection.execute(query.distinct()).all()
        return sorted((int(row.entity_id), str(row.jurisdiction)) for row in rows)

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
