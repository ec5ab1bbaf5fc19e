"""On what terms a consent was given, and of which part it was taken back.

Most consents have none: theirs is the plain `consent.facts.Consent`. Hours and days are those of
the zone that the consent names, so that what it permits depends on nothing but itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from consent.category import mask
from consent.holidays import is_holiday
from consent.zones import zone_named

MODE_BIT: Final = {"voice": 0, "autodialler": 1, "prerecorded": 2}
HOLIDAY: Final = 7
"""Public holidays, after the seven weekdays from Monday on."""

DAY_SECONDS: Final = 86_400
MOST_CALLS: Final = 16
MOST_DAYS: Final = 30
"""What is known of an entity's calls to a number: the newest 16 of 30 days."""


@dataclass(frozen=True, slots=True)
class Terms:
    """When a consent holds; 0 and "" set no limit.

    From `effective` on (epoch seconds); on `days` (bit 0 Monday to bit 6 Sunday, bit 7 public
    holidays) and in `bands` (bit n: the hour n to n+1), both in `zone`; for calls of `modes` (bits
    of `MODE_BIT`); for at most `calls` calls within `per_days` days. It is revoked for the
    categories (a mask) in `revoked`, and from the instant `revokes_at` on for those in `revokes`.
    """

    effective: int = 0
    days: int = 0
    bands: int = 0
    modes: int = 0
    zone: str = ""
    calls: int = 0
    per_days: int = 0
    revoked: int = 0
    revokes: int = 0
    revokes_at: int = 0

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self | None:
        """The terms that an event of the ledger says, None for none: see `consent.event`."""
        if not said:
            return None
        return cls(
            effective=said.get("effective", 0),
            days=_bits(said.get("days", ())),
            bands=_bits(said.get("bands", ())),
            modes=_bits(MODE_BIT[mode] for mode in said.get("modes", ())),
            zone=said.get("zone", ""),
            calls=said.get("calls", 0),
            per_days=said.get("per_days", 0),
            revoked=mask(said.get("revoked", ())),
            revokes=mask(said.get("revokes", ())),
            revokes_at=said.get("revokes_at", 0),
        )

    def taken_back(self, at: float) -> int:
        """The categories (a mask) that it is revoked for at an instant."""
        return self.revoked | (self.revokes if at >= self.revokes_at else 0)

    def outside(self, at: float, *, mode: str, country: str, calls: tuple[int, ...]) -> str:
        """Which term a call does not keep: "effective", "mode", "day", "band", "frequency" or "".

        `calls` are the instants of the entity's calls to the number before. A public holiday of
        `country` is the day "holiday" and no weekday, as far as the table of holidays reaches: who
        agreed to Mondays did not agree to Easter Monday.
        """
        if at < self.effective:
            return "effective"
        if self.modes and not self.modes >> MODE_BIT.get(mode, 0) & 1:
            return "mode"
        if self.days or self.bands:
            zone = zone_named(self.zone)
            if zone is None:
                return "band" if self.bands else "day"
            time = datetime.fromtimestamp(at, zone)
            if self.days:
                day = HOLIDAY if is_holiday(country, time) else time.weekday()
                if not self.days >> day & 1:
                    return "day"
            if self.bands and not self.bands >> time.hour & 1:
                return "band"
        if self.calls:
            since = at - self.per_days * DAY_SECONDS
            if sum(since < called < at for called in calls) >= self.calls:
                return "frequency"
        return ""


def _bits(places: Any) -> int:
    return sum({1 << place for place in places})
