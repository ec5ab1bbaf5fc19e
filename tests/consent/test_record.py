"""The record opens, migrates, stays private, and survives what happens to databases."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.postgres import Postgres

import consent
from consent.event import Event, EventKind
from consent.keyring import Keyring
from consent.record import Record, RecordError, RecordUnavailable
from consent.record.database import MIGRATIONS
from consent.record.schema import METADATA, REVISION

CALLED = 447700900000
DEADLINE_S = 30
SRC = Path(consent.__file__).parents[1]


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.load_or_create(tmp_path / "keyring.json")


@pytest.fixture
def record(tmp_path: Path, keyring: Keyring) -> Iterator[Record]:
    """One in a file of SQLite's, for what is told of files."""
    record = Record.open(str(tmp_path / "record.db"), keyring=keyring)
    yield record
    record.close()


@pytest.fixture
def any_record(record_url: str, keyring: Keyring) -> Iterator[Record]:
    record = Record.open(record_url, keyring=keyring)
    yield record
    record.close()


def refusal(called: int, *, at: float = 1_790_000_000.0) -> Event:
    return Event(0, at, EventKind.PREFERENCES_SET, called, {"refused": ["loans"]})


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own that runs a script with the source tree."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SRC)},
    )


APPEND = """
import sys
from pathlib import Path
from consent.event import Event, EventKind
from consent.keyring import Keyring
from consent.record import Record

database, ring, base, count, size = sys.argv[1:]
print("started", flush=True)
sys.stdin.readline()
record = Record.open(database, keyring=Keyring.load_or_create(Path(ring)))
for n in range(int(count)):
    numbers = [int(base) + (n + k) % 50 for k in range(int(size))]
    body = {"refused": ["loans"]}
    batch = [Event(0, 1790000000.0, EventKind.PREFERENCES_SET, each, body) for each in numbers]
    done = record.ledger.append(batch, actor=base)
    print(*[event.sequence for event in done], flush=True)
record.close()
"""


def appender(url: str, tmp_path: Path, base: int, count: int, size: int) -> subprocess.Popen[str]:
    paths = url, str(tmp_path / "keyring.json")
    return python(APPEND, *paths, str(base), str(count), str(size))


def test_schema_is_what_migrations_make(any_record: Record) -> None:
    """The migrations end at the revision and the tables that the code uses."""
    with any_record._database.read() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == REVISION
        assert compare_metadata(context, METADATA) == []
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == REVISION


def test_opens_again(tmp_path: Path, keyring: Keyring) -> None:
    """Opening a record again changes nothing of it, and finds what was written."""
    path = tmp_path / "deep" / "er" / "record.db"
    for url in (str(path), f"sqlite:///{path}"):
        record = Record.open(url, keyring=keyring)
        record.ledger.append([refusal(CALLED)], actor="test")
        record.close()
    record = Record.open(str(path), keyring=keyring)
    assert [event.sequence for event in record.ledger.events()] == [1, 2]
    record.close()


def test_private_and_durable(record: Record, tmp_path: Path) -> None:
    """The database's files are its owner's alone; it is in WAL, and each commit is synced."""
    record.ledger.append([refusal(CALLED)], actor="test")
    files = list(tmp_path.glob("record.db*"))
    assert {file.name for file in files} >= {"record.db", "record.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    with record._database.read() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert values == ["wal", 2, 1]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://localhost/record", "names 'mysql', expected a path, sqlite:/// or postgresql://"),
        ("sqlite://", "names 'sqlite'"),
        ("://", "is none that can be read"),
    ],
    ids=["other database", "memory", "no URL"],
)
def test_url_refused(url: str, message: str, keyring: Keyring) -> None:
    """A URL that names no database of ours is refused by its name."""
    with pytest.raises(RecordError, match=message):
        Record.open(url, keyring=keyring)


def test_missing_driver_is_named(keyring: Keyring) -> None:
    """Without the PostgreSQL driver the message says what to install, and shows no password."""
    script = """
import sys
sys.modules["psycopg"] = None
from consent.keyring import Keyring
from consent.record import Record, RecordError
try:
    Record.open("postgresql://user:hidden@127.0.0.1:1/record", keyring=None)
except RecordError as error:
    print(error)
"""
    out, err = python(script).communicate(timeout=DEADLINE_S)
    assert err == ""
    assert out == (
        "postgresql://user:***@127.0.0.1:1/record needs the driver psycopg: "
        "pip install 'call-screening[postgres]'\n"
    )


def test_newer_database_is_refused(any_record: Record, record_url: str, keyring: Keyring) -> None:
    """A database that a newer version has migrated is left alone."""
    with any_record._database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    message = rf"has schema 9999, .*its own is {REVISION}.*run that one"
    with pytest.raises(RecordError, match=message):
        Record.open(record_url, keyring=keyring)


def test_no_database_is_unavailable(tmp_path: Path, keyring: Keyring) -> None:
    """A file that is no database is not opened and not changed."""
    path = tmp_path / "record.db"
    path.write_bytes(b"something else entirely, and long enough to be a header of a database" * 20)
    before = path.read_bytes()
    with pytest.raises(RecordUnavailable, match="not a database"):
        Record.open(str(path), keyring=keyring)
    assert path.read_bytes() == before


def test_opened_by_many_at_once(record_url: str, tmp_path: Path, keyring: Keyring) -> None:
    """Processes that open a new record at once all succeed, and it is migrated once."""
    racers = [appender(record_url, tmp_path, CALLED, 1, 1) for _ in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "started\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ends = [racer.communicate(timeout=DEADLINE_S) for racer in racers]
    assert [err for _, err in ends] == [""] * 4
    assert sorted(int(out) for out, _ in ends) == [1, 2, 3, 4]


def test_writers_at_once(record_url: str, tmp_path: Path, keyring: Keyring) -> None:
    """Two processes append at once: sequences have no gap, none is given twice, none is lost."""
    writers = [appender(record_url, tmp_path, base, 60, 3) for base in (CALLED, CALLED + 100)]
    ends = [writer.communicate("go\n", timeout=DEADLINE_S) for writer in writers]
    assert [err for _, err in ends] == ["", ""]
    given = [[int(word) for word in out.split()[1:]] for out, _ in ends]
    record = Record.open(record_url, keyring=keyring)
    kept = list(record.ledger.events())
    assert sorted(given[0] + given[1]) == [event.sequence for event in kept]
    assert [event.sequence for event in kept] == list(range(1, 361))
    assert record.ledger.last_sequence() == 360
    for base, sequences in zip((CALLED, CALLED + 100), given, strict=True):
        mine = [event.sequence for event in kept if base <= event.called < base + 100]
        assert mine == sequences
    assert record.ledger.first_flaw([]) is None
    record.close()


@pytest.mark.parametrize("acknowledged", [1, 7, 20])
def test_killed_while_appending(
    record_url: str, tmp_path: Path, keyring: Keyring, acknowledged: int
) -> None:
    """After SIGKILL every acknowledged batch is there, whole, and appending goes on."""
    writer = appender(record_url, tmp_path, CALLED, 100_000, 5)
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write("go\n")
    writer.stdin.flush()
    writer.stdout.readline()
    for _ in range(acknowledged):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    out, _ = writer.communicate(timeout=DEADLINE_S)
    promised = 5 * (acknowledged + out.count("\n"))

    record = Record.open(record_url, keyring=keyring)
    kept = [event.sequence for event in record.ledger.events()]
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) % 5 == 0
    assert len(kept) >= promised
    (further,) = record.ledger.append([refusal(CALLED)], actor="test")
    assert further.sequence == len(kept) + 1
    assert record.ledger.first_flaw([]) is None
    record.close()


def test_locked_is_unavailable(tmp_path: Path, keyring: Keyring) -> None:
    """A write that another process holds up beyond the timeout is refused; reads go on."""
    path = tmp_path / "record.db"
    record = Record.open(str(path), keyring=keyring, busy_timeout_ms=50)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(RecordUnavailable, match="locked"):
        record.ledger.append([refusal(CALLED)], actor="test")
    assert record.ledger.last_sequence() == 0
    holder.close()
    assert record.ledger.append([refusal(CALLED)], actor="test")[0].sequence == 1
    record.close()


def test_deleted_is_unavailable_until_restored(record: Record, tmp_path: Path) -> None:
    """A database taken away refuses reads and writes; put back, it is used again."""
    path, aside = tmp_path / "record.db", tmp_path / "aside"
    record.ledger.append([refusal(CALLED)], actor="test")
    path.rename(aside)
    with pytest.raises(RecordUnavailable):
        record.ledger.append([refusal(CALLED + 1)], actor="test")
    with pytest.raises(RecordUnavailable):
        record.revision()
    assert not path.exists()
    aside.rename(path)
    assert [event.called for event in record.ledger.events()] == [CALLED]


def test_replaced_file_is_noticed(record: Record, tmp_path: Path, keyring: Keyring) -> None:
    """A write after a backup was put in place goes into the backup, not into the void."""
    path = tmp_path / "record.db"
    backup = Record.open(str(tmp_path / "backup.db"), keyring=keyring)
    backup.ledger.append([refusal(CALLED + n) for n in range(3)], actor="test")
    backup.close()
    record.ledger.append([refusal(CALLED)], actor="test")
    for file in tmp_path.glob("record.db-*"):
        file.unlink()
    (tmp_path / "backup.db").replace(path)
    assert record.ledger.append([refusal(CALLED + 9)], actor="test")[0].sequence == 4
    again = Record.open(str(path), keyring=keyring)
    assert again.ledger.last_sequence() == 4
    again.close()


def test_a_server_that_is_gone(postgres: Postgres, keyring: Keyring) -> None:
    """Reads and writes are refused while PostgreSQL is down; when it is back all is there."""
    record = Record.open(postgres.new_database(), keyring=keyring)
    record.ledger.append([refusal(CALLED)], actor="test")
    postgres.stop("immediate")
    try:
        with pytest.raises(RecordUnavailable):
            record.ledger.append([refusal(CALLED + 1)], actor="test")
        with pytest.raises(RecordUnavailable):
            record.revision()
    finally:
        postgres.start()
    assert [event.called for event in record.ledger.events()] == [CALLED]
    assert record.ledger.append([refusal(CALLED + 1)], actor="test")[0].sequence == 2
    record.close()


def test_index_epoch(any_record: Record) -> None:
    """The epoch of the index is "" at first, and then what was last set."""
    assert any_record.index_epoch() == ""
    any_record.set_index_epoch("one")
    any_record.set_index_epoch("two")
    assert any_record.index_epoch() == "two"


def test_audit(record_url: str, keyring: Keyring) -> None:
    """Actions are listed newest first, in pages, as they were given."""
    instants = iter([10.5, 20.25, 30.0])
    record = Record.open(record_url, keyring=keyring, clock=lambda: next(instants))
    for action in ("rules.reload", "key.create", "key.revoke"):
        record.audit.append(action, subject="s", actor="ops", detail={"of": action, "n": 1})
    newest, middle = record.audit.latest(2)
    assert (newest.action, newest.at, newest.actor) == ("key.revoke", 30.0, "ops")
    assert (middle.action, middle.detail) == ("key.create", {"of": "key.create", "n": 1})
    assert [entry.at for entry in record.audit.latest(before=middle.id)] == [10.5]
    record.close()


def test_message_has_no_parameter(any_record: Record) -> None:
    """What the schema refuses is said without the row, which may hold a number."""
    row = {"lo": CALLED, "hi": CALLED, "entity_id": 77}
    with pytest.raises(RecordError) as refused, any_record._database.write() as connection:
        connection.execute(sa.insert(METADATA.tables["entity_range"]), row)
    assert "the schema refuses the row" in str(refused.value)
    assert str(CALLED) not in str(refused.value)
    assert refused.value.__cause__ is None


def test_starts_without_alembic(record: Record, tmp_path: Path) -> None:
    """Opening a record that is up to date does not load the migration tool."""
    script = """
import sys
from pathlib import Path
from consent.keyring import Keyring
from consent.record import Record
Record.open(sys.argv[1], keyring=Keyring.load_or_create(Path(sys.argv[2]))).close()
print("alembic" in sys.modules)
"""
    paths = str(tmp_path / "record.db"), str(tmp_path / "keyring.json")
    assert python(script, *paths).communicate(timeout=DEADLINE_S) == ("False\n", "")
