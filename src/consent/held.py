"""What a subscriber's decisions amount to now: its events, followed to their end."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from consent.event import Event, EventKind
from consent.facts import ConsentState


@dataclass(frozen=True, slots=True)
class HeldConsent:
    """The newest word on one entity; `at` and `expires` are epoch seconds, `expires` 0 for never.

    `sequence` is the ledger's and names the record of it.
    """

    sequence: int
    entity: int
    categories: tuple[str, ...]
    at: float
    expires: int
    revoked_at: float | None = None

    def state(self, now: float) -> ConsentState:
        """What it amounts to at an instant (epoch seconds)."""
        if self.revoked_at is not None:
            return ConsentState.REVOKED
        expired = self.expires and now >= self.expires
        return ConsentState.EXPIRED if expired else ConsentState.GRANTED


@dataclass(slots=True)
class Held:
    """What is held for a number: nothing of an earlier subscription.

    `sequence` is that of its newest event, 0 without any; `preferences` is the body of
    `preferences.set`, empty where none is in force; `personal` maps calling numbers (0: whoever
    sends none) to "allow" or "block"; `consents` are by entity.
    """

    sequence: int = 0
    preferences: dict[str, Any] = field(default_factory=dict)
    personal: dict[int, str] = field(default_factory=dict)
    consents: dict[int, HeldConsent] = field(default_factory=dict)


def held(events: Iterable[Event]) -> Held:
    """What the events of one number, in order, amount to."""
    now = Held()
    for each in events:
        body = each.body
        match each.kind:
            case EventKind.CONSENT_GRANTED:
                now.consents[body["entity"]] = HeldConsent(
                    each.sequence,
                    body["entity"],
                    tuple(body["categories"]),
                    each.at,
                    body["expires"],
                )
            case EventKind.CONSENT_REVOKED:
                before = now.consents.get(body["entity"])
                now.consents[body["entity"]] = HeldConsent(
                    each.sequence,
                    body["entity"],
                    before.categories if before else ("all",),
                    before.at if before else each.at,
                    before.expires if before else 0,
                    revoked_at=each.at,
                )
            case EventKind.PREFERENCES_SET:
                now.preferences = body
            case EventKind.PERSONAL_SET:
                now.personal[body["calling"]] = body["action"]
            case EventKind.PERSONAL_CLEARED:
                now.personal.pop(body["calling"], None)
            case EventKind.REASSIGNED:
                now = Held()
        now.sequence = each.sequence
    return now
