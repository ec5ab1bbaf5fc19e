"""Cases: calls with the verdicts that a rule set's author expects, run at every load.

A case speaks the words of the lookup contract, so that what an operator writes here is what a
switch sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from consent.calling import ALLOW, BLOCK, DNO
from consent.category import BIT, mask
from consent.conduct import COUNTS, NAMES, NOTHING, SCALE, Values
from consent.facts import CALLED_SIDE, NO_PROFILE, Consent, Facts, Profile
from consent.number import parse_number
from consent.terms import HOLIDAY, MODE_BIT, MOST_CALLS, MOST_DAYS, Terms
from consent.zones import zone_named
from rules.bind import bind
from rules.call import Call
from rules.document import Path, Reader
from rules.explanation import explain
from rules.ladder import StageKind
from rules.ruleset import RuleSet, evaluate
from rules.safeguard import RULESET as SAFEGUARD
from rules.safeguard import safeguard
from rules.verdict import Action, Cause, Verdict

NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
"""When a case happens that does not say: a Monday noon, UTC."""

_TEXT: Final = (str,)
_NUMBERS: Final = (
    *("calling", "called", "dialled", "presentation", "diverted_from", "original_called"),
)
CALL_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(_NUMBERS, _TEXT),
    **dict.fromkeys(
        (
            *("call_id", "calling_status", "screening", "cpc", "attestation", "verstat", "origid"),
            *("trunk", "route", "side", "redirect_reason", "display_name", "call_reason"),
            *("purpose", "mode", "priority", "resource_priority", "region"),
        ),
        _TEXT,
    ),
    "roaming": (bool,),
    "redirect_count": (int,),
    "at": (str, datetime),
    "vouched": (bool,),
}
"""The contract's fields, and `vouched`: what the client's configuration would say."""

_CHOICES: Final = {
    "calling_status": ("available", "restricted", "unavailable"),
    "screening": ("network", "user_verified", "user_failed", "user_unverified"),
    "cpc": ("ordinary", "payphone", "operator", "test", "priority", "emergency"),
    "attestation": ("A", "B", "C"),
    "route": ("national", "international"),
    "side": ("originating", "terminating"),
    "mode": tuple(MODE_BIT),
    "purpose": tuple(BIT),
    "priority": ("emergency", "psap-callback", "wps"),
}
_PARTIES: Final = ("calling", "entity", "block", "trunk")
_NETWORK: Final = {"dno": DNO, "block": BLOCK, "allow": ALLOW}
_FACT_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "listed": (list,),
    "personal": _TEXT,
    "signals": (dict,),
    "entity_calls_30d": (int,),
    "consent": (dict,),
    "profile": (dict,),
    "unknown": (bool, list),
    "network": (list,),
    "entity": (dict,),
    "stage": _TEXT,
    "lists": _TEXT,
}


@dataclass(frozen=True, slots=True)
class CaseEntity:
    """The entity that a case registers for its calling number."""

    id: int
    name: str
    categories: tuple[str, ...]
    stage: str = ""

    def stage_in(self, country: str, /) -> tuple[str, int]:  # noqa: ARG002 - a case is one call
        """The stage that the case names."""
        return self.stage, 0


@dataclass(frozen=True, slots=True)
class CaseSide:
    """The calling side of one case."""

    network: int = 0
    entity: CaseEntity | None = None
    lists: str = "current"
    conduct: Mapping[str, Values] = field(default_factory=dict)
    numbers: Mapping[int, Mapping[str, tuple[str, int]]] = field(default_factory=dict)

    def of(self, party: str, call: Call, /) -> Values:  # noqa: ARG002 - a case has one of each
        return self.conduct.get(party, NOTHING)

    def flags(self, value: int, /) -> int:  # noqa: ARG002 - a case has one calling number
        return self.network

    def entity_of(self, value: int, /) -> CaseEntity | None:  # noqa: ARG002
        return self.entity


@dataclass(frozen=True, slots=True)
class Case:
    """A call, what is known of it, and the verdict expected. "" and None expect nothing."""

    name: str
    call: Call
    facts: Facts
    action: Action
    cause: str = ""
    rule: str = ""
    shadow: tuple[str, ...] | None = None


def call_from(fields: Mapping[str, Any], reader: Reader | None = None, path: Path = ()) -> Call:
    """The call that contract fields describe, of a client that may assert all of them.

    Without a reader the fields are trusted; with one, what is wrong with them is noted there.
    """
    values = dict(fields)
    if reader is not None:
        values = reader.table(fields, path, CALL_FIELDS, required=("calling", "called"))
        for name, words in _CHOICES.items():
            if name in values and not reader.choice(values[name], (*path, name), words, name):
                del values[name]
    call = Call()
    call.at = NOON
    call.region = values.get("region", "")
    for name, value in values.items():
        if name in _NUMBERS:
            setattr(call, name, parse_number(value, region=call.region))
        elif name != "at":
            setattr(call, name, value)
    if "at" in values:
        try:
            at = values["at"]
            instant = datetime.fromisoformat(at) if isinstance(at, str) else at
            if instant.tzinfo is None:
                raise ValueError
            call.at = instant.timestamp()
        except ValueError:
            if reader is None:
                raise
            reader.wrong((*path, "at"), "at is an RFC 3339 instant with its offset from UTC")
    return call


def facts_from(
    fields: Mapping[str, Any],
    reader: Reader,
    path: Path = (),
    *,
    instant: float = NOON,
    calling: int = 0,
    country: str = "",
) -> tuple[Facts, CaseSide]:
    """What the index and the calling side hold, from plain data; problems go to the reader.

    The stage of a number is that of `calling`, for calls to a country.
    """
    values = reader.table(fields, path, _FACT_FIELDS)

    def categories(table: Mapping[str, Any], at: Path, name: str) -> int:
        return mask(reader.texts(table.get(name, []), (*at, name), BIT, "category"))

    unknown = values.get("unknown", [])
    if not isinstance(unknown, bool):
        unknown = frozenset(reader.texts(unknown, (*path, "unknown"), CALLED_SIDE, "fact"))
    conduct = _conduct(values, reader, path)
    calls = max(0, values.get("entity_calls_30d", 0))
    personal = values.get("personal", "")
    if not reader.choice(personal, (*path, "personal"), ("", "allow", "block"), "personal entry"):
        personal = ""
    facts = Facts(
        listed=categories(values, path, "listed"),
        profile=_profile(values, reader, path, categories),
        consent=_consent(values, reader, path, categories),
        personal=personal,
        signals=conduct.pop("calling", NOTHING),
        entity_calls=(round(instant) - 3600,) * calls,
        unknown=(CALLED_SIDE if unknown else frozenset()) if isinstance(unknown, bool) else unknown,
    )
    network = 0
    for name in reader.texts(
        values.get("network", []), (*path, "network"), _NETWORK, "network list"
    ):
        network |= _NETWORK[name]
    entity = None
    if "entity" in values:
        at = (*path, "entity")
        data = reader.table(
            values["entity"], at,
            {"id": (int,), "name": _TEXT, "categories": (list,), "stage": _TEXT},
            required=("id",),
        )  # fmt: skip
        stage = data.get("stage", "")
        reader.choice(stage, (*at, "stage"), ("", *StageKind), "stage of the ladder")
        named = reader.texts(data.get("categories", []), (*at, "categories"), BIT, "category")
        entity = CaseEntity(data.get("id", 1), data.get("name", ""), tuple(named), stage)
    lists = values.get("lists", "current")
    reader.choice(lists, (*path, "lists"), ("current", "stale", "none"), "state of lists")
    own = values.get("stage", "")
    reader.choice(own, (*path, "stage"), ("", *StageKind), "stage of the ladder")
    numbers = {calling: {country: (own, 0)}} if own else {}
    return facts, CaseSide(network, entity, lists, conduct, numbers)


def _conduct(values: dict[str, Any], reader: Reader, path: Path) -> dict[str, Values]:
    """The signals that a case names, "calling.attempts_1h" = 12, by party; the others are 0."""
    at = (*path, "signals")
    names = {f"{party}.{name}": name for party in _PARTIES for name in NAMES}
    given = reader.table(values.get("signals", {}), at, dict.fromkeys(names, (int, float)))
    conduct: dict[str, list[int]] = {}
    for key, value in given.items():
        party, _, name = key.partition(".")
        scale = 1 if name.rpartition("_")[0] in COUNTS else SCALE
        conduct.setdefault(party, [*NOTHING])[NAMES.index(name)] = round(value * scale)
    return {party: tuple(each) for party, each in conduct.items()}


def _profile(values: dict[str, Any], reader: Reader, path: Path, categories: Any) -> Profile:
    if "profile" not in values:
        return NO_PROFILE
    at = (*path, "profile")
    lists = ("refused", "accepted", "bands", "days", "modes", "prefixes")
    data = reader.table(values["profile"], at, {**dict.fromkeys(lists, (list,)), "zone": _TEXT})

    prefixes = []
    for index, item in enumerate(data.get("prefixes", [])):
        match item:
            case [str(digits), "allow" | "block" as action] if digits.isdecimal():
                prefixes.append((digits, action))
            case _:
                reader.wrong(
                    (*at, "prefixes", index), 'a prefix is ["digits", "allow"] or ["…", "block"]'
                )
    zone = data.get("zone", "")
    if zone and zone_named(zone) is None:
        reader.wrong((*at, "zone"), f'"{zone}" is no IANA time zone')
    return Profile(
        refused=categories(data, at, "refused"),
        accepted=categories(data, at, "accepted"),
        bands=_bits(data, reader, at, "bands", 23),
        days=_bits(data, reader, at, "days", HOLIDAY),
        modes=_modes(data, reader, at),
        zone=zone,
        prefixes=tuple(prefixes),
    )


def _consent(values: dict[str, Any], reader: Reader, path: Path, categories: Any) -> Consent | None:
    if "consent" not in values:
        return None
    at = (*path, "consent")
    kinds: dict[str, tuple[type, ...]] = {
        "categories": (list,), "revoked": (bool,), "expires": (datetime,), "sequence": (int,),
        "terms": (dict,),
    }  # fmt: skip
    data = reader.table(values["consent"], at, kinds, required=("categories",))
    return Consent(
        sequence=data.get("sequence", 1),
        revoked=data.get("revoked", False),
        expires=_instant(data, reader, at, "expires"),
        categories=categories(data, at, "categories"),
        terms=_terms(data, reader, at, categories),
    )


def _terms(data: dict[str, Any], reader: Reader, path: Path, categories: Any) -> Terms | None:
    if "terms" not in data:
        return None
    at = (*path, "terms")
    kinds: dict[str, tuple[type, ...]] = {
        "effective": (datetime,), "days": (list,), "bands": (list,), "modes": (list,),
        "zone": _TEXT, "calls": (int,), "per_days": (int,), "revoked": (list,),
        "revokes": (list,), "revokes_at": (datetime,),
    }  # fmt: skip
    said = reader.table(data["terms"], at, kinds)
    zone = said.get("zone", "")
    if zone_named(zone) is None and (zone or "days" in said or "bands" in said):
        reader.wrong((*at, "zone"), f'"{zone}" is no IANA time zone, which days and bands need')
    for name, most in (("calls", MOST_CALLS), ("per_days", MOST_DAYS)):
        if not 0 <= said.get(name, 0) <= most:
            reader.wrong((*at, name), f"{name} is from 0 to {most}")
    return Terms(
        effective=_instant(said, reader, at, "effective"),
        days=_bits(said, reader, at, "days", HOLIDAY),
        bands=_bits(said, reader, at, "bands", 23),
        modes=_modes(said, reader, at),
        zone=zone,
        calls=said.get("calls", 0),
        per_days=said.get("per_days", 0),
        revoked=categories(said, at, "revoked"),
        revokes=categories(said, at, "revokes"),
        revokes_at=_instant(said, reader, at, "revokes_at"),
    )


def _instant(data: dict[str, Any], reader: Reader, at: Path, name: str) -> int:
    value = data.get(name)
    if value is None:
        return 0
    if value.tzinfo is None:
        reader.wrong((*at, name), f"{name} has an offset from UTC")
        return 0
    return int(value.timestamp())


def _bits(data: dict[str, Any], reader: Reader, at: Path, name: str, most: int) -> int:
    found = 0
    for index, item in enumerate(data.get(name, [])):
        if type(item) is int and 0 <= item <= most:
            found |= 1 << item
        else:
            reader.wrong((*at, name, index), f"{name} are integers from 0 to {most}")
    return found


def _modes(data: dict[str, Any], reader: Reader, at: Path) -> int:
    named = reader.texts(data.get("modes", []), (*at, "modes"), MODE_BIT, "mode")
    return sum(1 << MODE_BIT[mode] for mode in set(named))


def case_from(value: object, reader: Reader, path: Path, *, rules: frozenset[str]) -> Case:
    """The case that a [[case]] table describes."""
    kinds: dict[str, tuple[type, ...]] = {
        "name": _TEXT, "call": (dict,), "facts": (dict,), "expect": (dict,),
    }  # fmt: skip
    data = reader.table(value, path, kinds, required=("name", "call", "expect"))
    call = call_from(data.get("call", {}), reader, (*path, "call"))
    facts, side = facts_from(
        data.get("facts", {}),
        reader,
        (*path, "facts"),
        instant=call.at,
        calling=call.calling.value,
        country=call.called.country,
    )
    bind(call, side)
    call.dnc_lists = side.lists
    call.conduct = side
    at = (*path, "expect")
    wanted: dict[str, tuple[type, ...]] = {
        "action": _TEXT, "cause": _TEXT, "rule": _TEXT, "shadow": (list,),
    }  # fmt: skip
    expect = reader.table(data.get("expect", {}), at, wanted, required=("action",))
    action = expect.get("action", "allow")
    if not reader.choice(action, (*at, "action"), ACTIONS, "action"):
        action = "allow"
    if "cause" in expect:
        reader.choice(expect["cause"], (*at, "cause"), tuple(Cause), "cause")
    rule = expect.get("rule", "")
    if rule and rule not in rules and not rule.startswith(f"{SAFEGUARD}."):
        reader.choice(rule, (*at, "rule"), (*sorted(rules), "default"), "rule of this set")
    shadow = expect.get("shadow")
    if shadow is not None:
        shadow = tuple(reader.texts(shadow, (*at, "shadow"), rules, "rule of this set"))
    return Case(
        data.get("name", ""), call, facts, ACTIONS[action], expect.get("cause", ""), rule, shadow
    )


ACTIONS: Final = {action.name.lower(): action for action in Action}


def decide(ruleset: RuleSet, call: Call, facts: Facts) -> Verdict:
    """The verdict as the service comes to it: safeguards, rules alone, rules with facts."""
    verdict = safeguard(call)
    if verdict is None:
        alone = evaluate(ruleset, call)
        verdict = alone if isinstance(alone, Verdict) else None
    if verdict is None:
        found = evaluate(ruleset, call, facts)
        assert isinstance(found, Verdict), "with facts there is always a verdict"  # noqa: S101
        verdict = found
    return verdict


def complete(ruleset: RuleSet) -> RuleSet:
    """The set as cases see it, every roll-out by percent complete: the author means the rule."""
    if all(rule.percent == 100 for rule in ruleset.rules):
        return ruleset
    rules = tuple(replace(rule, percent=100) for rule in ruleset.rules)
    return RuleSet(ruleset.name, ruleset.revision, ruleset.default, rules)


def run(ruleset: RuleSet, cases: tuple[Case, ...]) -> dict[str, str]:
    """The cases that fail, by name, each with what came out instead and why."""
    ruleset = complete(ruleset)
    failures = {}
    for case in cases:
        verdict = decide(ruleset, case.call, case.facts)
        hits = tuple(hit.rule for hit in verdict.shadow)
        if (
            verdict.action is not case.action
            or case.cause not in ("", verdict.cause)
            or case.rule not in ("", verdict.rule)
            or case.shadow not in (None, hits)
        ):
            failures[case.name] = _difference(ruleset, case, verdict, hits)
    return failures


def _difference(ruleset: RuleSet, case: Case, verdict: Verdict, hits: tuple[str, ...]) -> str:
    wanted = [case.action.name.lower(), *filter(None, (case.cause, case.rule))]
    found = [verdict.action.name.lower(), verdict.cause.value, verdict.rule]
    message = f"expected {' '.join(wanted)}, found {' '.join(found)}"
    if case.shadow is not None and case.shadow != hits:
        message += f"; expected in shadow {list(case.shadow)}, found {list(hits)}"
    for entry in explain(ruleset, case.call, case.facts).trace:
        if entry["rule"] == case.rule and entry["outcome"] != "true":
            facts = ", ".join(f"{name} = {value!r}" for name, value in entry["facts"].items())
            message += f"; {case.rule} came to {entry['outcome']} with {facts}"
    return message
