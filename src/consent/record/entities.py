"""The registry of entities: who may call, for which trades, from which numbers."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, true, update

from consent.category import BIT
from consent.entity import Entity, EntityStatus
from consent.record.audit import write_audit
from consent.record.database import Database, RecordError, next_value
from consent.record.instant import Clock, from_us, to_us
from consent.record.once import RecordConflict
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
        acts_for: str = "",
        unchanged: str | None = None,
    ) -> Entity:
        """Makes an entity, or replaces all but the id of the one with this name.

        `acts_for` names the entity that it calls for; `unchanged` is the version that the change
        rests on, "" for none. Raises RecordError for unknown words, for a number that is another
        entity's, and for a delegate of a delegate; RecordConflict where it changed meanwhile.
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
            known = next(iter(_read(connection, entity.c.name == name)), None)
            stages = known.stages if known else {}
            if unchanged is not None and unchanged != (known.version if known else ""):
                raise RecordConflict(f"entity {name!r} has changed meanwhile", field="version")
            entity_id = known.id if known else None
            principal = _principal(connection, name, entity_id, acts_for)
            described["acts_for"] = principal or None
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
                    **({"acts_for": acts_for} if acts_for else {}),
                },
            )
        status = EntityStatus(status)
        return _entity(entity_id, name, title, trades, status, sorted(spans), principal, stages)

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
            raise _unknown(name, self.ids())
        return int(found)

    def changed_at(self) -> float:
        """When an entity last changed, epoch seconds; 0 where there is none."""
        with self._database.read() as connection:
            newest = connection.execute(select(func.max(entity.c.changed_us))).scalar()
        return from_us(newest or 0)

    def all(self, *, status: str | None = EntityStatus.ACTIVE) -> list[Entity]:
        """The entities by id: the active ones, of another status, or all of them with None."""
        with self._database.read() as connection:
            return _read(connection, true() if status is None else entity.c.status == status)

    def named(self, name: str) -> Entity:
        """One entity, whatever its status. Raises RecordError where there is none such."""
        with self._database.read() as connection:
            for found in _read(connection, entity.c.name == name):
                return found
        raise _unknown(name, self.ids())


def _read(connection: Connection, which: ColumnElement[bool]) -> list[Entity]:
    rows = connection.execute(select(entity).where(which).order_by(entity.c.id)).all()
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    theirs = select(entity_range).join_from(entity_range, entity).where(which)
    for span in connection.execute(theirs.order_by(entity_range.c.lo)):
        spans[span.entity_id].append((span.lo, span.hi))
    return [
        _entity(
            row.id,
            row.name,
            row.title,
            json.loads(row.categories),
            EntityStatus(row.status),
            spans[row.id],
            row.acts_for or 0,
            {country: (stage, n) for country, (stage, n) in json.loads(row.stages).items()},
        )
        for row in rows
    ]


def _unknown(name: str, known: Iterable[str], *, field: str = "entity") -> RecordError:
    return RecordError(f"entity {name!r} is not registered, {nearest(name, known)}", field=field)


def _principal(connection: Connection, name: str, entity_id: int | None, acts_for: str) -> int:
    """The id of the entity that this one calls for, 0 for none; one step and no more."""
    if not acts_for:
        return 0
    field = "acts_for"
    ids = {row.name: row for row in connection.execute(select(entity)).all()}
    if acts_for not in ids:
        raise _unknown(acts_for, ids, field=field)
    if acts_for == name or ids[acts_for].acts_for:
        raise RecordError(
            f"entity {name!r} cannot act for {acts_for!r}, which acts for another or is itself",
            field=field,
        )
    if entity_id and any(row.acts_for == entity_id for row in ids.values()):
        raise RecordError(
            f"entity {name!r} cannot act for another: it has delegates of its own", field=field
        )
    return int(ids[acts_for].id)


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
    acts_for: int,
    stages: Mapping[str, tuple[str, int]],
) -> Entity:
    return Entity(
        id=entity_id,
        name=name,
        title=title,
        categories=tuple(trades),
        numbers=tuple(lo for lo, hi in spans if lo == hi),
        ranges=tuple((lo, hi) for lo, hi in spans if lo != hi),
        status=status,
        acts_for=acts_for,
        stages=stages,
    )
