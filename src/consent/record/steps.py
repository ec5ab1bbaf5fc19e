"""The steps of the ladder: events of the ledger, in force with the transaction that keeps them.

Invariants: the newest step of a party in a country says the whole of where it stands there, and
`entity.stages` and `number_stage` are what the newest steps come to; a step is taken only over the
one that its decision rests on, so that two who decide at once take one step.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import Connection, select, update

from consent.entity import Party
from consent.event import Event, EventKind
from consent.keyring import Keyring
from consent.record.audit import write_audit
from consent.record.database import Database, RecordError, next_value
from consent.record.instant import Clock, to_us
from consent.record.ledger import Ledger
from consent.record.notices import keep_notice, withdraw_notices
from consent.record.once import RecordConflict
from consent.record.schema import complaint, entity
from consent.record.standing import changed_at, stand, standing_numbers
from consent.record.stepped import Stepped
from consent.record.subjects import VARIABLES, Subjects

GROUND: Final = 0


class Steps:
    """The steps of every party."""

    def __init__(self, database: Database, keyring: Keyring, ledger: Ledger, clock: Clock) -> None:
        self._database = database
        self._keyring = keyring
        self._ledger = ledger
        self._clock = clock

    def of(self, party: Party, jurisdiction: str = "") -> list[Stepped]:
        """The steps of a party in order, in one country or in all."""
        found = map(Stepped.of, self._ledger.steps(party))
        return [each for each in found if jurisdiction in ("", each.jurisdiction)]

    def all(self) -> list[Stepped]:
        """Every step, in order."""
        return list(map(Stepped.of, self._ledger.steps()))

    def numbers(self) -> dict[int, Mapping[str, tuple[str, int]]]:
        """The numbers on which a stage is in force, by country with the event, as of entities."""
        with self._database.read() as connection:
            return standing_numbers(connection, self._keyring)

    def numbers_changed_at(self) -> float:
        """When a number last came to stand elsewhere, epoch seconds; 0 where none ever did."""
        with self._database.read() as connection:
            return changed_at(connection)

    def take(
        self,
        party: Party,
        body: Mapping[str, Any],
        *,
        at: float,
        actor: str,
        rests_on: int,
        voided: Collection[int] = (),
    ) -> Stepped:
        """Commits a step, and brings it into force: see `consent.event` for its body.

        `rests_on` is the sequence of the newest step of this party in this country, 0 for none;
        the complaints that are `voided` count no more. Raises RecordConflict where another step
        was taken meanwhile, RecordError for what cannot be.
        """
        said = {"entity": party.entity, **body}
        event = Event(0, at, EventKind.LADDER_STEPPED, party.number, said)
        with self._database.write() as connection:
            kept = self._ledger.append_within(connection, event, actor=actor)
            stepped = Stepped.of(kept)
            next_value(connection, "revision")
            name = self._stand(connection, stepped, rests_on)
            for start in range(0, len(ids := sorted(voided)), VARIABLES):
                these = complaint.c.id.in_(ids[start : start + VARIABLES])
                connection.execute(update(complaint).where(these).values(void=True))
            now_us = to_us(self._clock())
            if stepped.notice:
                keep_notice(connection, stepped.sequence, at_us=now_us)
            if stepped.reverses:
                undone = [
                    each.sequence
                    for each in self._ledger.steps_within(connection, party)
                    if each.sequence >= stepped.reverses
                    and each.body["jurisdiction"] == stepped.jurisdiction
                ]
                withdraw_notices(connection, undone, at_us=now_us)
            write_audit(
                connection,
                f"ladder.{stepped.step}",
                subject=name,
                actor=actor,
                at_us=now_us,
                detail={
                    "event": kept.sequence,
                    "jurisdiction": stepped.jurisdiction,
                    "stage": stepped.stage,
                    **({"reverses": stepped.reverses} if stepped.reverses else {}),
                    **({"reason": stepped.reason} if stepped.reason else {}),
                },
            )
        return stepped

    def _stand(self, connection: Connection, stepped: Stepped, rests_on: int) -> str:
        """Writes where the party now stands; the answer is the entity's name, or a token."""
        before = [
            each.sequence
            for each in map(Stepped.of, self._ledger.steps_within(connection, stepped.party))
            if each.jurisdiction == stepped.jurisdiction and each.sequence < stepped.sequence
        ]
        if (before[-1] if before else GROUND) != rests_on:
            raise RecordConflict("another step was taken meanwhile", field="step")
        if stepped.party.number:
            who = Subjects(connection, self._keyring, [stepped.party.number])
            stand(
                connection,
                who.of(stepped.party.number).id,
                stepped.jurisdiction,
                (stepped.in_force, stepped.sequence),
                at_us=to_us(self._clock()),
            )
            return self._keyring.token(stepped.party.number)
        mine = entity.c.id == stepped.party.entity
        row = connection.execute(select(entity).where(mine)).one_or_none()
        if row is None:
            raise RecordError(f"entity {stepped.party.entity} is not registered", field="entity")
        stages = json.loads(row.stages)
        stages.pop(stepped.jurisdiction, None)
        if stepped.in_force:
            stages[stepped.jurisdiction] = [stepped.in_force, stepped.sequence]
        # The instant from which workers measure how long it took them.
        changed = {"stages": json.dumps(stages, sort_keys=True), "changed_us": to_us(self._clock())}
        connection.execute(update(entity).where(mine).values(**changed))
        return str(row.name)
