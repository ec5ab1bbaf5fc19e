"""Appeals against decisions and steps of the ladder: opened, judged by a person, once each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, func, insert, select, update

from consent.keyring import Keyring
from consent.record.audit import write_audit
from consent.record.database import Database, RecordError
from consent.record.instant import Clock, from_us, to_us
from consent.record.once import RecordConflict
from consent.record.schema import appeal

APPEAL: Final = "appeal"
WANTED: Final = "wanted"
"""The called party's own word that it wanted the call: no judge is needed."""

UPHELD: Final = "upheld"
REJECTED: Final = "rejected"
OUTCOMES: Final = (UPHELD, REJECTED)
_SEALED_FOR: Final = b"appeal"


@dataclass(frozen=True, slots=True)
class Appealed:
    """What an appeal is against: a decision, the step that it rests on, or both."""

    jurisdiction: str
    decision_id: str = ""
    step: int = 0
    entity: int = 0
    rule: str = ""
    category: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Appeal:
    """An appeal; instants are epoch seconds, `decided` None and `outcome` "" while it is open."""

    id: int
    kind: str
    opened: float
    due: float
    against: Appealed
    opened_by: str
    outcome: str
    effect: str
    reason: str
    decided: float | None
    decided_by: str

    def late(self, now: float) -> bool:
        """Whether its clock has run out, or had when it was decided."""
        return (now if self.decided is None else self.decided) > self.due


class Appeals:
    """The appeals."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock

    def open(self, against: Appealed, *, text: str, within: float, actor: str) -> Appeal:
        """Takes down an appeal, to be decided `within` so many seconds.

        Raises RecordConflict where there was one against the same decision or step.
        """
        now = self._clock()
        return self._add(APPEAL, against, text, actor=actor, due=now + within)

    def wanted(self, against: Appealed, *, effect: str, actor: str) -> Appeal | None:
        """Takes down that a called party wanted a call; None where it said so before."""
        now_us = to_us(self._clock())
        word = {
            "outcome": UPHELD,
            "effect": effect,
            "decided_us": now_us,
            "decided_by": actor,
        }
        try:
            return self._add(WANTED, against, "", actor=actor, due=from_us(now_us), **word)
        except RecordConflict:
            return None

    def _add(
        self, kind: str, against: Appealed, text: str, *, actor: str, due: float, **judged: Any
    ) -> Appeal:
        row = {
            "kind": kind,
            "opened_us": to_us(self._clock()),
            "due_us": to_us(due),
            "jurisdiction": against.jurisdiction,
            "decision_id": against.decision_id,
            "step": against.step,
            "entity_id": against.entity or None,
            "rule": against.rule,
            "category": against.category,
            "cause": against.cause,
            "text": self._keyring.encrypt(text.encode(), _SEALED_FOR),
            "opened_by": actor,
            "outcome": "",
            "effect": "",
            "reason": "",
            "decided_us": None,
            "decided_by": "",
            **judged,
        }
        # One against a step, whatever decisions came of it: else appeals would pause it for ever.
        about = (
            appeal.c.step == against.step
            if against.step
            else appeal.c.decision_id == against.decision_id
        )
        known = select(appeal.c.id).where(about, appeal.c.kind == kind)
        with self._database.write() as connection:
            if connection.execute(known).first() is not None:
                raise RecordConflict("there was an appeal against this before", field="appeal")
            row["id"] = connection.execute(
                insert(appeal).values(**row).returning(appeal.c.id)
            ).scalar_one()
            write_audit(
                connection,
                f"{kind}.opened",
                subject=against.decision_id or f"step {against.step}",
                actor=actor,
                at_us=row["opened_us"],
                detail={"appeal": row["id"]},
            )
        return _appeal(row)

    def decide(
        self, appeal_id: int, *, outcome: str, effect: str, reason: str, actor: str
    ) -> Appeal:
        """Closes an appeal. Raises RecordError for no such one, RecordConflict for a closed one."""
        if outcome not in OUTCOMES:
            raise RecordError(f"outcome: expected {' or '.join(OUTCOMES)}", field="outcome")
        now_us = to_us(self._clock())
        with self._database.write() as connection:
            done = connection.execute(
                update(appeal)
                .where(appeal.c.id == appeal_id, appeal.c.outcome == "")
                .values(
                    outcome=outcome,
                    effect=effect,
                    reason=reason,
                    decided_us=now_us,
                    decided_by=actor,
                )
            )
            row = connection.execute(select(appeal).where(appeal.c.id == appeal_id)).one_or_none()
            if row is None:
                raise RecordError(f"there is no appeal {appeal_id}", field="id")
            if not done.rowcount:
                raise RecordConflict(f"appeal {appeal_id} was decided before", field="appeal")
            write_audit(
                connection,
                f"appeal.{outcome}",
                subject=f"appeal {appeal_id}",
                actor=actor,
                at_us=now_us,
                detail={"effect": effect, "reason": reason},
            )
            return _appeal(row._mapping)  # noqa: SLF001 - SQLAlchemy's own name for it

    def get(self, appeal_id: int) -> Appeal:
        """One appeal. Raises RecordError where there is none such."""
        for found in self._read(select(appeal).where(appeal.c.id == appeal_id)):
            return found
        raise RecordError(f"there is no appeal {appeal_id}", field="id")

    def text(self, appeal_id: int) -> str:
        """What was said for it."""
        query = select(appeal.c.text).where(appeal.c.id == appeal_id)
        with self._database.read() as connection:
            sealed = connection.execute(query).scalar()
        return "" if sealed is None else self._keyring.decrypt(sealed, _SEALED_FOR).decode()

    def latest(self, limit: int = 100, *, open_only: bool = False) -> list[Appeal]:
        """The newest first."""
        query = select(appeal).where(appeal.c.kind == APPEAL).order_by(appeal.c.id.desc())
        if open_only:
            query = query.where(appeal.c.outcome == "")
        return self._read(query.limit(limit))

    def between(self, first: float, end: float, jurisdiction: str) -> list[Appeal]:
        """Those opened in a period, what was wanted too, in order."""
        return self._read(
            select(appeal)
            .where(
                appeal.c.opened_us >= to_us(first),
                appeal.c.opened_us < to_us(end),
                appeal.c.jurisdiction == jurisdiction,
            )
            .order_by(appeal.c.id)
        )

    def judged(self) -> dict[tuple[str, str], tuple[int, int]]:
        """By rule and category: how many were upheld, and how many were judged."""
        query = (
            select(appeal.c.rule, appeal.c.category, appeal.c.outcome, func.count())
            .where(appeal.c.outcome != "", appeal.c.rule != "")
            .group_by(appeal.c.rule, appeal.c.category, appeal.c.outcome)
        )
        found: dict[tuple[str, str], tuple[int, int]] = {}
        with self._database.read() as connection:
            for rule, category, outcome, count in connection.execute(query):
                upheld, judged = found.get((rule, category), (0, 0))
                upheld += count if outcome == UPHELD else 0
                found[rule, category] = (upheld, judged + count)
        return found

    def _read(self, query: Select[Any]) -> list[Appeal]:
        with self._database.read() as connection:
            return [_appeal(row) for row in connection.execute(query).mappings()]


def _appeal(row: Mapping[Any, Any]) -> Appeal:
    return Appeal(
        id=row["id"],
        kind=row["kind"],
        opened=from_us(row["opened_us"]),
        due=from_us(row["due_us"]),
        against=Appealed(
            jurisdiction=row["jurisdiction"],
            decision_id=row["decision_id"],
            step=row["step"],
            entity=row["entity_id"] or 0,
            rule=row["rule"],
            category=row["category"],
            cause=row["cause"],
        ),
        opened_by=row["opened_by"],
        outcome=row["outcome"],
        effect=row["effect"],
        reason=row["reason"],
        decided=None if row["decided_us"] is None else from_us(row["decided_us"]),
        decided_by=row["decided_by"],
    )
