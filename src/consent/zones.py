"""Time zones that a number may be in, for time bands."""

from functools import cache, lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from consent.plan import BY_CODE, plan_of

UNKNOWN: Final = "Etc/Unknown"

REMEMBERED: Final = 1 << 16
"""Numbers whose zones are kept: the library takes some 60 microseconds for one."""


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo | None:
    """The zone of an IANA name, or None where the name is none."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def zones_of(value: int) -> tuple[str, ...]:
    """The IANA zones that an E.164 number may be in, () where nothing is known of it.

    A number of a district has the district's; a mobile one may be anywhere in its country, so
    it has all of them: an Australian mobile has eight, a Russian one more. Callers must honour
    each. The smaller countries of a shared code have what their prefix says, not the whole
    code's, which for Jamaica would be North America.
    """
    digits = str(value)
    plan = plan_of(digits)
    if plan is None:
        return ()
    return _of_codes().get(plan.code) or _looked_up(digits, plan.country)


@cache
def _of_codes() -> dict[str, tuple[str, ...]]:
    """The zones of country codes of which each number has the same: four out of five codes."""
    from phonenumbers.tzdata import TIMEZONE_DATA

    found: dict[str, set[tuple[str, ...]]] = {}
    for prefix, zones in TIMEZONE_DATA.items():
        plan = plan_of(prefix)
        if plan is not None:
            found.setdefault(plan.code, set()).add(zones)
    return {
        code: zones
        for code, (zones, *others) in found.items()
        if not others and UNKNOWN not in zones
    }


@lru_cache(maxsize=REMEMBERED)
def _looked_up(digits: str, country: str) -> tuple[str, ...]:
    """By the library; `country` is that of the number's plan."""
    import phonenumbers
    from phonenumbers import timezone

    try:
        parsed = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException:
        return ()
    if country == BY_CODE[str(parsed.country_code)].country:
        zones = timezone.time_zones_for_number(parsed)
    else:
        zones = ()
    if not zones or zones == (UNKNOWN,):
        # Of a smaller country, or of no kind that the library knows: by prefix alone.
        zones = timezone.time_zones_for_geographical_number(parsed)
    return tuple(zone for zone in zones if zone != UNKNOWN)
