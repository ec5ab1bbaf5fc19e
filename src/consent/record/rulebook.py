"""The rulebook: every bundle of rule sets that was pushed, and which of them is in force.

Activations are only ever added, and the newest is in force on every node. Each knows the one
that a rollback returns to, so that rolling back twice goes two steps back and not to and fro.
What a bundle says, and whether its signature holds, is for those who run it to judge.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from consent.record.audit import write_audit
from consent.record.database import Database, RecordError, next_value
from consent.record.instant import Clock, from_us, to_us
from consent.record.schema import activation, bundle

FOLDER: Final = ""
"""The digest of an activation of each node's own folder."""

LEAST_PREFIX: Final = 4


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle without its content, named by the SHA-256 of that.

    `sets` are the names and revisions in it, as its author's machine read them; `signature` and
    `key_id` are empty for one that is not signed.
    """

    digest: str
    size_bytes: int
    sets: tuple[str, ...]
    author: str
    created_at: float
    note: str
    signature: bytes
    key_id: str


@dataclass(frozen=True, slots=True)
class Activation:
    """What came into force at `at`, in epoch seconds; `digest` is FOLDER for the nodes' own."""

    sequence: int
    digest: str
    back_to: int
    at: float
    actor: str
    reason: str
    forced: bool


BEFORE_THE_FIRST: Final = Activation(0, FOLDER, 0, 0.0, "", "", forced=False)
"""In force until something is activated."""


class Rulebook:
    """The bundles and their activations."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def push(
        self,
        content: bytes,
        *,
        sets: Sequence[str],
        actor: str,
        note: str = "",
        signature: bytes = b"",
        key_id: str = "",
    ) -> Bundle:
        """Keeps a bundle; nothing comes into force by it.

        One that is there stays as it is but for content that was damaged and a signature, which
        are mended and replaced.
        """
        now_us = to_us(self._clock())
        digest = hashlib.sha256(content).hexdigest()
        with self._database.write() as connection:
            known = connection.execute(_bundles().where(bundle.c.digest == digest)).one_or_none()
            # An unsigned push does not take the signature off a bundle that nodes may need it of.
            signed = {"signature": signature, "key_id": key_id} if signature else {}
            if known is not None:
                again = update(bundle).where(bundle.c.digest == digest)
                connection.execute(again.values(content=content, size_bytes=len(content), **signed))
            else:
                connection.execute(
                    insert(bundle).values(
                        digest=digest,
                        content=content,
                        size_bytes=len(content),
                        sets=" ".join(sets),
                        author=actor,
                        created_us=now_us,
                        note=note,
                        signature=signature,
                        key_id=key_id,
                    )
                )
            write_audit(
                connection,
                "rules.push",
                subject=digest,
                actor=actor,
                at_us=now_us,
                detail={"sets": list(sets), "key_id": key_id, "note": note},
            )
            return _one(connection, digest)

    def bundles(self, limit: int = 50) -> list[Bundle]:
        """The bundles, newest first."""
        query = _bundles().order_by(bundle.c.created_us.desc(), bundle.c.digest).limit(limit)
        with self._database.read() as connection:
            return [_bundle(row) for row in connection.execute(query)]

    def find(self, revision: str) -> Bundle:
        """The bundle whose digest begins with `revision`. Raises RecordError unless it is one."""
        if len(revision) < LEAST_PREFIX or not set(revision) <= set("0123456789abcdef"):
            raise RecordError(
                f"revision {revision[:80]!r}: expected {LEAST_PREFIX} to 64 hexadecimal digits, "
                "the beginning of a bundle's digest",
                field="revision",
            )
        query = _bundles().where(bundle.c.digest.startswith(revision, autoescape=True)).limit(2)
        with self._database.read() as connection:
            found = [_bundle(row) for row in connection.execute(query)]
        if not found:
            raise RecordError(f"no bundle has the revision {revision!r}", field="revision")
        if len(found) > 1:
            raise RecordError(
                f"more than one bundle begins with {revision!r}: give more digits", field="revision"
            )
        return found[0]

    def content(self, digest: str) -> bytes:
        """What a bundle holds, as the database gives it: check it against the digest."""
        with self._database.read() as connection:
            query = select(bundle.c.content).where(bundle.c.digest == digest)
            found = connection.execute(query).scalar()
        if found is None:
            raise RecordError(f"no bundle has the revision {digest!r}", field="revision")
        return bytes(found)

    def active(self) -> Activation:
        """What is in force, which workers poll: BEFORE_THE_FIRST where nothing was activated."""
        with self._database.read() as connection:
            return _newest(connection)

    def activations(self, limit: int = 50) -> list[Activation]:
        """What came into force, newest first."""
        query = select(activation).order_by(activation.c.sequence.desc()).limit(limit)
        with self._database.read() as connection:
            return [_activation(row) for row in connection.execute(query)]

    def before(self, current: Activation) -> Activation:
        """What a rollback of `current` returns to. Raises RecordError where there is nothing."""
        with self._database.read() as connection:
            return _before(connection, current)

    def activate(
        self, digest: str, *, actor: str, reason: str = "", forced: bool = False
    ) -> Activation:
        """Puts a bundle in force on every node, or with FOLDER each node's own folder.

        What is in force already is recorded anew, so that workers that refused it try again,
        and is no step of its own for a rollback.
        """
        with self._database.write() as connection:
            sequence = next_value(connection, "activation")
            current = _newest(connection)
            if digest != FOLDER:
                _one(connection, digest)
            back_to = current.back_to if digest == current.digest else current.sequence
            now = from_us(to_us(self._clock()))
            made = Activation(sequence, digest, back_to, now, actor, reason, forced)
            return self._record(connection, "rules.activate", made, current)

    def rollback(self, current: Activation, *, actor: str, reason: str = "") -> Activation:
        """Puts what was in force before `current` in force again.

        Raises RecordError where that is nothing, and where `current` is not in force any more:
        of two people who roll back at once, the second must not go a step too far.
        """
        with self._database.write() as connection:
            sequence = next_value(connection, "activation")
            if _newest(connection).sequence != current.sequence:
                raise RecordError(
                    "another revision has come into force meanwhile: look again", field="revision"
                )
            earlier = _before(connection, current)
            made = Activation(
                sequence,
                earlier.digest,
                earlier.back_to,
                from_us(to_us(self._clock())),
                actor,
                reason,
                forced=False,
            )
            return self._record(connection, "rules.rollback", made, current)

    @staticmethod
    def _record(
        connection: Connection, action: str, made: Activation, current: Activation
    ) -> Activation:
        at_us = to_us(made.at)
        connection.execute(
            insert(activation).values(
                sequence=made.sequence,
                digest=made.digest or None,
                back_to=made.back_to,
                at_us=at_us,
                actor=made.actor,
                reason=made.reason,
                forced=made.forced,
            )
        )
        write_audit(
            connection,
            action,
            subject=made.digest or "folder",
            actor=made.actor,
            at_us=at_us,
            detail={
                "left": current.digest or "folder",
                "reason": made.reason,
                "forced": made.forced,
            },
        )
        return made


def _bundles() -> Any:
    # Not the content, which may be megabytes.
    return select(*(column for column in bundle.c if column is not bundle.c.content))


def _one(connection: Connection, digest: str) -> Bundle:
    row = connection.execute(_bundles().where(bundle.c.digest == digest)).one_or_none()
    if row is None:
        raise RecordError(f"no bundle has the revision {digest!r}", field="revision")
    return _bundle(row)


def _newest(connection: Connection) -> Activation:
    query = select(activation).order_by(activation.c.sequence.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return BEFORE_THE_FIRST if row is None else _activation(row)


def _before(connection: Connection, current: Activation) -> Activation:
    if current.sequence == 0 or (current.back_to == 0 and current.digest == FOLDER):
        raise RecordError("nothing was in force before what is: there is no way back")
    if current.back_to == 0:
        return BEFORE_THE_FIRST
    query = select(activation).where(activation.c.sequence == current.back_to)
    return _activation(connection.execute(query).one())


def _bundle(row: Row[Any]) -> Bundle:
    return Bundle(
        digest=row.digest,
        size_bytes=row.size_bytes,
        sets=tuple(row.sets.split()),
        author=row.author,
        created_at=from_us(row.created_us),
        note=row.note,
        signature=bytes(row.signature),
        key_id=row.key_id,
    )


def _activation(row: Row[Any]) -> Activation:
    return Activation(
        sequence=row.sequence,
        digest=row.digest or FOLDER,
        back_to=row.back_to,
        at=from_us(row.at_us),
        actor=row.actor,
        reason=row.reason,
        forced=row.forced,
    )
