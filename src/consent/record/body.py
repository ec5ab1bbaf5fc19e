"""What an event may say: each body checked and made complete before it enters the ledger.

Messages name the field and what was expected; they never quote a number.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeVar
from zoneinfo import available_timezones

from consent.category import BIT
from consent.event import Event, EventKind
from consent.record.database import RecordError
from consent.record.schema import NUMBER_LIMIT
from consent.record.words import nearest

T = TypeVar("T")

PERSONAL_LIMIT: Final = 1000
"""Entries in each of a subscriber's personal lists, allow and block (China's carrier service)."""

PREFIX_LIMIT: Final = 3
PREFIX: Final = re.compile(r"[0-9]{3,15}")
PERSONAL_ACTIONS: Final = ("allow", "block")
MODES: Final = ("voice", "autodialler", "prerecorded")
E164_LIMIT: Final = 10**15
U32: Final = 2**32


def check(event: Event, *, where: str) -> dict[str, Any]:
    """The body of an event with every field in its place and order.

    Raises RecordError for a number that is no E.164, an unknown or missing field, and a value
    out of its range; `where` begins the message.
    """
    if type(event.called) is not int or not 0 < event.called < E164_LIMIT:
        raise _refused(where, "called", "is no number of 1 to 15 digits with country code")
    if not 0 < event.at < U32:
        raise _refused(where, "at", f"is {event.at!r}, expected epoch seconds")
    if event.kind not in CHECKS:
        raise _refused(where, "kind", f"is {_shown(event.kind)}, {nearest(event.kind, CHECKS)}")
    checks = CHECKS[event.kind]
    for name in event.body:
        if name not in checks:
            unknown = f"has {_shown(name)}, no field of {event.kind}: {nearest(name, checks)}"
            raise _refused(where, "body", unknown)
    body = {}
    for name, (read, default) in checks.items():
        value = event.body.get(name)
        if value is None:
            value = default
        if value is None:
            raise _refused(where, f"body.{name}", f"is absent, {event.kind} needs it")
        try:
            body[name] = read(value)
        except _UnfitError as unfit:
            raise _refused(where, f"body.{name}", str(unfit)) from None
    if event.kind == EventKind.CONSENT_GRANTED and 0 < body["expires"] <= event.at:
        raise _refused(where, "body.expires", "is not after the consent's own instant `at`")
    if event.kind == EventKind.PREFERENCES_SET:
        both = sorted(set(body["refused"]) & set(body["accepted"]))
        if both:
            raise _refused(where, "body.accepted", f"has {both[0]!r}, which is refused as well")
    return body


class _UnfitError(Exception):
    """A value is not what its field holds."""


def _refused(where: str, field: str, problem: str) -> RecordError:
    return RecordError(f"{where}.{field} {problem}", field=field)


def _shown(word: str) -> str:
    return repr(re.sub("[0-9]", "#", word[:40]))


def _integer(below: int, *, least: int = 0) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value < below:
            raise _UnfitError(f"is no integer from {least} to {below - 1}")
        return value

    return read


def _calling(value: Any) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_LIMIT:
        raise _UnfitError("is no number: expected digits with country code as an integer")
    return value


def _word(known: Callable[[], Mapping[str, Any] | frozenset[str]]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in known():
            raise _UnfitError(f"is {_shown(str(value))}, {nearest(str(value), known())}")
        return value

    return read


def _set_of(read: Callable[[Any], T], *, least: int = 0) -> Callable[[Any], list[T]]:
    def read_all(value: Any) -> list[T]:
        if not isinstance(value, (list, tuple)) or len(value) < least:
            raise _UnfitError(f"is no list of {least} or more")
        return sorted({read(each) for each in value})  # type: ignore[type-var]

    return read_all


def _prefixes(value: Any) -> list[list[str]]:
    if not isinstance(value, (list, tuple)) or len(value) > PREFIX_LIMIT:
        raise _UnfitError(f"is no list of at most {PREFIX_LIMIT} pairs of digits and action")
    prefixes: dict[str, str] = {}
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise _UnfitError("has an entry that is no pair of digits and action")
        digits, action = pair
        if not isinstance(digits, str) or not PREFIX.fullmatch(digits):
            raise _UnfitError("has a prefix that is not 3 to 15 digits")
        if prefixes.setdefault(digits, _action(action)) != action:
            raise _UnfitError("both allows and blocks one prefix")
    return [[digits, action] for digits, action in prefixes.items()]


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() | {""})


_category = _word(lambda: BIT)
_action = _word(lambda: frozenset(PERSONAL_ACTIONS))

CHECKS: Final[dict[EventKind, dict[str, tuple[Callable[[Any], Any], Any]]]] = {
    EventKind.CONSENT_GRANTED: {
        "entity": (_integer(U32, least=1), None),
        "categories": (_set_of(_category, least=1), None),
        "expires": (_integer(U32), 0),
    },
    EventKind.CONSENT_REVOKED: {"entity": (_integer(U32, least=1), None)},
    EventKind.PREFERENCES_SET: {
        "refused": (_set_of(_category), ()),
        "accepted": (_set_of(_category), ()),
        "bands": (_set_of(_integer(24)), ()),
        "days": (_set_of(_integer(8)), ()),
        "modes": (_set_of(_word(lambda: frozenset(MODES))), ()),
        "zone": (_word(_zones), ""),
        "prefixes": (_prefixes, ()),
    },
    EventKind.PERSONAL_SET: {"calling": (_calling, None), "action": (_action, None)},
    EventKind.PERSONAL_CLEARED: {"calling": (_calling, None)},
    EventKind.REASSIGNED: {},
}
"""Of each kind, its fields: what reads one, and its value when absent (None: it is needed)."""
