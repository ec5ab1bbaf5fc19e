"""What a subscriber's decisions amount to now: its events, followed to their end."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from consent.event import HELD_KINDS, Event, EventKind
from consent.facts import ConsentState


@dataclass(frozen=True, slots=True)
class HeldConsent:
    """The newest word on one entity; `at` and `expires` are epoch seconds, `expires` 0 for never.

    `sequence` is the ledger's and names the record of it. A refusal of an entity that never had
    a consent is revoked, for every category.
    """

    sequence: int
    entity: int
    categories: tuple[str, ...]
    at: float
    expires: int
    revoked_at: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def state(self, now: float) -> ConsentState:
        """What it amounts to at an instant (epoch seconds)."""
        if self.revoked_at is not None:
            return ConsentState.REVOKED
        expired = self.expires and now >= self.expires
        return ConsentState.EXPIRED if expired else ConsentState.GRANTED

    def revoked(self, each: Event) -> Self:
        """The same, taken back by an event."""
        return type(self)(
            each.sequence,
            self.entity,
            self.categories,
            self.at,
            self.expires,
            each.at,
            each.body.get("evidence", {}),
        )


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

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """What the events of one number, in order, amount to."""
        now = cls()
        for each in events:
            now.follow(each)
        return now

    def follow(self, each: Event) -> None:
        """Take in the next event."""
        body = each.body
        match each.kind:
            case EventKind.CONSENT_GRANTED:
                self._hold(each, at=each.at)
            case kind if kind in HELD_KINDS:
                self._hold(each, at=self.consents[body["entity"]].at)
            case EventKind.CONSENT_REVOKED:
                entity = body["entity"]
                never = HeldConsent(each.sequence, entity, ("all",), each.at, 0)
                self.consents[entity] = self.consents.get(entity, never).revoked(each)
            case EventKind.PREFERENCES_SET:
                self.preferences = body
            case EventKind.REFUSED_ALL:
                self.preferences = {name: body[name] for name in body if name != "evidence"}
                for entity, consent in self.consents.items():
                    if consent.revoked_at is None:
                        self.consents[entity] = consent.revoked(each)
            case EventKind.PERSONAL_SET:
                self.personal[body["calling"]] = body["action"]
            case EventKind.PERSONAL_CLEARED:
                self.personal.pop(body["calling"], None)
            case EventKind.REASSIGNED | EventKind.ERASED:
                self.preferences, self.personal, self.consents = {}, {}, {}
        self.sequence = each.sequence

    def _hold(self, each: Event, *, at: float) -> None:
        body = each.body
        self.consents[body["entity"]] = HeldConsent(
            each.sequence,
            body["entity"],
            tuple(body["categories"]),
            at,
            body["expires"],
            evidence=body["evidence"],
        )
