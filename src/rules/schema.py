"""The fact table: everything a condition may name, with its type, its meaning and where it is.

A condition is typed against this table when it is loaded, so that a misspelt fact is an error
with its place and the nearest name. Facts of source "called" come from the index and may be
unknown for a call; those of "call" and "calling" come from the switch and from worker memory and
are always known. Absent texts are "", absent integers 0.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final

from consent.calling import ALLOW, BLOCK, DNO
from consent.category import BIT
from consent.conduct import COUNTS, MEASURES, NAMES, SCALE, Values
from consent.facts import SIGNALS, ConsentState, Facts
from consent.holidays import is_holiday
from rules.call import Call
from rules.cel import Declarations, Function, Variable
from rules.cel.runtime import Timestamp
from rules.cel.types import BOOL, DOUBLE, INT, STRING, TIMESTAMP
from rules.hours import NotKnown, local_times, minutes, weekdays, within

FACTS_KNOWN: Final = "facts.known"
STAGE_EVENT: Final = "entity.stage_event"
HOLIDAY: Final = "called.holiday"
ENTITY_CALLS: Final = "called.entity_calls_30d"
REFUSES: Final = "called.refuses"
WITHIN: Final = "called.within"
WITHIN_DAYS: Final = "called.within_days"
CONSENT: Final = "consent.state"
CONSENT_OUTSIDE: Final = "consent.outside"


def _number(name: str, access: str, what: str) -> dict[str, Variable]:
    """The facts of one number of the call."""
    classes = '"subscriber", "service", "short_code", "anonymous" or "invalid"'
    return {
        f"{name}.number": Variable(
            STRING, f"{access}.text", f"{what}, as + and digits where it is E.164"
        ),
        f"{name}.class": Variable(STRING, f"{access}.kind.value", f"the kind of it: {classes}"),
        f"{name}.country": Variable(
            STRING, f"{access}.country", "the country of it", unit="ISO 3166-1 alpha-2"
        ),
        f"{name}.series": Variable(
            STRING, f"{access}.series", 'the number series it belongs to, such as "cn.95"'
        ),
        f"{name}.plausible": Variable(
            BOOL, f"{access}.plausible", "whether its length is one that its plan uses"
        ),
    }


_PARTIES: Final = {
    "calling": "the calling number",
    "entity": "the entity registered for it",
    "block": "the thousand numbers around it",
    "trunk": "the ingress trunk",
}
_WINDOWS: Final = {"1m": "minute", "1h": "hour", "24h": "24 hours", "7d": "7 days"}


def _signals() -> dict[str, Variable]:
    """How the parties have conducted themselves; see consent.conduct."""
    facts = {}
    for party, who in _PARTIES.items():
        for at, name in enumerate(NAMES):
            measure, _, window = name.rpartition("_")
            own = party == "calling"
            access = f"f.signals[{at}]" if own else f"conduct(c, {party!r})[{at}]"
            count = measure in COUNTS
            facts[f"signals.{party}.{name}"] = Variable(
                INT if count else DOUBLE,
                access if count else f"({access} / {SCALE:.1f})",
                f"{MEASURES[measure]}, of {who}, within the last {_WINDOWS[window]}",
                source="called" if own else "calling",
                can_fail=not own,
            )
    return facts


VARIABLES: Final[dict[str, Variable]] = {
    # The call.
    "call.category": Variable(
        STRING,
        "c.category",
        'the category it is made for, "" when nothing says so',
        source="calling",
    ),
    "call.category_basis": Variable(
        STRING,
        "c.category_basis",
        'where the category comes from: "purpose", "entity", "series" or ""',
        source="calling",
    ),
    "call.commercial": Variable(
        BOOL, "c.commercial", "whether its category is a commercial one", source="calling"
    ),
    "call.unverified_category": Variable(
        BOOL,
        'c.category_basis == ""',
        "whether nothing establishes what the call is for",
        source="calling",
    ),
    "call.attestation": Variable(
        STRING,
        "c.attestation or c.verstat and dialect(c.verstat)[1]",
        'the originator\'s claim: "A", "B", "C" or ""; that of verstat where none was sent',
        unit="RFC 8588",
    ),
    "call.verstat": Variable(
        STRING,
        "c.verstat and dialect(c.verstat)[0]",
        'what the terminating network found: "passed", "failed", "none" or ""',
        unit="TS 24.229",
    ),
    "call.origid": Variable(
        STRING, "c.origid", "the opaque name of the originating network's source", unit="RFC 8588"
    ),
    "call.vouched": Variable(
        BOOL, "c.vouched", "whether its client or trunk is configured as vouching for numbers"
    ),
    "call.trunk": Variable(STRING, "c.trunk", "the ingress trunk"),
    "call.route": Variable(STRING, "c.route", '"national", "international" or ""'),
    "call.side": Variable(STRING, "c.side", '"originating", "terminating" or ""'),
    "call.mode": Variable(STRING, "c.mode", '"voice", "autodialler" or "prerecorded"'),
    "call.purpose": Variable(STRING, "c.purpose", "the category that its client asserts"),
    "call.priority": Variable(STRING, "c.priority", '"emergency", "psap-callback", "wps" or ""'),
    "call.resource_priority": Variable(
        STRING, "c.resource_priority", "the Resource-Priority value as sent", unit="RFC 4412"
    ),
    "call.roaming": Variable(
        BOOL, "c.roaming", "whether a home mobile on an international trunk is known to roam"
    ),
    "call.cpc": Variable(
        STRING,
        "c.cpc",
        'calling party\'s category: "ordinary", "payphone", "operator", "test", "priority", '
        '"emergency" or ""',
    ),
    "call.screening": Variable(
        STRING,
        "c.screening",
        'ISUP screening: "network", "user_verified", "user_failed", "user_unverified" or ""',
    ),
    "call.display_name": Variable(
        STRING, "c.display_name", "the name the caller gives itself", unit="RFC 9796"
    ),
    "call.call_reason": Variable(
        STRING, "c.call_reason", "the reason the caller gives for the call", unit="RFC 9796"
    ),
    "call.redirect_count": Variable(INT, "c.redirect_count", "how often it was diverted"),
    "call.redirect_reason": Variable(STRING, "c.redirect_reason", "why it was diverted last"),
    "call.at": Variable(TIMESTAMP, "instant(c.at)", "the instant of the call"),
    # The calling party.
    **_number("calling", "c.calling", "the number that the network asserts"),
    "calling.anonymous": Variable(
        BOOL, 'c.calling.kind == "anonymous"', "whether no calling number was sent at all"
    ),
    "calling.withheld": Variable(
        BOOL,
        'c.calling_status == "restricted"',
        "whether the number is there for the network but not to be shown",
    ),
    "calling.status": Variable(
        STRING, "c.calling_status", '"available", "restricted", "unavailable" or ""'
    ),
    "calling.dno": Variable(
        BOOL,
        f"c.network & {DNO} != 0",
        "whether a do-not-originate list names it",
        source="calling",
    ),
    "calling.blocked": Variable(
        BOOL, f"c.network & {BLOCK} != 0", "whether a network block list names it", source="calling"
    ),
    "calling.allowed": Variable(
        BOOL, f"c.network & {ALLOW} != 0", "whether a network allow list names it", source="calling"
    ),
    "entity.id": Variable(
        INT, "c.entity_id", "the entity registered for it, 0 for none", source="calling"
    ),
    "entity.name": Variable(
        STRING, "c.entity", "the name of the entity registered for it", source="calling"
    ),
    "entity.registered": Variable(
        BOOL, "c.entity_id != 0", "whether an entity is registered for it", source="calling"
    ),
    "entity.stage": Variable(
        STRING,
        "c.entity_stage",
        "where the caller stands on the ladder, that entity or, where none is registered, the "
        'number itself: "notice", "restricted", "suspended", "exposed" or "" for nowhere',
        source="calling",
    ),
    STAGE_EVENT: Variable(
        INT,
        "c.entity_stage_event",
        "the sequence of the ledger's event that put it there, 0 for none",
        source="calling",
    ),
    # The other numbers.
    **_number("called", "c.called", "the number that is to ring"),
    **_number("dialled", "c.dialled", "the number as dialled, before translation"),
    **_number("presentation", "c.presentation", "the number shown, where it differs"),
    **_number("diverted_from", "c.diverted_from", "the number that diverted the call here"),
    **_number("original_called", "c.original_called", "the number first called"),
    "called.lists": Variable(
        STRING,
        "c.dnc_lists",
        'what there is of do-not-call lists for its country: "current", "stale" where one is older '
        'than it may be, "none"; a number that no list names is not refused in any of the three',
    ),
    # The called party, from the index.
    "called.personal": Variable(
        STRING,
        "f.personal or f.profile.prefixes and f.profile.entry(c.calling.value) or ''",
        'its own entry for this calling number, or for a prefix of it: "allow", "block" or ""',
        source="called",
    ),
    "called.zone": Variable(
        STRING, "f.profile.zone", "the time zone registered for it", unit="IANA", source="called"
    ),
    HOLIDAY: Variable(
        BOOL,
        "on_holiday(c, f)",
        "whether it is a public holiday at the called party, in all of the country of its number, "
        "on the local day of any zone that it may be in; neither true nor false where its zone "
        "or the country's holidays are not known",
        source="called",
        can_fail=True,
    ),
    "consent.state": Variable(
        STRING,
        "(f.consent.state(c.at, c.category) if f.consent.terms is None else on_terms(c, f)).value "
        "if f.consent else 'none'",
        'its consent to this entity for this category: "none", "granted", "expired" or "revoked"; '
        "one that does not hold for this call, by its own terms, is none",
        source="called",
    ),
    CONSENT_OUTSIDE: Variable(
        STRING,
        "outside(c, f) if f.consent and f.consent.terms else ''",
        'the term of a consent given to this entity that this call does not keep: "effective" '
        '(it begins later), "mode", "day", "band", "frequency"; "" where there is none',
        source="called",
    ),
    "consent.id": Variable(
        INT,
        "(f.consent.sequence if f.consent else 0)",
        "the ledger sequence that names the consent, 0 for none",
        source="called",
    ),
    ENTITY_CALLS: Variable(
        INT,
        "f.entity_calls_before(c.at)",
        "commercial calls of this entity that rang here in the 30 days before, up to 16",
        source="called",
    ),
    **_signals(),
    FACTS_KNOWN: Variable(
        BOOL, "f.known", "whether every fact of the called side could be read", source="called"
    ),
}

FUNCTIONS: Final[dict[str, Function]] = {
    REFUSES: Function(
        (STRING,),
        BOOL,
        "refuses(c, f, {0})",
        "whether the called party refuses calls of this category now, in this mode: by a "
        'do-not-call list or by what it set; call.category, a category or "all"',
        source="called",
        can_fail=True,
    ),
    WITHIN: Function(
        (STRING, STRING),
        BOOL,
        "hours(c, f, {0}, {1})",
        'whether the time at the called party lies in a band, "08:00" to "21:00", in each zone '
        "that it may be in; neither true nor false where its zone is not known",
        source="called",
        can_fail=True,
    ),
    WITHIN_DAYS: Function(
        (STRING, STRING, STRING),
        BOOL,
        "hours(c, f, {0}, {1}, {2})",
        'the same on some days only, "mon-fri" or "mon-thu,sat"; a band over midnight belongs '
        "to the day on which it begins",
        source="called",
        can_fail=True,
    ),
}

TRAITS: Final = frozenset(
    {
        "call.attestation",
        "call.category",
        "call.category_basis",
        "call.commercial",
        "call.mode",
        "call.roaming",
        "call.route",
        "call.side",
        "call.unverified_category",
        "call.verstat",
        "call.vouched",
        "called.lists",
        "calling.allowed",
        "calling.anonymous",
        "calling.blocked",
        "calling.class",
        "calling.country",
        "calling.dno",
        "calling.series",
        "calling.status",
        "calling.withheld",
        "entity.registered",
        "entity.stage",
    }
)
"""Facts of few values, which `Call.traits` settles."""

PLAIN: Final = frozenset({"called.personal", "called.zone", CONSENT, CONSENT_OUTSIDE, "consent.id"})
"""Facts that are the same wherever `Facts.plain` holds."""

AUTHENTICATED: Final = "call.authenticated"
DEFAULT_MACROS: Final = {
    AUTHENTICATED: 'call.attestation == "A" && call.verstat == "passed" || call.vouched',
}
"""What a pack may define otherwise in [define]."""

CALLED_NAMES: Final = frozenset(
    name for name, variable in VARIABLES.items() if variable.source == "called"
) | frozenset(FUNCTIONS)
"""The names whose values may be unknown."""

CALLING_SIGNALS: Final = frozenset(name for name in VARIABLES if name.startswith(f"{SIGNALS}."))

SAME_FACT: Final = {
    WITHIN_DAYS: WITHIN,
    HOLIDAY: WITHIN,
    CONSENT_OUTSIDE: CONSENT,
    **dict.fromkeys(CALLING_SIGNALS, SIGNALS),
}
"""Names that stand for a fact which the index knows by another name."""


def declarations(
    macros: Mapping[str, str] | None = None, coming: Mapping[str, Variable] | None = None
) -> Declarations:
    """The table as the compiler wants it, with a pack's own macros over the default ones.

    `coming` are facts that a rule which is off waits for; the table's own hide them.
    """
    variables = {**coming, **VARIABLES} if coming else VARIABLES
    return Declarations(variables, FUNCTIONS, {**DEFAULT_MACROS, **(macros or {})})


ARGUMENT_CHECKS: Final[dict[str, tuple[Callable[[str], object], ...]]] = {
    REFUSES: (BIT.__getitem__,),
    WITHIN: (minutes, minutes),
    WITHIN_DAYS: (minutes, minutes, weekdays),
}
"""What each literal argument must pass: functions that raise KeyError or ValueError."""


# What the accesses in the table call. They are inline where they can be: a rule costs some 50 ns.


@lru_cache(maxsize=256)
def dialect(text: str) -> tuple[str, str]:
    """The finding and the attestation that a verstat value carries, of any dialect."""
    word = text.strip().lower()
    level = ""
    if word[-2:] in ("-a", "-b", "-c"):
        word, level = word[:-2], word[-1].upper()
    match word:
        case "tn-validation-passed" | "passed":
            return "passed", level
        case "tn-validation-failed" | "failed":
            return "failed", level
        case "no-tn-validation" | "none":
            return "none", level
    return "", ""


def refuses(call: Call, facts: Facts, category: str) -> bool:
    """`called.refuses`: see the fact table and Facts.refuses."""
    return facts.refuses(
        category,
        mode=call.mode,
        local=lambda: _local(call, facts),
        holiday=lambda time: _celebrates(call, time),
    )


def hours(call: Call, facts: Facts, start: str, end: str, days: str = "mon-sun") -> bool:
    """`called.within`: see the fact table and rules.hours.within."""
    return within(_local(call, facts), start=start, end=end, days=days)


def on_terms(call: Call, facts: Facts) -> ConsentState:
    """`consent.state` of a consent that has terms."""
    return facts.consent_state(call.at, call.category, mode=call.mode, country=call.called.country)


def outside(call: Call, facts: Facts) -> str:
    """`consent.outside`: see the fact table and Facts.consent_outside."""
    return facts.consent_outside(
        call.at, call.category, mode=call.mode, country=call.called.country
    )


def on_holiday(call: Call, facts: Facts) -> bool:
    """`called.holiday`: see the fact table."""
    return any(_celebrates(call, time) for time in _local(call, facts))


def _local(call: Call, facts: Facts) -> tuple[datetime, ...]:
    return local_times(call.at, zone=facts.profile.zone, number=call.called.value)


def _celebrates(call: Call, time: datetime) -> bool:
    found = is_holiday(call.called.country, time)
    if found is None:
        raise NotKnown
    return found


def conduct(call: Call, party: str) -> Values:
    """The signals of the entity, block or trunk of a call, see the fact table."""
    values = call.conduct.of(party, call)
    if values is None:
        raise NotKnown
    return values


GLOBALS: Final = {
    "conduct": conduct,
    "dialect": dialect,
    "hours": hours,
    "instant": Timestamp.of_seconds,
    "on_holiday": on_holiday,
    "on_terms": on_terms,
    "outside": outside,
    "refuses": refuses,
}
