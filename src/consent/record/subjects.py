"""Whom events are about: the only table that ties a random id to a number.

A subject is one subscription of a number, with a data key of its own under which every body is
sealed. The number stands only here, sealed likewise, beside its keyed token.
"""

import secrets
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    func,
    insert,
    or_,
    select,
    update,
)

from consent.keyring import KEY_BYTES, VERSION_BYTES, Keyring
from consent.record.chain import ID_BYTES, LEDGER
from consent.record.database import Database, RecordError, hold
from consent.record.schema import setting, subject

VARIABLES: Final = 500
"""Values in one `IN (...)`: a statement takes a limited number of them."""

ROTATED_AT_ONCE: Final = 500

NEWEST_KEY: Final = "token_version"


class Subject(NamedTuple):
    """Whom an event is about."""

    id: bytes
    key: bytes
    number: int


class Subjects:
    """The present subjects of some numbers, in one transaction; made where there is none."""

    def __init__(self, connection: Connection, keyring: Keyring, numbers: Collection[int]) -> None:
        self._connection = connection
        self._keyring = keyring
        self._found: dict[int, Subject] = {}
        tokens = [token for number in numbers for token in keyring.digests(number)]
        for start in range(0, len(tokens), VARIABLES):
            known = subject.c.token.in_(tokens[start : start + VARIABLES])
            for row in connection.execute(select(subject.c.id, subject.c.sealed).where(known)):
                who = open_subject(keyring, row.id, row.sealed)
                self._found[who.number] = who
        missing = [number for number in numbers if number not in self._found]
        if missing:
            self._make(missing)

    def of(self, number: int) -> Subject:
        """The subject of a number."""
        if number not in self._found:
            self._make([number])
        return self._found[number]

    def end(self, number: int, *, erase_after: int | None = None) -> None:
        """The subject no longer has its number; with `erase_after` it will be erased."""
        ended = {"token": secrets.token_bytes(32), "token_version": 0, "erase_after": erase_after}
        mine = subject.c.id == self._found.pop(number).id
        self._connection.execute(update(subject).where(mine).values(**ended))

    def renew(self, number: int) -> Subject:
        """A new subject for the number of another."""
        self.end(number)
        return self.of(number)

    def _make(self, numbers: Collection[int]) -> None:
        made = [
            Subject(secrets.token_bytes(ID_BYTES), secrets.token_bytes(KEY_BYTES), number)
            for number in numbers
        ]
        self._connection.execute(
            insert(subject),
            [
                {
                    "id": who.id,
                    "token": self._keyring.digest(who.number),
                    "token_version": self._keyring.version("token"),
                    "sealed": _seal(self._keyring, who),
                }
                for who in made
            ],
        )
        self._found |= {who.number: who for who in made}


def open_subject(keyring: Keyring, subject_id: bytes, sealed: bytes) -> Subject:
    """The subject of a row. Raises KeyringError where the keyring does not open it."""
    plain = keyring.decrypt(sealed, subject_id)
    return Subject(subject_id, plain[:KEY_BYTES], int.from_bytes(plain[KEY_BYTES:]))


def _seal(keyring: Keyring, who: Subject) -> bytes:
    return keyring.encrypt(who.key + who.number.to_bytes(8), who.id)


def stale(keyring: Keyring) -> ColumnElement[bool]:
    """Whether a subject is not written under the newest keys of the keyring."""
    token, data = keyring.version("token"), keyring.version("data").to_bytes(VERSION_BYTES)
    return and_(
        subject.c.sealed != b"",
        or_(
            and_(subject.c.token_version != 0, subject.c.token_version != token),
            func.substr(subject.c.sealed, 1, VERSION_BYTES) != data,
        ),
    )


def rotate_subjects(
    database: Database, keyring: Keyring, progress: Callable[[int], None] | None
) -> int:
    """Writes every stale subject anew under the newest keys of the keyring, page by page."""
    after, done = b"", 0
    query = select(subject).where(stale(keyring)).order_by(subject.c.id).limit(ROTATED_AT_ONCE)
    while True:
        with database.write() as connection:
            # Whoever ends or erases a subject meanwhile must not find it brought back.
            hold(connection, "event")
            rows = connection.execute(query.where(subject.c.id > after)).all()
            for row in rows:
                _rotate(connection, keyring, row)
        if not rows:
            return done
        after, done = rows[-1].id, done + len(rows)
        if progress:
            progress(len(rows))


def _rotate(connection: Connection, keyring: Keyring, row: Row[Any]) -> None:
    who = open_subject(keyring, row.id, row.sealed)
    anew: dict[str, Any] = {"sealed": _seal(keyring, who)}
    if row.token_version:
        anew |= {"token": keyring.digest(who.number), "token_version": keyring.version("token")}
    connection.execute(update(subject).where(subject.c.id == row.id).values(**anew))


def ledger_id(connection: Connection) -> str:
    """The id of the ledger, which its chain begins with."""
    return _setting(connection, LEDGER)


def set_token_version(connection: Connection, keyring: Keyring) -> None:
    """From now on nobody writes whose keyring lacks the newest token key of this one."""
    mine = setting.c.name == NEWEST_KEY
    version = str(keyring.version("token"))
    if _setting(connection, NEWEST_KEY):
        connection.execute(update(setting).where(mine).values(value=version))
    else:
        connection.execute(insert(setting).values(name=NEWEST_KEY, value=version))


def follow_token_version(connection: Connection, keyring: Keyring) -> None:
    """Takes in keys that were added meanwhile: without them no number would be found again.

    Raises RecordError where the key file does not have them.
    """
    newest = int(_setting(connection, NEWEST_KEY) or 1)
    if keyring.version("token") < newest:
        keyring.reload()
    if keyring.version("token") < newest:
        raise RecordError(
            f"the ledger is written with token key version {newest} and the key file has none "
            "above " + str(keyring.version("token")) + ": copy the newest one to this node"
        )


def expect_token_version(connection: Connection, keyring: Keyring) -> None:
    """The same before a write, and nobody writes after it whose keyring is behind this one."""
    follow_token_version(connection, keyring)
    if keyring.version("token") > int(_setting(connection, NEWEST_KEY) or 1):
        set_token_version(connection, keyring)


def _setting(connection: Connection, name: str) -> str:
    query = select(setting.c.value).where(setting.c.name == name)
    return connection.execute(query).scalar() or ""
