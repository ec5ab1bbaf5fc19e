"""The notices of steps up the ladder: each due with its step, until the caller was told.

What a notice says is in the event of the step; here is only what became of it. Invariants: a step
and its notice are one transaction; who takes one up to tell it has `LEASE_SECONDS` for itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, insert, select, update

from consent.record.audit import write_audit
from consent.record.database import Database, RecordError, hold
from consent.record.instant import Clock, from_us, to_us
from consent.record.ledger import Ledger
from consent.record.schema import notice
from consent.record.stepped import Stepped

PENDING: Final = "pending"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"
WITHDRAWN: Final = "withdrawn"
"""Its step was undone, or its number has another subscriber, before it was delivered."""

STATES: Final = (PENDING, DELIVERED, FAILED, WITHDRAWN)

LEASE_SECONDS: Final = 60.0
AT_ONCE: Final = 3
"""Notices taken up at once: each may wait for its receiver, and all before the lease ends."""

FAILURE_LIMIT: Final = 200


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice; `at` is since when it is to be told, `changed` when its state last changed, `next`
    when it is tried next (epoch seconds, None for never); `sending` counts from 1."""

    step: Stepped
    state: str
    at: float
    changed: float
    next: float | None
    attempts: int
    sending: int
    failure: str

    @property
    def key(self) -> str:
        """By which its receiver knows it; sent again by command it is another."""
        return f"{self.step.reference}.{self.sending}"


class Notices:
    """The notices of all nodes."""

    def __init__(self, database: Database, ledger: Ledger, clock: Clock) -> None:
        self._database = database
        self._ledger = ledger
        self._clock = clock

    def bound(self) -> int:
        """Nothing is given up for being too many: steps of the ladder are few."""
        return 0

    def due(self) -> list[Notice]:
        """Those to be told now, the oldest first, taken up for a while; what cannot be told any
        more is withdrawn."""
        now = self._clock()
        with self._database.write() as connection:
            hold(connection, "event")
            wanted = (
                select(notice.c.sequence)
                .where(notice.c.next_us <= to_us(now))
                .order_by(notice.c.next_us, notice.c.sequence)
                .limit(AT_ONCE)
            )
            taken = list(connection.execute(wanted).scalars())
            mine = notice.c.sequence.in_(taken)
            lease = to_us(now + LEASE_SECONDS)
            connection.execute(update(notice).where(mine).values(next_us=lease))
        found = self.of(taken)
        gone = set(taken) - {each.step.sequence for each in found}
        if gone:
            self._put(sorted(gone), WITHDRAWN, None)
        return found

    def told(self, each: Notice) -> None:
        """Its receiver has taken it."""
        self._put([each.step.sequence], DELIVERED, None, tried=True)

    def later(self, each: Notice, at: float, *, failure: str) -> None:
        """It was not taken: again at an instant."""
        self._put([each.step.sequence], PENDING, at, tried=True, failure=failure)

    def give_up(self, each: Notice, *, failure: str) -> None:
        """It was not taken for so long that a person has to see to it."""
        self._put([each.step.sequence], FAILED, None, tried=True, failure=failure)

    def _put(
        self,
        sequences: Sequence[int],
        state: str,
        at: float | None,
        *,
        tried: bool = False,
        failure: str = "",
    ) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(notice)
                # Undone meanwhile it stays withdrawn.
                .where(notice.c.sequence.in_(sequences), notice.c.state == PENDING)
                .values(
                    state=state,
                    changed_us=to_us(self._clock()),
                    next_us=None if at is None else to_us(at),
                    attempts=notice.c.attempts + tried,
                    failure=failure[:FAILURE_LIMIT],
                )
            )

    def resend(self, sequence: int, *, actor: str) -> Notice:
        """Makes a notice due again, whatever became of it.

        Raises RecordError where the step has none, or it cannot be told any more.
        """
        now_us = to_us(self._clock())
        with self._database.write() as connection:
            again = update(notice).where(notice.c.sequence == sequence, notice.c.state != WITHDRAWN)
            fresh = {"state": PENDING, "at_us": now_us, "changed_us": now_us, "next_us": now_us}
            more = {"attempts": 0, "sending": notice.c.sending + 1, "failure": ""}
            if not connection.execute(again.values(**fresh, **more)).rowcount:
                raise RecordError(f"step {sequence} has no notice to send", field="sequence")
            write_audit(
                connection,
                "notice.resend",
                subject=f"step {sequence}",
                actor=actor,
                at_us=now_us,
                detail={},
            )
        for found in self.of([sequence]):
            return found
        raise RecordError(f"the notice of step {sequence} was erased", field="sequence")

    def of(self, sequences: Sequence[int]) -> list[Notice]:
        """The notices of some steps, in order; those that were erased are passed over."""
        steps = {each.sequence: Stepped.of(each) for each in self._ledger.numbered(sequences)}
        with self._database.read() as connection:
            rows = connection.execute(
                select(notice).where(notice.c.sequence.in_(steps)).order_by(notice.c.sequence)
            ).all()
        return [
            Notice(
                steps[row.sequence],
                row.state,
                from_us(row.at_us),
                from_us(row.changed_us),
                None if row.next_us is None else from_us(row.next_us),
                row.attempts,
                row.sending,
                row.failure,
            )
            for row in rows
        ]

    def counts(self) -> dict[str, int]:
        """How many there are in each state."""
        query = select(notice.c.state, func.count()).group_by(notice.c.state)
        with self._database.read() as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}


def keep_notice(connection: Connection, sequence: int, *, at_us: int) -> None:
    """A step with a notice is taken: the caller is to be told."""
    connection.execute(
        insert(notice).values(
            sequence=sequence,
            state=PENDING,
            at_us=at_us,
            changed_us=at_us,
            next_us=at_us,
            attempts=0,
            sending=1,
            failure="",
        )
    )


def withdraw_notices(connection: Connection, sequences: Sequence[int], *, at_us: int) -> None:
    """Steps are undone: who was not told yet need not be."""
    waiting = notice.c.sequence.in_(sequences) & (notice.c.state == PENDING)
    connection.execute(
        update(notice).where(waiting).values(state=WITHDRAWN, changed_us=at_us, next_us=None)
    )
