"""Complaints as they come: one by one, as lines of JSON, and as the FTC publishes them."""

import json

import pytest

from consent.complaint import (
    FTC_COLUMNS,
    Complaint,
    ComplaintError,
    Rejects,
    complaint_from,
    read_ftc,
    read_ndjson,
)

NOW = 1_790_000_000.0
GOOD = {
    "calling": "+44 1632 960077", "called": "+447700900123", "at": "2026-09-20T10:00:00+01:00",
    "category": "loans", "text": "third time today",
}  # fmt: skip


def taken(**changes: object) -> Complaint:
    fields = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return complaint_from(fields, region="", now=NOW, source="test")


def test_one() -> None:
    """A complaint keeps what was said, numbers as digits and the instant as epoch seconds."""
    expected = Complaint(
        441632960077, 447700900123, 1789894800.0, "loans", "", "third time today", "", "test"
    )
    assert taken() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calling": None}, "calling: is absent"),
        ({"calling": "anonymous"}, "calling: is no number"),
        ({"called": 5}, "called: is absent"),
        ({"at": "yesterday"}, "at: expected an RFC 3339 instant"),
        ({"at": "2026-09-20T10:00:00"}, "at: expected an RFC 3339 instant"),
        ({"at": "2036-09-20T10:00:00Z"}, "at: lies in the future"),
        ({"category": "spam"}, "category: is none of the taxonomy"),
        ({"text": "x" * 2001}, "text: expected a text of at most 2000 characters"),
        ({"caller": "me"}, "'caller' is no field"),
    ],
)
def test_refused(changes: dict[str, object], message: str) -> None:
    """What is wrong is named by its field, and no number is quoted."""
    with pytest.raises(ComplaintError, match=message) as refused:
        taken(**changes)
    assert "960077" not in str(refused.value)


def test_lines_of_json() -> None:
    """A bad line does not stop the others; it is told with its number."""
    rejects = Rejects()
    lines = [json.dumps(GOOD).encode(), b"", b"{", b"[]", b'{"calling": "+447700900123"}']
    read = list(read_ndjson(lines, region="", now=NOW, source="test", rejects=rejects))
    assert read == [taken()]
    assert rejects.first == [
        (3, "is not JSON"),
        (4, "expected a JSON object"),
        (5, "called: is absent, expected a number with country code"),
    ]


def test_ftc() -> None:
    """Ten digits or none, subjects with runs of spaces; nobody to be told apart by."""
    rows = [
        ",".join(FTC_COLUMNS),
        "2125550123,2026-09-21 08:00:00,2026-09-20 10:00:00,,New York,212,Vacation  & timeshares,N",
        ",2026-09-21 08:00:00,2026-09-20 10:00:00,,Ohio,216,Other,Y",
        "21255,2026-09-21 08:00:00,2026-09-20 10:00:00,,Ohio,216,Other,Y",
        "2125550123,2026-09-21 08:00:00,soon,,Ohio,216,Other,Y",
        "2125550123,2026-09-21",
    ]
    rejects = Rejects()
    read = list(read_ftc(rows, source="ftc", rejects=rejects))
    assert [(each.calling, each.called, each.category, each.subject) for each in read] == [
        (12125550123, 0, "tourism", "Vacation & timeshares"),
        (0, 0, "", "Other"),
    ]
    assert read[0].at == 1789898400.0
    assert [line for line, _ in rejects.first] == [4, 5, 6]
    with pytest.raises(ComplaintError, match="line 1: expected the header"):
        list(read_ftc(["a,b"], source="ftc", rejects=rejects))
