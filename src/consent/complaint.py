"""What a called party said of a call, and how it comes in files."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from consent.category import BIT
from consent.number import NotE164, parse_e164
from consent.taxonomy import category_of

TEXT_LIMIT: Final = 2000
FTC_COLUMNS: Final = (
    "Company_Phone_Number", "Created_Date", "Violation_Date", "Consumer_City", "Consumer_State",
    "Consumer_Area_Code", "Subject", "Recorded_Message_Or_Robocall",
)  # fmt: skip
"""The header of the FTC's daily file of complaints."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """One complaint; numbers are E.164 digits, 0 where none was named; `at` is epoch seconds.

    `subject` is the category in the authority's own words. Without `called` nobody can be told
    apart from others, so such a complaint counts in shares and weighs nothing.
    """

    calling: int
    called: int
    at: float
    category: str = ""
    subject: str = ""
    text: str = ""
    decision_id: str = ""
    source: str = ""


class ComplaintError(ValueError):
    """A complaint that cannot be taken; the message names the field, never a number."""


@dataclass(slots=True)
class Rejects:
    """Lines that were not taken: how many, and the first of them with their reasons."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        self.count += 1
        if len(self.first) < 100:
            self.first.append((line, reason))


def complaint_from(fields: dict[str, Any], *, region: str, now: float, source: str) -> Complaint:
    """The complaint that an object describes: calling, called, at, category, text, decision_id.

    Raises ComplaintError.
    """
    known = {"calling", "called", "at", "category", "text", "decision_id"}
    for name in fields:
        if name not in known:
            expected = ", ".join(sorted(known))
            raise ComplaintError(f"{name[:40]!r} is no field, expected {expected}")
    text = fields.get("text") or ""
    if not isinstance(text, str) or len(text) > TEXT_LIMIT:
        raise ComplaintError(f"text: expected a text of at most {TEXT_LIMIT} characters")
    category = fields.get("category") or ""
    if not isinstance(category, str) or (category and category not in BIT):
        raise ComplaintError("category: is none of the taxonomy")
    decision_id = fields.get("decision_id") or ""
    if not isinstance(decision_id, str) or len(decision_id) > 64:
        raise ComplaintError("decision_id: expected the id of a decision")
    return Complaint(
        calling=_number(fields.get("calling"), "calling", region=region),
        called=_number(fields.get("called"), "called", region=region),
        at=_instant(fields.get("at"), now=now),
        category=category,
        text=text,
        decision_id=decision_id,
        source=source,
    )


def read_ndjson(
    lines: Iterable[bytes], *, region: str, now: float, source: str, rejects: Rejects
) -> Iterator[Complaint]:
    """The complaints of a file of JSON objects, one a line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ComplaintError("expected a JSON object")
            yield complaint_from(fields, region=region, now=now, source=source)
        except ValueError as refused:
            said = str(refused) if isinstance(refused, ComplaintError) else "is not JSON"
            rejects.add(number, said)


def read_ftc(lines: Iterable[str], *, source: str, rejects: Rejects) -> Iterator[Complaint]:
    """The complaints of the FTC's file: bare ten digits, often none; subjects, no complainant.

    Raises ComplaintError where the header is another one.
    """
    rows = csv.reader(lines)
    header = tuple(next(rows, ()))
    if header != FTC_COLUMNS:
        raise ComplaintError(f"line 1: expected the header {','.join(FTC_COLUMNS)}")
    for row in rows:
        number = rows.line_num
        if len(row) != len(FTC_COLUMNS):
            rejects.add(number, f"{len(row)} fields, expected {len(FTC_COLUMNS)}")
            continue
        company, created, violated, _, _, _, subject, _ = row
        digits = company.strip()
        if digits and not (digits.isascii() and digits.isdigit() and len(digits) == 10):
            rejects.add(number, "Company_Phone_Number: expected ten digits or nothing")
            continue
        try:
            at = _ftc_instant(violated or created)
        except ValueError:
            rejects.add(number, "Violation_Date: expected YYYY-MM-DD HH:MM:SS")
            continue
        yield Complaint(
            calling=int(f"1{digits}") if digits else 0,
            called=0,
            at=at,
            category=category_of("us.ftc.subject", subject) or "",
            subject=" ".join(subject.split()),
            source=source,
        )


def _ftc_instant(text: str) -> float:
    return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).timestamp()


def _number(value: Any, name: str, *, region: str) -> int:
    if not isinstance(value, str) or not value:
        raise ComplaintError(f"{name}: is absent, expected a number with country code")
    try:
        return int(parse_e164(value, region=region))
    except NotE164:
        raise ComplaintError(f"{name}: is no number with country code") from None


def _instant(value: Any, *, now: float) -> float:
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError
    except (TypeError, ValueError):
        raise ComplaintError("at: expected an RFC 3339 instant with its offset") from None
    if at.timestamp() > now + 60:
        raise ComplaintError("at: lies in the future")
    return at.timestamp()
