"""Where numbers stand on the ladder for which no entity answers: what workers go by.

A row is of a subscription, not of a number: it ends with it, and names the number nowhere.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from consent.keyring import Keyring
from consent.record.instant import from_us
from consent.record.schema import complaint, list_exception, number_stage, subject
from consent.record.subjects import open_subject


def stand(
    connection: Connection, subject_id: bytes, country: str, stage: tuple[str, int], *, at_us: int
) -> None:
    """Writes the stage of a subscription in a country with its event; ("", …) for none."""
    mine = number_stage.c.subject_id == subject_id
    known = connection.execute(select(number_stage.c.stages).where(mine)).scalar()
    stages = json.loads(known or "{}")
    stages.pop(country, None)
    if stage[0]:
        stages[country] = stage
    row: dict[str, Any] = {"stages": json.dumps(stages, sort_keys=True), "changed_us": at_us}
    if known is None:
        connection.execute(insert(number_stage).values(subject_id=subject_id, **row))
    else:
        connection.execute(update(number_stage).where(mine).values(**row))


def let_go(connection: Connection, subject_id: bytes, tokens: list[str]) -> bool:
    """Ends what a subscription of a number stood for: whoever has it next begins on the ground,
    and without exceptions.

    `tokens` are those of its number: what was complained of it counts no more. Whether anything
    was in force, which workers then have to learn.
    """
    theirs = complaint.c.caller.in_(tokens) & complaint.c.entity_id.is_(None)
    connection.execute(update(complaint).where(theirs).values(void=True))
    ended = [
        connection.execute(delete(each).where(each.c.subject_id == subject_id)).rowcount
        for each in (number_stage, list_exception)
    ]
    return any(ended)


def standing_numbers(
    connection: Connection, keyring: Keyring
) -> dict[int, Mapping[str, tuple[str, int]]]:
    """The numbers on which a stage is in force, each with its stages by country."""
    query = (
        select(subject.c.id, subject.c.sealed, number_stage.c.stages)
        .join_from(number_stage, subject)
        .where(number_stage.c.stages != "{}", subject.c.sealed != b"")
    )
    return {
        open_subject(keyring, row.id, row.sealed).number: {
            country: (stage, sequence)
            for country, (stage, sequence) in json.loads(row.stages).items()
        }
        for row in connection.execute(query)
    }


def changed_at(connection: Connection) -> float:
    """When a number last came to stand elsewhere, epoch seconds; 0 where none ever did."""
    newest = connection.execute(select(func.max(number_stage.c.changed_us))).scalar()
    return from_us(newest or 0)
