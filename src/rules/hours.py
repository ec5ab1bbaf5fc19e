"""Local time at the called party: where a rule asks what hour it is there.

Invariants: the instant is the call's, never a clock's; where no zone is known there is no answer
(`NotKnown`), so that a rule can neither block nor allow by a guessed hour.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from consent.zones import zone_named, zones_of
from rules.cel import EvaluationError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00)")


class NotKnown(EvaluationError):
    """The condition depends on something that is not known of this call: no fault of the rule."""


def local_times(
    at: float, *, zone: str, number: int, zones: Callable[[int], tuple[str, ...]] = zones_of
) -> tuple[datetime, ...]:
    """What time it may be at the called party: one time where its zone is registered.

    Else one for each zone that the number may lie in. Raises NotKnown where there is none.
    """
    if registered := zone_named(zone):
        return (datetime.fromtimestamp(at, registered),)
    times = tuple(
        datetime.fromtimestamp(at, found) for name in zones(number) if (found := zone_named(name))
    )
    if not times:
        raise NotKnown
    return times


@lru_cache(maxsize=1024)
def minutes(text: str) -> int:
    """The minutes since midnight that "HH:MM" names, "24:00" included. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'time "{text}" is not of the form "HH:MM", "00:00" to "24:00"')
    return int(text[:2]) * 60 + int(text[3:])


@lru_cache(maxsize=1024)
def weekdays(text: str) -> frozenset[int]:
    """The weekdays (Monday is 0) that "mon-fri" or "mon-fri,sun" names. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(
                f'days "{text}" are not of the form "mon-fri" or "mon,wed", of {", ".join(DAYS)}'
            )
        start, end = DAYS.index(first), DAYS.index(last or first)
        found.update(day % 7 for day in range(start, end + 1 if end >= start else end + 8))
    return frozenset(found)


def within(times: tuple[datetime, ...], *, start: str, end: str, days: str = "mon-sun") -> bool:
    """Whether each of the local times lies from `start` to before `end` on one of `days`.

    A band over midnight belongs to the day on which it begins; equal ends are the whole day.
    """
    first, last, allowed = minutes(start), minutes(end), weekdays(days)
    for time in times:
        now = time.hour * 60 + time.minute
        if first < last:
            day = time
            inside = first <= now < last
        else:
            day = time if now >= first else time - timedelta(days=1)
            inside = now >= first or now < last
        if not inside or day.weekday() not in allowed:
            return False
    return True
