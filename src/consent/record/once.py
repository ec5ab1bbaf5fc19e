"""Requests that are carried out once, however often they are sent.

A request is known by a key that its sender chose; what it did is kept in the transaction that
did it, so that a repeat after a lost answer finds it, and finds nothing where nothing was done.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from consent.record.database import RecordError
from consent.record.schema import request


class RecordConflict(RecordError):
    """What was given was right when it was sent, and something has changed since."""


@dataclass(frozen=True, slots=True)
class Once:
    """A request: `sender` and `key` name it, `content` is all that it asks for."""

    sender: str
    key: str
    content: bytes

    @property
    def name(self) -> str:
        """Under which the record knows it."""
        return hashlib.sha256(f"{len(self.sender)}:{self.sender}{self.key}".encode()).hexdigest()

    @property
    def digest(self) -> str:
        """Of what it asks for."""
        return hashlib.sha256(self.content).hexdigest()


def done_before(connection: Connection, once: Once) -> tuple[int, int] | None:
    """The first and last sequence of what the request did, None where it was never carried out.

    Raises RecordConflict where its key was used for another request.
    """
    query = select(request).where(request.c.name == once.name)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.digest != once.digest:
        raise RecordConflict("this idempotency key was used for another request", field="key")
    return row.first, row.last


def keep_done(connection: Connection, once: Once, first: int, last: int, *, at_us: int) -> None:
    """Keep what the request did; nothing where `first` is above `last`."""
    connection.execute(
        insert(request).values(
            name=once.name, digest=once.digest, first=first, last=last, at_us=at_us
        )
    )
