"""The SQL database under the record: SQLite embedded, PostgreSQL by URL.

Invariants:
- a write is acknowledged only when it is on disk (WAL, synchronous=FULL);
- writers that take a number from `counter` do so first: its row stays locked until they commit,
  so numbers have no gaps and become visible in their order;
- nothing is ever created but at open: a database that goes away is an outage, not a new one;
- no statement's parameters reach a message, since they may hold numbers.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from consent.private import locked
from consent.record.schema import REVISION, counter

MIGRATIONS: Final = Path(__file__).parent / "migrations"
MIGRATION_LOCK: Final = 0x53435245
"""The key of PostgreSQL's advisory lock that one migrating process holds."""

RAISED: Final = "raised"
"""Of a connection: the counter that its transaction raised."""

_migrating = threading.Lock()  # Alembic's environment is global to the process


class RecordUnavailable(Exception):
    """The database is gone, locked or full; nothing was written."""


class RecordError(Exception):
    """The record refuses what it was given; `field` names the part that is wrong."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def _nobody() -> None:
    """Is told of changes until somebody else is."""


class Database:
    """Transactions on one database; threads may share it."""

    def __init__(self, engine: Engine, *, name: str, busy_timeout_ms: int) -> None:
        self.on_revision: Callable[[], None] = _nobody
        """Called, and must not raise, once a change that workers must take in is committed."""
        self._engine = engine
        self._name = name
        self._busy_timeout_s = busy_timeout_ms / 1000
        # SQLite's own waiting is a poll without order; threads of one process queue here first.
        self._writing = threading.Lock()

    @classmethod
    def open(cls, url: str, *, busy_timeout_ms: int) -> Self:
        """The database at a path or URL, migrated to this version's schema.

        Raises RecordError for a URL that is none, a missing driver or a database that is newer,
        RecordUnavailable where it does not answer.
        """
        if "://" not in url:
            return cls._open_sqlite(Path(url), busy_timeout_ms)
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise RecordError("the record's URL is none that can be read", field="url") from None
        backend = parsed.get_backend_name()
        if backend == "sqlite" and parsed.database:
            return cls._open_sqlite(Path(parsed.database), busy_timeout_ms)
        if backend not in {"postgresql", "postgres"}:
            raise RecordError(
                f"the record's URL names {backend!r}, expected a path, sqlite:/// or postgresql://",
                field="url",
            )
        name = parsed.render_as_string(hide_password=True)
        try:
            engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                hide_parameters=True,
                pool_pre_ping=True,
                connect_args={"options": f"-c lock_timeout={busy_timeout_ms}"},
            )
        except ModuleNotFoundError:
            raise RecordError(
                f"{name} needs the driver psycopg: pip install 'call-screening[postgres]'",
                field="url",
            ) from None
        database = cls(engine, name=name, busy_timeout_ms=busy_timeout_ms)
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def _open_sqlite(cls, path: Path, busy_timeout_ms: int) -> Self:
        path = path.absolute()
        engine = _sqlite_engine(path, busy_timeout_ms / 1000)
        database = cls(engine, name=str(path), busy_timeout_ms=busy_timeout_ms)
        try:
            # Of several processes that open a new database at once, one makes it.
            with locked(path):
                _create_sqlite(path, busy_timeout_ms / 1000)
                database._migrate()
        except OSError as error:
            raise RecordUnavailable(f"{path}: {error.strerror}") from error
        return database

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that sees one state of the database."""
        with self._refusals(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that is on disk when the block has been left, or had no effect."""
        if not self._writing.acquire(timeout=self._busy_timeout_s):
            raise RecordUnavailable(f"{self._name}: another write did not end in time")
        try:
            with (
                self._refusals(),
                self._engine.connect() as connection,
                connection.execution_options(begin="BEGIN IMMEDIATE").begin(),
            ):
                connection.info.pop(RAISED, None)
                yield connection
                revised = connection.info.pop(RAISED, "") == "revision"
        finally:
            self._writing.release()
        if revised:
            self.on_revision()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ProgrammingError:
            raise
        except (IntegrityError, DataError) as error:
            # The driver's message may quote the row: keep its kind only.
            kind = type(error.orig).__name__
            raise RecordError(f"{self._name}: the schema refuses the row ({kind})") from None
        except DBAPIError as error:
            raise RecordUnavailable(f"{self._name}: {error.orig}") from error
        except PoolTimeout as error:
            raise RecordUnavailable(f"{self._name}: every connection is busy") from error

    def _migrate(self) -> None:
        with self.read() as connection:
            if _revision(connection) == REVISION:
                return
        with _migrating, self.write() as connection:
            if connection.dialect.name == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                connection.execute(lock, {"key": MIGRATION_LOCK})
            if _revision(connection) != REVISION:
                self._upgrade(connection)

    def _upgrade(self, connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        found = _revision(connection)
        known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
        if found and found not in known:
            raise RecordError(
                f"{self._name} has schema {found}, which this version does not know (its own is "
                f"{REVISION}): a newer version has opened it, run that one",
                field="url",
            )
        command.upgrade(config, "head")


def next_value(connection: Connection, name: str, by: int = 1) -> int:
    """Raises a counter and gives its new value; other writers of it wait for our commit."""
    raised = (
        update(counter)
        .where(counter.c.name == name)
        .values(value=counter.c.value + by)
        .returning(counter.c.value)
    )
    connection.info[RAISED] = name
    return int(connection.execute(raised).scalar_one())


def hold(connection: Connection, name: str) -> None:
    """Makes other writers of a counter wait for our commit, without raising it."""
    connection.execute(select(counter.c.value).where(counter.c.name == name).with_for_update())


def current_value(connection: Connection, name: str) -> int:
    """The value of a counter."""
    return int(
        connection.execute(select(counter.c.value).where(counter.c.name == name)).scalar_one()
    )


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def _create_sqlite(path: Path, busy_timeout_s: float) -> None:
    # O_EXCL: closing a descriptor of a database that is in use, other than through SQLite, would
    # drop the locks that this process holds on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # kept in the file
    except sqlite3.Error as error:
        raise RecordUnavailable(f"{path}: {error}") from error


def _sqlite_engine(path: Path, busy_timeout_s: float) -> Engine:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,  # transactions begin where we say, not where the driver guesses
            check_same_thread=False,
        )

    engine = create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=QueuePool, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        record.info["file"] = _identity(path)

    @event.listens_for(engine, "checkout")
    def same_file(connection: sqlite3.Connection, record: Any, proxy: Any) -> None:  # noqa: ARG001
        # SQLite goes on writing to a file that was deleted or replaced, and loses it all.
        if record.info["file"] != _identity(path):
            raise DisconnectionError

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
