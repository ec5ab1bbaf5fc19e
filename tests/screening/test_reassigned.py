"""A published file of reassigned numbers ends what the former subscribers decided, and no more."""

import gzip
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consent.event import Event, EventKind
from consent.keyring import Keyring
from consent.listing import ListingError
from consent.signing import SigningKey
from screening.reassigned import GUARD_FLOOR, carry_out, expect_few, read_ends
from screening.registrar import Registrar
from screening.settings import Settings
from screening.state import State

DAY = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
NOW = DAY + 5 * 86_400
FIRST = 12125550101
BEFORE, AFTER = DAY + 3600, DAY + 86_400


@pytest.fixture
def state(record_url: str, tmp_path: Path) -> Iterator[State]:
    """On each kind of database, the index gone."""
    url = record_url if "://" in record_url else f"sqlite:///{record_url}"
    setting = Settings(state_dir=tmp_path, database_url=url, redis_url="unix:///nowhere/s")
    keyring = Keyring.load_or_create(tmp_path / "secrets.json")
    state = State(setting, keyring, SigningKey.load_or_create(tmp_path / "c.pem"), url)
    record = state.record()
    for name in ("one", "two"):
        record.entities.put(name, title=name, categories=["loans"], actor="test")
    yield state
    state.close()


def grant(state: State, n: int, at: float, entity: int = 1) -> None:
    body: dict[str, Any] = {"entity": entity, "categories": ["loans"]}
    event = Event(0, at, EventKind.CONSENT_GRANTED, FIRST + n, body)
    state.record().ledger.append([event], actor="test")


def outcome(state: State, n: int, entity: int = 1) -> str:
    held = state.record().ledger.held(FIRST + n).consents.get(entity)
    return str(held.state(NOW + 1)) if held else "none"


def take(state: State, path: Path, *, now: float = 0.0, force: bool = False) -> int:
    record = state.record()
    ends = read_ends(record.ledger, path, region="US", now=NOW)
    if not force:
        expect_few(ends, record, now=now or time.time())
    carry_out(ends, record, Registrar(state), actor="test", confirmed=force)
    return ends.subscriptions


def test_former_consents_end_and_new_ones_stay(state: State, tmp_path: Path) -> None:
    """By the day of disconnection; taken again the file changes nothing."""
    grant(state, 0, BEFORE)
    grant(state, 1, AFTER)
    grant(state, 2, BEFORE)
    grant(state, 2, AFTER, entity=2)
    grant(state, 3, BEFORE)
    path = tmp_path / "rnd.csv.gz"
    lines = [
        *("number,date", f"+{FIRST},2026-11-20", "212-555-0102,20261120"),
        *('"2125550103";2026-11-20', "12,2026-11-20", "2125550104", "2125550104,2030-01-01"),
    ]
    path.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    ends = read_ends(state.record().ledger, path, region="US", now=NOW)
    assert (ends.lines, ends.known, ends.rejected, ends.subscriptions) == (6, 3, 3, 2)
    assert [reason.split()[1] for reason in ends.reasons] == ["4", "5", "6"]
    assert take(state, path) == 2
    assert [outcome(state, n) for n in range(4)] == ["none", "granted", "expired", "granted"]
    assert outcome(state, 2, entity=2) == "granted"
    first = state.record().ledger.events_of(FIRST)[0]
    assert (first.kind, first.body["since"]) == ("subscription.reassigned", int(DAY))
    last = state.record().ledger.last_sequence()
    assert take(state, path) == 0
    assert state.record().ledger.last_sequence() == last


def test_a_file_that_ends_too_much_is_held(state: State, tmp_path: Path) -> None:
    """Nothing of it is done; one that is no such file is refused."""
    path = tmp_path / "rnd.txt"
    for n in range(GUARD_FLOOR + 1):
        grant(state, n, BEFORE)
    path.write_text("".join(f"+{FIRST + n},2026-11-20\n" for n in range(GUARD_FLOOR + 1)))
    with pytest.raises(ListingError, match="held until --force confirms it"):
        take(state, path)
    assert outcome(state, 0) == "granted"
    assert take(state, path, force=True) == GUARD_FLOOR + 1
    path.write_text("AAA\n")
    with pytest.raises(ListingError, match="of 0 lines none is a number and a date"):
        take(state, path)


def test_the_guard_is_of_a_day(state: State, tmp_path: Path) -> None:
    """Two files that each keep it and together do not: the second waits for the day to end, or for
    a word. What was confirmed takes nothing away from others."""
    path = tmp_path / "rnd.txt"

    def send(first: int, count: int, **how: Any) -> int:
        path.write_text("".join(f"+{FIRST + first + n},2026-11-20\n" for n in range(count)))
        return take(state, path, **how)

    for n in range(3 * GUARD_FLOOR):
        grant(state, n, BEFORE)
    assert send(0, GUARD_FLOOR, force=True) == GUARD_FLOOR
    assert send(GUARD_FLOOR, GUARD_FLOOR - 1) == GUARD_FLOOR - 1
    with pytest.raises(ListingError, match=r"2 of \d+ subscriptions would end, and 9 have within"):
        send(2 * GUARD_FLOOR, 2)
    assert outcome(state, 2 * GUARD_FLOOR) == "granted"
    assert send(2 * GUARD_FLOOR, 1) == 1
    tomorrow = time.time() + 86_401
    assert send(2 * GUARD_FLOOR + 1, GUARD_FLOOR - 1, now=tomorrow) == GUARD_FLOOR - 1
    taken = state.record().audit.of("reassigned-numbers")
    assert [each.detail["ended"] for each in taken] == [9, 1, 9, 10]
