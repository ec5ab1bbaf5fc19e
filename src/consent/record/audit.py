"""Who managed what, and when."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, insert, select

from consent.record.database import Database
from consent.record.instant import Clock, from_us, to_us
from consent.record.schema import audit


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One management action; `actor` is a key's name or a user of the command line."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class AuditLog:
    """The management actions, in their order; nothing in it is ever changed.

    What other parts of the record do is written by them, in the transaction that does it.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def append(
        self, action: str, *, subject: str, actor: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Records an action. A phone number in `subject` or `detail` must be a token."""
        with self._database.write() as connection:
            write_audit(
                connection,
                action,
                subject=subject,
                actor=actor,
                at_us=to_us(self._clock()),
                detail=detail,
            )

    def latest(self, limit: int = 100, *, before: int | None = None) -> list[AuditEntry]:
        """The newest actions first; `before` is the id to page on from."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        return self._read(query if before is None else query.where(audit.c.id < before))

    def of(self, subject: str, limit: int = 100) -> list[AuditEntry]:
        """The newest actions on one subject first, such as a number's token."""
        query = select(audit).where(audit.c.subject == subject)
        return self._read(query.order_by(audit.c.id.desc()).limit(limit))

    def _read(self, query: Select[Any]) -> list[AuditEntry]:
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            AuditEntry(
                id=row.id,
                at=from_us(row.at_us),
                actor=row.actor,
                action=row.action,
                subject=row.subject,
                detail=json.loads(row.detail),
            )
            for row in rows
        ]


def write_audit(
    connection: Connection,
    action: str,
    *,
    subject: str,
    actor: str,
    at_us: int,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Records an action in the transaction that does it."""
    connection.execute(
        insert(audit).values(
            at_us=at_us,
            actor=actor,
            action=action,
            subject=subject,
            detail=json.dumps(dict(detail or {}), ensure_ascii=False),
        )
    )
