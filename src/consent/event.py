"""What a person decided, as the ledger keeps it and the index follows it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    """The kinds of ledger event that the called side of the index is made of."""

    CONSENT_GRANTED = "consent.granted"
    CONSENT_REVOKED = "consent.revoked"
    PREFERENCES_SET = "preferences.set"
    PERSONAL_SET = "personal.set"
    PERSONAL_CLEARED = "personal.cleared"
    REASSIGNED = "subscription.reassigned"


@dataclass(frozen=True, slots=True)
class Event:
    """One ledger event; `sequence` rises by one, `at` is epoch seconds, `called` is E.164 digits.

    `body` by kind:
    consent.granted   {"entity": int, "categories": [str], "expires": int (epoch s, 0 never)}
    consent.revoked   {"entity": int}
    preferences.set   {"refused": [str], "accepted": [str], "bands": [hour 0-23], "days": [0-7],
                       "modes": [str], "zone": str, "prefixes": [[digits, "allow"|"block"]]}
                      (the whole of what the subscriber set; it replaces what was there)
    personal.set      {"calling": int (0: whoever sends no number), "action": "allow"|"block"}
    personal.cleared  {"calling": int}
    subscription.reassigned {}   (deletes everything held for the number)
    """

    sequence: int
    at: float
    kind: EventKind
    called: int
    body: dict[str, Any]
