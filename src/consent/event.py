"""What a person decided, as the ledger keeps it and the index follows it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class EventKind(StrEnum):
    """The kinds of ledger event: what the called side of the index is made of, and the ladder."""

    CONSENT_GRANTED = "consent.granted"
    CONSENT_RENEWED = "consent.renewed"
    CONSENT_NARROWED = "consent.narrowed"
    CONSENT_EXPIRED = "consent.expired"
    CONSENT_REVOKED = "consent.revoked"
    REFUSED_ALL = "all.refused"
    PREFERENCES_SET = "preferences.set"
    PERSONAL_SET = "personal.set"
    PERSONAL_CLEARED = "personal.cleared"
    REASSIGNED = "subscription.reassigned"
    ERASED = "subscription.erased"
    LADDER_STEPPED = "ladder.stepped"
    LIST_EXCEPTED = "list.excepted"
    LIST_RESTORED = "list.restored"


CALLER_KINDS: Final = frozenset(
    {EventKind.LADDER_STEPPED, EventKind.LIST_EXCEPTED, EventKind.LIST_RESTORED}
)
"""What is said of callers: workers have it from the record, the index passes over it."""

HELD_KINDS: Final = frozenset(
    {EventKind.CONSENT_RENEWED, EventKind.CONSENT_NARROWED, EventKind.CONSENT_EXPIRED}
)
"""What changes a consent that is held, and says the whole of it as it then is."""


@dataclass(frozen=True, slots=True)
class Event:
    """One ledger event; `sequence` rises by one, `at` is epoch seconds, `called` is E.164 digits.

    `body` by kind; what is in parentheses the ledger completes from what is held, so that an
    event is followed without those before it:
    consent.granted   {"entity": int, "categories": [str], "expires": int (epoch s, 0 never),
                       "evidence": {field of `consent.record.body.EVIDENCE`: value}, "terms": field
                       of `consent.record.body.TERMS`: value; absent where it has none}
    consent.renewed   {"entity", "expires", "evidence", ("categories", "terms")}
    consent.narrowed  {"entity", "withdrawn": [str], "terms": those that are narrower from now on,
                       "evidence", ("categories", "expires")}
    consent.expired   {"entity", "evidence", ("categories", "terms", "expires": its own instant)}
    consent.revoked   {"entity": int, "evidence", "scope": [str] where it is of these categories
                       only, "effective": int (epoch s) where that is not at once: before `at` it
                       is retroactive}; with a scope or an instant to come also ("categories",
                       "expires", "terms": with "revoked": [str] those taken back, "revokes":
                       [str] those that are from "revokes_at": int on)
    all.refused       {"evidence"} (and the body of preferences.set, every category refused at
                       any time); voids every consent held
    preferences.set   {"refused": [str], "accepted": [str], "bands": [hour 0-23], "days": [0-7],
                       "modes": [str], "zone": str, "prefixes": [[digits, "allow"|"block"]]}
                      (the whole of what the subscriber set; it replaces what was there)
    personal.set      {"calling": int (0: whoever sends no number), "action": "allow"|"block"}
    personal.cleared  {"calling": int}
    subscription.reassigned {"since": int (epoch s, 0 unknown), ("before": id of the subject that
                       had the number)}; deletes everything held for the number
    subscription.erased {}   (deletes it too, and then the key of everything that was said)
    ladder.stepped    about an entity, `called` is 0, or about a calling number for which none
                      answers, which is `called`: {"entity" (absent then), "jurisdiction",
                      "step": see `consent.record.steps`, "stage": its id, "in_force": the kind of
                      stage that applies from now on, "" for none, "level", "since_us", "over",
                      "paused": where it then stands, "ladder": revision, "weight": of the
                      complaints in hundredths, "complainants", "complaints": their ids,
                      "reverses": sequence of the step undone, 0 for none, "reason",
                      "notice": texts by language}
    list.excepted     {"list": its name, "reason"}; about a calling number, as is the next one
    list.restored     {"list", "reason"}
    """

    sequence: int
    at: float
    kind: EventKind
    called: int
    body: dict[str, Any]
