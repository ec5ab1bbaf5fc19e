"""Warnings of campaigns: kept once, told until somebody took them, judged by people.

Invariants: a warning is kept and is due to be told in one transaction; at most `MOST_WAITING` wait
to be told, and of more the oldest are not told any more and counted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, func, insert, select, update

from consent.record.audit import write_audit
from consent.record.database import Database, RecordError
from consent.record.instant import Clock, from_us, to_us
from consent.record.once import RecordConflict
from consent.record.schema import warning

OPEN: Final = "open"
ACKNOWLEDGED: Final = "acknowledged"
DISMISSED: Final = "dismissed"
STATES: Final = (OPEN, ACKNOWLEDGED, DISMISSED)
MOST_WAITING: Final = 1_000


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning; instants are epoch seconds, `party` a token, an entity's id or a trunk's name.

    `about` has the score, how sure it is, the counts and example decision ids; `rule` is a rule
    set's text, to be tried in shadow. `next` is when it is told next, None for never.
    """

    id: str
    kind: str
    party: str
    since: float
    at: float
    about: Mapping[str, Any]
    rule: str
    state: str = OPEN
    reason: str = ""
    decided: float | None = None
    decided_by: str = ""
    next: float | None = None
    attempts: int = 0

    @property
    def key(self) -> str:
        """By which the webhook's receiver knows it."""
        return self.id


class Warnings:
    """The warnings of all nodes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def keep(self, given: Warned) -> bool:
        """Keep a warning; False where it was kept before, and what is about it is brought up."""
        about = json.dumps(dict(given.about), sort_keys=True)
        with self._database.write() as connection:
            known = connection.execute(select(warning.c.id).where(warning.c.id == given.id)).first()
            if known is not None:
                connection.execute(
                    update(warning).where(warning.c.id == given.id).values(about=about)
                )
                return False
            connection.execute(
                insert(warning).values(
                    id=given.id,
                    kind=given.kind,
                    party=given.party,
                    since_us=to_us(given.since),
                    at_us=to_us(given.at),
                    about=about,
                    rule=given.rule,
                    state=OPEN,
                    reason="",
                    decided_us=None,
                    decided_by="",
                    next_us=None if given.next is None else to_us(given.next),
                    attempts=0,
                )
            )
        return True

    def get(self, warning_id: str) -> Warned:
        """One warning. Raises RecordError where there is none such."""
        for found in self._read(select(warning).where(warning.c.id == warning_id)):
            return found
        raise RecordError(f"there is no warning {warning_id[:32]!r}", field="id")

    def latest(self, limit: int = 100, *, state: str = "") -> list[Warned]:
        """The newest first, of one state or of all."""
        query = select(warning).order_by(warning.c.at_us.desc(), warning.c.id)
        if state:
            query = query.where(warning.c.state == state)
        return self._read(query.limit(limit))

    def decide(self, warning_id: str, state: str, *, reason: str, actor: str) -> Warned:
        """Acknowledge or dismiss a warning that is open or acknowledged.

        Raises RecordError for no such warning, RecordConflict for one that stands so already.
        """
        if state not in (ACKNOWLEDGED, DISMISSED):
            raise RecordError(f"state: expected {ACKNOWLEDGED} or {DISMISSED}", field="state")
        if not reason.strip():
            raise RecordError("reason: expected why", field="reason")
        now_us = to_us(self._clock())
        with self._database.write() as connection:
            row = connection.execute(
                select(warning.c.state).where(warning.c.id == warning_id)
            ).one_or_none()
            if row is None:
                raise RecordError(f"there is no warning {warning_id[:32]!r}", field="id")
            if row[0] in (state, DISMISSED):
                raise RecordConflict(f"warning {warning_id} is {row[0]} already", field="state")
            connection.execute(
                update(warning)
                .where(warning.c.id == warning_id)
                .values(state=state, reason=reason, decided_us=now_us, decided_by=actor)
            )
            write_audit(
                connection,
                f"warning.{state}",
                subject=f"warning {warning_id}",
                actor=actor,
                at_us=now_us,
                detail={"reason": reason},
            )
        return self.get(warning_id)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many there are by kind and state."""
        query = select(warning.c.kind, warning.c.state, func.count()).group_by(
            warning.c.kind, warning.c.state
        )
        with self._database.read() as connection:
            return {(kind, state): count for kind, state, count in connection.execute(query)}

    # Telling

    def due(self, limit: int = 20) -> list[Warned]:
        """Those to be told now, the oldest first."""
        now_us = to_us(self._clock())
        return self._read(
            select(warning)
            .where(warning.c.next_us <= now_us)
            .order_by(warning.c.next_us, warning.c.id)
            .limit(limit)
        )

    def waiting(self) -> int:
        """How many wait to be told."""
        query = select(func.count()).where(warning.c.next_us.is_not(None))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def told(self, each: Warned) -> None:
        """Somebody has taken it."""
        self._next(each.id, None)

    def later(self, each: Warned, at: float, *, failure: str) -> None:  # noqa: ARG002
        """It was not taken: tell it again at an instant. Why is in the watch's own status."""
        self._next(each.id, to_us(at))

    def give_up(self, each: Warned, *, failure: str) -> None:  # noqa: ARG002
        """Nobody will be told it any more."""
        self._next(each.id, None)

    def _next(self, warning_id: str, next_us: int | None) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(warning)
                .where(warning.c.id == warning_id)
                .values(next_us=next_us, attempts=warning.c.attempts + 1)
            )

    def bound(self, most: int = MOST_WAITING) -> int:
        """Give up telling the oldest of more than so many that wait; how many those were."""
        if self.waiting() <= most:
            return 0
        waiting = select(warning.c.id).where(warning.c.next_us.is_not(None))
        with self._database.write() as connection:
            newest = waiting.order_by(warning.c.at_us.desc(), warning.c.id).offset(most)
            late = [row[0] for row in connection.execute(newest)]
            if late:
                connection.execute(
                    update(warning).where(warning.c.id.in_(late)).values(next_us=None)
                )
        return len(late)

    def _read(self, query: Select[Any]) -> list[Warned]:
        with self._database.read() as connection:
            return [
                Warned(
                    id=row["id"],
                    kind=row["kind"],
                    party=row["party"],
                    since=from_us(row["since_us"]),
                    at=from_us(row["at_us"]),
                    about=json.loads(row["about"]),
                    rule=row["rule"],
                    state=row["state"],
                    reason=row["reason"],
                    decided=None if row["decided_us"] is None else from_us(row["decided_us"]),
                    decided_by=row["decided_by"],
                    next=None if row["next_us"] is None else from_us(row["next_us"]),
                    attempts=row["attempts"],
                )
                for row in connection.execute(query).mappings()
            ]
