"""Timestamps and durations."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rules.cel import Duration, EvaluationError, Timestamp
from rules.cel.compiler import evaluate
from rules.cel.interchange import spell
from rules.cel.runtime import (
    duration_of_string,
    string_of_duration,
    string_of_timestamp,
    timestamp_of_string,
)

INSTANT = "timestamp('2024-02-29T23:59:58.123456789Z')"

VALUES = [
    (f"string({INSTANT})", '"2024-02-29T23:59:58.123456789Z"'),
    ("string(timestamp('2024-03-01T05:30:00.50+05:30'))", '"2024-03-01T00:00:00.5Z"'),
    (f"int({INSTANT})", "1709251198"),
    ("timestamp(-1) == timestamp('1969-12-31T23:59:59Z')", "true"),
    (f"timestamp({INSTANT}) == {INSTANT}", "true"),
    (f"{INSTANT}.getFullYear()", "2024"),
    (f"{INSTANT}.getMonth()", "1"),
    (f"{INSTANT}.getDate()", "29"),
    (f"{INSTANT}.getDayOfMonth()", "28"),
    (f"{INSTANT}.getDayOfWeek()", "4"),
    (f"{INSTANT}.getDayOfYear()", "59"),
    (f"{INSTANT}.getHours()", "23"),
    (f"{INSTANT}.getMinutes()", "59"),
    (f"{INSTANT}.getSeconds()", "58"),
    (f"{INSTANT}.getMilliseconds()", "123"),
    (f"{INSTANT}.getDate('Asia/Kolkata')", "1"),
    (f"{INSTANT}.getHours('+05:30')", "5"),
    (f"{INSTANT}.getMinutes('-00:30')", "29"),
    (f"{INSTANT}.getHours('02:00')", "1"),
    (f"{INSTANT}.getSeconds('America/St_Johns')", "58"),
    ("timestamp('2024-03-31T00:59:59Z').getHours('Europe/London')", "0"),
    ("timestamp('2024-03-31T01:00:00Z').getHours('Europe/London')", "2"),
    ("timestamp('0001-01-01T00:00:00Z').getFullYear('-01:00')", "0"),
    ("timestamp('0001-01-01T00:00:00Z').getDayOfWeek('-01:00')", "0"),
    ("timestamp('9999-12-31T23:59:59Z').getFullYear('+01:00')", "10000"),
    ("string(duration('1h1m1.5s'))", '"3661.5s"'),
    ("string(duration('-1500us'))", '"-0.0015s"'),
    ("duration('1.5h') == duration('90m') && duration('.5s') == duration('500ms')", "true"),
    ("duration('0') == duration('-0s')", "true"),
    ("duration('-90m').getHours()", "-1"),
    ("duration('-90m').getMinutes()", "-90"),
    ("duration('3730.5s').getSeconds()", "3730"),
    ("duration('123.321456789s').getMilliseconds()", "321"),
    (f"{INSTANT} + duration('2s') > {INSTANT}", "true"),
    (f"duration('1s') + {INSTANT} - {INSTANT} == duration('1s')", "true"),
    (f"{INSTANT} - duration('1s') < {INSTANT}", "true"),
    ("duration('2s') - duration('1s') + duration('1ns')", 'duration("1.000000001s")'),
]


@pytest.mark.parametrize(("source", "expected"), VALUES, ids=[source for source, _ in VALUES])
@pytest.mark.parametrize("strict", [True, False], ids=["checked", "unchecked"])
def test_value(source: str, expected: str, strict: bool) -> None:
    """Time has the value that the language definition gives it, to the nanosecond."""
    assert expected == spell(evaluate(source, {}, strict=strict))


ERRORS = [
    "timestamp('0000-01-01T00:00:00Z')",
    "timestamp('10000-01-01T00:00:00Z')",
    "timestamp('0001-01-01T00:00:00+00:01')",
    "timestamp('2023-02-29T00:00:00Z')",
    "timestamp('2023-01-01T24:00:00Z')",
    "timestamp('2023-01-01T00:00:00')",
    "timestamp('2023-01-01 00:00:00Z')",
    "timestamp('2023-01-01T00:00:00.Z')",
    "timestamp('2023-01-01T00:00:00+24:00')",
    "timestamp(253402300800)",
    "timestamp('9999-12-31T23:59:59.999999999Z') + duration('1ns')",
    "timestamp('0001-01-01T00:00:00Z') - duration('1ns')",
    "timestamp('9999-12-31T23:59:59Z') - timestamp('0001-01-01T00:00:00Z')",
    "duration('320000000000s')",
    "duration('9223372036s') + duration('9223372036s')",
    "duration('1')",
    "duration('s')",
    "duration('.s')",
    "duration('1 s')",
    "duration('1d')",
    "duration('--1s')",
    "duration('')",
    "timestamp(0).getHours(dyn('Nowhere'))",
    "timestamp(0).getHours(dyn('../etc'))",
    "timestamp(0).getHours(dyn('+24:00'))",
    "timestamp(0).getMilliseconds(dyn('Nowhere'))",
]


@pytest.mark.parametrize("source", ERRORS)
def test_error(source: str) -> None:
    """What is no time, or out of range, is an error of the evaluation."""
    with pytest.raises(EvaluationError):
        evaluate(source, {})


INSTANTS = st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1).map(Timestamp)
ZONES = st.sampled_from(
    ["UTC", "Asia/Kolkata", "Europe/Paris", "America/St_Johns", "Australia/Sydney"]
)


@given(INSTANTS)
def test_timestamps_are_read_back(instant: Timestamp) -> None:
    """The text of an instant reads back the same."""
    assert instant == timestamp_of_string(string_of_timestamp(instant))


@given(st.integers(-(2**63), 2**63 - 1).map(Duration))
def test_durations_are_read_back(span: Duration) -> None:
    """The text of a duration reads back the same."""
    assert span == duration_of_string(string_of_duration(span))


@given(st.datetimes(timezones=st.just(UTC)), ZONES)
def test_getters_agree_with_datetime(moment: datetime, zone: str) -> None:
    """The getters show the wall clock of the zone."""
    assume(1 < moment.year < 9999)  # where Python's own calendar ends
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    local = moment.astimezone(ZoneInfo(zone))
    source = (
        "[t.getFullYear(z), t.getMonth(z), t.getDate(z), t.getDayOfMonth(z), t.getHours(z),"
        " t.getMinutes(z), t.getSeconds(z), t.getDayOfWeek(z), t.getDayOfYear(z)]"
    )
    expected = [
        *(local.year, local.month - 1, local.day, local.day - 1, local.hour),
        *(local.minute, local.second, (local.weekday() + 1) % 7, local.timetuple().tm_yday - 1),
    ]
    found = evaluate(source, {"t": Timestamp(micros * 1000), "z": zone})
    assert expected == list(found)
