"""The record: everything that a person decided, in SQL. SQLAlchemy is imported only here.

    record = Record.open("var/record.db", keyring=keyring)
    record.ledger.append(events, actor="first")

Calls block; many threads may share one record, and many processes one database.
"""

import time
from collections.abc import Callable
from typing import Final, Self

from consent.entity import Entity, EntityStatus, Party
from consent.keyring import Keyring
from consent.record.appeals import Appeal, Appealed, Appeals
from consent.record.audit import AuditEntry, AuditLog
from consent.record.catalogue import Catalogue, Generation, GenerationState, ListInfo, ListKind
from consent.record.chain import Checkpoint, Entry, Flaw
from consent.record.complaints import Complaints, Found, Kept, month_of
from consent.record.database import (
    Database,
    RecordError,
    RecordUnavailable,
    current_value,
)
from consent.record.entities import Entities
from consent.record.exceptions import Excepted, Exceptions
from consent.record.indexes import IndexEpochs, Indexes
from consent.record.instant import Clock
from consent.record.ledger import Ledger
from consent.record.notices import Notice, Notices
from consent.record.once import Once, RecordConflict
from consent.record.rulebook import BEFORE_THE_FIRST, FOLDER, Activation, Bundle, Rulebook
from consent.record.stepped import Stepped
from consent.record.steps import Steps
from consent.record.timings import Timings
from consent.record.warnings import Warned, Warnings
from consent.signing import SigningKey


class Record:
    """One open database and its parts."""

    def __init__(
        self, database: Database, *, keyring: Keyring, clock: Clock, signer: SigningKey | None
    ) -> None:
        self._database = database
        self.appeals: Final = Appeals(database, keyring, clock)
        self.audit: Final = AuditLog(database, clock)
        self.catalogue: Final = Catalogue(database, clock)
        self.complaints: Final = Complaints(database, keyring, clock)
        self.entities: Final = Entities(database, clock)
        self.indexes: Final = Indexes(database, clock)
        self.ledger: Final = Ledger(database, keyring, clock, signer)
        self.exceptions: Final = Exceptions(database, keyring, self.ledger, clock)
        self.notices: Final = Notices(database, self.ledger, clock)
        self.rulebook: Final = Rulebook(database, clock)
        self.steps: Final = Steps(database, keyring, self.ledger, clock)
        self.timings: Final = Timings(database)
        self.warnings: Final = Warnings(database, clock)

    def steps_of(self, entity: str) -> list[Stepped]:
        """The steps of the ladder in order, of an entity by its name, "" for those of all parties.

        Raises RecordError where there is no such entity.
        """
        return self.steps.of(Party(self.entities.id_of(entity))) if entity else self.steps.all()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        keyring: Keyring,
        clock: Clock = time.time,
        signer: SigningKey | None = None,
        busy_timeout_ms: int = 5000,
        on_revision: Callable[[], None] | None = None,
    ) -> Self:
        """The record at a path (SQLite) or a postgresql:// URL, made or migrated as needed.

        Without a `signer` the ledger makes no checkpoints. `on_revision` is called, and must not
        raise, when lists or entities have changed through this record.

        Raises RecordError where it is newer than this version or the URL is none, and
        RecordUnavailable, as every method does, where the database is gone or stays locked.
        """
        database = Database.open(url, busy_timeout_ms=busy_timeout_ms)
        if on_revision is not None:
            database.on_revision = on_revision
        return cls(database, keyring=keyring, clock=clock, signer=signer)

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()

    def revision(self) -> int:
        """Rises with every change to lists and entities: what a worker polls."""
        with self._database.read() as connection:
            return current_value(connection, "revision")

    def index_epoch(self) -> str:
        """The epoch of the index that was last made from this record, "" before the first."""
        return self.indexes.epochs().in_force

    def set_index_epoch(self, epoch: str) -> None:
        """Names the index that workers shall believe."""
        self.indexes.name(epoch)


__all__ = [
    "BEFORE_THE_FIRST",
    "FOLDER",
    "Activation",
    "Appeal",
    "Appealed",
    "AuditEntry",
    "Bundle",
    "Checkpoint",
    "Entity",
    "EntityStatus",
    "Entry",
    "Excepted",
    "Flaw",
    "Found",
    "Generation",
    "GenerationState",
    "IndexEpochs",
    "Kept",
    "ListInfo",
    "ListKind",
    "Notice",
    "Once",
    "Record",
    "RecordConflict",
    "RecordError",
    "RecordUnavailable",
    "Rulebook",
    "Stepped",
    "Warned",
    "month_of",
]
