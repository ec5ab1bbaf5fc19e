"""What a subscriber's decisions amount to now: its events, followed to their end."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from consent.category import mask
from consent.event import HELD_KINDS, Event, EventKind
from consent.facts import ALL_BIT, ConsentState
from consent.terms import Terms


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
    terms: dict[str, Any] = field(default_factory=dict)
    """As the ledger's events say them: see `consent.terms.Terms.of`."""
    revocation: dict[str, Any] = field(default_factory=dict)
    """Of the newest revocation "at", and "scope" and "effective" where it says them."""
    first: int = 0
    """The sequence of the event that gave it: what it is known by."""
    version: int = 1
    """How many events made it what it is, the first among them."""

    def state(self, now: float) -> ConsentState:
        """What it amounts to at an instant (epoch seconds)."""
        gone = self.taken_back(now)
        if self.revoked_at is not None or gone & ALL_BIT or not mask(self.categories) & ~gone:
            return ConsentState.REVOKED
        expired = self.expires and now >= self.expires
        return ConsentState.EXPIRED if expired else ConsentState.GRANTED

    def taken_back(self, now: float) -> int:
        """The categories (a mask) that it was taken back for in part, as of an instant."""
        terms = Terms.of(self.terms)
        return terms.taken_back(now) if terms else 0

    def revoked(self, each: Event) -> Self:
        """The same, taken back by an event."""
        return replace(
            self,
            sequence=each.sequence,
            revoked_at=each.at,
            evidence=each.body.get("evidence", {}),
            revocation=_revocation(each),
            version=self.version + 1,
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
                self._hold(each, None)
            case kind if kind in HELD_KINDS:
                self._hold(each, self.consents[body["entity"]])
            case EventKind.CONSENT_REVOKED if "categories" in body:
                self._hold(each, self.consents.get(body["entity"]))
            case EventKind.CONSENT_REVOKED:
                entity = body["entity"]
                never = HeldConsent(
                    each.sequence, entity, ("all",), each.at, 0, first=each.sequence, version=0
                )
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

    def _hold(self, each: Event, before: HeldConsent | None) -> None:
        body = each.body
        revokes = each.kind is EventKind.CONSENT_REVOKED
        self.consents[body["entity"]] = HeldConsent(
            each.sequence,
            body["entity"],
            tuple(body["categories"]),
            before.at if before else each.at,
            body["expires"],
            evidence=body.get("evidence", {}),  # which the first ledgers did not have
            terms=body.get("terms", {}),
            revocation=_revocation(each) if revokes else before.revocation if before else {},
            first=before.first if before else each.sequence,
            version=before.version + 1 if before else 1,
        )


def _revocation(each: Event) -> dict[str, Any]:
    said: dict[str, Any] = {"at": each.at}
    for name in ("scope", "effective"):
        if name in each.body:
            said[name] = each.body[name]
    return said
