"""What is known of a called party when the rules decide: the answer of one index read.

Invariants: a fact that could not be read is named in `Facts.unknown` and its value is never
looked at; "not listed" is a value, "not known" is not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from consent.category import BIT, NOT_COMMERCIAL
from consent.conduct import NOTHING, Values
from consent.terms import DAY_SECONDS, HOLIDAY, MODE_BIT, MOST_DAYS, Terms

ALL_BIT: Final = 1 << BIT["all"]
HOLIDAY_BIT: Final = 1 << HOLIDAY
"""Public holidays, after the seven weekdays of `Profile.days`."""
SIGNALS: Final = "signals.calling"
"""The fact behind every `signals.calling.…`: one read brings them all, or none."""

FREQUENCY_SECONDS: Final = MOST_DAYS * DAY_SECONDS

CALLED_SIDE: Final = frozenset(
    {
        "called.refuses",
        "called.personal",
        "called.zone",
        "called.within",
        "consent.state",
        "consent.id",
        "called.entity_calls_30d",
        SIGNALS,
    }
)
"""The facts that one read of the called side brings, by their names in the fact table."""


class ConsentState(StrEnum):
    """What a consent amounts to at the instant and for the category of the call."""

    NONE = "none"
    GRANTED = "granted"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Consent:
    """A subscriber's consent to one entity, as the index holds it.

    `categories` is a mask of `consent.category.BIT`, where the bit of `all` covers each of them;
    `expires` is epoch seconds, 0 for never; `sequence` is the ledger's and names the record. What
    has `terms` permits what they say and no more: see `Facts.consent_state`.
    """

    sequence: int
    revoked: bool
    expires: int
    categories: int
    terms: Terms | None = None

    def state(self, at: float, category: str) -> ConsentState:
        """The state for a call of `category` at the instant `at` (epoch seconds).

        A consent that does not cover the category is none: consent to insurance is not
        consent to loans. Of the terms only a revocation is looked at.
        """
        wanted = ALL_BIT | (1 << BIT.get(category, 0))
        if self.terms is not None and self.terms.taken_back(at) & wanted:
            return ConsentState.REVOKED
        if not self.categories & wanted:
            return ConsentState.NONE
        if self.revoked:
            return ConsentState.REVOKED
        if self.expires and at >= self.expires:
            return ConsentState.EXPIRED
        return ConsentState.GRANTED


@dataclass(frozen=True, slots=True)
class Profile:
    """What a subscriber set for itself; it overrides the files.

    `refused` and `accepted` are category masks (the bit of `all` stands for each one not named
    in the other). `bands` (bit n: the hour n to n+1 local), `days` (bit 0 Monday to bit 6
    Sunday, bit 7 public holidays) and `modes` (bit 0 voice, 1 autodialler, 2 prerecorded) say
    when a refusal holds; 0 means always. `zone` is an IANA name or "". `prefixes` are pairs of
    digits with country code and "allow" or "block", three at most.
    """

    refused: int = 0
    accepted: int = 0
    bands: int = 0
    days: int = 0
    modes: int = 0
    zone: str = ""
    prefixes: tuple[tuple[str, str], ...] = ()

    def holds(
        self,
        mode: str,
        local: Callable[[], tuple[datetime, ...]],
        holiday: Callable[[datetime], bool],
    ) -> bool:
        """Whether a refusal holds for a call of `mode` at the local times that it may have.

        A number that may lie in several zones is spared when one of them says so: what is
        permitted is what each of them permits. `local` is asked only if the hour or day matters,
        `holiday` only if holidays are refused and the weekday is not.
        """
        if self.modes and not self.modes >> MODE_BIT.get(mode, 0) & 1:
            return False
        if not self.bands and not self.days:
            return True
        return any(
            (not self.bands or self.bands >> time.hour & 1)
            and (
                not self.days
                or self.days >> time.weekday() & 1
                or (self.days & HOLIDAY_BIT and holiday(time))
            )
            for time in local()
        )

    def entry(self, calling: int) -> str:
        """What the longest prefix entry that begins the number says: "", "allow" or "block".

        Of entries of the same length the one that allows wins.
        """
        digits = str(calling) if calling else ""
        matches = [
            (len(prefix), action) for prefix, action in self.prefixes if digits.startswith(prefix)
        ]
        return max(matches, key=lambda match: (match[0], match[1] == "allow"), default=(0, ""))[1]


NO_PROFILE: Final = Profile()


@dataclass(slots=True, unsafe_hash=True)
class Facts:
    """One read of the index for one call, which nobody changes: many calls may share it.

    `listed` has the bit of every category whose do-not-call bitmap was read and names the
    number; `personal` is the subscriber's own entry for the calling number: "", "allow" or
    "block"; `generations` are the (list, generation) pairs read, for the trace; `signals` are the
    calling number's in the order of `consent.conduct.NAMES`; `entity_calls` the newest calls of
    this entity to this number (epoch seconds); `unknown` names facts of the fact table that could
    not be read.
    """

    listed: int = 0
    profile: Profile = NO_PROFILE
    consent: Consent | None = None
    personal: str = ""
    generations: tuple[tuple[str, int], ...] = ()
    unknown: frozenset[str] = field(default_factory=frozenset)
    signals: Values = NOTHING
    entity_calls: tuple[int, ...] = ()

    def entity_calls_before(self, at: float) -> int:
        """The calls of this entity to this number in the 30 days before an instant."""
        return sum(at - FREQUENCY_SECONDS < called < at for called in self.entity_calls)

    def consent_outside(self, at: float, category: str, *, mode: str, country: str) -> str:
        """Which term a consent has that this call does not keep, though it is given and not
        over: see `consent.terms.Terms.outside`; "" where none is, or there is no such consent."""
        held = self.consent
        if held is None or held.terms is None:
            return ""
        if held.state(at, category) is not ConsentState.GRANTED:
            return ""
        return held.terms.outside(at, mode=mode, country=country, calls=self.entity_calls)

    def consent_state(self, at: float, category: str, *, mode: str, country: str) -> ConsentState:
        """The state of the consent for a call; outside the terms it was given on it is none."""
        if self.consent is None or self.consent_outside(at, category, mode=mode, country=country):
            return ConsentState.NONE
        return self.consent.state(at, category)

    def plain(self) -> bool:
        """Whether the called party has set nothing and consented to nothing, as most have."""
        return not self.personal and self.consent is None and self.profile is NO_PROFILE

    @property
    def known(self) -> bool:
        """Whether every fact was read."""
        return not self.unknown

    def refuses(
        self,
        category: str,
        *,
        mode: str,
        local: Callable[[], tuple[datetime, ...]],
        holiday: Callable[[datetime], bool],
    ) -> bool:
        """Whether the called party refuses a call of `category` now, by a file or by itself.

        A file's entry stands unless the subscriber accepts the category; `all` covers every
        commercial category. `local` gives the local times that it may be at the called party,
        `holiday` says whether one of them is on a public holiday there; what they raise passes
        through.
        """
        bit = BIT.get(category)
        if bit is None:
            return False
        own = 1 << bit
        wide = own if category in NOT_COMMERCIAL else own | ALL_BIT
        profile = self.profile
        if profile is NO_PROFILE:
            return bool(self.listed & wide)
        refused, accepted = profile.refused, profile.accepted
        if self.listed & wide and not (accepted & own or (accepted & wide and not refused & own)):
            return True
        if refused & own or (refused & wide and not accepted & own):
            return profile.holds(mode, local, holiday)
        return False


UNKNOWN: Final = Facts(unknown=CALLED_SIDE)
"""What an outage, a missed deadline or a missing stamp leaves."""
