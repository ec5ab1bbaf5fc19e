"""The report of a month, from what the record keeps: ages of lists, times to be in force."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consent.keyring import Keyring
from consent.record import Record
from consent.record.timings import BEYOND
from screening.enforcement import Enforcement
from screening.recording.reader import DecisionLog
from screening.report import Table, figures, write_report
from screening.snapshot import Catalogue

FIRST = datetime(2026, 10, 1, tzinfo=UTC).timestamp()
DAY = 86_400.0


class Kept:
    """A record whose clock the test moves."""

    def __init__(self, folder: Path) -> None:
        self.now = FIRST - 3 * DAY
        self.folder = folder
        keyring = Keyring.load_or_create(folder / "keyring.json")
        self.record = Record.open(
            str(folder / "record.db"), keyring=keyring, clock=lambda: self.now
        )

    def load(self, name: str) -> None:
        begun = self.record.catalogue.begin(
            name,
            kind="block",
            format="csv",
            source="test",
            sha256="0" * 64,
            size_bytes=1,
            actor="test",
        )
        self.record.catalogue.activate(
            begun, loaded=1, duplicates=0, rejected=0, checksum="", actor="test"
        )

    def tables(self, month: str = "2026-10") -> dict[str, Table]:
        log = DecisionLog(self.folder, clock=lambda: self.now)
        found = figures(self.record, log, month=month, jurisdiction="US", now=self.now)
        return {table.name: table for table in found}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.record.close()


def test_the_age_of_lists_by_day(kept: Kept) -> None:
    """Each day has the age of what was in force at its end, and whether that was too old."""
    kept.load("reports")
    kept.record.catalogue.permit_age("reports", int(4 * DAY), actor="test")
    kept.now = FIRST + 2.5 * DAY
    kept.load("reports")
    kept.now = FIRST + 4.25 * DAY
    rows = kept.tables()["freshness"].rows
    assert rows == [
        ("2026-10-01", "reports", 4.0, ""),
        ("2026-10-02", "reports", 5.0, "late"),
        ("2026-10-03", "reports", 0.5, ""),
        ("2026-10-04", "reports", 1.5, ""),
        ("2026-10-05", "reports", 1.75, ""),
    ]
    # A month later, of the whole month.
    kept.now = FIRST + 40 * DAY
    days = kept.tables()["freshness"].rows
    assert len(days) == 31
    assert days[-1] == ("2026-10-31", "reports", 28.5, "late")


def test_times_to_be_in_force(kept: Kept) -> None:
    """What workers measured is added up by day and kind, of that month alone."""
    today = int(FIRST // DAY)
    timings = kept.record.timings
    timings.add({(today - 1, "decisions", 10): 7})
    timings.add({(today, "decisions", 10): 90, (today, "decisions", 250): 10})
    timings.add({(today, "decisions", 10): 1, (today + 1, "entities", BEYOND): 2})
    tables = kept.tables()
    assert tables["enforcement"].rows == [
        ("decisions", "10 ms", 91),
        ("decisions", "250 ms", 10),
        ("entities", "over 60 s", 2),
    ]
    assert tables["enforcement_days"].rows == [
        ("2026-10-01", 101, "10 ms", "250 ms"),
        ("2026-10-02", 2, "over 60 s", "over 60 s"),
    ]
    made = datetime.fromtimestamp(kept.now, UTC)
    page = write_report(
        kept.folder / "out", [*tables.values()], month="2026-10", jurisdiction="US", made=made
    )
    text = page.read_text("utf-8")
    assert text.count("<svg") == 2
    csv = (kept.folder / "out" / "enforcement.csv").read_text("utf-8")
    assert csv.splitlines() == [
        "facts,within,changes",
        "decisions,10 ms,91",
        "decisions,250 ms,10",
        "entities,over 60 s,2",
    ]


def test_what_is_old_goes(kept: Kept) -> None:
    """Counts of years ago are not kept."""
    kept.record.timings.add({(100, "lists", 10): 1})
    kept.record.timings.add({(2000, "lists", 10): 1})
    assert kept.record.timings.between(0, 3000) == {(2000, "lists", 10): 1}


def test_a_worker_counts_what_it_measured() -> None:
    """Each change once; what could not be written is there the next time."""
    now = [FIRST]
    seen: list[tuple[str, float]] = []
    measured = Enforcement(
        lambda facts, seconds: seen.append((facts, seconds)),
        clock=lambda: now[0],
        now=lambda: now[0],
    )
    accepted = measured.accepted()
    now[0] += 0.02
    measured.decided(1, accepted=accepted, in_force=True)
    measured.decided(2, accepted=accepted, in_force=False)
    now[0] += 3.0
    measured.applied(2)
    empty = Catalogue.load(Path("/nowhere"))
    measured.taken_in(empty, entities_at=FIRST)
    measured.taken_in(empty, entities_at=now[0] - 0.5)
    day = int(FIRST // DAY)
    counts = measured.take_counts()
    assert counts == {
        (day, "decisions", 25): 1,
        (day, "decisions", 5000): 1,
        (day, "entities", 500): 1,
    }
    assert [facts for facts, _ in seen] == ["decisions", "decisions", "entities"]
    measured.put_back(counts)
    assert measured.take_counts() == counts
    assert not measured.take_counts()
