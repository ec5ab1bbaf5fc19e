"""What an event may say: each body checked and made complete before it enters the ledger.

Messages name the field and what was expected; they never quote a number.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, Final, TypeVar
from zoneinfo import available_timezones

from consent.category import BIT
from consent.event import HELD_KINDS, Event, EventKind
from consent.facts import ConsentState
from consent.held import Held, HeldConsent
from consent.record.database import RecordError
from consent.record.schema import NUMBER_LIMIT
from consent.record.words import nearest
from consent.terms import MODE_BIT, MOST_CALLS, MOST_DAYS
from consent.zones import zones_of

T = TypeVar("T")

PERSONAL_LIMIT: Final = 1000
"""Entries in each of a subscriber's personal lists, allow and block (China's carrier service)."""

PREFIX_LIMIT: Final = 3
PREFIX: Final = re.compile(r"[0-9]{3,15}")
PERSONAL_ACTIONS: Final = ("allow", "block")
LADDER_STEPS: Final = (
    "raised", "ended", "cleared", "paused", "resumed", "reversed", "claimed",
)  # fmt: skip
"""A stage was reached; its term ended; back on the ground; an appeal was opened; it was rejected;
a step was undone, with every one after it; an entity has come to answer for the number and stands
where the number stood."""

E164_LIMIT: Final = 10**15
U32: Final = 2**32


def check(event: Event, *, where: str) -> dict[str, Any]:
    """The body of an event with every field in its place and order.

    Raises RecordError for a number that is no E.164, an unknown or missing field, and a value
    out of its range; `where` begins the message.
    """
    stepped = event.kind == EventKind.LADDER_STEPPED
    if stepped and bool(event.called) == bool(event.body.get("entity")):
        raise _refused(where, "called", "a step is about an entity or a number, and about one")
    least = 0 if stepped else 1
    if type(event.called) is not int or not least <= event.called < E164_LIMIT:
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
    for name in OPTIONAL & body.keys():
        if not body[name]:
            del body[name]
    if 0 < body.get("expires", 0) <= event.at:
        raise _refused(where, "body.expires", "is not after the consent's own instant `at`")
    if "terms" in body:
        body["terms"] = _whole_terms(event, body, where=where)
    if event.kind == EventKind.PREFERENCES_SET:
        both = sorted(set(body["refused"]) & set(body["accepted"]))
        if both:
            raise _refused(where, "body.accepted", f"has {both[0]!r}, which is refused as well")
    return body


def _whole_terms(event: Event, body: dict[str, Any], *, where: str) -> dict[str, Any]:
    """The terms of a grant, or those that a narrowing states, with the zone of hours and days."""
    terms = dict(body["terms"])
    if event.kind == EventKind.CONSENT_GRANTED:
        effective = terms.get("effective", 0)
        if 0 < body["expires"] <= effective:
            raise _refused(where, "body.terms", "has effective, which is not before expires")
        if effective <= event.at:
            terms.pop("effective", None)
        terms = _in_zone(terms, event.called, where=where)
    elif "effective" in terms:
        raise _refused(where, "body.terms", "has effective: a narrowing counts at once")
    if ("calls" in terms) != ("per_days" in terms):
        raise _refused(where, "body.terms", "has one of calls and per_days, expected both")
    return terms


def _in_zone(terms: dict[str, Any], called: int, *, where: str) -> dict[str, Any]:
    """The terms with the zone of their days and bands: the number's, where they state none."""
    if "zone" in terms or not {"days", "bands"} & terms.keys():
        return terms
    zones = zones_of(called)
    if len(zones) != 1:
        problem = f"has no zone for days and bands, and the number may be in {len(zones)}"
        raise _refused(where, "body.terms", problem)
    return {**terms, "zone": zones[0]}


def needs_held(event: Event) -> bool:
    """Whether an event is completed, or refused, by what is held for its number."""
    if event.kind == EventKind.CONSENT_REVOKED:
        return "scope" in event.body or event.body.get("effective", 0) > event.at
    return event.kind in NEEDS_HELD


NEEDS_HELD: Final = HELD_KINDS | {EventKind.REFUSED_ALL, EventKind.PERSONAL_SET}
"""Kinds of which every event is."""


def completed(event: Event, held: Held, *, where: str) -> None:
    """Makes the body of an event say the whole of what it changes: see `consent.event.Event`.

    Raises RecordError where it changes a consent that is not held, or fills a list beyond its end.
    """
    body = event.body
    if event.kind in HELD_KINDS:
        consent = held.consents.get(body["entity"])
        if consent is None or consent.state(event.at) is ConsentState.REVOKED:
            raise _refused(where, "body.entity", "has no consent of this subscriber to change")
        body["categories"] = list(consent.categories)
        terms = consent.terms
        if event.kind == EventKind.CONSENT_NARROWED:
            if not body["withdrawn"] and "terms" not in body:
                raise _refused(where, "body.withdrawn", "is empty, and no terms are stated")
            body["categories"] = _narrowed(consent.categories, body["withdrawn"])
            if not body["categories"]:
                raise _refused(where, "body.withdrawn", "leaves nothing: revoke the consent")
            terms = _narrowed_terms(terms, body.get("terms", {}), event.called, where=where)
        if terms:
            body["terms"] = terms
        if event.kind == EventKind.CONSENT_EXPIRED:
            body["expires"] = int(event.at)
        body.setdefault("expires", consent.expires)
    elif event.kind == EventKind.CONSENT_REVOKED and needs_held(event):
        _complete_revocation(event, held.consents.get(body["entity"]), where=where)
    elif event.kind == EventKind.REFUSED_ALL:
        nothing = {name: read(default) for name, (read, default) in PREFERENCES.items()}
        kept = {name: held.preferences.get(name, nothing[name]) for name in ("zone", "prefixes")}
        body |= {**nothing, **kept, "refused": ["all"]}
    elif event.kind == EventKind.PERSONAL_SET and body["calling"] not in held.personal:
        action = body["action"]
        if sum(kept == action for kept in held.personal.values()) >= PERSONAL_LIMIT:
            raise RecordError(
                f"{where}: the subscriber's personal {action} list is full, expected at most "
                f"{PERSONAL_LIMIT} entries",
                field="body.calling",
            )


def _narrowed(categories: Collection[str], withdrawn: Collection[str]) -> list[str]:
    """The categories that are left; "all" stands for each trade but is not left in part."""
    if "all" in withdrawn:
        return []
    if "all" in categories:
        categories = [category for category in BIT if category != "all"]
    return sorted(set(categories) - set(withdrawn))


def _narrowed_terms(
    held: dict[str, Any], stated: dict[str, Any], called: int, *, where: str
) -> dict[str, Any]:
    """The terms with those stated, none of which may permit what was not permitted."""
    wider = "would permit more by {}: that is a consent of its own"
    for name in ("days", "bands", "modes"):
        if name in stated and name in held and not set(stated[name]) <= set(held[name]):
            raise _refused(where, "body.terms", wider.format(name))
    if {"zone"} & stated.keys() & held.keys() and stated["zone"] != held["zone"]:
        raise _refused(where, "body.terms", "has another zone than the consent's days and bands")
    if (
        "calls" in stated
        and "calls" in held
        and (stated["calls"] > held["calls"] or stated["per_days"] < held["per_days"])
    ):
        raise _refused(where, "body.terms", wider.format("calls"))
    return _in_zone({**held, **stated}, called, where=where)


def _complete_revocation(event: Event, held: HeldConsent | None, *, where: str) -> None:
    """What is held after a revocation in part, or one that takes effect later."""
    body = event.body
    scope, from_ = body.get("scope", ["all"]), body.get("effective", 0)
    waits = from_ > event.at
    if held is None:
        if waits:
            raise _refused(where, "body.effective", "is to come, and there is no consent till then")
        body |= {"categories": scope, "expires": 0, "terms": {"revoked": scope}}
        return
    if held.state(event.at) is ConsentState.REVOKED:
        raise _refused(where, "body.entity", "has a consent that is revoked already")
    terms = dict(held.terms)
    if 0 < terms.get("revokes_at", 0) <= event.at:
        # What was to come has come.
        terms["revoked"] = sorted({*terms.get("revoked", ()), *terms.pop("revokes")})
        del terms["revokes_at"]
    if not waits:
        terms["revoked"] = sorted({*terms.get("revoked", ()), *scope})
    elif "revokes" in terms and terms["revokes_at"] != from_ and "all" not in scope:
        problem = f"is not {terms['revokes_at']}, when one takes effect that was stated before"
        raise _refused(where, "body.effective", problem)
    elif terms.get("revokes_at", from_) < from_:
        raise _refused(where, "body.effective", "is later than that of a revocation stated before")
    else:
        terms |= {"revokes": sorted({*terms.get("revokes", ()), *scope}), "revokes_at": from_}
    body |= {"categories": list(held.categories), "expires": held.expires, "terms": terms}


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


def _text(most: int) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not value.isprintable() or len(value) > most:
            raise _UnfitError(f"is no text of at most {most} printable characters")
        return value

    return read


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _UnfitError("is no object of texts by language")
    read = _text(2000)
    return {str(language): read(text) for language, text in value.items()}


def _matching(pattern: str, expected: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _UnfitError(f"is no {expected}")
        return value

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _UnfitError("is neither true nor false")
    return value


def _object_of(
    known: Callable[[], dict[str, Callable[[Any], Any]]],
) -> Callable[[Any], dict[str, Any]]:
    def read_object(value: Any) -> dict[str, Any]:
        fields = known()
        if not isinstance(value, Mapping):
            raise _UnfitError("is no object of fields")
        for name in value:
            if name not in fields:
                raise _UnfitError(f"has {_shown(str(name))}: {nearest(str(name), fields)}")
        read = {}
        for name, check_field in fields.items():
            if value.get(name) is not None:
                try:
                    read[name] = check_field(value[name])
                except _UnfitError as unfit:
                    raise _UnfitError(f"has a {name} that {unfit}") from None
        return read

    return read_object


BASES: Final = ("explicit", "inferred", "existing_relation", "contract", "statutory")
AUTHORS: Final = ("subject", "agent", "guardian")
_SHA256: Final = _matching("[0-9a-f]{64}", "SHA-256 of 64 hexadecimal digits in lower case")

EVIDENCE: Final[dict[str, Callable[[Any], Any]]] = {
    "jurisdiction": _matching("[A-Z]{2}", "country of ISO 3166-1 such as GB"),
    "basis": _word(lambda: frozenset(BASES)),
    "brand": _text(120),
    "purpose": _text(500),
    "channel": _text(64),
    "captured": _text(500),
    "text_sha256": _SHA256,
    "text_locale": _matching("[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*", "language tag of BCP 47"),
    "text_version": _text(64),
    "uri": _text(500),
    "sha256": _SHA256,
    "author": _word(lambda: frozenset(AUTHORS)),
    "verification": _text(200),
    "notice_version": _text(64),
    "confirmed": _integer(U32),
    "retain_until": _integer(U32),
    "legal_hold": _flag,
    "source": _text(200),
    "subscribed_since": _integer(U32),
    "calling_numbers": _set_of(_matching("\\+[1-9][0-9]{1,14}", "number of E.164 with +")),
    "delegates": _set_of(_text(64)),
}
"""What proves a decision, each field as the ledger keeps it; instants are epoch seconds.

`basis` is the legal basis, `author` who decided for the subscriber, `captured` how and where,
`text_…` what was shown, `uri` and `sha256` where its copy is, `confirmed` when that was sent,
`subscribed_since` when the subscriber got the number, `calling_numbers` and `delegates` what was
said of who would call: the registry of entities says who may.
"""


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() | {""})


_category = _word(lambda: BIT)
_action = _word(lambda: frozenset(PERSONAL_ACTIONS))

TERMS: Final[dict[str, Callable[[Any], Any]]] = {
    "effective": _integer(U32, least=1),
    "days": _set_of(_integer(8), least=1),
    "bands": _set_of(_integer(24), least=1),
    "modes": _set_of(_word(lambda: frozenset(MODE_BIT)), least=1),
    "zone": _word(lambda: _zones() - {""}),
    "calls": _integer(MOST_CALLS + 1, least=1),
    "per_days": _integer(MOST_DAYS + 1, least=1),
}
"""What limits a consent: from when on, on which days (7 a holiday), in which hours of which zone,
for which kinds of call, for how many calls within how many days."""

OPTIONAL: Final = frozenset({"entity", "terms", "scope", "effective"})
"""Fields of a body that are not there where nothing is said."""

_entity = (_integer(U32, least=1), None)
_evidence: tuple[Callable[[Any], Any], Any] = (_object_of(lambda: EVIDENCE), {})
_terms: tuple[Callable[[Any], Any], Any] = (_object_of(lambda: TERMS), {})

PREFERENCES: Final[dict[str, tuple[Callable[[Any], Any], Any]]] = {
    "refused": (_set_of(_category), ()),
    "accepted": (_set_of(_category), ()),
    "bands": (_set_of(_integer(24)), ()),
    "days": (_set_of(_integer(8)), ()),
    "modes": (_set_of(_word(lambda: frozenset(MODE_BIT))), ()),
    "zone": (_word(_zones), ""),
    "prefixes": (_prefixes, ()),
}

CHECKS: Final[dict[EventKind, dict[str, tuple[Callable[[Any], Any], Any]]]] = {
    EventKind.CONSENT_GRANTED: {
        "entity": _entity,
        "categories": (_set_of(_category, least=1), None),
        "expires": (_integer(U32), 0),
        "evidence": _evidence,
        "terms": _terms,
    },
    EventKind.CONSENT_RENEWED: {
        "entity": _entity,
        "expires": (_integer(U32), None),
        "evidence": _evidence,
    },
    EventKind.CONSENT_NARROWED: {
        "entity": _entity,
        "withdrawn": (_set_of(_category), ()),
        "evidence": _evidence,
        "terms": _terms,
    },
    EventKind.CONSENT_EXPIRED: {"entity": _entity, "evidence": _evidence},
    EventKind.CONSENT_REVOKED: {
        "entity": _entity,
        "evidence": _evidence,
        "scope": (_set_of(_category), ()),
        "effective": (_integer(U32), 0),
    },
    EventKind.REFUSED_ALL: {"evidence": _evidence},
    EventKind.PREFERENCES_SET: PREFERENCES,
    EventKind.PERSONAL_SET: {"calling": (_calling, None), "action": (_action, None)},
    EventKind.PERSONAL_CLEARED: {"calling": (_calling, None)},
    EventKind.REASSIGNED: {"since": (_integer(U32), 0)},
    EventKind.ERASED: {},
    EventKind.LIST_EXCEPTED: {"list": (_text(64), None), "reason": (_text(500), None)},
    EventKind.LIST_RESTORED: {"list": (_text(64), None), "reason": (_text(500), None)},
    EventKind.LADDER_STEPPED: {
        "entity": (_integer(U32), 0),
        "jurisdiction": (_matching("[A-Z]{2}", "country of ISO 3166-1 such as CN"), None),
        "step": (_word(lambda: frozenset(LADDER_STEPS)), None),
        "stage": (_text(64), None),
        "in_force": (_text(16), ""),
        "level": (_integer(100), None),
        "since_us": (_integer(2**63), None),
        "over": (_flag, False),
        "paused": (_flag, False),
        "ladder": (_text(64), None),
        "weight": (_integer(U32), 0),
        "complainants": (_integer(U32), 0),
        "complaints": (_set_of(_integer(2**63)), ()),
        "reverses": (_integer(2**63), 0),
        "reason": (_text(500), ""),
        "notice": (_texts, {}),
    },
}
"""Of each kind, its fields: what reads one, and its value when absent (None: it is needed)."""
