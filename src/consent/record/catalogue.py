"""The catalogue of lists: which files were loaded, and which generation of each is in force.

A generation is loading, then active or failed; the active one is replaced by the next, or rolled
back to the one before. At most one generation of a list is active.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from consent.category import BIT
from consent.record.audit import write_audit
from consent.record.database import Database, RecordError, next_value
from consent.record.instant import Clock, from_us, to_us
from consent.record.schema import catalogue, generation
from consent.record.words import nearest, slug

SHA256: Final = re.compile(r"[0-9a-f]{64}")
REGION: Final = re.compile(r"[A-Z]{2}|")


class ListKind(StrEnum):
    """What a list says of its numbers: called ones (`dnc`) or calling ones (the others)."""

    DNC = "dnc"
    DNO = "dno"
    BLOCK = "block"
    ALLOW = "allow"


class GenerationState(StrEnum):
    """Where one loaded file of a list stands."""

    LOADING = "loading"
    ACTIVE = "active"
    REPLACED = "replaced"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Generation:
    """One file loaded into a list; `generation` counts from 1 in each list, without reuse.

    `sha256` and `size_bytes` are of the original file; `checksum` is of the numbers, as the
    loader defines it. Instants are epoch seconds: `loaded_at` when loading began,
    `activated_at` when it last came into force, `retired_at` when it last went out of it.
    """

    list_id: int
    list_name: str
    generation: int
    state: GenerationState
    format: str
    source: str
    sha256: str
    size_bytes: int
    loaded: int
    duplicates: int
    rejected: int
    checksum: str
    loaded_at: float
    activated_at: float | None
    retired_at: float | None
    actor: str


@dataclass(frozen=True, slots=True)
class ListInfo:
    """A list and the generation in force, if any; `age_s` is since that one was loaded.

    Beyond `max_age_s` its facts are stale; 0 permits any age.
    """

    id: int
    name: str
    kind: ListKind
    region: str
    category: str
    created_at: float
    active: Generation | None
    age_s: float | None
    max_age_s: int = 0


class Catalogue:
    """The lists and their generations."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(
        self,
        name: str,
        *,
        kind: str,
        format: str,  # noqa: A002
        source: str,
        sha256: str,
        size_bytes: int,
        actor: str,
        region: str = "",
        category: str = "",
    ) -> Generation:
        """Opens the next generation of a list, which is made by its first one.

        `category` is what a `dnc` list's numbers refuse and is "" for other kinds. A generation
        still loading is given up: its loader has died, or will be refused when it activates.
        Raises RecordError for words that are none, and where the list exists with another
        kind, region or category and has been in force.
        """
        described = _described(name, kind=kind, region=region, category=category)
        if not SHA256.fullmatch(sha256):
            raise RecordError(f"list {name!r}: sha256 is not 64 hexadecimal digits", field="sha256")
        now_us = to_us(self._clock())
        with self._database.write() as connection:
            next_value(connection, "revision")
            list_id = self._list_id(connection, name, described, now_us)
            connection.execute(
                update(generation)
                .where(generation.c.list_id == list_id)
                .where(generation.c.state == GenerationState.LOADING)
                .values(state=GenerationState.FAILED, retired_us=now_us)
            )
            newest = connection.execute(
                select(func.max(generation.c.generation)).where(generation.c.list_id == list_id)
            ).scalar()
            number = (newest or 0) + 1
            connection.execute(
                insert(generation).values(
                    list_id=list_id,
                    generation=number,
                    state=GenerationState.LOADING,
                    format=format,
                    source=source,
                    sha256=sha256,
                    size_bytes=size_bytes,
                    loaded=0,
                    duplicates=0,
                    rejected=0,
                    checksum="",
                    loaded_us=now_us,
                    actor=actor,
                )
            )
            return _one(connection, list_id, number)

    def activate(
        self,
        began: Generation,
        *,
        loaded: int,
        duplicates: int,
        rejected: int,
        checksum: str,
        actor: str,
    ) -> Generation:
        """Puts a generation in force and replaces the one before, at one instant."""
        now_us = to_us(self._clock())
        with self._database.write() as connection:
            next_value(connection, "revision")
            _expect_loading(connection, began)
            _retire(connection, began.list_id, GenerationState.REPLACED, now_us)
            _set(
                connection,
                began,
                state=GenerationState.ACTIVE,
                loaded=loaded,
                duplicates=duplicates,
                rejected=rejected,
                checksum=checksum,
                activated_us=now_us,
            )
            write_audit(
                connection,
                "list.activate",
                subject=began.list_name,
                actor=actor,
                at_us=now_us,
                detail={
                    "generation": began.generation,
                    "sha256": began.sha256,
                    "loaded": loaded,
                    "duplicates": duplicates,
                    "rejected": rejected,
                },
            )
            return _one(connection, began.list_id, began.generation)

    def fail(self, began: Generation, *, reason: str, actor: str) -> Generation:
        """Gives up a generation that was loading; the one in force stays."""
        now_us = to_us(self._clock())
        with self._database.write() as connection:
            next_value(connection, "revision")
            _expect_loading(connection, began)
            _set(connection, began, state=GenerationState.FAILED, retired_us=now_us)
            write_audit(
                connection,
                "list.fail",
                subject=began.list_name,
                actor=actor,
                at_us=now_us,
                detail={"generation": began.generation, "reason": reason},
            )
            return _one(connection, began.list_id, began.generation)

    def permit_age(self, name: str, max_age_s: int, *, actor: str) -> None:
        """Sets how old a list may be before its facts are stale, 0 for any age.

        Raises RecordError where there is no such list, or the age is negative.
        """
        if max_age_s < 0:
            raise RecordError(f"list {name!r}: an age of {max_age_s} s is none", field="max_age_s")
        with self._database.write() as connection:
            next_value(connection, "revision")
            mine = catalogue.c.id == _find(connection, name)
            connection.execute(update(catalogue).where(mine).values(max_age_s=max_age_s))
            write_audit(
                connection,
                "list.permit_age",
                subject=name,
                actor=actor,
                at_us=to_us(self._clock()),
                detail={"max_age_s": max_age_s},
            )

    def rollback(self, name: str, *, actor: str) -> Generation:
        """Puts the generation before the active one in force again, and gives it.

        Raises RecordError where there is no such list or generation.
        """
        now_us = to_us(self._clock())
        with self._database.write() as connection:
            next_value(connection, "revision")
            list_id = _find(connection, name)
            before = connection.execute(
                select(func.max(generation.c.generation))
                .where(generation.c.list_id == list_id)
                .where(generation.c.state == GenerationState.REPLACED)
            ).scalar()
            if before is None:
                raise RecordError(f"list {name!r} has no earlier generation", field="name")
            left = _retire(connection, list_id, GenerationState.ROLLED_BACK, now_us)
            back = _one(connection, list_id, before)
            _set(
                connection,
                back,
                state=GenerationState.ACTIVE,
                activated_us=now_us,
                retired_us=None,
            )
            write_audit(
                connection,
                "list.rollback",
                subject=name,
                actor=actor,
                at_us=now_us,
                detail={"generation": before, "left": left},
            )
            return _one(connection, list_id, before)

    def lists(self) -> list[ListInfo]:
        """Every list by name, with the generation in force."""
        now = self._clock()
        active = and_(
            generation.c.list_id == catalogue.c.id,
            generation.c.state == GenerationState.ACTIVE,
        )
        query = (
            select(catalogue, generation)
            .select_from(catalogue.outerjoin(generation, active))
            .order_by(catalogue.c.name)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [_list_info(row, now) for row in rows]

    def generations(self, name: str) -> list[Generation]:
        """Every generation of a list, newest first. Raises RecordError for an unknown list."""
        query = _generations().where(catalogue.c.name == name)
        with self._database.read() as connection:
            _find(connection, name)
            rows = connection.execute(query.order_by(generation.c.generation.desc())).all()
        return [_generation(row) for row in rows]

    @staticmethod
    def _list_id(
        connection: Connection, name: str, described: Mapping[str, str], now_us: int
    ) -> int:
        row = connection.execute(select(catalogue).where(catalogue.c.name == name)).one_or_none()
        if row is None:
            made = insert(catalogue).values(name=name, created_us=now_us, **described)
            return int(connection.execute(made.returning(catalogue.c.id)).scalar_one())
        changed = [field for field, value in described.items() if getattr(row, field) != value]
        if changed:
            in_force = (
                select(generation.c.generation)
                .where(generation.c.list_id == row.id)
                .where(generation.c.activated_us.is_not(None))
            )
            # A list that never was in force may be described anew: its first words were a slip.
            if connection.execute(in_force.limit(1)).first() is not None:
                field = changed[0]
                raise RecordError(
                    f"list {name!r} has {field} {getattr(row, field)!r}, not {described[field]!r}: "
                    "load the file under another name",
                    field=field,
                )
            connection.execute(
                update(catalogue).where(catalogue.c.id == row.id).values(**described)
            )
        return int(row.id)


def dnc_in_force(connection: Connection) -> list[tuple[int, int]]:
    """The do-not-call lists in force, with their generations, in an open transaction."""
    query = (
        select(generation.c.list_id, generation.c.generation)
        .join(catalogue, catalogue.c.id == generation.c.list_id)
        .where(catalogue.c.kind == ListKind.DNC, generation.c.state == GenerationState.ACTIVE)
    )
    return [(row.list_id, row.generation) for row in connection.execute(query)]


def _described(name: str, *, kind: str, region: str, category: str) -> dict[str, str]:
    slug(name, what="list", field="name")
    if kind not in set(ListKind):
        raise RecordError(
            f"list {name!r}: kind {kind!r} is none, {nearest(kind, ListKind)}", field="kind"
        )
    if not REGION.fullmatch(region):
        raise RecordError(
            f"list {name!r}: region {region!r} is not two capital letters (ISO 3166-1)",
            field="region",
        )
    if kind == ListKind.DNC and category not in BIT:
        raise RecordError(
            f"list {name!r}: category {category!r} is none, {nearest(category, BIT)}",
            field="category",
        )
    if kind != ListKind.DNC and category:
        raise RecordError(
            f"list {name!r}: a list of kind {kind} has no category, given {category!r}",
            field="category",
        )
    return {"kind": kind, "region": region, "category": category}


def _find(connection: Connection, name: str) -> int:
    rows = connection.execute(select(catalogue.c.name, catalogue.c.id))
    names: dict[str, int] = {row.name: row.id for row in rows}
    if name not in names:
        raise RecordError(f"no list is named {name!r}, {nearest(name, names)}", field="name")
    return names[name]


def _expect_loading(connection: Connection, began: Generation) -> None:
    state = _one(connection, began.list_id, began.generation).state
    if state != GenerationState.LOADING:
        raise RecordError(
            f"generation {began.generation} of list {began.list_name!r} is {state}, expected "
            f"{GenerationState.LOADING}: a later load has taken its place",
            field="generation",
        )


def _retire(connection: Connection, list_id: int, state: GenerationState, now_us: int) -> int:
    """Takes the active generation out of force, and gives its number, 0 where there is none."""
    retired = (
        update(generation)
        .where(generation.c.list_id == list_id)
        .where(generation.c.state == GenerationState.ACTIVE)
        .values(state=state, retired_us=now_us)
        .returning(generation.c.generation)
    )
    return connection.execute(retired).scalar() or 0


def _set(connection: Connection, which: Generation, **values: Any) -> None:
    connection.execute(
        update(generation)
        .where(generation.c.list_id == which.list_id)
        .where(generation.c.generation == which.generation)
        .values(**values)
    )


def _generations() -> Any:
    joined = generation.join(catalogue, generation.c.list_id == catalogue.c.id)
    return select(catalogue.c.name, generation).select_from(joined)


def _one(connection: Connection, list_id: int, number: int) -> Generation:
    query = (
        _generations()
        .where(generation.c.list_id == list_id)
        .where(generation.c.generation == number)
    )
    return _generation(connection.execute(query).one())


def _list_info(row: Row[Any], now: float) -> ListInfo:
    active = None if row.generation is None else _generation(row)
    return ListInfo(
        id=row.id,
        name=row.name,
        kind=ListKind(row.kind),
        region=row.region,
        category=row.category,
        created_at=from_us(row.created_us),
        active=active,
        age_s=None if active is None else max(0.0, now - active.loaded_at),
        max_age_s=row.max_age_s,
    )


def _generation(row: Row[Any]) -> Generation:
    return Generation(
        list_id=row.list_id,
        list_name=row.name,
        generation=row.generation,
        state=GenerationState(row.state),
        format=row.format,
        source=row.source,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        loaded=row.loaded,
        duplicates=row.duplicates,
        rejected=row.rejected,
        checksum=row.checksum,
        loaded_at=from_us(row.loaded_us),
        activated_at=None if row.activated_us is None else from_us(row.activated_us),
        retired_at=None if row.retired_us is None else from_us(row.retired_us),
        actor=row.actor,
    )
