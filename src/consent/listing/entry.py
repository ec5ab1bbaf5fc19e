"""One entry of a list: a number, a prefix or a range, and what is wrong with it otherwise.

Invariant: what is loaded has the value that `consent.number` gives a call from or to it, so that
list and call meet however either was written.
"""

import re
from enum import StrEnum
from typing import Final

from consent.number import LONGEST_E164, Number, NumberClass, parse_number
from consent.plan import plan_of

LIMIT: Final = 2**63
"""Values are below it: the record's integers are signed."""

LONGEST: Final = 18
"""Digits up to which a prefix covers numbers: the longest odd ones that callers were shown."""

SPAN_DIGITS: Final = 3
"""Digits that a prefix has after the country code, at least: shorter ones take in a nation's
short codes and service numbers, and a slip of the key a whole network."""

Spans = tuple[tuple[int, int], ...]

_NUMBER: Final = re.compile(r"(?:tel:)?\+?[ (]{0,2}[0-9][0-9 ().\-/\u00a0\u2010\u2011]*", re.ASCII)
_PREFIX: Final = re.compile(r"(\+?)([0-9]+)\*", re.ASCII)
_RANGE: Final = re.compile(r"(\+?[0-9]+) ?(?:-|\u2013|\.\.) ?(\+?[0-9]+)", re.ASCII)
_OPTIONAL_TRUNK: Final = re.compile(r"\( ?0 ?\)")


class Reason(StrEnum):
    """Why a line was not loaded."""

    COLUMN = "the row has no such column"
    FORM = "not in the form of this format"
    NO_NUMBER = "not a number"
    NO_REGION = "national digits, and the list has no region"
    TOO_LONG = "more digits than any number has"
    LENGTH = "not of a length that its country uses"
    SHORT_CODE = "a short code, which no subscriber has"
    SPAN_CALLED = "a prefix or range, where each called number has to be named"
    SPAN_NATIONAL = "a prefix without + and country code"
    SPAN_WIDE = f"wider than a prefix of {SPAN_DIGITS} digits after the country code"
    SPAN_ENDS = "a range whose ends differ in length, or are in the wrong order"


def read_entry(text: str, *, region: str, called: bool) -> int | Spans | Reason:
    """What an entry names: a value, ranges of values with both ends, or why it is refused.

    Called numbers must be ones that a subscriber can have. Calling numbers are taken as they
    were shown to people, of no plan or of the wrong length, and may be prefixes (`+441632*`,
    which covers the longer numbers of every length) and ranges (`lo-hi`).
    """
    span = _span(text, region=region)
    if span is not None:
        return Reason.SPAN_CALLED if called and not isinstance(span, Reason) else span
    if not _NUMBER.fullmatch(text):
        return Reason.NO_NUMBER
    if text.startswith("+"):
        text = _OPTIONAL_TRUNK.sub("", text)
    number = parse_number(text, region=region)
    return accept_called(number) if called else accept_calling(number, region=region)


def accept_called(number: Number) -> int | Reason:
    """The value of a number that a subscriber can have."""
    if number.kind is NumberClass.SHORT_CODE:
        return Reason.SHORT_CODE
    if number.kind is NumberClass.INVALID and not number.country and number.text[:1] != "+":
        return Reason.NO_REGION
    if not number.plausible or not 0 < number.value < 10**LONGEST_E164:
        return Reason.LENGTH
    return number.value


def accept_calling(number: Number, *, region: str) -> int | Reason:
    """The value of any number that can be shown to people."""
    if not 0 < number.value < LIMIT:
        return (
            Reason.TOO_LONG
            if sum(map(str.isdigit, number.text)) >= LONGEST
            else (Reason.NO_NUMBER if region else Reason.NO_REGION)
        )
    if not region and not number.country and number.text[:1] != "+":
        return Reason.NO_REGION
    return number.value


def _span(text: str, *, region: str) -> Spans | Reason | None:
    """The ranges of a prefix or range, or None for an entry that is neither."""
    prefix = _PREFIX.fullmatch(text)
    if prefix:
        return _prefix_spans(prefix[2]) if prefix[1] else Reason.SPAN_NATIONAL
    ends = _RANGE.fullmatch(text)
    # 0160-1234567 is one number: without plus, the ends of a range have the same length.
    if not ends or not (
        ".." in text
        or ((ends[1][0] == "+") and (ends[2][0] == "+"))
        or len(ends[1]) == len(ends[2]) >= 7
    ):
        return None
    first, last = (parse_number(end, region=region) for end in ends.groups())
    if not (0 < first.value < LIMIT and 0 < last.value < LIMIT):
        return Reason.NO_NUMBER if region else Reason.NO_REGION
    digits = str(first.value)
    if first.value > last.value or len(digits) != len(str(last.value)):
        return Reason.SPAN_ENDS
    plan = plan_of(digits)
    free = len(digits) - (len(plan.code) if plan else 0) - SPAN_DIGITS
    if free < 0 or last.value - first.value >= 10**free:
        return Reason.SPAN_WIDE
    return ((first.value, last.value),)


def _prefix_spans(prefix: str) -> Spans | Reason:
    plan = plan_of(prefix)
    if len(prefix) > LONGEST:
        return Reason.TOO_LONG
    if plan is None or prefix[0] == "0":
        return Reason.NO_NUMBER
    if len(prefix) < len(plan.code) + SPAN_DIGITS:
        return Reason.SPAN_WIDE
    first = int(prefix)
    return tuple(
        (first * 10**more, (first + 1) * 10**more - 1) for more in range(LONGEST - len(prefix) + 1)
    )
