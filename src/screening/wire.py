"""Wire forms to domain types and back: the only place where the two meet.

Invariants: what a caller can influence never makes a question malformed; the emergency check
comes before any other field is looked at; no control character leaves in an answer.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from consent.emergency import LONGEST, is_emergency
from consent.number import parse_number
from rules.call import NO_NUMBER
from rules.verdict import Action
from screening.access import Client
from screening.body import NotJSON, parse_body
from screening.contract import FIELDS, Kind, QuestionField
from screening.screener import Decision, Question


class MalformedCall(Exception):
    """The question itself is broken: `field` names where, the message what was expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_REGION: Final = re.compile(r"[A-Za-z]{2}\Z")
_KNOWN: Final = {field.name: field for field in FIELDS}
_CANONICAL: Final[dict[str, dict[str, str]]] = {
    field.name: {value.lower(): value for value in field.values} for field in FIELDS if field.values
}
# Of nearly every field that a switch sends, what needs no more than a look.
_NUMBER, _TEXT = object(), object()
_QUICK: Final[dict[str, Any]] = {
    field.name: {
        Kind.NUMBER: _NUMBER,
        Kind.TEXT: _TEXT,
        Kind.ONE_OF: {value: value for value in field.values},
    }[field.kind]
    for field in FIELDS
    if field.kind in (Kind.NUMBER, Kind.TEXT, Kind.ONE_OF)
    and not field.asserted
    and field.name != "region"
}
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_ASSERTED_AS: Final = {"resource_priority": "priority"}
_COUNT_LIMIT: Final = 2**31 - 1


def read_json(body: bytes, *, client: Client, region: str, now: float) -> Question:
    """The question in a JSON body.

    `region` is the configured country of national digits, `now` epoch seconds.
    Raises MalformedCall as section "HTTP 400" of the contract says.
    """
    try:
        fields = parse_body(body)
    except NotJSON as broken:
        raise MalformedCall("", f"the body is not JSON: {broken}") from None
    if not isinstance(fields, dict):
        raise MalformedCall("", f"the body is a JSON {_json_type(fields)}, expected an object")
    return _read(fields, _json_value, client=client, region=region, now=now)


def read_fields(fields: Mapping[str, Any], *, client: Client, region: str, now: float) -> Question:
    """The question in fields that another parser found, typed as in JSON."""
    return _read(dict(fields), _json_value, client=client, region=region, now=now)


def read_query(query: bytes, *, client: Client, region: str, now: float) -> Question:
    """The question in a query string: the same names as in JSON, the first of a repeated one.

    A number's leading space is a plus that a switch did not escape.
    """
    return _read(fields_of_query(query), _query_value, client=client, region=region, now=now)


_NUMBERS: Final = tuple(field.name for field in FIELDS if field.kind is Kind.NUMBER)


def fields_of_json(body: bytes) -> Any:
    """What a body says, whatever it is; None where it is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def fields_of_query(query: bytes) -> dict[str, Any]:
    """What a query string says."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    fields: dict[str, Any] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    for name in _NUMBERS:
        number = fields.get(name)
        if number is not None and number[:1] == " ":
            fields[name] = "+" + number[1:].lstrip(" ")
    return fields


_CALLED: Final = b'"called"'
_CALLED_OR_DIALLED: Final = b'lled"'
_OPENS: Final = ord("{")
_CLOSES: Final = ord("}")
_LONG_CALLED: Final = re.compile(rb'"called"\s*:\s*"\+?[0-9]{%d,}"' % (LONGEST + 1))


def is_no_emergency(body: bytes) -> bool:
    """Whether a JSON body shows at a glance that it asks for no emergency call: what it does not
    show, `may_be_shed` finds.

    An object without escapes in which `dialled` stands nowhere and `called` once, with digits
    alone, more than any emergency number has.
    """
    # `in` costs five times as much: it asks first whether what is looked for is a number.
    called = body.find(_CALLED)
    return (
        called > 0
        and body[0] == _OPENS
        and body[-1] == _CLOSES
        and body.count(_CALLED_OR_DIALLED) == 1
        and body.find(b"\\") < 0
        and _LONG_CALLED.match(body, called) is not None
    )


def may_be_shed(fields: Any, *, region: str) -> bool:
    """Whether a question is a whole one and asks for no emergency call."""
    if type(fields) is not dict:
        return False
    called, dialled = fields.get("called"), fields.get("dialled")
    if type(called) is not str or not called or _CONTROL.search(called):
        return False
    region = _region(fields, region)
    return not (
        is_emergency(called, region=region)
        or (type(dialled) is str and dialled and is_emergency(dialled, region=region))
    )


def _region(fields: dict[str, Any], configured: str) -> str:
    asked = fields.get("region")
    return asked.upper() if isinstance(asked, str) and _REGION.match(asked) else configured


def _read(
    fields: dict[str, Any],
    value_of: Callable[[QuestionField, Any], Any],
    *,
    client: Client,
    region: str,
    now: float,
) -> Question:
    question = Question()
    call = question.call
    call.region = region = _region(fields, region)
    call.at = now
    # The emergency check first: whatever else is broken, such a call passes.
    for name in ("called", "dialled"):
        dialled = fields.get(name)
        if isinstance(dialled, str) and dialled and is_emergency(dialled, region=region):
            question.emergency = True
            setattr(call, name, parse_number(dialled, region=region))
    if question.emergency:
        calling, call_id = fields.get("calling"), fields.get("call_id")
        if isinstance(calling, str):
            call.calling = parse_number(calling, region=region)
        if isinstance(call_id, str):
            call.call_id = call_id
        return question

    for name, raw in fields.items():
        if type(raw) is str and raw:
            quick = _QUICK.get(name)
            if type(quick) is dict:
                canonical = quick.get(raw)
                if canonical is not None:
                    # The one object of this value: what is looked up by it is found at a glance.
                    setattr(call, name, canonical)
                    continue
            elif quick is not None and raw.isprintable():
                if name == "call_id":
                    call.call_id = raw
                elif quick is _TEXT:
                    setattr(call, name, raw)
                else:
                    number = parse_number(raw, region=region)
                    if name == "called":
                        call.called = number
                    elif name == "calling":
                        call.calling = number
                    else:
                        setattr(call, name, number)
                continue
        field = _KNOWN.get(name)
        if field is None:
            question.ignored.append("other")
            continue
        if raw is None or raw == "":
            continue
        value = value_of(field, raw)
        if field.asserted and _ASSERTED_AS.get(name, name) not in client.asserts:
            continue
        if field.kind is Kind.NUMBER:
            setattr(call, name, parse_number(value, region=region))
        elif field.kind is Kind.ONE_OF:
            canonical = _CANONICAL[name].get(value.strip().lower())
            if canonical is None:
                question.ignored.append(name)
            else:
                setattr(call, name, canonical)
        elif value is None:
            question.ignored.append(name)
        elif name == "explain":
            question.explain = value and "explain" in client.may
        elif name == "at":
            if "at" in client.may:
                call.at = value
                question.replay = True
        elif name == "region":
            if not _REGION.match(value):
                question.ignored.append(name)
        else:
            setattr(call, name, value)
    if call.called is NO_NUMBER:
        raise MalformedCall("called", "`called` is absent, expected the called number")
    if client.sip is not None or client.trunk_sip:
        question.profile = client.profile(call.trunk)
    call.vouched = client.vouches or (call.trunk != "" and call.trunk in client.trunks_vouched)
    return question


def _json_value(field: QuestionField, raw: Any) -> Any:
    kind = field.kind
    if kind is Kind.FLAG:
        if not isinstance(raw, bool):
            raise _wrong_type(field, raw, "a boolean")
        return raw
    if kind is Kind.COUNT:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise _wrong_type(field, raw, "an integer")
        return min(raw, _COUNT_LIMIT) if raw >= 0 else None
    if not isinstance(raw, str):
        raise _wrong_type(field, raw, "a string")
    if _CONTROL.search(raw):
        raise MalformedCall(field.name, f"`{field.name}` has a control character")
    return _instant(raw) if kind is Kind.INSTANT else raw


def _query_value(field: QuestionField, raw: str) -> Any:
    if _CONTROL.search(raw):
        raise MalformedCall(field.name, f"`{field.name}` has a control character")
    if field.kind is Kind.FLAG:
        word = raw.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else None
    if field.kind is Kind.COUNT:
        return (
            min(int(raw), _COUNT_LIMIT)
            if raw.isascii() and raw.isdigit() and len(raw) < 20
            else None
        )
    return _instant(raw) if field.kind is Kind.INSTANT else raw


def _instant(text: str) -> float | None:
    """Epoch seconds of an RFC 3339 instant; None for what is none."""
    try:
        instant = datetime.fromisoformat(text.replace(" ", "+", 1) if "T" in text else text)
        return instant.timestamp() if instant.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def _wrong_type(field: QuestionField, raw: object, expected: str) -> MalformedCall:
    return MalformedCall(
        field.name, f"`{field.name}` is a JSON {_json_type(raw)}, expected {expected}"
    )


def write_answer(decision: Decision, *, latency_us: int) -> bytes:
    """The JSON answer: `screening.contract.Answer`, all of its fields, `trace` when there is one.

    The SIP answer and the Q.850 cause stand only in a block: an allowed or warned call is
    answered by the called party.
    """
    verdict = decision.verdict
    ruleset = decision.ruleset
    sip = None
    q850 = None
    if verdict.action is Action.BLOCK and ruleset is not None:
        told = decision.profile and decision.profile.answer(verdict.cause)
        answer = (told or ruleset.answer(verdict.cause)).filled(
            decision_id=decision.decision_id, redress=ruleset.redress
        )
        sip = {
            "code": answer.code,
            "phrase": answer.phrase,
            "reason": answer.reason or None,
            "headers": answer.headers,
        }
        q850 = answer.q850
    document = {
        "action": verdict.action.word,
        "cause": verdict.cause,
        "rule": verdict.rule,
        "ruleset": verdict.ruleset,
        "decision_id": decision.decision_id,
        "degraded": verdict.degraded,
        "sip": sip,
        "q850": q850,
        "label": verdict.label,
        "redress": (ruleset.redress or None) if ruleset is not None else None,
        "shadow": [{"rule": hit.rule, "action": hit.action.word} for hit in verdict.shadow],
        "latency_us": latency_us,
    }
    if verdict.trace:
        document["trace"] = verdict.trace
    if decision.evidence is not None:
        document["evidence"] = decision.evidence
    return orjson.dumps(document)
