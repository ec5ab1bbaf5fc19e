"""The registry of entities: who may call, for which trades, from which numbers."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, func, insert, select, update

from consent.category import BIT
from consent.entity import Entity, EntityStatus
from consent.record.audit import write_audit
from consent.record.database import Database, RecordError, next_value
from consent.record.instant import Clock, to_us
from consent.record.schema import NUMBER_LIMIT, entity, entity_range
from consent.record.words import nearest, slug


class Entities:
    """The entities; one, once made, keeps its id and is suspended rather than removed."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def put(
        self,
        name: str,
        *,
        title: str,
        categories: Iterable[str],
        actor: str,
        numbers: Iterable[int] = (),
        ranges: Iterable[tuple[int, int]] = (),
        status: str = EntityStatus.ACTIVE,
    ) -> Entity:
        """Makes an entity, or replaces all but the id of the one with this name.

        Raises RecordError for unknown words, and for a number that is another entity's.
        """
        slug(name, what="entity", field="name")
        if status not in set(EntityStatus):
            raise RecordError(
                f"entity {name!r}: status {status!r} is none, {nearest(status, EntityStatus)}",
                field="status",
            )
        trades = _trades(name, categories)
        spans = _spans(name, list(numbers), list(ranges))
        now_us = to_us(self._clock())
        described = {
            "title": title,
            "categories": json.dumps(trades),
            "status": status,
            "changed_us": now_us,
        }
        with self._database.write() as connection:
            next_value(connection, "revision")
            entity_id = connection.execute(
                select(entity.c.id).where(entity.c.name == name)
            ).scalar()
            if entity_id is None:
                newest = connection.execute(select(func.max(entity.c.id))).scalar()
                entity_id = (newest or 0) + 1
                connection.execute(insert(entity).values(id=entity_id, name=name, **described))
            else:
                connection.execute(
                    update(entity).where(entity.c.id == entity_id).values(**described)
                )
                connection.execute(
                    delete(entity_range).where(entity_range.c.entity_id == entity_id)
                )
            _expect_free(connection, name, spans)
            if spans:
                connection.execute(
                    insert(entity_range),
                    [{"lo": lo, "hi": hi, "entity_id": entity_id} for lo, hi in spans],
                )
            write_audit(
                connection,
                "entity.put",
                subject=name,
                actor=actor,
                at_us=now_us,
                detail={
                    "id": entity_id,
                    "categories": trades,
                    "status": status,
                    "numbers": len(spans),
                },
            )
        return _entity(entity_id, name, title, trades, EntityStatus(status), sorted(spans))

    def ids(self) -> dict[str, int]:
        """The id of every entity by its name, suspended ones too."""
        with self._database.read() as connection:
            rows = connection.execute(select(entity.c.name, entity.c.id)).all()
        return {row.name: row.id for row in rows}

    def id_of(self, name: str) -> int:
        """The id of an entity, suspended or not. Raises RecordError where there is none such."""
        with self._database.read() as connection:
            query = select(entity.c.id).where(entity.c.name == name)
            found = connection.execute(query).scalar()
        if found is None:
            raise RecordError(
                f"entity {name!r} is not registered, {nearest(name, self.ids())}", field="entity"
            )
        return int(found)

    def all(self, *, status: str | None = EntityStatus.ACTIVE) -> list[Entity]:
        """The entities by id: the active ones, of another status, or all of them with None."""
        query = select(entity).order_by(entity.c.id)
        if status is not None:
            query = query.where(entity.c.status == status)
        spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            for span in connection.execute(select(entity_range).order_by(entity_range.c.lo)):
                spans[span.entity_id].append((span.lo, span.hi))
        return [
            _entity(
                row.id,
                row.name,
                row.title,
                json.loads(row.categories),
                EntityStatus(row.status),
                spans[row.id],
            )
            for row in rows
        ]


def _trades(name: str, categories: Iterable[str]) -> list[str]:
    trades = sorted(set(categories))
    for category in trades:
        # A call is for one trade: "all" is for who refuses or consents.
        if category not in BIT or category == "all":
            trade_words = [word for word in BIT if word != "all"]
            raise RecordError(
                f"entity {name!r}: category {category!r} is none, {nearest(category, trade_words)}",
                field="categories",
            )
    return trades


def _spans(
    name: str, numbers: Sequence[int], ranges: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Numbers and ranges as ranges that do not overlap; messages say where, not which number."""
    where = {(number, number): f"numbers[{n}]" for n, number in enumerate(numbers)}
    where |= {(lo, hi): f"ranges[{n}]" for n, (lo, hi) in enumerate(ranges)}
    reached, last = 0, ""
    for (lo, hi), place in sorted(where.items()):
        if not 0 < lo <= hi < NUMBER_LIMIT:
            raise RecordError(
                f"entity {name!r}: {place} is no number or range of numbers, expected digits with "
                "country code, the first not above the last",
                field=place,
            )
        if lo <= reached:
            raise RecordError(f"entity {name!r}: {place} overlaps {last}", field=place)
        reached, last = hi, place
    return list(where)


def _expect_free(connection: Connection, name: str, spans: list[tuple[int, int]]) -> None:
    for n, (lo, hi) in enumerate(spans):
        # Ranges do not overlap, so only the last that begins at or below `hi` can reach `lo`.
        owner = connection.execute(
            select(entity.c.name, entity_range.c.hi)
            .join_from(entity_range, entity)
            .where(entity_range.c.lo <= hi)
            .order_by(entity_range.c.lo.desc())
            .limit(1)
        ).one_or_none()
        if owner is not None and owner.hi >= lo:
            raise RecordError(
                f"entity {name!r}: authorised number or range {n + 1} of {len(spans)} belongs to "
                f"entity {owner.name!r}",
                field="numbers" if lo == hi else "ranges",
            )


def _entity(
    entity_id: int,
    name: str,
    title: str,
    trades: Iterable[str],
    status: EntityStatus,
    spans: list[tuple[int, int]],
) -> Entity:
    return Entity(
        id=entity_id,
        name=name,
        title=title,
        categories=tuple(trades),
        numbers=tuple(lo for lo, hi in spans if lo == hi),
        ranges=tuple((lo, hi) for lo, hi in spans if lo != hi),
        status=status,
    )
